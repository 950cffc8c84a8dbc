"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ..core.codec import Codec
from ..core.model import Landmarker
from ..data.augment import apply_look
from ..data.batches import TrainingBatches
from ..data.index import Index
from ..errors import PoposError
from ..settings.schema import TrainSettings
from ..weights.format import WeightsInfo, save_weights
from . import build
from .checkpoint import clear_leftovers, load_state, only_writer, save_state
from .evaluate import measure
from .interrupt import Stopped, held_interrupts
from .launch import ALONE, World
from .objective import PARTS, objective
from .runlog import LOSSES, Meter, Progress, RunLog, Silent
from .unfinite import refuse_unfinite


@dataclass
class Training:
    """What changes while a network trains, and the fixed things it needs for it.

    network: the model, as this process runs it. epoch: how many are finished. losses: the parts of
    the loss (as in `PARTS`) at each step of the present epoch. best: NME in percent, found after
    epoch `best_epoch`.
    """

    settings: TrainSettings
    world: World
    info: WeightsInfo
    codec: Codec
    device: torch.device
    dtype: torch.dtype | None
    model: Landmarker
    network: nn.Module
    average: AveragedModel
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
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
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
        """Go on from `state`; RuntimeError, ValueError or KeyError where it is of another network."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.losses = state["step"], state["epoch"], state["losses"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]

    def save(self, run: Path) -> None:
        if self.world.main:
            save_state(run, self.state())

    def save_weights(self, path: Path, **training: Any) -> None:
        """The averaged weights, with `training` added to the metadata of that name."""
        if self.world.main:
            info = self.info.model_copy(update={"training": {**self.info.training, **training}})
            save_weights(path, self.average.module.state_dict(), info, half=False)


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average for `AveragedModel`; the decay grows to its value from 0.1, so
    that a young average is not held back by the random start."""

    def update(averaged: Any, current: Any, count: Any) -> None:
        young = (1 + float(count)) / (10 + float(count))
        get_ema_multi_avg_fn(min(decay, young))(averaged, current, count)

    return update


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
    if settings.compile:
        model.compile()
    network: nn.Module = model
    if world.size > 1:  # gives all processes the first one's weights
        network = DistributedDataParallel(model, [device] if device.type == "cuda" else None)
    average = AveragedModel(model, multi_avg_fn=averaging(settings.schedule.ema), use_buffers=True)
    optimiser = build.build_optimiser(settings, model)
    schedule = LambdaLR(optimiser, build.rate_factor(settings.schedule, steps_per_epoch))
    dtype = build.autocast_dtype(settings.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(
        settings, world, info, info.build_codec(), device, dtype, model, network, average, optimiser,
        schedule, scaler,
    )  # fmt: skip


def freeze_batch_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


def fit(
    settings: TrainSettings,
    index: Index,
    initial: dict[str, Tensor] | None,
    run: Path,
    progress: Progress,
    world: World = ALONE,
) -> float:
    """Train on the index's train faces into folder `run`; returns the best validation NME in %.

    Goes on from the run's newest whole checkpoint, if there is one: a run that was stopped or killed
    ends with the weights of an uninterrupted one. Writes best.safetensors and last.safetensors
    (averaged weights), results.csv, metrics.jsonl and checkpoints; in several processes, the first
    does. `initial`: tensors by name; those missing start at random. Faces come from the crop cache
    where the dataset has one. Ctrl-C takes effect between two steps, once the state is saved.
    Raises PoposError when the loss is not finite or the dataset has no faces to train on.
    """
    codec = build.build_info(settings, index).build_codec()
    faces = index.of_split("train")
    loader, batches = build.training_loader(settings, faces, codec, world)
    validation = index.validation()
    if not (validation.normalisers() > 0).any():
        raise PoposError(
            f"dataset {index.name!r}: no validation face can be measured: the points that its "
            f"{index.scheme.normaliser} distance needs are not labelled, or coincide"
        )
    judging = build.validation_loader(settings, validation, codec, world)
    with held_interrupts() as pressed, only_writer(run) if world.main else nullcontext():
        training = begin(settings, index, initial, batches.steps, world)
        go_on(training, run, progress)
        progress.start(settings.schedule.epochs * batches.steps, training.step)
        log = RunLog(run, training.step, training.epoch, settings.tensorboard) if world.main else Silent()
        try:
            while not finished(training):
                batches.epoch, batches.start = training.epoch, len(training.losses)
                meter = Meter(training.device)
                train_epoch(training, loader, batches, faces, run, meter, log, progress, pressed)
                nme = validate(training, judging, pressed)
                finish_epoch(training, run, nme, meter, log, progress)
        except Stopped:
            training.save(run)
            raise
        finally:
            log.close()
    training.save_weights(run / "last.safetensors", epoch=training.epoch)
    return training.best


def go_on(training: Training, run: Path, progress: Progress) -> None:
    """Take up the run's newest whole checkpoint, which the first process alone reads."""
    world, resumed = training.world, None
    if world.main:
        clear_leftovers(run)
        resumed = load_state(run, training.take)
        for remark in resumed.remarks if resumed else ():
            progress.note(remark)
    if world.size > 1:
        state = world.broadcast(training.state() if resumed else None)
        if state and not world.main:
            training.take(state)


def finished(training: Training) -> bool:
    schedule = training.settings.schedule
    waited = training.epoch - training.best_epoch
    return training.epoch >= schedule.epochs or 0 < schedule.patience <= waited


def finish_epoch(
    training: Training, run: Path, nme: float, meter: Meter, log: RunLog | Silent, progress: Progress
) -> None:
    """Note an epoch that is trained and validated, and keep its weights if they are the best."""
    training.epoch += 1
    if nme < training.best:
        training.best, training.best_epoch = nme, training.epoch
        training.save_weights(run / "best.safetensors", epoch=training.epoch, val_nme=nme)
    losses = np.array(training.losses).mean(0)
    row = {
        "epoch": float(training.epoch),
        "loss": float(losses.sum()),
        **dict(zip(LOSSES, map(float, losses), strict=True)),
        "learning_rate": float(training.schedule.get_last_lr()[0]),
        "val_nme": nme,
        "best_nme": training.best,
        **meter.columns(),
    }
    log.epoch(row)
    training.losses = []
    training.save(run)
    progress.epoch(row)


def train_epoch(
    training: Training, loader: DataLoader[Any], batches: TrainingBatches, faces: Index, run: Path,
    meter: Meter, log: RunLog | Silent, progress: Progress, pressed: Callable[[], bool],
) -> None:  # fmt: skip
    """One pass over what the loader still has of this epoch. Raises Stopped between two steps."""
    settings, world = training.settings, training.world
    training.model.train()
    if settings.schedule.freeze_batch_norm:
        freeze_batch_norms(training.model)
    saved = time.monotonic()
    for batch in meter.batches(loader):
        counted = training.codec.within_reach(batch["points"])
        # All processes stop at the same step, and share one mean over the landmarks of the whole batch.
        total, stop = world.sums(float(counted.sum()), float(pressed()))
        if stop:
            raise Stopped
        share = counted * (world.size / max(total, 1))  # the gradients of the processes are averaged
        ramp = min(training.step / max(settings.loss.ramp * batches.steps, 1), 1.0)
        losses = train_step(training, batch, share, ramp, faces, run)
        training.step += 1
        training.losses.append([value / world.size for value in world.sums(*losses)])
        meter.count(batches.batch_size)
        parts = dict(zip(LOSSES, training.losses[-1], strict=True))
        log.step(training.step, training.epoch + 1, parts, float(training.schedule.get_last_lr()[0]))
        progress.step(training.epoch + 1, sum(training.losses[-1]), meter)
        if time.monotonic() - saved > 60 * settings.checkpoint_minutes:
            training.save(run)
            saved = time.monotonic()


def train_step(
    training: Training, batch: dict[str, Tensor], share: Tensor, ramp: float, faces: Index, run: Path
) -> list[float]:
    """Forward, backward and one step of the optimiser; the parts of the loss, as in `PARTS`."""
    settings, device = training.settings, training.device
    schedule = settings.schedule
    images = apply_look(build.to_model_input(batch["image"], device), batch["look"])
    points, share = (t.to(device, non_blocking=True) for t in (batch["points"], share))
    sums = np.zeros(len(PARTS))
    training.optimiser.zero_grad(set_to_none=True)
    chunks = list(zip(*(t.chunk(schedule.accumulate) for t in (images, points, share)), strict=True))
    for number, (pictures, truth, part) in enumerate(chunks, 1):
        network = training.network
        # Processes share their gradients with the last part.
        several = isinstance(network, DistributedDataParallel)
        with network.no_sync() if several and number < len(chunks) else nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, dtype=training.dtype, enabled=training.dtype is not None):
                heatmaps = network(pictures)
            parts = objective(settings.loss, heatmaps.float(), truth, part, training.codec, ramp)
            values = torch.stack(list(parts.values())).tolist()  # waits for the GPU
            found = dict(zip(parts, values, strict=True))
            refuse_unfinite(found, heatmaps, batch, faces, training.model, training.step, run)
            sums += [found.get(name, 0.0) for name in PARTS]
            training.scaler.scale(torch.stack(list(parts.values())).sum()).backward()
    if schedule.clip:
        training.scaler.unscale_(training.optimiser)
        nn.utils.clip_grad_norm_(training.model.parameters(), schedule.clip)
    training.scaler.step(training.optimiser)
    training.scaler.update()
    training.schedule.step()
    training.average.update_parameters(training.model)
    losses: list[float] = sums.tolist()
    return losses


def validate(training: Training, loader: DataLoader[Any], pressed: Callable[[], bool]) -> float:
    """Mean NME in percent of the averaged weights over the loader's faces, without the flip test.

    Raises Stopped between two batches; of several processes none may leave alone, so they go on.
    """

    def check(faces: int) -> None:
        if pressed() and training.world.size == 1:
            raise Stopped

    share_buffers(training.average, training.world)
    found = measure(
        training.average.module, {"own": training.codec}, loader, training.device, None,
        training.info.label_offset, training.dtype, check, training.world,
    )  # fmt: skip
    return float(np.nanmean(found["own"].error) * 100)


def share_buffers(module: nn.Module, world: World) -> None:
    """Give all processes the first one's batch norm statistics, each having seen faces of its own."""
    if world.size > 1:
        buffers = dict(module.named_buffers())
        first = world.broadcast({name: buffer.cpu() for name, buffer in buffers.items()})
        for name, buffer in buffers.items():
            buffer.copy_(first[name])
