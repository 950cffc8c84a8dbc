"""How near a training comes to its bare network: forward and backward on one batch that is in memory."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..core.losses import heatmap_mse
from ..data.index import Index
from ..settings.schema import TrainSettings
from . import build
from .bench import wait_for
from .runlog import Meter, RunLog, Silent
from .train import train_epoch
from .training import Training, begin

TURNS = 5
SECONDS = 6.0  # of one turn, about
WARM_UP = 3  # steps


def bench_training(settings: TrainSettings, index: Index, told: Callable[[int, int], None]) -> dict[str, Any]:
    """Faces a second of the trainer's own epochs, and of the network alone, in turns of as many steps.

    The trainer's turn is all that `train_epoch` does: loader, look, losses, optimiser, average, log, on the
    index's training faces, which come from the crop cache where there is one. The bare turn, in the same
    precision and memory format, is the forward pass on one batch in memory, the mean squared error to
    fixed heatmaps, and the backward pass. They alternate, now one first and now the other, so that a
    machine whose speed drifts spoils neither. In one process; what is written lies in a temporary
    folder. `told` is told how many turns of how many are done.

    device, precision; threads, that the network computes with; workers, loader processes; crops, whether
    cached; resolution; batch, faces a step; steps, of a turn; bare, trainer: medians of faces a second;
    ratios: trainer over bare, of each pair of turns; ratio: their median; data_wait: share of the
    trainer's time, 0 to 1, the median.
    """
    faces = index.of_split("train")
    codec = build.build_info(settings, index).build_codec()
    loader, batches = build.training_loader(settings, faces, codec)
    training = begin(settings, index, None, batches.steps)
    batch = next(iter(loader))
    share = codec.within_reach(batch["points"]).float()
    share /= share.sum()
    images = build.to_model_input(batch["image"], training.device)
    target, share = (t.to(training.device) for t in (codec.encode(batch["points"]), share))

    def bare(steps: int) -> float:
        """Faces a second."""
        wait_for(training.device)
        started = time.perf_counter()
        for _ in range(steps):
            _bare_step(training, images, target, share)
        wait_for(training.device)
        return steps * len(images) / (time.perf_counter() - started)

    with tempfile.TemporaryDirectory(prefix="popos-bench-") as folder:
        run, log = Path(folder), RunLog(Path(folder), 0, 0, tensorboard=False)

        def own(steps: int) -> tuple[float, float]:
            """Faces a second and share of waiting for data, over the last steps of an epoch of its own."""
            batches.epoch, batches.start = batches.epoch + 1, batches.steps - steps
            meter = Meter(training.device)
            train_epoch(training, loader, batches, faces, run, meter, log, Silent(), lambda: False)
            return meter.faces_per_second, meter.wait

        own(min(WARM_UP, batches.steps))
        bare(WARM_UP)
        steps = min(math.ceil(SECONDS * bare(WARM_UP) / len(images)), batches.steps)
        pairs = []
        for turn in range(TURNS):
            first = bare(steps) if turn % 2 else None
            speed, wait = own(steps)
            pairs.append((first or bare(steps), speed, wait))
            told(turn + 1, TURNS)
        log.close()
    ratios = [speed / alone for alone, speed, _ in pairs]
    return {
        "device": str(training.device),
        "precision": str(training.dtype or torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(), "workers": loader.num_workers,
        "crops": build.training_crops(settings, faces) is not None,
        "resolution": codec.width, "batch": len(images), "steps": steps,
        "bare": median(alone for alone, _, _ in pairs), "trainer": median(speed for _, speed, _ in pairs),
        "ratio": median(ratios), "ratios": ratios, "data_wait": median(wait for _, _, wait in pairs),
    }  # fmt: skip


def _bare_step(training: Training, images: Tensor, target: Tensor, share: Tensor) -> None:
    training.optimiser.zero_grad(set_to_none=True)
    with torch.autocast(training.device.type, dtype=training.dtype, enabled=training.dtype is not None):
        heatmaps = training.network(images)
    heatmap_mse(heatmaps.float(), target, share).backward()
