"""How one image lies in another: moved, scaled, turned, mirrored."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.keypoints import Keypoints, RgbImage, find_keypoints, mirrored, root

Matrix = npt.NDArray[Any]

MIN_MATCHES = 4
"""Keypoints that must find each other before a placement is looked for."""

RATIO = 0.87
"""A match must be that much nearer than the second nearest (Lowe 2004, section 7.1)."""

FARTHEST = 0.75
"""Largest distance of two RootSIFT descriptors that match; unrelated ones are some 1.0 apart."""

REACH = 4.0
"""Pixels by which a keypoint may miss its place."""

MIN_INLIERS = 6
"""Matches in agreement below which a placement is chance."""

THUMB = 24
"""Side of what whole images are compared by, where keypoints find nothing, in pixels."""

BORDER = 16
"""Grey levels by which a border may vary and still be even."""

LIKE_WHOLE = 0.7
"""Correlation of two such thumbs below which they are not laid over each other as wholes."""

MAX_STRETCH = 2.2
"""Largest ratio of the two scales of an affine placement; shops squeeze, but not more."""


class LocalFeatures(NamedTuple):
    """An image and what stands out in it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        keypoints: of the image.
        box: x, y, width and height of what lies inside an even border.
        thumb: (24, 24) float32, the box's grey levels, of mean 0 and unit length; 0 if flat.
        mask: (h, w) uint8, where its product is; ``None`` where nobody knows.
    """

    image: RgbImage
    keypoints: Keypoints
    box: tuple[int, int, int, int]
    thumb: Matrix
    mask: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, image: RgbImage, mask: npt.NDArray[np.uint8] | None = None) -> LocalFeatures:
        """Look at an image, whose mask may be squashed to any size."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        x, y, width, height = box = _inside(gray)
        small = cv2.resize(
            gray[y : y + height, x : x + width].astype(np.float32), (THUMB, THUMB),
            interpolation=cv2.INTER_AREA,
        )  # fmt: skip
        small -= small.mean()
        length = float(np.linalg.norm(small))
        thumb = small / length if length > THUMB else np.zeros_like(small)
        if mask is not None:
            size = (image.shape[1], image.shape[0])
            mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        return cls(image, find_keypoints(image), box, thumb, mask)


class Alignment(NamedTuple):
    """A placement of one image in another.

    Attributes:
        matrix: (2, 3), takes x and y of the one, mirrored first if so said, to the other's.
        mirrored: the one had to be mirrored.
        n_matches: keypoints that found each other.
        n_inliers: those of them that agree with the placement.
    """

    matrix: Matrix
    mirrored: bool
    n_matches: int
    n_inliers: int

    @property
    def stretches(self) -> tuple[float, float]:
        """The larger and the smaller scale of the placement."""
        large, small = np.linalg.svd(self.matrix[:, :2], compute_uv=False)
        return float(large), float(small)

    @property
    def turn(self) -> float:
        """Degrees by which the one is turned, -180 to 180."""
        (a, _, _), (c, _, _) = self.matrix
        return float(np.degrees(np.arctan2(c, a)))


def align(one: LocalFeatures, other: LocalFeatures) -> Alignment | None:
    """Place one image, or its mirror image, in another by their keypoints.

    Returns:
        The placement that more matches agree with, or ``None`` if none has enough.
    """
    found = [
        placed
        for is_mirrored, points in (
            (False, one.keypoints),
            (True, mirrored(one.keypoints, one.image.shape[1])),
        )
        if (placed := _place(points, other.keypoints, is_mirrored)) is not None
    ]
    return max(found, key=lambda placed: placed.n_inliers, default=None)


def align_whole(one: LocalFeatures, other: LocalFeatures) -> list[Alignment]:
    """Lay one image over another from border to border, as it is and mirrored, if alike so."""
    return [
        Alignment(_box_to_box(one, other, is_mirrored), is_mirrored, 0, 0)
        for is_mirrored, thumb in ((False, one.thumb), (True, one.thumb[:, ::-1]))
        if float((thumb * other.thumb).sum()) > LIKE_WHOLE
    ]


def _box_to_box(one: LocalFeatures, other: LocalFeatures, is_mirrored: bool) -> Matrix:
    (x, y, width, height), (u, v, to_width, to_height) = one.box, other.box
    if is_mirrored:
        x = one.image.shape[1] - x - width
    across, down = to_width / width, to_height / height
    # The middle of a pixel is a whole number, its border half a pixel before.
    right, below = u - across * x + (across - 1) / 2, v - down * y + (down - 1) / 2
    return np.array([[across, 0, right], [0, down, below]])


def _inside(gray: Matrix) -> tuple[int, int, int, int]:
    """The box inside the even border of a grey image; the whole where there is nothing else."""
    corners = np.array([gray[0, 0], gray[0, -1], gray[-1, 0], gray[-1, -1]], np.int16)
    apart = np.abs(gray.astype(np.int16) - int(np.median(corners))) > BORDER
    rows, columns = (np.flatnonzero(apart.mean(axis=axis) > 0.01) for axis in (1, 0))
    height, width = gray.shape
    if not len(rows) or not len(columns):
        return 0, 0, width, height
    return (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    )


def matches(one: Keypoints, other: Keypoints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Keypoints nearest to each other, clearly nearer than the second nearest."""
    if min(len(one.places), len(other.places)) < MIN_MATCHES:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    alike = root(one.descriptors) @ root(other.descriptors).T
    rows = np.arange(len(alike))
    best = alike.argmax(axis=1)
    mutual = alike.argmax(axis=0)[best] == rows
    first = alike[rows, best]
    alike[rows, best] = -1
    near, second = (np.sqrt(np.maximum(2 - 2 * value, 0)) for value in (first, alike.max(axis=1)))
    kept = np.flatnonzero(mutual & (near < FARTHEST) & (near < RATIO * second))
    return kept, best[kept]


def _place(one: Keypoints, other: Keypoints, is_mirrored: bool) -> Alignment | None:
    left, right = matches(one, other)
    if len(left) < MIN_MATCHES:
        return None
    here, there = one.places[left], other.places[right]
    matrix, agreeing = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=400, confidence=0.99
    )
    if matrix is None or int(agreeing.sum()) < MIN_INLIERS - 2:
        return None
    placed = Alignment(matrix, is_mirrored, len(left), int(agreeing.sum()))
    placed = _bent(placed, here, there)
    return placed if placed.n_inliers >= MIN_INLIERS and placed.stretches[1] > 1e-3 else None


def _bent(placed: Alignment, here: Matrix, there: Matrix) -> Alignment:
    """The placement as a full affine map, where more matches agree with that."""
    matrix = placed.matrix
    for _ in range(3):
        near = _misses(matrix, here, there) < 3 * REACH
        if near.sum() < 2 * MIN_INLIERS:
            return placed
        ends = np.column_stack([here[near], np.ones(near.sum())])
        matrix = np.linalg.lstsq(ends, there[near].astype(np.float64), rcond=None)[0].T
    n_inliers = int((_misses(matrix, here, there) < REACH).sum())
    bent = placed._replace(matrix=matrix, n_inliers=n_inliers)
    large, small = bent.stretches
    better = n_inliers > placed.n_inliers and large <= MAX_STRETCH * small
    return bent if better and np.linalg.det(matrix[:, :2]) > 0 else placed


def _misses(matrix: Matrix, here: Matrix, there: Matrix) -> Matrix:
    """How far each point is from its place, (n,) in pixels."""
    moved = here @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(np.linalg.norm(moved - there, axis=1))
