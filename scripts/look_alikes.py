"""Draw families of different products that look alike: every pair of a family is a wrong pair.

``KINDS`` has a generator for each kind of family. The classifier of copies is fitted on the kinds
that are ``fitted``; the others, of other goods and layouts, only measure it.
``benchmarks/kinds.py`` plants families of each kind in a catalogue, and draws sheets of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from families import cards, colours, garments, held_out_paper, held_out_things, labels
from numpy.random import Generator

from dedup.augmentations import RgbImage
from dedup.augmentations.overlay import resize

Family: TypeAlias = Callable[[Generator, Sequence[RgbImage]], list[RgbImage]]

SIDES = (400, 900)
"""Least and largest height and width of a member, in pixels."""
_RESIZED = 0.12  # share of families whose members have sizes of their own


@dataclass(frozen=True)
class Kind:
    """A kind of families.

    Attributes:
        name: its key in ``KINDS``.
        draw: draws a family.
        fitted: whether the classifier is fitted on it.
    """

    name: str
    draw: Family
    fitted: bool

    def make(self, rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
        """Draw one family, of 2 to 6 images of different products.

        Args:
            rng: generator of everything; the same state draws the same family.
            photos: photos of different products, (h, w, 3) uint8 RGB, of which some kinds are made.

        Returns:
            Images (h, w, 3) uint8 RGB with sides of 400 to 900 pixels, the same in most families.

        Raises:
            ConfigError: the kind needs photos, and there are fewer than two.
        """
        images = self.draw(rng, photos)
        if rng.random() >= _RESIZED:
            return images
        least = max(SIDES[0] / min(image.shape[:2]) for image in images)
        factors = rng.uniform(max(least, 0.7), 1, len(images)) if least < 1 else [1.0] * len(images)
        return [
            resize(image, *(max(SIDES[0], side * factor) for side in image.shape[1::-1]))
            for image, factor in zip(images, factors, strict=True)
        ]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("packs", labels.packs, True),
        Kind("sizes", labels.sizes, True),
        Kind("flavours", labels.flavours, True),
        Kind("text", cards.text, True),
        Kind("charts", cards.charts, True),
        Kind("template_small", partial(cards.template, share=0.25), True),
        Kind("template_medium", partial(cards.template, share=0.45), True),
        Kind("template_large", partial(cards.template, share=0.7), True),
        Kind("mockups", garments.mockups, True),
        Kind("prints", garments.prints, True),
        Kind("neutral_variants", colours.neutral_variants, True),
        Kind("coloured_variants", colours.coloured_variants, True),
        Kind("jerseys", held_out_things.jerseys, False),
        Kind("series", held_out_paper.series, False),
        Kind("codes", held_out_paper.codes, False),
        Kind("dials", held_out_things.dials, False),
        Kind("mirrored", held_out_things.mirrored, False),
        Kind("maps_and_plans", held_out_paper.maps_and_plans, False),
        Kind("patterned", held_out_things.patterned, False),
    )
}
