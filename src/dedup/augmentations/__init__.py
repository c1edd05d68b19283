"""Make edited copies of images, with edits that shops apply when they list a product again.

They serve training (pairs that should stay close), calibration (known positives) and benchmarks
by edit and strength. Images are (h, w, 3) uint8 RGB of any size. An edit returns a new image,
perhaps of another size, and leaves its input unchanged. The same generator state gives the same
image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dedup.augmentations import background, colour, geometry, layout, overlay
from dedup.augmentations.background import foreground, packshot
from dedup.augmentations.overlay import RgbImage
from dedup.errors import ConfigError

__all__ = ["EDITS", "Edit", "RgbImage", "augment", "edit", "foreground", "packshot"]

_MIN_STRENGTH = 0.1
_RECOMPRESS_LAST = 0.5  # probability that a chain of two or more ends by saving the file again
_MAX_GROWTH = 2.0  # area, by that of the original, beyond which an image is reduced, as shops do


@dataclass(frozen=True)
class Edit:
    """An edit of an image.

    Attributes:
        name: name of the edit.
        apply: function of an image, a strength from 0 (hardly visible) to 1 (still recognisable as
            the same image), a generator and another image. It returns the edited image.
        needs_other: whether the edit needs another image.
        weight: relative frequency in `augment`.
        kind: group of edits of which `augment` applies one at most.
    """

    name: str
    apply: Callable[[RgbImage, float, Generator, RgbImage | None], RgbImage]
    needs_other: bool = False
    weight: float = 1.0
    kind: str = ""


EDITS: dict[str, Edit] = {
    each.name: each
    for each in (  # in the order in which a chain applies them
        Edit("ground", background.ground, weight=1.0),
        Edit("mirror", geometry.mirror, weight=1.5),
        Edit("crop", geometry.crop, weight=3.0),
        Edit("rotate", geometry.rotate, weight=1.2, kind="slant"),
        Edit("shear", geometry.shear, weight=0.4, kind="slant"),
        Edit("perspective", geometry.perspective, weight=0.8, kind="slant"),
        Edit("squeeze", geometry.squeeze, weight=1.2),
        Edit("zoom_out", geometry.zoom_out, weight=2.0, kind="frame"),
        Edit("erase", overlay.erase, weight=0.8),
        Edit("tint_band", overlay.tint_band, weight=0.5),
        Edit("watermark", overlay.watermark, weight=2.0),
        Edit("sticker", overlay.sticker, weight=2.5),
        Edit("banner", overlay.banner, weight=1.5),
        Edit("border", overlay.border, weight=2.0),
        Edit("collage", layout.collage, needs_other=True, weight=2.5, kind="frame"),
        Edit("screenshot", layout.screenshot, weight=2.5, kind="frame"),
        Edit("brightness", colour.brightness, weight=1.5),
        Edit("contrast", colour.contrast, weight=1.5),
        Edit("gamma", colour.gamma, weight=1.0),
        Edit("saturation", colour.saturation, weight=1.0),
        Edit("white_balance", colour.white_balance, weight=1.0),
        Edit("curve", colour.curve, weight=0.8),
        Edit("vignette", colour.vignette, weight=0.6),
        Edit("haze", colour.haze, weight=0.6, kind="pale"),
        Edit("fade", colour.fade, weight=0.6, kind="pale"),
        Edit("gray", colour.gray, weight=0.2, kind="colourless"),
        Edit("sepia", colour.sepia, weight=0.1, kind="colourless"),
        Edit("posterize", colour.posterize, weight=0.3, kind="levels"),
        Edit("palette", colour.palette, weight=0.4, kind="levels"),
        Edit("sharpen", colour.sharpen, weight=0.8, kind="focus"),
        Edit("blur", colour.blur, weight=1.0, kind="focus"),
        Edit("motion_blur", colour.motion_blur, weight=0.4, kind="focus"),
        Edit("noise", colour.noise, weight=0.8, kind="noise"),
        Edit("speckle", colour.speckle, weight=0.3, kind="noise"),
        Edit("specks", colour.specks, weight=0.3, kind="noise"),
        Edit("rescale", geometry.rescale, weight=2.0),
        Edit("recompress", colour.recompress, weight=2.0),
    )
}


def edit(
    image: RgbImage, name: str, strength: float, rng: Generator, other: RgbImage | None = None
) -> RgbImage:
    """Apply one edit, with a strength from 0 to 1.

    Raises:
        ConfigError: the edit is unknown, the strength is not within 0 to 1, or the edit needs
            another image and has none.
    """
    chosen = _find_edit(name)
    if not 0 <= strength <= 1:
        raise ConfigError(
            f"the strength of the edit {name} is {strength}: give a number from 0 to 1"
        )
    if chosen.needs_other and other is None:
        raise ConfigError(f"the edit {name} needs another image: pass one as other")
    return np.ascontiguousarray(chosen.apply(image, strength, rng, other))


def _find_edit(name: str) -> Edit:
    """Return the edit of a name."""
    if name not in EDITS:
        raise ConfigError(f"there is no edit {name!r}: use one of {', '.join(EDITS)}")
    return EDITS[name]


def augment(
    image: RgbImage,
    rng: Generator,
    strength: float = 1.0,
    n_edits: tuple[int, int] = (1, 4),
    names: Sequence[str] | None = None,
    others: Sequence[RgbImage] = (),
) -> tuple[RgbImage, tuple[str, ...]]:
    """Apply a random chain of edits, in a plausible order.

    Args:
        image: (h, w, 3) uint8.
        rng: generator of the chain and of the strengths, from 0.1 to ``strength``.
        strength: greatest strength of an edit, 0 to 1.
        n_edits: smallest and largest number of edits.
        names: edits to draw from; all by default.
        others: further images, for edits such as a collage, which are left out without any.

    Returns:
        The edited image, and the names of its edits in order.

    Raises:
        ConfigError: a name is unknown, or the strength is not within 0 to 1.
    """
    usable = [each for each in map(_find_edit, names or EDITS) if others or not each.needs_other]
    chain = _draw_chain(usable, int(rng.integers(n_edits[0], n_edits[1] + 1)), rng)
    edited = image.copy()
    for name in chain:
        other = others[int(rng.integers(len(others)))] if len(others) else None
        amount = rng.uniform(min(_MIN_STRENGTH, strength), strength)
        edited = _reduce(edit(edited, name, amount, rng, other), _MAX_GROWTH * image.size)
    return edited, chain


def _draw_chain(usable: Sequence[Edit], length: int, rng: Generator) -> tuple[str, ...]:
    """Draw up to ``length`` edits, no two of a kind; return names in the order of `EDITS`."""
    if not usable:
        return ()
    weights = np.array([each.weight for each in usable])
    drawn = rng.choice(len(usable), len(usable), replace=False, p=weights / weights.sum())
    queue = [usable[place] for place in drawn]
    if length > 1 and rng.random() < _RECOMPRESS_LAST:
        queue.sort(key=lambda each: each.name != "recompress")
    taken: dict[str, str] = {}
    for each in queue:
        if len(taken) < length:
            taken.setdefault(each.kind or each.name, each.name)
    return tuple(name for name in EDITS if name in taken.values())


def _reduce(image: RgbImage, max_size: float) -> RgbImage:
    """Reduce an image of more than ``max_size`` values."""
    if image.size <= max_size:
        return image
    scale = (max_size / image.size) ** 0.5
    return overlay.resize(image, image.shape[1] * scale, image.shape[0] * scale)
