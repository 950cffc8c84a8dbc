"""Where tensors are computed, and in which precision."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import PoposError, UsageError
from ..processes.place import own_place


def pick_device(gpus: int | None, local_rank: int = 0) -> torch.device:
    """This process's device. gpus None: a GPU if there is one; 0: the CPU. Under srun a process may see only
    one GPU, its own, whatever its rank. Raises PoposError for GPUs that are missing.
    """
    there = torch.cuda.device_count()
    if gpus is not None and gpus > there:
        raise PoposError(
            f"--gpus {gpus}: this machine has {there} usable GPU{'s' if there != 1 else ''}",
            "Use --gpus 0 for the CPU." if there == 0 else f"Use --gpus {there}.",
        )
    return torch.device("cpu") if gpus == 0 or there == 0 else torch.device("cuda", local_rank % there)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What the network computes in; None is float32.

    "auto" takes bf16 where the device computes in it: a CPU without such instructions emulates it, five times
    slower than float32.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" or _cpu_has_bf16() else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[precision]


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX, by Linux's list of instruction sets; torch has no public function that tells."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(errors="replace").split()) if cpuinfo.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def pick_inference_device(name: str | None) -> torch.device:
    """None: a GPU if there is one, each of several processes its own, else the CPU. Raises UsageError for a
    device that is not here."""
    if name is None:
        return pick_device(None, own_place().local_rank)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"device {name!r} cannot be used here", "Use cpu, or cuda where torch sees a GPU."
        ) from None
    return device
