"""Which faces share a step, and which process works on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, face), in an order that (seed, epoch) fixes; an incomplete last one is left out.

    `batch_size` faces make a step, whatever the number of processes: process `rank` of `size` takes its part
    of each. Before iterating set `epoch`, and `start`, the number of faces of its order that are done:
    faces and not steps, because a resumed run may have another batch size.
    """

    def __init__(self, faces: int, batch_size: int, seed: int, rank: int = 0, size: int = 1) -> None:
        assert faces >= batch_size and batch_size % size == 0
        self.faces, self.batch_size, self.seed = faces, batch_size, seed
        self.rank, self.size = rank, size
        self.epoch, self.start = 0, 0

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return self.faces // self.batch_size

    def __len__(self) -> int:
        return max(self.faces - self.start, 0) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.faces)
        part = self.batch_size // self.size
        for step in range(len(self)):
            first = self.start + step * self.batch_size + self.rank * part
            yield [(self.epoch, int(face)) for face in order[first : first + part]]


class EvaluationBatches(Sampler[list[int]]):
    """Every face once, in order; process `rank` of `size` takes every `size`-th batch.

    Batches do not depend on the number of processes, so that neither do the last bits of a face's heatmaps.
    """

    def __init__(self, faces: int, batch_size: int, rank: int = 0, size: int = 1) -> None:
        self.faces, self.batch_size = faces, batch_size
        self.firsts = range(rank * batch_size, faces, size * batch_size)

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[int]]:
        for first in self.firsts:
            yield list(range(first, min(first + self.batch_size, self.faces)))
