"""In which order positions are dealt, and to whom."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.training.samplers import RankSliceSampler, ShardDrawSampler, ShardShuffleSampler

SIZES = st.tuples(st.integers(0, 60), st.integers(1, 5), st.integers(1, 4))


def steps(order: ShardShuffleSampler, share: int) -> list[list[int]]:
    """What one process takes, step by step."""
    mine = list(order)
    assert len(mine) <= len(order)
    return [mine[at : at + share] for at in range(0, len(mine), share)]


@given(SIZES, st.integers(0, 5), st.integers(0, 3))
def test_a_step_of_several_processes_has_the_images_of_a_step_of_one(
    sizes: tuple[int, int, int], seed: int, skipped: int
) -> None:
    n, share, world_size = sizes
    batch_size = share * world_size
    alone = ShardShuffleSampler(n, seed, batch_size=batch_size)
    alone.skip(skipped)
    whole = steps(alone, batch_size)
    if whole and world_size > 1 and len(whole[-1]) < world_size:
        whole.pop()
    parts = []
    for rank in range(world_size):
        order = ShardShuffleSampler(
            n, seed, batch_size=batch_size, rank=rank, world_size=world_size
        )
        order.skip(skipped)
        parts.append(steps(order, share))
    assert {len(part) for part in parts} == {len(whole)}
    for step, images in enumerate(whole):
        dealt = [image for part in parts for image in part[step]]
        assert Counter(dealt) == Counter(images)
        assert all(part[step] for part in parts)


@given(st.integers(0, 200), st.integers(1, 30), st.integers(1, 8), st.integers(0, 3))
def test_every_position_once_and_one_window_after_the_other(
    n: int, n_blocks: int, window: int, epoch: int
) -> None:
    blocks = np.random.default_rng(n).integers(0, n_blocks, n)
    order = ShardShuffleSampler(n, 1, blocks, window)
    order.set_epoch(epoch)
    dealt = list(order)
    assert sorted(dealt) == list(range(n))
    seen = list(dict.fromkeys(blocks[dealt].tolist()))
    at = 0  # a block that was left does not come again
    while at < n:
        here = set(seen[:window])
        size = int(np.isin(blocks, list(here)).sum())
        assert set(blocks[dealt[at : at + size]].tolist()) == here
        seen, at = seen[window:], at + size


def test_no_more_blocks_than_the_window_are_as_one() -> None:
    blocks = np.arange(40) // 10
    assert list(ShardShuffleSampler(40, 5, blocks, window=4)) == list(ShardShuffleSampler(40, 5))
    assert list(ShardShuffleSampler(40, 5, blocks, window=3)) != list(ShardShuffleSampler(40, 5))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    order = ShardShuffleSampler(100, 5, np.arange(100) // 10, window=2)
    first = list(order)
    assert list(order) == first
    order.set_epoch(1)
    assert list(order) != first
    assert list(ShardShuffleSampler(100, 6, np.arange(100) // 10, window=2)) != first


def test_what_is_skipped_is_skipped_once() -> None:
    order = ShardShuffleSampler(10, 0, batch_size=3)
    whole = list(order)
    order.skip(2)
    assert list(order) == whole[6:]
    assert list(order) == whole


def test_draws_tell_the_epoch_too() -> None:
    draws, order = ShardDrawSampler(7, 3), ShardShuffleSampler(7, 3)
    for one in (draws, order):
        one.set_epoch(2)
    assert [draw - 14 for draw in draws] == list(order)


@pytest.mark.parametrize("n", [0, 1, 5, 103])
def test_positions_in_turn_are_shared_out_without_loss(n: int) -> None:
    shares = [RankSliceSampler(n, rank, 2) for rank in range(2)]
    assert sorted(position for share in shares for position in share) == list(range(n))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
