"""How near a training comes to its bare network: forward and backward on one batch that is in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from ..core.inference import to_model_input
from ..core.losses import heatmap_mse
from ..data.index import Index
from ..home import scratch_folder
from ..train import build
from ..train.runlog import Meter, RunLog, Silent
from ..train.settings import TrainSettings
from ..train.trainer import train_epoch
from ..train.training import begin
from .decoders import wait_for

PAIRS = 60
WARM_UP = 5  # pairs that do not count
TURN = 25  # steps of a turn where loader processes work ahead: one step's time would be a gift to them


class Alternating(Silent):
    """Is told of each step of a training, and after every `turn` of them lets the other side have as many.

    So close to each other, a machine whose speed drifts spoils neither.
    """

    def __init__(self, device: torch.device, turn: int, other: Callable[[], None]) -> None:
        self.device, self.turn, self.other = device, turn, other
        self.own: list[float] = []  # seconds of each turn
        self.others: list[float] = []
        self.begin()

    def begin(self) -> None:
        """An epoch's first step comes next."""
        self.steps, self.since = 0, time.perf_counter()

    def step(self, *_: Any) -> None:
        self.steps += 1
        if self.steps % self.turn == 0:
            self.own.append(self._lap())
            for _step in range(self.turn):
                self.other()
            self.others.append(self._lap())

    def _lap(self) -> float:
        wait_for(self.device)
        before, self.since = self.since, time.perf_counter()
        return self.since - before


def bench_training(settings: TrainSettings, index: Index, told: Callable[[int, int], None]) -> dict[str, Any]:
    """Faces a second of the trainer's own epochs, and of the network alone, by turns.

    The trainer's turn is all that `train_epoch` does: loader, look, losses, optimiser, average, log, on the
    index's training faces, which come from the crop cache where there is one. The bare turn, in the same
    precision and memory format, is the forward pass on one batch in memory, the mean squared error to
    fixed heatmaps, and the backward pass. In one process; what is written lies in a temporary folder.
    `told` is told how many turns of how many are done.

    device, precision; threads, that the network computes with; workers, loader processes; crops, whether
    cached; resolution; batch, faces a step; steps, of a turn; bare, trainer: medians of faces a second;
    ratios: trainer over bare, of each pair of turns; ratio: their median; data_wait: share of the
    trainer's time, 0 to 1.
    """
    faces = index.of_split("train")
    codec = build.build_info(settings, index).build_codec()
    loader, batches = build.training_loader(settings, faces, codec)
    training = begin(settings, index, None, batches)
    network = begin(settings, index, None, batches).network
    batch = next(iter(loader))
    share = codec.within_reach(batch["points"]).float()
    share /= share.sum()
    images = to_model_input(batch["image"], training.device)
    target, share = (t.to(training.device) for t in (codec.encode(batch["points"]), share))

    def bare() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, dtype=training.dtype, enabled=training.dtype is not None):
            heatmaps = network(images)
        heatmap_mse(heatmaps.float(), target, share).backward()

    turn = min(TURN, batches.steps) if loader.num_workers else 1
    turns = Alternating(training.device, turn, bare)
    waited = 0.0
    with scratch_folder("popos-bench-") as run:
        log = RunLog(run, 0, 0, tensorboard=False)
        while (missing := WARM_UP + PAIRS - len(turns.own)) > 0:
            batches.epoch += 1
            batches.start = max(batches.steps - missing * turn, 0) * batches.batch_size
            meter = Meter(training.device)
            turns.begin()
            train_epoch(training, loader, batches, faces, run, meter, log, turns, lambda: False)
            waited += meter.wait * meter.seconds
            told(len(turns.own), WARM_UP + PAIRS)
        log.close()
    pairs = list(zip(turns.own, turns.others, strict=True))[WARM_UP:]
    learned = turn * len(images)
    return {
        "device": str(training.device),
        "precision": str(training.dtype or torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(), "workers": loader.num_workers,
        "crops": build.training_crops(settings, faces) is not None,
        "resolution": codec.width, "batch": len(images), "steps": turn,
        "bare": learned / median(alone for _, alone in pairs),
        "trainer": learned / median(own for own, _ in pairs),
        "ratio": median(alone / own for own, alone in pairs),
        "ratios": [alone / own for own, alone in pairs],
        "data_wait": waited / sum(turns.own),
    }  # fmt: skip
