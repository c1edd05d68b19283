"""Drawn products on drawn grounds, and where the products are."""

import cv2
import numpy as np
import numpy.typing as npt

RgbImage = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

SKIN = (205, 150, 125)


def ground(seed: int, height: int = 240, width: int = 160) -> RgbImage:
    """A smooth ground of greens and blues, with grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers([40, 90, 90], [90, 200, 220], (4, 3, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def garment(
    seed: int, on: int | None = None, plain: bool = False, shift: tuple[int, int] = (0, 0)
) -> tuple[RgbImage, Bools]:
    """A garment with stripes of its own, in the middle or moved; ``on`` says which ground.

    It is red, so that it differs from the ground; on a plain one of any dark colours.
    """
    rng = np.random.default_rng(seed)
    image = ground(seed if on is None else on)
    if plain:
        image[:] = 235
    y, x = np.mgrid[0:240, 0:160]
    inside = ((x - 80 - shift[0]) / 45) ** 2 + ((y - 120 - shift[1]) / 75) ** 2 < 1
    limits = ([0, 0, 0], [170, 170, 170]) if plain else ([150, 0, 0], [255, 60, 60])
    stripes = rng.integers(*limits, (12, 3)).astype(np.uint8)
    image[inside] = stripes[((y - shift[1]) // 12 % 12)[inside]]
    return image, inside


def wearer(head: bool = True) -> tuple[RgbImage, Bools, Bools]:
    """Somebody in a blue dress before a plain wall: the image, the person, the dress."""
    image = np.full((300, 160, 3), (120, 140, 120), np.uint8)
    person = np.zeros((300, 160), np.uint8)
    dress = np.zeros((300, 160), np.uint8)
    if head:
        cv2.ellipse(person, (80, 38), (16, 20), 0, 0, 360, (1,), -1)
        cv2.rectangle(person, (72, 50), (88, 64), (1,), -1)
    cv2.rectangle(person, (62, 200), (76, 285), (1,), -1)
    cv2.rectangle(person, (84, 200), (98, 285), (1,), -1)
    cv2.fillPoly(dress, [np.array([[60, 62], [100, 62], [115, 205], [45, 205]])], (1,))
    person |= dress
    image[person > 0] = SKIN
    image[dress > 0] = (40, 60, 150)
    return image, person > 0, dress > 0


def agreement(mask: npt.NDArray[np.uint8] | None, truth: Bools) -> float:
    """Intersection over union; 0 where there is no mask."""
    if mask is None:
        return 0.0
    found = mask > 127
    return float((found & truth).sum() / (found | truth).sum())
