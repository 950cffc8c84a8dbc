"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..core.codec import Codec
from ..core.losses import heatmap_mse, points_smooth_l1
from ..core.model import Landmarker
from ..data.augment import apply_look
from ..data.index import Index
from ..errors import PoposError
from ..settings.schema import TrainSettings
from ..weights.format import WeightsInfo, save_weights
from . import build
from .checkpoint import load_state, save_state
from .evaluate import measure
from .interrupt import Stopped, held_interrupts
from .runlog import Progress, append_row


@dataclass
class Training:
    """What changes while a network trains, and the fixed things it needs for it.

    epoch: how many are finished. losses: heatmaps and points of each step of the present epoch.
    """

    settings: TrainSettings
    info: WeightsInfo
    codec: Codec
    device: torch.device
    dtype: torch.dtype | None
    model: Landmarker
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    schedule: LambdaLR
    step: int = 0
    epoch: int = 0
    losses: list[tuple[float, float]] = field(default_factory=list)
    best: float = math.inf

    def save(self, run: Path) -> None:
        save_state(
            run,
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.step,
                "epoch": self.epoch,
                "losses": self.losses,
                "best": self.best,
            },
        )

    def load(self, run: Path) -> None:
        state = load_state(run)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]
            self.losses = state["losses"]
        except (RuntimeError, ValueError, KeyError):  # in torch's words, hundreds of tensor names
            raise PoposError(
                f"{run}: its checkpoint is of another network or optimiser",
                "Resume with the settings that the run began with.",
            ) from None

    def save_weights(self, path: Path, **training: Any) -> None:
        """The averaged weights, with `training` added to the metadata of that name."""
        info = self.info.model_copy(update={"training": {**self.info.training, **training}})
        save_weights(path, self.average.module.state_dict(), info, half=False)


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average for `AveragedModel`; the decay grows to its value from 0.1, so
    that a young average is not held back by the random start."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        weight = 1 - min(decay, (1 + float(count)) / (10 + float(count)))
        for mean, new in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, weight)
            else:
                mean.copy_(new)

    return update


def begin(
    settings: TrainSettings, index: Index, initial: dict[str, Tensor] | None, steps_per_epoch: int
) -> Training:
    """A model at its start on its device, with optimiser and schedule."""
    torch.manual_seed(settings.seed)
    device = build.pick_device(settings.gpus)
    info = build.build_info(settings, index)
    model = info.build_model(index.scheme.landmarks)
    if initial:
        model.load_state_dict(initial, strict=False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=averaging(settings.schedule.ema), use_buffers=True)
    optimiser = build.build_optimiser(settings, model)
    schedule = LambdaLR(optimiser, build.rate_factor(settings.schedule, steps_per_epoch))
    dtype = build.autocast_dtype(settings.precision, device)
    return Training(settings, info, info.build_codec(), device, dtype, model, average, optimiser, schedule)


def fit(
    settings: TrainSettings,
    index: Index,
    initial: dict[str, Tensor] | None,
    run: Path,
    resume: bool,
    progress: Progress,
) -> float:
    """Train on the index's train faces into folder `run`; returns the best validation NME in %.

    Writes best.safetensors and last.safetensors (averaged weights), results.csv and state.ckpt.
    `initial`: tensors by name; those missing start at random. Faces come from the crop
    cache where the dataset has one. Ctrl-C takes effect between two steps, once the state is saved:
    a resumed run ends with the weights of an uninterrupted one.
    Raises PoposError when the loss is not finite or the dataset has no faces to train on.
    """
    codec = build.build_info(settings, index).build_codec()
    loader, sampler = build.training_loader(settings, index.of_split("train"), codec)
    validation = index.validation()
    if not (validation.normalisers() > 0).any():
        raise PoposError(
            f"dataset {index.name!r}: no validation face can be measured: the points that its "
            f"{index.scheme.normaliser} distance needs are not labelled, or coincide"
        )
    judging = build.validation_loader(settings, validation, codec)
    steps, batch_size = len(loader), loader.batch_size or 1
    with held_interrupts() as check:
        training = begin(settings, index, initial, steps)
        if resume:
            training.load(run)
        progress.start(settings.schedule.epochs * steps, training.step)
        try:
            while training.epoch < settings.schedule.epochs:
                started, done = time.monotonic(), len(training.losses)
                sampler.epoch, sampler.start = training.epoch, done * batch_size
                train_epoch(training, loader, steps, progress, check)
                seconds = time.monotonic() - started
                nme = validate(training, judging, check)
                training.epoch += 1
                rate = (len(training.losses) - done) * batch_size / seconds
                finish_epoch(training, run, nme, rate, seconds, progress)
        except Stopped:
            training.save(run)
            raise
    training.save_weights(run / "last.safetensors", epoch=settings.schedule.epochs)
    return training.best


def finish_epoch(
    training: Training, run: Path, nme: float, rate: float, seconds: float, progress: Progress
) -> None:
    """Note an epoch that is trained and validated, and keep its weights if they are the best."""
    if nme < training.best:
        training.best = nme
        training.save_weights(run / "best.safetensors", epoch=training.epoch, val_nme=nme)
    losses = np.array(training.losses)
    row = {
        "epoch": float(training.epoch),
        "loss": float(losses.sum(1).mean()),
        "heatmap_loss": float(losses[:, 0].mean()),
        "points_loss": float(losses[:, 1].mean()),
        "learning_rate": float(training.schedule.get_last_lr()[0]),
        "val_nme": nme,
        "best_nme": training.best,
        "faces_per_second": rate,
        "seconds": seconds,
    }
    append_row(run, row)
    training.losses = []
    training.save(run)
    progress.epoch(row)


def train_epoch(
    training: Training, loader: DataLoader[Any], steps: int, progress: Progress, check: Callable[[], None]
) -> None:
    """One pass over what the loader still has of this epoch; `check` may raise after each step."""
    settings, device, dtype = training.settings, training.device, training.dtype
    epoch = training.epoch
    training.model.train()
    check()
    for batch in loader:
        images = apply_look(build.to_model_input(batch["image"], device), batch["look"])
        points = batch["points"].to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            heatmaps = training.model(images)
        ramp = min(training.step / max(settings.loss.ramp * steps, 1), 1.0)
        heatmap_loss, points_loss = batch_loss(
            heatmaps.float(), points, training.codec, settings.loss.points * ramp, settings.loss.beta
        )
        training.optimiser.zero_grad(set_to_none=True)
        (heatmap_loss + points_loss).backward()
        if settings.schedule.clip:
            torch.nn.utils.clip_grad_norm_(training.model.parameters(), settings.schedule.clip)
        training.optimiser.step()
        training.schedule.step()
        training.average.update_parameters(training.model)
        training.step += 1
        loss = (float(heatmap_loss.detach()), float(points_loss.detach()))  # waits for the GPU
        training.losses.append(loss)
        if not math.isfinite(sum(loss)):
            raise PoposError(
                f"the loss is not finite at epoch {epoch + 1}, step {training.step}",
                "Lower schedule.learning_rate, or set schedule.clip to 1.",
            )
        progress.step(epoch + 1, sum(loss))
        check()


def batch_loss(
    heatmaps: Tensor, points: Tensor, codec: Codec, weight: float, beta: float
) -> tuple[Tensor, Tensor]:
    """Heatmap MSE and `weight` times smooth L1 of decoded points; `points` (N, K, 2) crop pixels."""
    counted = codec.within_reach(points)
    heatmap_loss = heatmap_mse(heatmaps, codec.encode(points), counted.float())
    if not weight:
        return heatmap_loss, heatmap_loss.new_zeros(())
    truth = torch.where(counted[..., None], codec.to_heatmap(points), 0.0)
    points_loss = points_smooth_l1(codec.locate(heatmaps), truth, counted.float(), beta)
    return heatmap_loss, weight * points_loss


def validate(training: Training, loader: DataLoader[Any], check: Callable[[], None]) -> float:
    """Mean NME in percent of the averaged weights over the loader's faces, without the flip test.

    `check` is called after each batch and may raise.
    """
    found = measure(
        training.average.module, {"own": training.codec}, loader, training.device, None,
        training.info.label_offset, training.dtype, progress=lambda faces: check(),
    )  # fmt: skip
    return float(np.nanmean(found["own"].error) * 100)
