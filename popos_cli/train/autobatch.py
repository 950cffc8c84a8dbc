"""`--batch-size auto`: how many faces fit a step, from a trial pass and the memory that is free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..core.device import autocast_dtype, pick_device
from ..core.inference import to_model_input
from ..core.model import IMAGE_SIZE
from ..data.index import Index
from ..errors import PoposError
from ..processes.world import ALONE, World
from .build import build_info
from .settings import TrainSettings

MOST = 256  # the published recipes' batch: larger ones do not train faster
FEWEST_STEPS = 8  # an epoch must keep this many steps
SHARE = 0.8  # of the free memory
TRIAL = 2


def fitting_batch(settings: TrainSettings, index: Index, processes: int, world: World = ALONE) -> int:
    """Faces of a step over all `processes` for `schedule.batch_size = AUTO`: a power of two each.

    A face costs what autograd keeps of a forward pass; weights cost six times their size (two copies of the
    gradient, two moments and the average beside them). On a GPU a step of that batch is tried, and halved
    until it fits. Raises PoposError where not even one face does.
    """
    device = pick_device(settings.gpus, world.local_rank)
    model = build_info(settings, index).build_model(index.scheme.landmarks)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    room = SHARE * _free_bytes(device, processes) - 6 * weights
    faces = len(index.of_split("train"))
    most = min(MOST, faces // FEWEST_STEPS) // processes
    parts = settings.schedule.accumulate  # one at a time has to fit
    fits = int(min(room / (kept_bytes(model, settings, device) / TRIAL), most // parts))
    batch = 1 << max(fits, 1).bit_length() - 1
    while device.type == "cuda" and batch and not _step_fits(model, settings, device, batch):
        batch //= 2
    if room <= 0 or not batch:
        raise PoposError(
            f"not even one face a step fits the memory of {device}",
            "Free some, or train at a lower --resolution.",
        )
    return batch * parts * processes


def with_batch_size(settings: TrainSettings, faces: int) -> TrainSettings:
    """The same settings with another batch size."""
    schedule = settings.schedule.model_copy(update={"batch_size": faces})
    return settings.model_copy(update={"schedule": schedule})


def kept_bytes(model: torch.nn.Module, settings: TrainSettings, device: torch.device) -> int:
    """Bytes that autograd keeps of a forward pass of `TRIAL` faces, each storage counted once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        heatmaps = _forward(model, settings, device, TRIAL)  # alive, so that no storage is used again
    del heatmaps
    return sum(storages.values())


def _forward(model: torch.nn.Module, settings: TrainSettings, device: torch.device, faces: int) -> Tensor:
    dtype = autocast_dtype(settings.precision, device)
    pictures = torch.zeros(faces, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        heatmaps: Tensor = model(to_model_input(pictures, device))
    return heatmaps


def _step_fits(model: torch.nn.Module, settings: TrainSettings, device: torch.device, batch: int) -> bool:
    try:
        _forward(model, settings, device, batch).float().square().mean().backward()
        return True
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def _free_bytes(device: torch.device, processes: int) -> float:
    """What each process may use."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes() / processes


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that may be taken without swapping, within the limits of this process's control groups (Docker,
    Kubernetes, SLURM; versions 1 and 2). Caches count as free, since the system gives them up when asked.

    root: where /proc and /sys lie. Raises PoposError where the system does not say (Windows).
    """
    try:
        machine = 1024 * _table(root / "proc/meminfo")["MemAvailable:"]
    except (OSError, KeyError):
        try:
            machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all that macOS says
        except (AttributeError, ValueError, OSError):
            raise PoposError(
                "this system does not say how much memory is free", "Give a number: --batch-size 32."
            ) from None
    return min([machine, *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each limited control group of this process has left."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                top, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
                cache = "total_inactive_file"
            elif not controllers:
                top, files, cache = root / "sys/fs/cgroup", ("memory.max", "memory.current"), "inactive_file"
            else:
                continue
            # The groups above limit too. In a container the path is often the host's, and only `top` exists.
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError, KeyError):  # ValueError: "max", no limit
                    limit, used = (int((folder / name).read_text()) for name in files)
                    yield max(limit - used + _table(folder / "memory.stat")[cache], 0)
                if folder == top:
                    break


def _table(path: Path) -> dict[str, int]:
    """Lines "name number ..."."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
