"""Find SIFT keypoints in an image: they withstand crops, rotations and changes of colour."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

N_KEYPOINTS = 300
"""Maximum number of keypoints of an image: the most distinct ones."""

SIDE = 200
"""Long side at which keypoints are sought, in pixels. At 320 the most distinct ones are of weave
and JPEG's blocks, which an edit changes: of 259 edits at full strength .988 were aligned, at 226
and at 192 pixels all, for less than half of the time."""

VERSION = 2
"""Raised when ``find_keypoints`` gives others for the same image and settings."""

CONTRAST_THRESHOLD = 0.01
"""A quarter of SIFT's usual one: goods of one colour on a white ground have little else."""

EDGE_THRESHOLD = 15

PACKED = (N_KEYPOINTS, 136)
"""Shape of an image's keypoints as bytes: x and y as float32, then the descriptor; see ``pack``."""

_BINS = (4, 4, 8)
"""Shape of a SIFT descriptor: rows and columns of cells, directions of the gradient in each."""

RgbImage = npt.NDArray[np.uint8]
Descriptors = npt.NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)

# For the whole process: images share the cores among them (``parallel.in_order``), and threads
# that OpenCV starts within each, as it does unless told otherwise, would only wait for each other.
cv2.setNumThreads(1)


class Keypoints(NamedTuple):
    """Points of one image and their surroundings.

    Attributes:
        places: (n, 2) float32, x and y in pixels.
        descriptors: (n, 128) uint8, as SIFT gives them.
    """

    places: npt.NDArray[np.float32]
    descriptors: Descriptors


def keypoint_settings() -> dict[str, Any]:
    """Return all that decides an image's keypoints: plain JSON values for a ``Derivation``.

    OpenCV's version is among them: SIFT's bits have changed between releases.
    """
    return {
        "version": VERSION,
        "n_keypoints": N_KEYPOINTS,
        "side": SIDE,
        "contrast_threshold": CONTRAST_THRESHOLD,
        "edge_threshold": EDGE_THRESHOLD,
        "opencv": cv2.__version__,
    }


def find_keypoints(image: RgbImage) -> Keypoints:
    """Find the keypoints of an image, (h, w, 3) uint8 RGB, with OpenCV's SIFT.

    Lowe, Distinctive image features from scale-invariant keypoints, 2004. The image is reduced to
    ``SIDE`` first; places are in its own pixels.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrink = max(1.0, max(gray.shape) / SIDE)
    if shrink > 1:
        size = [max(1, round(side / shrink)) for side in gray.shape[::-1]]
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    across, down = image.shape[1] / gray.shape[1], image.shape[0] / gray.shape[0]
    sift = cv2.SIFT.create(
        nfeatures=N_KEYPOINTS, contrastThreshold=CONTRAST_THRESHOLD, edgeThreshold=EDGE_THRESHOLD
    )
    points, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    found = np.array([point.pt for point in points[:N_KEYPOINTS]])
    # The centre of a pixel is a whole number, its border half a pixel before.
    places = ((found + 0.5) * [across, down] - 0.5).astype(np.float32)
    # At equal strength SIFT keeps more points than asked for.
    return Keypoints(places, descriptors[:N_KEYPOINTS].astype(np.uint8))


def pack(keypoints: Keypoints) -> npt.NDArray[np.uint8]:
    """Write keypoints as bytes, ``PACKED``, without loss; the places of missing ones are NaN."""
    n, places = len(keypoints.places), np.full((N_KEYPOINTS, 2), np.nan, "<f4")
    places[:n] = keypoints.places
    rows = np.zeros(PACKED, np.uint8)
    rows[:, :8] = places.view(np.uint8)
    rows[:n, 8:] = keypoints.descriptors
    return rows


def unpack(rows: npt.NDArray[np.uint8]) -> Keypoints:
    """Read keypoints that ``pack`` wrote."""
    places = _places(rows)
    n = int(np.isfinite(places[:, 0]).sum())
    return Keypoints(places[:n].astype(np.float32), np.ascontiguousarray(rows[:n, 8:]))


def are_packed(images: npt.NDArray[np.uint8]) -> bool:
    """Tell whether bytes, (n, *PACKED), can be those of keypoints: missing ones are the last."""
    places = _places(images)
    is_there = np.isfinite(places)
    in_order = (is_there[:, :-1] | ~is_there[:, 1:]).all()
    return bool(in_order and (is_there[..., 0] == is_there[..., 1]).all())


def _places(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Read the places in bytes, (..., N_KEYPOINTS, 136), as (..., N_KEYPOINTS, 2)."""
    return np.ascontiguousarray(images[..., :8]).view("<f4")


def mirrored(keypoints: Keypoints, width: int) -> Keypoints:
    """Mirror the keypoints of an image, ``width`` pixels wide."""
    places = np.array([width - 1, 0], np.float32) + keypoints.places * np.array([-1, 1], np.float32)
    return Keypoints(places, mirrored_descriptors(keypoints.descriptors))


def mirrored_descriptors(descriptors: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Mirror descriptors, (n, 128), or what was computed from each of their numbers.

    A descriptor lies along its own direction, so a mirror reverses its rows and its directions.
    """
    cells = descriptors.reshape(-1, *_BINS)
    turned = cells[:, ::-1][..., -np.arange(_BINS[2]) % _BINS[2]]
    return np.ascontiguousarray(turned.reshape(-1, 128))


def root(descriptors: Descriptors) -> npt.NDArray[np.float32]:
    """Compute RootSIFT, (n, 128) float32 of unit length: Arandjelovic and Zisserman, CVPR 2012."""
    values = descriptors.astype(np.float32)
    shares: npt.NDArray[np.float32] = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
    return shares
