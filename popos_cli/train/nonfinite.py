"""Losses and weights that are NaN or infinite end a training, and what led to them is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.index import Index
from ..errors import PoposError
from ..home import replacing

NAMED = 4  # pictures that the message names; the file has them all


def refuse_nonfinite_loss(
    losses: Mapping[str, float], heatmaps: Tensor, part: Tensor, batch: Mapping[str, Tensor], index: Index,
    model: nn.Module, step: int, run: Path,
) -> None:  # fmt: skip
    """Raise PoposError where a part of the loss is not finite.

    The message names the pictures of the faces `part` (n,), which `heatmaps` (n, K, R, R) are of: those whose
    own heatmaps are not finite, or all where none stands out. run/nonfinite.pt gets what is needed to run the
    step again: the batch as the loader gave it, the names of its pictures, the losses, and the model's
    tensors before the step.
    """
    if math.isfinite(sum(losses.values())):
        return
    bad = ~heatmaps.detach().float().isfinite().flatten(1).all(1).cpu()
    names = list(dict.fromkeys(index.image[(part[bad] if bad.any() else part).numpy()].tolist()))
    path = run / "nonfinite.pt"
    with replacing(path) as temporary:
        kept = {"batch": dict(batch), "images": index.image[batch["face"].numpy()].tolist()}
        torch.save({**kept, "losses": losses, "step": step, "model": model.state_dict()}, temporary)
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    raise PoposError(
        f"the loss is not finite at step {step + 1} ({parts}); pictures: {', '.join(names[:NAMED])}{more}; "
        f"batch and weights are kept in {path}",
        _hint(run),
    )


def refuse_nonfinite_weights(model: nn.Module, step: int, run: Path) -> None:
    """Raise PoposError where a tensor of the model is not finite."""
    finite = [t.isfinite().all() for t in model.state_dict().values() if t.is_floating_point()]
    if not torch.stack(finite).all():  # waits for the GPU once, not once a tensor
        raise PoposError(
            f"weights are not finite after step {step}, since a gradient was not: they are not kept",
            _hint(run),
        )


def _hint(run: Path) -> str:
    return (
        f"Go on from the last checkpoint: popos train --resume {run} --set schedule.clip=1, or with a lower "
        "schedule.learning_rate."
    )
