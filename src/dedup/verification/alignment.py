"""Align two images by RootSIFT matches and RANSAC, or from border to border."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.keypoints import (
    Keypoints,
    RgbImage,
    find_keypoints,
    mirrored,
    mirrored_descriptors,
    root,
)

Matrix = npt.NDArray[Any]

MIN_MATCHES = 4
"""Mutual keypoint matches below which no alignment is tried."""

RATIO = 0.87
"""Distance of a match as a share of the second nearest, at most (Lowe 2004, section 7.1)."""

MAX_DISTANCE = 0.75
"""Distance of two RootSIFT descriptors that match, at most; unrelated ones are some 1.0 apart."""

MAX_ERROR = 4.0
"""Pixels by which an inlier may miss its aligned place, at most."""

MIN_INLIERS = 6
"""Inliers below which an alignment is a coincidence."""

THUMB = 24
"""Side of the thumbnail by which whole images are compared, in pixels."""

BORDER = 16
"""Grey levels by which an even border may vary, at most."""

MIN_CORRELATION = 0.7
"""Correlation of two thumbnails below which images are not aligned by their borders."""

MAX_STRETCH = 2.2
"""Ratio of the two scales of an affine alignment, at most; shops squeeze images by less."""


class LocalFeatures(NamedTuple):
    """An image with its keypoints, its border and its product mask.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        keypoints: keypoints of the image.
        box: x, y, width and height of the region inside an even border.
        thumb: (24, 24) float32, the box's grey levels, of mean 0 and unit length; 0 if flat.
        mask: (h, w) uint8, mask of the product; ``None`` if unknown.
    """

    image: RgbImage
    keypoints: Keypoints
    box: tuple[int, int, int, int]
    thumb: Matrix
    mask: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(
        cls,
        image: RgbImage,
        mask: npt.NDArray[np.uint8] | None = None,
        keypoints: Keypoints | None = None,
    ) -> LocalFeatures:
        """Compute the features of an image.

        Args:
            image: (h, w, 3) uint8 RGB.
            mask: mask of the product, resized to any shape; ``None`` if unknown.
            keypoints: keypoints of the image, if they were found before.
        """
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
        found = find_keypoints(image) if keypoints is None else keypoints
        return cls(image, found, box, thumb, mask)


class Alignment(NamedTuple):
    """Affine map from a left image to a right one.

    Attributes:
        matrix: (2, 3), maps x and y of the left image, mirrored first if ``mirrored``, to those
            of the right one.
        mirrored: whether the left image is mirrored.
        n_matches: number of mutual keypoint matches.
        n_inliers: number of matches that agree with the alignment.
    """

    matrix: Matrix
    mirrored: bool
    n_matches: int
    n_inliers: int

    @property
    def stretches(self) -> tuple[float, float]:
        """Larger and smaller scale of the alignment."""
        large, small = np.linalg.svd(self.matrix[:, :2], compute_uv=False)
        return float(large), float(small)

    @property
    def turn(self) -> float:
        """Rotation of the left image in degrees, -180 to 180."""
        (a, _, _), (c, _, _) = self.matrix
        return float(np.degrees(np.arctan2(c, a)))


def align(left: LocalFeatures, right: LocalFeatures) -> Alignment | None:
    """Align an image, or its mirror image, with another by keypoints.

    Returns:
        The alignment with more inliers, or ``None`` if neither has enough.
    """
    one, other = left.keypoints, right.keypoints
    if min(len(one.places), len(other.places)) < MIN_MATCHES:
        return None
    # The roots are computed once: those of mirrored descriptors are these in another order.
    left_root, right_root = root(one.descriptors), root(other.descriptors)
    alignments = [
        _align_keypoints(places, other.places, _mutual(roots, right_root), is_mirrored)
        for is_mirrored, places, roots in (
            (False, one.places, left_root),
            (True, mirrored(one, left.image.shape[1]).places, mirrored_descriptors(left_root)),
        )
    ]
    found = [alignment for alignment in alignments if alignment is not None]
    return max(found, key=lambda alignment: alignment.n_inliers, default=None)


def align_whole(left: LocalFeatures, right: LocalFeatures) -> list[Alignment]:
    """Align two images from border to border, plain and mirrored, where thumbnails correlate."""
    return [
        Alignment(_box_to_box(left, right, is_mirrored), is_mirrored, 0, 0)
        for is_mirrored, thumb in ((False, left.thumb), (True, left.thumb[:, ::-1]))
        if float((thumb * right.thumb).sum()) > MIN_CORRELATION
    ]


def _box_to_box(left: LocalFeatures, right: LocalFeatures, is_mirrored: bool) -> Matrix:
    (x, y, width, height), (u, v, to_width, to_height) = left.box, right.box
    if is_mirrored:
        x = left.image.shape[1] - x - width
    x_scale, y_scale = to_width / width, to_height / height
    # The centre of a pixel is a whole number, its border half a pixel before.
    x_shift = u - x_scale * x + (x_scale - 1) / 2
    y_shift = v - y_scale * y + (y_scale - 1) / 2
    return np.array([[x_scale, 0, x_shift], [0, y_scale, y_shift]])


def _inside(gray: Matrix) -> tuple[int, int, int, int]:
    """Find the box inside the even border of a grey image; the whole of an empty image."""
    corners = np.array([gray[0, 0], gray[0, -1], gray[-1, 0], gray[-1, -1]], np.int16)
    is_content = np.abs(gray.astype(np.int16) - int(np.median(corners))) > BORDER
    rows, columns = (np.flatnonzero(is_content.mean(axis=axis) > 0.01) for axis in (1, 0))
    height, width = gray.shape
    if not len(rows) or not len(columns):
        return 0, 0, width, height
    return (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    )


def matches(left: Keypoints, right: Keypoints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match keypoints that are mutually nearest and pass Lowe's ratio test, as two index arrays."""
    if min(len(left.places), len(right.places)) < MIN_MATCHES:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    return _mutual(root(left.descriptors), root(right.descriptors))


def _mutual(left: Matrix, right: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Match RootSIFT descriptors, (n, 128) and (m, 128), as ``matches`` does; m is 2 or more."""
    similarity = left @ right.T
    rows = np.arange(len(similarity))
    best = similarity.argmax(axis=1)
    is_mutual = similarity.argmax(axis=0)[best] == rows
    first = similarity[rows, best]
    similarity[rows, best] = -1
    second = similarity.max(axis=1)
    near, next_near = (np.sqrt(np.maximum(2 - 2 * value, 0)) for value in (first, second))
    kept = np.flatnonzero(is_mutual & (near < MAX_DISTANCE) & (near < RATIO * next_near))
    return kept, best[kept]


def _align_keypoints(
    left: Matrix,
    right: Matrix,
    pairs: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    is_mirrored: bool,
) -> Alignment | None:
    rows, columns = pairs
    if len(rows) < MIN_MATCHES:
        return None
    start, end = left[rows], right[columns]
    matrix, is_inlier = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=MAX_ERROR, maxIters=400,
        confidence=0.99,
    )  # fmt: skip
    if matrix is None or int(is_inlier.sum()) < MIN_INLIERS - 2:
        return None
    similarity = Alignment(matrix, is_mirrored, len(rows), int(is_inlier.sum()))
    best = _refine_affine(similarity, start, end)
    return best if best.n_inliers >= MIN_INLIERS and best.stretches[1] > 1e-3 else None


def _refine_affine(similarity: Alignment, start: Matrix, end: Matrix) -> Alignment:
    """Refine a similarity to a full affine map, if that has more inliers."""
    matrix = similarity.matrix
    for _ in range(3):
        near = errors(matrix, start, end) < 3 * MAX_ERROR
        if near.sum() < 2 * MIN_INLIERS:
            return similarity
        homogeneous = np.column_stack([start[near], np.ones(near.sum())])
        matrix = np.linalg.lstsq(homogeneous, end[near].astype(np.float64), rcond=None)[0].T
    n_inliers = int((errors(matrix, start, end) < MAX_ERROR).sum())
    affine = similarity._replace(matrix=matrix, n_inliers=n_inliers)
    large, small = affine.stretches
    is_better = n_inliers > similarity.n_inliers and large <= MAX_STRETCH * small
    return affine if is_better and np.linalg.det(matrix[:, :2]) > 0 else similarity


def errors(matrix: Matrix, start: Matrix, end: Matrix) -> Matrix:
    """Compute the distance of each mapped point to its match, (n,) in pixels."""
    mapped = start @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(np.linalg.norm(mapped - end, axis=1))
