"""How the images of an index are looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.errors import ArtifactError

if TYPE_CHECKING:
    pass
from dedup.schemas import Image8


def _whole(image: Image8) -> None:
    return None


def _unmasked(urls: Sequence[str]) -> list[Image8 | None]:
    return [None for _ in urls]


class ImageAccess(NamedTuple):
    """What the images of an index are looked up by.

    Attributes:
        details: addresses to images, each (h, w, 3) uint8 RGB, 320 on the long side at most.
        words: addresses to their visual words, (n, ``keypoints.N_KEYPOINTS``) int32.
        product: an image, as ``details`` gives it, to where its product is, (h', w') uint8, a mask
            squashed to any size, and to what the index's encoder is shown of it, (3, 200, 100)
            uint8; ``None`` where that is the whole image.
        masks: addresses to where their products are, as ``product`` says it; ``None`` where nobody
            knows.
        derived: the folder where results are kept, see ``dedup.store.derived``; ``None``: nowhere.
    """

    details: Callable[[Sequence[str]], list[Image8]]
    words: Callable[[Sequence[str]], npt.NDArray[np.int32]]
    product: Callable[[Image8], tuple[Image8, Image8] | None] = _whole
    masks: Callable[[Sequence[str]], list[Image8 | None]] = _unmasked
    derived: Path | None = None


def _no_sight(urls: Sequence[str]) -> Any:
    raise ArtifactError("the index has no store attached: its images cannot be looked at")
