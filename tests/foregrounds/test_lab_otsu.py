"""What differs from the border: on plain grounds, and not on others."""

import numpy as np

from dedup.augmentations import packshot
from dedup.foregrounds.lab_otsu import LabOtsu
from tests.conftest import draw
from tests.support.drawn_scenes import agreement, garment


def test_it_finds_a_garment_on_a_plain_ground() -> None:
    image, truth = garment(0, plain=True)
    mask = LabOtsu()(image)
    assert agreement(mask, truth) > 0.95
    assert mask is not None
    assert (mask.shape, mask.dtype) == (truth.shape, np.uint8)


def test_it_fails_where_no_packshot_can_be_made() -> None:
    for seed in range(3):
        image = np.asarray(draw(seed))
        assert packshot(image) is None
        assert LabOtsu()(image) is None


def test_what_decides_the_masks_is_said() -> None:
    assert LabOtsu().identity == {"part": "lab_otsu", "version": 1}
