"""In which order the images are dealt out, epoch by epoch, to how many processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

CHUNK = 8192
"""Positions that are turned into numbers of Python's at a time."""


class ShardShuffleSampler(Sampler[int]):
    """Every position once an epoch, in an order drawn from the seed and the epoch.

    The trainer names each epoch before it starts, so a resumed run has the order that it would
    have had without the stop.

    Where several processes share the work, each takes every ``world_size``-th position, so that a
    step of all of them has the images of a step of one with as many. A last step with fewer
    images than processes is left out then.

    Args:
        n: how many positions.
        seed: draws the orders.
        blocks: (n,) which block each position is in, such as a file; ``None`` for one block.
        window: blocks whose positions are shuffled together. With no more blocks than that any
            order can come; with more, what is read soon lies in few blocks, so that a catalogue
            larger than the memory is read block by block.
        batch_size: positions in a step of all processes.
        rank: which of the processes this is.
        world_size: how many there are.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        blocks: npt.NDArray[np.int64] | None = None,
        window: int = 1,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n = n
        self.seed = seed
        self.blocks = np.zeros(n, np.int64) if blocks is None else blocks
        self.window = window
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0; of another one nothing is left out."""
        if epoch != self.epoch:
            self.skipped = 0
        self.epoch = epoch

    def skip(self, steps: int) -> None:
        """Leave out the first steps of this epoch when it is dealt: they were taken already."""
        self.skipped = steps * self.batch_size

    def __len__(self) -> int:
        """How many positions this process takes in a whole epoch."""
        return len(range(self.rank, self._n_dealt(), self.world_size))

    def __iter__(self) -> Iterator[int]:
        mine = self.order()[self.skipped + self.rank : self._n_dealt() : self.world_size]
        self.skipped = 0
        for start in range(0, len(mine), CHUNK):
            yield from mine[start : start + CHUNK].tolist()

    def order(self) -> npt.NDArray[np.int64]:
        """The order of this epoch over all processes, (n,)."""
        rng = np.random.default_rng([self.seed, self.epoch])
        blocks, counts = np.unique(self.blocks, return_counts=True)
        if len(blocks) <= self.window:
            return rng.permutation(self.n)
        members = np.split(np.argsort(self.blocks, kind="stable"), np.cumsum(counts)[:-1])
        turn = rng.permutation(len(blocks))
        windows = [turn[at : at + self.window] for at in range(0, len(turn), self.window)]
        return np.concatenate(
            [rng.permutation(np.concatenate([members[b] for b in some])) for some in windows]
        )

    def _n_dealt(self) -> int:
        """Positions dealt to all processes together."""
        rest = self.n % self.batch_size
        return self.n - rest if rest < self.world_size and self.world_size > 1 else self.n


class ShardDrawSampler(ShardShuffleSampler):
    """The same order, as ``epoch * n + position``: what is drawn for a position may then differ
    from epoch to epoch, in a loader process too."""

    def __iter__(self) -> Iterator[int]:
        for position in super().__iter__():
            yield self.epoch * self.n + position


class RankSliceSampler(Sampler[int]):
    """Every position in its order, of which each process takes every ``world_size``-th.

    Args:
        n: how many positions.
        rank: which of the processes this is.
        world_size: how many there are.
    """

    def __init__(self, n: int, rank: int = 0, world_size: int = 1) -> None:
        self.mine = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[int]:
        yield from self.mine
