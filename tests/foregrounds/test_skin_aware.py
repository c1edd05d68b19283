"""A garment without its wearer: drawn people whose parts are known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dedup.foregrounds import Mask
from dedup.foregrounds.skin_aware import SkinAware
from tests.support.drawn_scenes import SKIN, Bools, RgbImage, agreement, garment, wearer


@dataclass(frozen=True)
class Known:
    """A foreground that knows the answer."""

    truth: Bools

    def __call__(self, image: RgbImage) -> Mask | None:
        return np.where(self.truth, np.uint8(255), np.uint8(0))

    @property
    def identity(self) -> dict[str, Any]:
        return {"part": "known"}


def test_head_and_legs_go_and_the_dress_stays() -> None:
    image, person, dress = wearer()
    mask = SkinAware(person=Known(person))(image)
    assert agreement(mask, dress) > 0.95
    assert agreement(np.where(person, np.uint8(255), np.uint8(0)), dress) < 0.75


def test_the_wearer_may_be_found_by_grabcut() -> None:
    image, _, dress = wearer()
    assert agreement(SkinAware()(image), dress) > 0.85


def test_a_product_that_nobody_wears_stays() -> None:
    image, truth = garment(0)
    assert agreement(SkinAware(person=Known(truth))(image), truth) == 1
    image, person, _ = wearer(head=False)
    assert agreement(SkinAware(person=Known(person))(image), person) == 1


def test_a_product_in_the_colour_of_skin_stays() -> None:
    image, person, _ = wearer()
    image[person] = SKIN
    assert agreement(SkinAware(person=Known(person))(image), person) == 1


@pytest.mark.parametrize("shape", [(1, 1), (4, 40), (40, 4)])
def test_odd_images_do_no_harm(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), SKIN, np.uint8)
    for truth in (np.ones(shape, np.bool_), np.zeros(shape, np.bool_)):
        mask = SkinAware(person=Known(truth))(image)
        assert mask is None or mask.shape == shape


def test_what_decides_the_masks_is_said() -> None:
    found = SkinAware(person=Known(np.ones((1, 1), np.bool_)), head=0.2).identity
    assert (found["person"], found["head"]) == ({"part": "known"}, 0.2)
