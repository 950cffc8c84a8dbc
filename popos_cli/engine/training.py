"""A training: the network, what moves it, and how far it has come."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..core.codec import Codec
from ..core.model import Landmarker
from ..data.index import Index
from ..errors import PoposError
from ..settings.schema import TrainSettings
from ..weights.format import WeightsInfo, save_weights
from . import build
from .checkpoint import save_state
from .flat import Flat, lay_out
from .world import ALONE, World


def _copies(module: nn.Module) -> dict[str, Tensor]:
    """A module's state, each tensor without the others that it lies beside: pickle would take them along."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@dataclass
class Training:
    """What changes while a network trains, and the fixed things it needs for it.

    flat: how the model is laid out. network: the model, as this process runs it. epoch: how many are
    finished. losses: the parts of the loss (as in `PARTS`) at each step of the present epoch. best: NME in
    percent, found after epoch `best_epoch`.
    """

    settings: TrainSettings
    world: World
    info: WeightsInfo
    codec: Codec
    device: torch.device
    dtype: torch.dtype | None
    model: Landmarker
    flat: Flat
    network: nn.Module
    average: Average
    optimiser: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    step: int = 0
    epoch: int = 0
    losses: list[list[float]] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0

    def state(self) -> dict[str, Any]:
        return {
            "model": _copies(self.model),
            "average": _copies(self.average),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "losses": self.losses,
            "best": self.best,
            "best_epoch": self.best_epoch,
        }

    def take(self, state: dict[str, Any]) -> None:
        """Go on from `state`; RuntimeError, ValueError or KeyError where it is of another network.

        Rate, decay and precision are those of the settings, which may have changed since.
        """
        groups = self.optimiser.param_groups
        chosen = [{key: group[key] for key in ("initial_lr", "weight_decay")} for group in groups]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.schedule.base_lrs = [own["initial_lr"] for own in chosen]
        factor = self.schedule.lr_lambdas[0](self.schedule.last_epoch)
        for group, own in zip(self.optimiser.param_groups, chosen, strict=True):
            group.update(own, lr=own["initial_lr"] * factor)
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.losses = state["step"], state["epoch"], state["losses"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]

    def save(self, run: Path) -> None:
        """Write a checkpoint. Raises PoposError where a weight is not finite: the one before stays."""
        if not self.world.main:
            return
        if not all(torch.isfinite(row.whole).all() for row in self.flat):
            raise PoposError(
                f"weights are not finite after step {self.step}, since a gradient was not: they are not kept",
                "Resume the run, from its last checkpoint, with a lower schedule.learning_rate.",
            )
        save_state(run, self.state())

    def save_weights(self, path: Path, **training: Any) -> None:
        """The averaged weights, with `training` added to the metadata of that name."""
        if self.world.main:
            info = self.info.model_copy(update={"training": {**self.info.training, **training}})
            save_weights(path, self.average.module.state_dict(), info, half=False)


class Average(AveragedModel):
    """Exponential moving average of a model's parameters and buffers; counts are copied.

    The decay grows to its value from 0.1, so that a young average is not held back by the random start.
    """

    def __init__(self, model: nn.Module, flat: Flat, decay: float) -> None:
        """`flat`: how `model` is laid out."""
        super().__init__(model, use_buffers=True)
        self.decay = decay
        self.means, self._values = lay_out(self.module), flat

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step of `model`, which is the one that this was made of."""
        count = int(self.n_averaged)
        # The first step's weights are taken as they are.
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        *means, counts = (row.whole for row in self.means)
        *values, counted = (row.whole for row in self._values)
        get_ema_multi_avg_fn(decay)(means, values, count)
        counts.copy_(counted)
        self.n_averaged += 1


def begin(
    settings: TrainSettings, index: Index, initial: dict[str, Tensor] | None, steps_per_epoch: int,
    world: World = ALONE,
) -> Training:  # fmt: skip
    """A model at its start on its device, with optimiser and schedule."""
    torch.manual_seed(settings.seed)
    device = build.pick_device(settings.gpus, world.local_rank)
    info = build.build_info(settings, index)
    model = info.build_model(index.scheme.landmarks)
    if initial:
        model.load_state_dict(initial, strict=False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.schedule.freeze_batch_norm:
        freeze_batch_norms(model)
    flat = lay_out(model)
    if settings.compile:
        model.compile()
    network: nn.Module = model
    if world.size > 1:  # gives all processes the first one's weights
        network = DistributedDataParallel(model, [device] if device.type == "cuda" else None)
    average = Average(model, flat, settings.schedule.ema)
    optimiser = build.build_optimiser(settings, flat)
    schedule = LambdaLR(optimiser, build.rate_factor(settings.schedule, steps_per_epoch))
    dtype = build.autocast_dtype(settings.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(
        settings, world, info, info.build_codec(), device, dtype, model, flat, network, average,
        optimiser, schedule, scaler,
    )  # fmt: skip


def freeze_batch_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
