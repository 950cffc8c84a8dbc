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
from ..train.autobatch import fitting_batch, with_batch_size
from ..train.runlog import RunLog, Silent
from ..train.settings import AUTO, TrainSettings
from ..train.trainer import Trainer
from .decoders import wait_for

PAIRS = 60
WARM_UP = 5  # pairs that do not count
TURN = 25  # steps of a turn where loader processes work ahead: they would go on while the other side works


class Alternating(Silent):
    """Progress of a training that, after every `turn` steps, lets `other` run as often.

    The two alternate so closely that a machine whose speed drifts favours neither.
    """

    def __init__(self, device: torch.device, turn: int) -> None:
        self.device, self.turn = device, turn
        self.other: Callable[[], None] = lambda: None
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


def bench_training(settings: TrainSettings, index: Index, note: Callable[[int, int], None]) -> dict[str, Any]:
    """Faces per second of the trainer's own epochs, and of the network alone, in turns.

    The trainer's turn is all that `Trainer.train_epoch` does: loader, augmentation, losses, optimiser,
    average, log; on the index's training faces, from the crop cache where there is one. The bare turn, in the
    same precision and memory format, is the forward pass on one batch in memory, the mean squared error to
    fixed heatmaps, and the backward pass. In one process; what is written lies in a temporary folder. `note`
    gets the number of turns done, and of all.

    device, precision; threads, that the network computes with; workers, loader processes; crops, whether
    cached; resolution; batch, faces of a step; steps, of a turn; bare, trainer: medians of faces per second;
    ratios: trainer over bare, of each pair of turns; ratio: their median; data_wait: share of the trainer's
    time, 0 to 1.
    """
    if settings.schedule.batch_size == AUTO:
        settings = with_batch_size(settings, fitting_batch(settings, index, 1))
    with scratch_folder("popos-bench-") as run:
        trainer = Trainer(settings, index, None, run, Silent())
        batches, workers = trainer.batches, trainer.loader.num_workers
        turn = min(TURN, batches.steps) if workers else 1
        turns = trainer.progress = Alternating(trainer.device, turn)
        turns.other = _bare_step(trainer)
        trainer.log = RunLog(run, 0, 0, tensorboard=False)
        waited = 0.0
        while (missing := WARM_UP + PAIRS - len(turns.own)) > 0:
            trainer.epoch += 1
            trainer.seen = max(batches.steps - missing * turn, 0) * batches.batch_size
            turns.begin()
            meter = trainer.train_epoch()
            waited += meter.wait * meter.seconds
            note(len(turns.own), WARM_UP + PAIRS)
        trainer.log.close()
        cached = trainer.loader.dataset.crops is not None  # type: ignore[attr-defined]
    pairs = list(zip(turns.own, turns.others, strict=True))[WARM_UP:]
    learned = turn * batches.batch_size
    return {
        "device": str(trainer.device),
        "precision": str(trainer.dtype or torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(), "workers": workers, "crops": cached,
        "resolution": trainer.codec.width, "batch": batches.batch_size, "steps": turn,
        "bare": learned / median(alone for _, alone in pairs),
        "trainer": learned / median(own for own, _ in pairs),
        "ratio": median(alone / own for own, alone in pairs),
        "ratios": [alone / own for own, alone in pairs],
        "data_wait": waited / sum(turns.own),
    }  # fmt: skip


def _bare_step(trainer: Trainer) -> Callable[[], None]:
    """The network's forward and backward pass on its first batch."""
    codec, network = trainer.codec, trainer.network
    batch = next(iter(trainer.loader))
    share = codec.within_reach(batch["points"]).float()
    share /= share.sum()
    images = to_model_input(batch["image"], trainer.device)
    target, share = (t.to(trainer.device) for t in (codec.encode(batch["points"]), share))

    def step() -> None:
        network.zero_grad(set_to_none=True)
        autocast = trainer.dtype is not None
        with torch.autocast(images.device.type, dtype=trainer.dtype, enabled=autocast):
            heatmaps = network(images)
        heatmap_mse(heatmaps.float(), target, share).backward()

    return step
