"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..data.augment import to_training_input
from ..data.batches import TrainingBatches
from ..data.index import Index
from ..data.loader import loader_failures
from ..errors import PoposError
from ..evaluate.measure import measure
from ..processes.interrupt import Stopped, held_interrupts
from ..processes.world import ALONE, World
from ..weights.find import IMAGENET
from . import build
from .checkpoint import clear_leftovers, load_state, only_writer
from .nonfinite import refuse_unfinite
from .objective import PARTS, objective
from .runlog import LOSSES, Meter, Progress, RunLog, Silent, write_settings
from .settings import TrainSettings
from .training import Average, Training, begin, freeze_batch_norms

NO_FACES = ("auto", "scratch", IMAGENET)  # first weights that find no landmarks yet


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
    alone = only_writer(run) if world.main else nullcontext()
    with held_interrupts() as pressed, alone, loader_failures():
        training = begin(settings, index, initial, batches, world)
        go_on(training, run, progress)
        if world.main:  # a run that is refused keeps the settings that it began with
            write_settings(run, settings)
        progress.start(training.total_steps, training.step)
        # Before the first step nothing is done, not even the validation of the starting weights.
        done = training.epoch if training.step else -1
        log = RunLog(run, training.step, done, settings.tensorboard) if world.main else Silent()
        try:
            if not training.step and settings.model.init not in NO_FACES:
                log.epoch({"epoch": 0.0, "val_nme": (nme := validate(training, judging, pressed))})
                progress.note(f"epoch 0: the starting weights have a validation NME of {nme:.3f} %")
            while not finished(training):
                batches.epoch, batches.start = training.epoch, training.seen
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
    world = training.world
    taken: dict[str, Any] = {}  # as read: on the CPU, where broadcasts want it

    def take(state: dict[str, Any]) -> None:
        training.take(state)
        if state.get("dataset", training.fingerprint) != training.fingerprint:
            raise PoposError(
                f"{run}: dataset {training.settings.dataset!r} has other faces, points or splits than when "
                "the run began",
                "Prepare it again as it was; or start anew, from the run's weights: "
                f"popos train --dataset {training.settings.dataset} --weights {run}",
            )
        taken.update(state)

    if world.main:
        clear_leftovers(run)
        if resumed := load_state(run, take):
            for remark in resumed.remarks:
                progress.note(remark)
            progress.note(
                f"going on after step {training.step} of {training.total_steps}: {training.epoch} of "
                f"{training.settings.schedule.epochs} epochs are done"
            )
    state = world.broadcast(taken)
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
    training.epoch, training.seen = training.epoch + 1, 0
    if nme < training.best or not training.best_epoch:  # the first, even if its NME is no number
        training.best, training.best_epoch = nme if math.isfinite(nme) else math.inf, training.epoch
        known = {"val_nme": nme} if math.isfinite(nme) else {}
        training.save_weights(run / "best.safetensors", epoch=training.epoch, **known)
    losses = np.array(training.losses).mean(0)
    row = {
        "epoch": float(training.epoch),
        "loss": float(losses.sum()),
        **dict(zip(LOSSES, map(float, losses), strict=True)),
        "learning_rate": training.rate,
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
        losses = train_step(training, batch, share, faces, run)
        training.step += 1
        training.seen += batches.batch_size
        training.losses.append([value / world.size for value in world.sums(*losses)])
        meter.count(batches.batch_size)
        parts = dict(zip(LOSSES, training.losses[-1], strict=True))
        log.step(training.step, training.epoch + 1, parts, training.rate)
        progress.step(training.epoch + 1, sum(training.losses[-1]), meter)
        if time.monotonic() - saved > 60 * settings.checkpoint_minutes:
            training.save(run)
            saved = time.monotonic()


def train_step(
    training: Training, batch: dict[str, Tensor], share: Tensor, faces: Index, run: Path
) -> list[float]:
    """Forward, backward and one step of the optimiser; the parts of the loss, as in `PARTS`."""
    settings, device = training.settings, training.device
    schedule = settings.schedule
    ramp = min(training.place / settings.loss.ramp, 1.0) if settings.loss.ramp else 1.0
    rate = training.rate
    for group in training.optimiser.param_groups:
        group["lr"] = rate
    images = to_training_input(batch["image"], device, batch["look"])
    points, share = (t.to(device, non_blocking=True) for t in (batch["points"], share))
    sums = np.zeros(len(PARTS))
    training.model.zero_grad(set_to_none=True)
    chunks = list(zip(*(t.chunk(schedule.accumulate) for t in (images, points, share)), strict=True))
    network = training.network
    several = isinstance(network, DistributedDataParallel)
    for number, (pictures, truth, part) in enumerate(chunks, 1):
        # Processes share their gradients with the last part.
        with network.no_sync() if several and number < len(chunks) else nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, dtype=training.dtype, enabled=training.dtype is not None):
                heatmaps = network(pictures)
            parts = objective(settings.loss, heatmaps.float(), truth, part, training.codec, ramp)
            terms = torch.stack(list(parts.values()))
            found = dict(zip(parts, terms.tolist(), strict=True))  # waits for the GPU
            refuse_unfinite(found, heatmaps, batch, faces, training.model, training.step, run)
            sums += [found.get(name, 0.0) for name in PARTS]
            training.scaler.scale(terms.sum()).backward()
    trained = training.flat.decayed, training.flat.undecayed
    for row in trained:
        row.gather_gradients()
    if schedule.clip:
        training.scaler.unscale_(training.optimiser)
        nn.utils.clip_grad_norm_([row.whole for row in trained], schedule.clip)
    scale = training.scaler.get_scale()
    training.scaler.step(training.optimiser)
    training.scaler.update()
    if training.scaler.get_scale() >= scale:  # else a gradient has overflowed, and the weights stayed
        training.average.update_parameters(training.model)
    losses: list[float] = sums.tolist()
    return losses


def validate(training: Training, loader: DataLoader[Any], pressed: Callable[[], bool]) -> float:
    """Mean NME in percent of the averaged weights over the loader's faces, without the flip test.

    NaN or infinite where no face, or not each one, can be measured. Raises Stopped between two batches; of
    several processes none may leave alone, so they do at the end.
    """

    def check(faces: int) -> None:
        if pressed() and training.world.size == 1:
            raise Stopped

    world = training.world
    share_statistics(training.average, world)
    found = measure(
        training.average.module, {"own": training.codec}, loader, training.device, None,
        training.info.label_offset, training.dtype, check, world,
    )  # fmt: skip
    if any(world.sums(float(pressed()))):
        raise Stopped
    return float(np.nanmean(found["own"].error) * 100)


def share_statistics(average: Average, world: World) -> None:
    """Give all processes the first one's batch norm statistics, each having seen faces of its own."""
    if world.size > 1:
        for row in (average.means.rest, average.means.counts):
            row.whole.copy_(world.broadcast(row.whole.cpu()))
