"""First weights for a training: ImageNet's backbone, other weights of popos, or none."""

from __future__ import annotations

from torch import Tensor

from ..core.model import Landmarker
from ..errors import PoposError
from ..weights.catalog import load_catalog
from ..weights.find import find_weights, obtain
from ..weights.format import is_backbone, read_info, read_state

IMAGENET = "hrnet-w18-imagenet"  # the catalog's name of the backbone


def initial_state(init: str, model: Landmarker) -> tuple[dict[str, Tensor] | None, str]:
    """First weights for `model`, and a sentence that says what they are.

    init: see `ModelSettings.init`. Tensors whose name and shape the model shares are taken; a stem or head
    that another resolution or scheme shaped differently starts at random. Where the stem's convolutions
    shared one batch norm, each starts from a copy. Raises PoposError where a named file has nothing in common
    with the model, or is of a network that enlarges branches in another way.
    """
    if init == "scratch":
        return None, "starting from scratch"
    if init in ("auto", IMAGENET):
        try:
            path = obtain(load_catalog()[IMAGENET])
        except PoposError as error:
            if init == IMAGENET:
                raise
            return None, f"starting from scratch, without ImageNet weights ({error.message})"
    else:
        path = find_weights(init)
    wanted, state = model.state_dict(), read_state(path)
    if is_backbone(state):
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    else:
        info = read_info(path)  # refuses another program's file, and a newer one of ours
        if info.fusion != model.backbone.fusion:
            raise PoposError(
                f"{path}: its network upsamples coarser branches by {info.fusion!r}, this run's by "
                f"{model.backbone.fusion!r}",
                f"Train the same network: --set model.fusion={info.fusion}",
            )
        if info.stem_norm == "shared":
            for name in [name for name in wanted if name.startswith(("backbone.bn3.", "backbone.bn4."))]:
                state[name] = state[f"backbone.bn2.{name.rpartition('.')[2]}"]
    shared = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    if not any(name.startswith("backbone.") for name in shared):
        raise PoposError(f"{path}: none of its tensors fits HRNet-W18")
    return shared, f"starting from {path} ({len(shared)} of {len(wanted)} tensors)"
