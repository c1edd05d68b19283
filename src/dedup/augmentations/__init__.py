"""What happens to a product's image when it is listed again, as a family of edits.

For training (pairs that should stay close), for calibration (edited copies as known positives) and
for benchmarks by edit and strength. Images are (h, w, 3) uint8 RGB of any size; an edit returns
a new one, which may have another size, and leaves its input alone. The same generator state gives
the same image.
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
_LAST_OFTEN = 0.5  # how often a chain of two or more ends by saving the file again
_GROWTH = 2.0  # a chain's image is reduced beyond this area, as shops do


@dataclass(frozen=True)
class Edit:
    """One thing that happens to an image.

    Attributes:
        name: how it is asked for.
        apply: from an image, a strength of 0 (hardly visible) to 1 (still seen as the same listing
            image), a generator and another image to the edited image.
        needs_other: does nothing without another image.
        weight: how often `augment` takes it, against the others.
        kind: `augment` takes one edit of a kind at most.
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
    """One edit, by name, of a strength from 0 to 1.

    Raises:
        ConfigError: no edit has the name, the strength is not within 0 to 1, or the edit needs
            another image and has none.
    """
    chosen = _known(name)
    if not 0 <= strength <= 1:
        raise ConfigError(f"The strength of the edit {name} is {strength}: give one from 0 to 1.")
    if chosen.needs_other and other is None:
        raise ConfigError(f"The edit {name} needs another image: give it one.")
    return np.ascontiguousarray(chosen.apply(image, strength, rng, other))


def _known(name: str) -> Edit:
    """The edit of a name."""
    if name not in EDITS:
        raise ConfigError(f"No edit is called {name!r}. Known edits: {', '.join(EDITS)}.")
    return EDITS[name]


def augment(
    image: RgbImage,
    rng: Generator,
    strength: float = 1.0,
    n_edits: tuple[int, int] = (1, 4),
    names: Sequence[str] | None = None,
    others: Sequence[RgbImage] = (),
) -> tuple[RgbImage, tuple[str, ...]]:
    """A random chain of edits, in a plausible order.

    Args:
        image: (h, w, 3) uint8.
        rng: the chain and the strengths, from 0.1 to ``strength``, are drawn from it.
        strength: the strongest that an edit may be, 0 to 1.
        n_edits: the fewest and the most edits.
        names: which edits may be drawn; all by default.
        others: images to put beside this one; without any, edits that need one are left out.

    Returns:
        The edited image, and the names of its edits in order.

    Raises:
        ConfigError: a name is unknown, or the strength is not within 0 to 1.
    """
    usable = [each for each in map(_known, names or EDITS) if others or not each.needs_other]
    chain = _chain(usable, int(rng.integers(n_edits[0], n_edits[1] + 1)), rng)
    edited = image.copy()
    for name in chain:
        other = others[int(rng.integers(len(others)))] if len(others) else None
        amount = rng.uniform(min(_MIN_STRENGTH, strength), strength)
        edited = _reduced(edit(edited, name, amount, rng, other), _GROWTH * image.size)
    return edited, chain


def _chain(usable: Sequence[Edit], length: int, rng: Generator) -> tuple[str, ...]:
    """Names of up to ``length`` edits, no two of a kind, in the order of `EDITS`."""
    if not usable:
        return ()
    weights = np.array([each.weight for each in usable])
    drawn = rng.choice(len(usable), len(usable), replace=False, p=weights / weights.sum())
    queue = [usable[place] for place in drawn]
    if length > 1 and rng.random() < _LAST_OFTEN:
        queue.sort(key=lambda each: each.name != "recompress")
    taken: dict[str, str] = {}
    for each in queue:
        if len(taken) < length:
            taken.setdefault(each.kind or each.name, each.name)
    return tuple(name for name in EDITS if name in taken.values())


def _reduced(image: RgbImage, size: float) -> RgbImage:
    """The image, made smaller where it has more than ``size`` values."""
    if image.size <= size:
        return image
    scale = (size / image.size) ** 0.5
    return overlay.resized(image, image.shape[1] * scale, image.shape[0] * scale)
