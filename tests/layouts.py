"""Checkpoints as mmpose, POPoS and HRNet lay them out, from a network of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from popos_cli.core.model import Landmarker

TRIPLES = {64: 0, 32: 1, 16: 2, 8: 3, 4: 4}

State = dict[str, Tensor]


def network(landmarks: int, resolution: int, popos: bool = False, seed: int = 0) -> Landmarker:
    """With weights that keep activations alive, and batch norms that are not identities."""
    model = Landmarker(landmarks, resolution, stem_norm="shared" if popos else "own", fusion="bilinear")
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.0), (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2), (layer.running_var, 0.5, 2.0),
            ):  # fmt: skip
                nn.init.uniform_(tensor, low, high, generator=generator)
    return model.eval()


def mmpose_0(model: Landmarker) -> State:
    state = model.state_dict()
    return {name.replace("head.", "keypoint_head.final_layer.", 1): tensor for name, tensor in state.items()}


def mmpose_1(model: Landmarker) -> State:
    """Its last convolution has a name of its own."""
    state = model.state_dict()
    new = {"head.0.": "head.conv_layers.0.", "head.1.": "head.conv_layers.1.", "head.3.": "head.final_layer."}
    return {new.get(n[:7], n[:7]) + n[7:]: tensor for n, tensor in state.items()}


def hrnet(model: Landmarker) -> State:
    """HRNet-Facial-Landmark-Detection: no prefix before the backbone's names."""
    return {name.removeprefix("backbone."): tensor for name, tensor in model.state_dict().items()}


def popos_fork(model: Landmarker) -> State:
    """With the names of all that POPoS builds and leaves unused at this resolution."""
    state = {f"backbone.{name}": torch.zeros(1) for name in Landmarker(1, 64).backbone.state_dict()}
    state |= {f"backbone.{name}.weight": torch.randn(64, 64, 3, 3) for name in ("conv3", "conv4")}
    for triple in range(TRIPLES[model.resolution]):
        convolution, norm = nn.Conv2d(model.landmarks, model.landmarks, 3), nn.BatchNorm2d(model.landmarks)
        for place, layer in ((3 * triple, convolution), (3 * triple + 1, norm)):
            prefix = f"keypoint_head.downscale_layer.{place}."
            state |= {prefix + name: tensor for name, tensor in layer.state_dict().items()}
    return state | mmpose_0(model)


def checkpoint(state: State, **more: Any) -> dict[str, Any]:
    """As mmcv saves it: meta data with NumPy scalars, and the optimiser's state."""
    meta = {
        "epoch": 60, "iter": np.int64(3000), "mmpose_version": "0.29.0", "config": "model = dict(...)",
        "hook_msgs": {"best_score": np.float64(0.0406), "last": np.float32(0.05)},
    }  # fmt: skip
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 2e-3}]}
    return {"meta": meta, "state_dict": state, "optimizer": optimizer, **more}
