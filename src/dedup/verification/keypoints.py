"""What stands out in an image: SIFT keypoints, found again after a crop, a turn or a new tone."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

N_KEYPOINTS = 300
"""Keypoints of an image at most, the most distinct ones."""

_BINS = (4, 4, 8)
"""A SIFT descriptor: rows and columns of cells, and directions of the gradient in each."""

RgbImage = npt.NDArray[np.uint8]
Descriptors = npt.NDArray[np.uint8]

# For the whole process: images share the cores among them (``parallel.in_order``), and threads
# that OpenCV starts within each, as it does unless told otherwise, would only wait for each other.
cv2.setNumThreads(1)


class Keypoints(NamedTuple):
    """Points of one image and what lies round each.

    Attributes:
        places: (n, 2) float32, x and y in pixels.
        descriptors: (n, 128) uint8, as SIFT gives them.
    """

    places: npt.NDArray[np.float32]
    descriptors: Descriptors


def find_keypoints(image: RgbImage) -> Keypoints:
    """The keypoints of an image, (h, w, 3) uint8 RGB.

    Lowe, Distinctive image features from scale-invariant keypoints, 2004; OpenCV's. The contrast
    threshold is a quarter of the usual one: goods of one colour on white ground have little else.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(nfeatures=N_KEYPOINTS, contrastThreshold=0.01, edgeThreshold=15)
    points, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    places = np.array([point.pt for point in points[:N_KEYPOINTS]], np.float32)
    # At equal strength SIFT keeps more points than asked for.
    return Keypoints(places, descriptors[:N_KEYPOINTS].astype(np.uint8))


def mirrored(keypoints: Keypoints, width: int) -> Keypoints:
    """The keypoints of the mirrored image, ``width`` pixels wide, without looking at it."""
    places = np.array([width - 1, 0], np.float32) + keypoints.places * np.array([-1, 1], np.float32)
    return Keypoints(places, mirrored_descriptors(keypoints.descriptors))


def mirrored_descriptors(descriptors: Descriptors) -> Descriptors:
    """What the descriptors, (n, 128) uint8, would be in the mirrored image.

    A descriptor is laid along its own direction, so a mirror turns its rows and its directions.
    """
    cells = descriptors.reshape(-1, *_BINS)
    turned = cells[:, ::-1][..., -np.arange(_BINS[2]) % _BINS[2]]
    return np.ascontiguousarray(turned.reshape(-1, 128))


def root(descriptors: Descriptors) -> npt.NDArray[np.float32]:
    """RootSIFT, (n, 128) float32 of unit length: Arandjelovic and Zisserman, CVPR 2012."""
    values = descriptors.astype(np.float32)
    shares: npt.NDArray[np.float32] = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
    return shares
