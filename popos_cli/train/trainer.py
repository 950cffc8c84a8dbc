"""Training, top to bottom: build -> resume -> epochs of steps -> validate -> checkpoint -> log."""

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

from ..core.device import autocast_dtype, pick_device
from ..core.inference import to_model_input
from ..data.index import Index
from ..data.loader import loader_failures
from ..data.partial import mark, shortfall
from ..errors import PoposError
from ..evaluate.measure import measure
from ..home import clear_leftovers
from ..processes.world import ALONE, Stopped, World, held_interrupts
from ..weights.format import save_weights
from .build import (
    Average,
    build_info,
    build_optimiser,
    freeze_batch_norms,
    rate_factor,
    scaled_rate,
    training_loader,
    validation_loader,
)
from .checkpoint import load_state, only_writer, save_state
from .initial import IMAGENET
from .nonfinite import refuse_nonfinite_loss, refuse_nonfinite_weights
from .objective import PARTS, objective
from .runlog import LOSSES, Meter, RunLog, Silent, TrainingProgress, write_settings
from .settings import TrainSettings

UNTRAINED = ("auto", "scratch", IMAGENET)  # values of model.init whose weights find no landmarks yet
SAVED = ("step", "epoch", "seen", "losses", "best", "best_epoch")  # fields that a checkpoint keeps


class Trainer:
    """A training into folder `run`, on the index's train faces: from the crop cache, where there is one.

    initial: first weights by name; those missing start at random. world: this process among several that
    train one network; the first alone reads and writes `run`. Raises PoposError where the dataset has no
    faces to train on, or none to validate on.
    """

    def __init__(
        self,
        settings: TrainSettings,
        index: Index,
        initial: dict[str, Tensor] | None,
        run: Path,
        progress: TrainingProgress,
        world: World = ALONE,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.run, self.progress, self.world = settings, run, progress, world
        self.info = build_info(settings, index)
        self.codec = self.info.build_codec()
        self.fingerprint = index.fingerprint
        self.faces, validation = index.of_split("train"), index.validation()
        if not (validation.normalisers() > 0).any():
            raise PoposError(
                f"dataset {index.name!r}: no validation face can be measured: the points that its "
                f"{index.scheme.normaliser} distance needs are not labelled, or coincide"
            )
        self.loader, self.batches = training_loader(settings, self.faces, self.codec, world)
        self.validation = validation_loader(settings, validation, self.codec, world)

        self.device = pick_device(settings.gpus, world.local_rank)
        self.dtype = autocast_dtype(settings.precision, self.device)
        self.model = self.info.build_model(index.scheme.landmarks)
        if initial:
            self.model.load_state_dict(initial, strict=False)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.schedule.freeze_batch_norm:
            freeze_batch_norms(self.model)
        if settings.compile:
            self.model.compile()
        self.network: nn.Module = self.model
        if world.size > 1:  # every process gets the first one's weights
            devices = [self.device] if self.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.model, devices)
        self.average = Average(self.model, settings.schedule.ema)
        self.optimiser = build_optimiser(settings.schedule, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

        self.step = 0  # steps done; a resumed run may have changed their number of faces
        self.epoch = 0  # epochs done
        self.seen = 0  # faces of the present epoch's order that are done
        self.losses: list[list[float]] = []  # parts of the loss, as in PARTS, of each step of this epoch
        self.best = math.inf  # validation NME in percent, after epoch `best_epoch`
        self.best_epoch = 0
        self.interrupted: Callable[[], bool] = lambda: False  # whether Ctrl-C was pressed
        self.log: RunLog | Silent = Silent()
        # A column of the log: 1 where faces of the benchmark are missing.
        short = any(mark(shortfall(index, split)) for split in ("train", str(index.validation_split)))
        self.partial = {"partial": float(short)}

    @property
    def moved(self) -> int:
        """Steps that moved the weights: fp16's loss scaling skips a step where a gradient overflows."""
        return int(self.average.n_averaged)

    @property
    def epochs_done(self) -> float:
        """Epochs done, with fractions: the schedule follows these and not steps, so that a resumed run may
        have another batch size. Skipped steps do not count."""
        skipped = (self.step - self.moved) / self.batches.steps
        return self.epoch + self.seen / (self.batches.steps * self.batches.batch_size) - skipped

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        schedule = self.settings.schedule
        return scaled_rate(schedule) * rate_factor(schedule, self.batches.steps, self.epochs_done, self.moved)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run: those done, and those left at the present batch size."""
        left = (self.settings.schedule.epochs - self.epoch) * self.batches.steps
        return self.step + max(left - self.seen // self.batches.batch_size, 0)

    @property
    def finished(self) -> bool:
        schedule = self.settings.schedule
        return self.epoch >= schedule.epochs or 0 < schedule.patience <= self.epoch - self.best_epoch

    def fit(self) -> float:
        """Train to the end, from the run's newest whole checkpoint if there is one: bit-identical to an
        uninterrupted run. Returns the best validation NME in percent.

        Writes best.safetensors and last.safetensors (averaged weights), results.csv, metrics.jsonl and
        checkpoints. Ctrl-C takes effect between two steps, once the state is saved. Raises PoposError where
        the loss is not finite.
        """
        settings, run, main = self.settings, self.run, self.world.main
        with (
            held_interrupts() as self.interrupted,
            only_writer(run) if main else nullcontext(),
            loader_failures(),
        ):
            self.resume()
            if main:  # a run that refuses to resume keeps its settings
                write_settings(run, settings)
                # Epoch 0 is the row of the starting weights: before the first step it is written anew.
                done = self.epoch if self.step else -1
                self.log = RunLog(run, self.step, done, settings.tensorboard)
            self.progress.start(self.total_steps, self.step)
            try:
                if not self.step and settings.model.init not in UNTRAINED:
                    nme = self.validate()
                    self.log.epoch({"epoch": 0.0, "val_nme": nme, **self.partial})
                    self.progress.note(f"epoch 0: the starting weights have a validation NME of {nme:.3f} %")
                while not self.finished:
                    meter = self.train_epoch()
                    self.finish_epoch(self.validate(), meter)
            except Stopped:
                self.save()
                raise
            finally:
                self.log.close()
        self.save_weights("last.safetensors", epoch=self.epoch)
        return self.best

    def train_epoch(self) -> Meter:
        """One pass over what is left of this epoch. Raises Stopped between two steps."""
        world, meter, saved = self.world, Meter(self.device), time.monotonic()
        self.batches.epoch, self.batches.start = self.epoch, self.seen
        self.model.train()
        if self.settings.schedule.freeze_batch_norm:
            freeze_batch_norms(self.model)
        for batch in meter.batches(self.loader):
            counted = self.codec.within_reach(batch["points"])
            # All processes stop at the same step, and share one mean over the landmarks of the whole batch.
            total, stop = world.sums(float(counted.sum()), float(self.interrupted()))
            if stop:
                raise Stopped
            share = counted * (world.size / max(total, 1))
            losses = [loss / world.size for loss in world.sums(*self.train_step(batch, share))]
            self.step += 1
            self.seen += self.batches.batch_size
            self.losses.append(losses)
            meter.count(self.batches.batch_size)
            self.log.step(self.step, self.epoch + 1, dict(zip(LOSSES, losses, strict=True)), self.rate)
            self.progress.step(self.epoch + 1, sum(losses), meter)
            if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
        return meter

    def train_step(self, batch: dict[str, Tensor], share: Tensor) -> list[float]:
        """Forward, backward and one step of the optimiser. Returns the parts of the loss, as in `PARTS`.

        batch: this process's faces, as the loader gives them. share (N, K): weight of each landmark in the
        loss (`core.losses`), times the number of processes, since DDP averages their gradients.
        """
        schedule, loss, model = self.settings.schedule, self.settings.loss, self.model
        ramp = min(self.epochs_done / loss.ramp, 1.0) if loss.ramp else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        images = to_model_input(batch["image"], self.device)
        points, share = (tensor.to(self.device, non_blocking=True) for tensor in (batch["points"], share))
        parts = [tensor.chunk(schedule.accumulate) for tensor in (images, points, share, batch["face"])]
        sums = np.zeros(len(PARTS))
        self.optimiser.zero_grad(set_to_none=True)
        for number, (pictures, truth, part, faces) in enumerate(zip(*parts, strict=True), 1):
            # Processes exchange gradients after the last part alone.
            last = number == len(parts[0]) or not isinstance(self.network, DistributedDataParallel)
            with nullcontext() if last else self.network.no_sync():  # type: ignore[operator]
                with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                    heatmaps = self.network(pictures)
                terms = objective(loss, heatmaps.float(), truth, part, self.codec, ramp)
                values = torch.stack(list(terms.values()))
                found = dict(zip(terms, values.tolist(), strict=True))  # waits for the GPU
                refuse_nonfinite_loss(found, heatmaps, faces, batch, self.faces, model, self.step, self.run)
                self.scaler.scale(values.sum()).backward()
            sums += [found.get(name, 0.0) for name in PARTS]
        if schedule.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # else a gradient overflowed, and the weights did not move
            self.average.update_parameters(model)
        losses: list[float] = sums.tolist()
        return losses

    def validate(self) -> float:
        """Mean NME in percent of the averaged weights over the validation faces that can be measured, without
        the flip test: NaN if there are none, infinite if a prediction is.

        Raises Stopped between two batches; with several processes at the end, since none may leave alone.
        """

        def stop_if_interrupted(faces: int) -> None:
            if self.interrupted() and self.world.size == 1:
                raise Stopped

        if self.world.size > 1:  # batch norm statistics differ by process: all take the first one's
            buffers = list(self.average.module.buffers())
            for own, first in zip(buffers, self.world.broadcast([b.cpu() for b in buffers]), strict=True):
                own.copy_(first)
        found = measure(
            self.average.module, {"own": self.codec}, self.validation, self.device, None,
            self.info.label_offset, self.dtype, stop_if_interrupted, self.world,
        )  # fmt: skip
        if any(self.world.sums(float(self.interrupted()))):
            raise Stopped
        return float(np.nanmean(found["own"].error) * 100)

    def finish_epoch(self, nme: float, meter: Meter) -> None:
        """Log an epoch that is trained and validated, and keep its weights if they are the best."""
        self.epoch, self.seen = self.epoch + 1, 0
        if nme < self.best or not self.best_epoch:  # the first one, even without an NME
            self.best, self.best_epoch = nme if math.isfinite(nme) else math.inf, self.epoch
            known = {"val_nme": nme} if math.isfinite(nme) else {}
            self.save_weights("best.safetensors", epoch=self.epoch, **known)
        losses = np.array(self.losses).mean(0)
        row = {
            "epoch": float(self.epoch),
            "loss": float(losses.sum()),
            **dict(zip(LOSSES, map(float, losses), strict=True)),
            "learning_rate": self.rate,
            "val_nme": nme,
            "best_nme": self.best,
            **meter.columns(),
            **self.partial,
        }
        self.log.epoch(row)
        self.losses = []
        self.save()
        self.progress.epoch(row)

    def save_weights(self, name: str, **training: Any) -> None:
        """The averaged weights into the run folder, with `training` added to the metadata of that name."""
        if self.world.main:
            info = self.info.model_copy(update={"training": {**self.info.training, **training}})
            save_weights(self.run / name, self.average.module.state_dict(), info, half=False)

    def save(self) -> None:
        """Write a checkpoint. Raises PoposError where a weight is not finite: the one before stays."""
        if not self.world.main:
            return
        refuse_nonfinite_weights(self.model, self.step, self.run)
        state = {name: part.state_dict() for name, part in self._stateful().items()}
        state |= {name: getattr(self, name) for name in SAVED}
        save_state(self.run, {"dataset": self.fingerprint, **state})

    def resume(self) -> None:
        """Take up the run's newest whole checkpoint, which the first process alone reads. Raises PoposError
        where there are only bad ones, or the dataset has other faces now."""
        taken: dict[str, Any] = {}  # tensors on the CPU, as `broadcast` wants them

        def accept(state: dict[str, Any]) -> None:
            self.restore(state)
            dataset = self.settings.dataset
            if state["dataset"] != self.fingerprint:
                raise PoposError(
                    f"{self.run}: dataset {dataset!r} has other faces, points or splits than when the run "
                    "began",
                    "Prepare it again as it was; or start anew, from the run's weights: "
                    f"popos train --dataset {dataset} --weights {self.run}",
                )
            taken.update(state)

        if self.world.main:
            clear_leftovers(self.run, held=True)
            remarks = load_state(self.run, accept)
            for remark in remarks or []:
                self.progress.note(remark)
            if remarks is not None:
                self.progress.note(
                    f"going on after step {self.step} of {self.total_steps}: {self.epoch} of "
                    f"{self.settings.schedule.epochs} epochs are done"
                )
        state = self.world.broadcast(taken)
        if state and not self.world.main:
            self.restore(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises RuntimeError, ValueError or KeyError where it is of another network.

        The optimiser's own settings and the precision are those of this run, which may have changed since.
        """
        groups = self.optimiser.param_groups
        own = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        for name, part in self._stateful().items():
            if name != "scaler" or (self.scaler.is_enabled() and state[name]):
                part.load_state_dict(state[name])
        for group, settings in zip(self.optimiser.param_groups, own, strict=True):
            group.update(settings)
        for name in SAVED:
            setattr(self, name, state[name])

    def _stateful(self) -> dict[str, Any]:
        return {
            "model": self.model, "average": self.average, "optimiser": self.optimiser, "scaler": self.scaler,
        }  # fmt: skip
