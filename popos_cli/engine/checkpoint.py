"""A run's files that matter after a power cut: best and last weights, and the state to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..data.home import replacing
from ..errors import PoposError

STATE = "state.ckpt"


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Everything that training needs to go on: written aside, then renamed."""
    with replacing(run / STATE) as temporary:
        torch.save(state, temporary)


def load_state(run: Path) -> dict[str, Any]:
    """What `save_state` wrote; tensors and plain values only. Raises PoposError otherwise."""
    path = run / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["step"]  # a file of ours has one
        return state
    except FileNotFoundError:
        raise PoposError(f"{path}: nothing to resume there", "Start the run without --resume.") from None
    except Exception:  # torch.load raises many kinds, and advises to load it unsafely
        raise PoposError(
            f"{path}: not a readable checkpoint: torn, or not written by popos",
            f"Start anew, from the weights beside it: popos train ... --weights {run}",
        ) from None
