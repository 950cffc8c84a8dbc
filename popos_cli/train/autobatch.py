"""How many faces fit a step: measured on a forward pass of two, proved by a whole step on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.device import autocast_dtype, pick_device
from ..core.inference import to_model_input
from ..core.model import IMAGE_SIZE
from ..data.index import Index
from ..errors import PoposError
from ..processes.world import ALONE, World
from . import build
from .memory import available_bytes
from .settings import TrainSettings

MOST = 256  # the published recipes' batch: beyond it, more faces a step do not train faster
FEWEST_STEPS = 8  # an epoch must keep this many steps
SHARE = 0.8  # of the free memory
TRIAL = 2


def fitting_batch(settings: TrainSettings, index: Index, processes: int, world: World = ALONE) -> int:
    """Faces a step over all `processes` for `schedule.batch_size = AUTO`: a power of two a process.

    A face costs what autograd keeps of a forward pass; weights cost six times their size (two copies of the
    gradient, two moments and the average beside them). On a GPU a step of that batch is tried, and halved
    until it fits. Raises PoposError where not even one face does.
    """
    device = pick_device(settings.gpus, world.local_rank)
    model = build.build_info(settings, index).build_model(index.scheme.landmarks)
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
    """The same settings with so many faces a step."""
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
    """What one process may use."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes() / processes
