"""Samplers that draw the order of images in each epoch, and share it among processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

CHUNK = 8192
"""Number of positions to convert to Python integers at a time."""


class ShardShuffleSampler(Sampler[int]):
    """Random order of all positions, drawn from the seed and the epoch, shuffled by windows.

    The trainer sets each epoch before it starts, so a resumed run has the same order as a run
    without a stop.

    Each of several processes takes every ``world_size``-th position. So a step of all processes has
    the images of a step of a single process. A last step with fewer images than processes is left
    out.

    Args:
        n: number of positions.
        seed: seed of the orders.
        blocks: (n,) block of each position, such as a file; ``None`` for a single block.
        window: number of blocks whose positions are shuffled together. With no more blocks than
            that, the shuffle is uniform. With more, successive positions lie in few blocks, so a
            catalogue larger than the memory is read block by block.
        batch_size: number of positions in a step of all processes.
        rank: rank of this process.
        world_size: number of processes.
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
        """Choose the order of an epoch, from 0; a new epoch skips no steps."""
        if epoch != self.epoch:
            self.skipped = 0
        self.epoch = epoch

    def skip(self, steps: int) -> None:
        """Skip the first steps of this epoch, which an earlier run completed."""
        self.skipped = steps * self.batch_size

    def __len__(self) -> int:
        """Count the positions of this process in a whole epoch."""
        return len(range(self.rank, self._n_used(), self.world_size))

    def __iter__(self) -> Iterator[int]:
        own = self.order()[self.skipped + self.rank : self._n_used() : self.world_size]
        self.skipped = 0
        for start in range(0, len(own), CHUNK):
            yield from own[start : start + CHUNK].tolist()

    def order(self) -> npt.NDArray[np.int64]:
        """Draw the order of this epoch over all processes, (n,)."""
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

    def _n_used(self) -> int:
        """Count the positions of all processes together."""
        rest = self.n % self.batch_size
        return self.n - rest if rest < self.world_size and self.world_size > 1 else self.n


class ShardDrawSampler(ShardShuffleSampler):
    """The same order, as ``epoch * n + position``.

    So the random draws for a position can differ between epochs, in loader processes too.
    """

    def __iter__(self) -> Iterator[int]:
        for position in super().__iter__():
            yield self.epoch * self.n + position


class RankSliceSampler(Sampler[int]):
    """Positions in their order, of which each process takes every ``world_size``-th.

    Args:
        n: number of positions.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, n: int, rank: int = 0, world_size: int = 1) -> None:
        self.positions = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        yield from self.positions
