"""What becomes of a loss that is NaN or infinite: training ends, and all that led to it is kept."""

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


def refuse_unfinite(
    losses: Mapping[str, float], heatmaps: Tensor, batch: Mapping[str, Tensor], faces: Index,
    model: nn.Module, step: int, run: Path,
) -> None:  # fmt: skip
    """Raise PoposError where a part of the loss is not finite, once a file to look into is written.

    run/nonfinite.pt holds the batch as the loader gave it (image, look, points, face, ...), the
    names of its pictures, the losses, and the model's tensors before the step: what is needed to run it
    again. `torch.load(path)` reads it. The message names the pictures; those whose own heatmaps are not
    finite, where not all are, so that a bad one stands out.
    """
    if math.isfinite(sum(losses.values())):
        return
    names = [str(faces.image[face]) for face in batch["face"].tolist()]
    own = torch.isfinite(heatmaps.detach().float()).flatten(1).all(1).cpu().numpy()
    # Heatmaps of a part of the batch do not line up with its names.
    culprits = [name for name, good in zip(names, own, strict=False) if not good]
    if len(own) != len(names) or not culprits:
        culprits = names
    path = run / "nonfinite.pt"
    with replacing(path) as temporary:
        torch.save(
            {
                "batch": dict(batch), "images": names, "losses": dict(losses), "step": step,
                "model": model.state_dict(),
            },
            temporary,
        )  # fmt: skip
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    unique = list(dict.fromkeys(culprits))
    more = f" and {len(unique) - NAMED} more" if len(unique) > NAMED else ""
    raise PoposError(
        f"the loss is not finite at step {step + 1} ({parts}); pictures: {', '.join(unique[:NAMED])}{more}; "
        f"batch and weights are kept in {path}",
        f"Go on from the last checkpoint: popos train --resume {run} --set schedule.clip=1, or with a lower "
        "schedule.learning_rate.",
    )
