"""A training: the network, what moves it, and how far it has come."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..core.codec import Codec
from ..core.device import autocast_dtype, pick_device
from ..core.model import Landmarker
from ..data.batches import TrainingBatches
from ..data.index import Index
from ..errors import PoposError
from ..processes.world import ALONE, World
from ..weights.format import WeightsInfo, save_weights
from . import build
from .checkpoint import save_state
from .flat import Flat, lay_out
from .settings import TrainSettings


def _copies(module: nn.Module) -> dict[str, Tensor]:
    """A module's state, each tensor without the others that it lies beside: pickle would take them along."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@dataclass
class Training:
    """What changes while a network trains, and the fixed things it needs for it.

    flat: how the model is laid out. network: the model, as this process runs it. factor: see `rate_factor`.
    fingerprint: the dataset's.
    step: how many are done; they differ in faces where a resumed run changed its batch size. epoch: how many
    are finished. seen: faces of the present epoch's order that are done. losses: the parts of the loss (as in
    `PARTS`) at each step of the present epoch. best: NME in percent, found after epoch `best_epoch`; infinite
    where it could not be measured.
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
    scaler: torch.amp.GradScaler
    factor: Callable[[float, int], float]
    batches: TrainingBatches
    fingerprint: str
    step: int = 0
    epoch: int = 0
    seen: int = 0
    losses: list[list[float]] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0

    @property
    def moved(self) -> int:
        """Steps that moved the weights: fp16's loss scaling skips one where a gradient overflows."""
        return int(self.average.n_averaged)

    @property
    def place(self) -> float:
        """How far the schedule is, in epochs: a share of an epoch and no number of steps, which another batch
        size changes. Steps that were skipped do not count."""
        steps = self.batches.steps
        skipped = (self.step - self.moved) / steps
        return self.epoch + self.seen / (steps * self.batches.batch_size) - skipped

    @property
    def total_steps(self) -> int:
        """Steps of the whole run: those done, and those that are left at the present batch size."""
        left = (self.settings.schedule.epochs - self.epoch) * self.batches.steps
        return self.step + max(left - self.seen // self.batches.batch_size, 0)

    @property
    def rate(self) -> float:
        """The learning rate at this place."""
        return build.scaled_rate(self.settings.schedule) * self.factor(self.place, self.moved)

    def state(self) -> dict[str, Any]:
        return {
            "dataset": self.fingerprint,
            "model": _copies(self.model),
            "average": _copies(self.average),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "seen": self.seen,
            "losses": self.losses,
            "best": self.best,
            "best_epoch": self.best_epoch,
        }

    def take(self, state: dict[str, Any]) -> None:
        """Go on from `state`; RuntimeError, ValueError or KeyError where it is of another network.

        The optimiser's own settings and the precision are those of this run, which may have changed since.
        """
        groups = self.optimiser.param_groups
        chosen = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group, own in zip(self.optimiser.param_groups, chosen, strict=True):
            group.update(own)
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.losses = state["step"], state["epoch"], state["losses"]
        self.seen = state["seen"] if "seen" in state else _seen_before(state, self.batches)
        self.best, self.best_epoch = state["best"], state["best_epoch"]

    def save(self, run: Path) -> None:
        """Write a checkpoint. Raises PoposError where a weight is not finite: the one before stays."""
        if not self.world.main:
            return
        if not all(torch.isfinite(row.whole).all() for row in self.flat):
            raise PoposError(
                f"weights are not finite after step {self.step}, since a gradient was not: they are not kept",
                f"Go on from the last checkpoint: popos train --resume {run} --set schedule.clip=1, or with "
                "a lower schedule.learning_rate.",
            )
        save_state(run, self.state())

    def save_weights(self, path: Path, **training: Any) -> None:
        """The averaged weights, with `training` added to the metadata of that name."""
        if self.world.main:
            info = self.info.model_copy(update={"training": {**self.info.training, **training}})
            save_weights(path, self.average.module.state_dict(), info, half=False)


def _seen_before(state: dict[str, Any], batches: TrainingBatches) -> int:
    """Faces of its epoch that a checkpoint of an earlier version, which counted steps alone, has done."""
    done = len(state["losses"])
    per_epoch = (state["step"] - done) / state["epoch"] if state["epoch"] else batches.steps
    return min(round(done / per_epoch * batches.steps), batches.steps) * batches.batch_size


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
    settings: TrainSettings, index: Index, initial: dict[str, Tensor] | None, batches: TrainingBatches,
    world: World = ALONE,
) -> Training:  # fmt: skip
    """A model at its start on its device, with optimiser and schedule, to be trained on `batches`."""
    torch.manual_seed(settings.seed)
    device = pick_device(settings.gpus, world.local_rank)
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
    dtype = autocast_dtype(settings.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(
        settings, world, info, info.build_codec(), device, dtype, model, flat, network, average,
        optimiser, scaler, build.rate_factor(settings.schedule, batches.steps), batches, index.fingerprint,
    )  # fmt: skip


def freeze_batch_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
