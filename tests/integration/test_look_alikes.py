"""The families of look-alikes: of every kind, reproducible, and no two members equal."""

import functools
import sys
from itertools import combinations

import numpy as np
import pytest

from dedup.augmentations import RgbImage
from dedup.augmentations.overlay import resize
from dedup.errors import ConfigError
from tests.conftest import ROOT, draw

sys.path.append(str(ROOT / "scripts"))
from look_alikes import KINDS, SIDES

SEEDS = (1, 2)
ALIKE = ("packs", "sizes", "text", "jerseys", "dials", "mirrored", "charts")
"""Kinds whose members are equal nearly everywhere, in families of one size."""


def goods(seed: int) -> RgbImage:
    """A photo of a thing on a light ground, which a foreground is found in."""
    photo = np.full((400, 300, 3), 235, np.uint8)
    photo[90:310, 70:230] = np.asarray(draw(seed, (160, 220)))
    return photo


PHOTOS = [goods(seed) for seed in range(14)]


def made(name: str, seed: int) -> list[RgbImage]:
    return KINDS[name].make(np.random.default_rng(seed), PHOTOS)


family = functools.cache(made)


def changed(one: RgbImage, other: RgbImage) -> float:
    """The share of the pixels that visibly differ, at the size of the first."""
    other = resize(other, one.shape[1], one.shape[0])
    return float((np.abs(one.astype(int) - other).max(axis=2) > 24).mean())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", KINDS)
def test_a_family_shows_products_that_differ(name: str, seed: int) -> None:
    images = family(name, seed)
    assert 2 <= len(images) <= 6
    for image in images:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert SIDES[0] <= min(image.shape[:2]) <= max(image.shape[:2]) <= SIDES[1]
    for one, other in combinations(images, 2):
        assert changed(one, other) > 0.0002
        if name in ALIKE and one.shape == other.shape and seed == SEEDS[0]:
            assert changed(one, other) < 0.3


@pytest.mark.parametrize("name", KINDS)
def test_equal_generators_draw_equal_families(name: str) -> None:
    one, other = (family(name, seed) for seed in SEEDS)
    again = made(name, SEEDS[0])
    assert len(again) == len(one)
    assert all(map(np.array_equal, again, one))
    assert not np.array_equal(one[0], other[0])


def test_a_few_families_have_members_of_several_sizes() -> None:
    n_sizes = [len({image.shape for image in family("text", seed)}) for seed in range(40)]
    assert 0 < sum(n > 1 for n in n_sizes) < 12


@pytest.mark.parametrize("name", ["template_small", "prints"])
def test_one_photo_makes_no_family(name: str) -> None:
    with pytest.raises(ConfigError, match="give a folder with more images"):
        KINDS[name].make(np.random.default_rng(0), PHOTOS[:1])


def test_scripts_hold_no_kind_twice() -> None:
    assert [kind.name for kind in KINDS.values()] == list(KINDS)
    assert {kind.fitted for kind in KINDS.values()} == {True, False}
