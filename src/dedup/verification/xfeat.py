"""Find and describe keypoints by XFeat, a small network that was trained on photos.

SIFT describes a spot as it is lit; XFeat learned from photos of one place by many cameras. So it
finds a spot again in another light and on a moved cloth. It sees grey levels alone.

Potje, Cadar, Araujo, Martins and Nascimento, XFeat: Accelerated Features for Lightweight Image
Matching, CVPR 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.verification.keypoints import RgbImage

SIDE = 320
"""Longer side, in pixels, to which an image is resized: the preview's."""

STRIDE = 32
"""Pixels of which both sides of the network's input are multiples."""

CELL = 8
"""Side of a cell, in pixels, for which the network computes one descriptor."""

N_CHANNELS = 64
"""Length of a descriptor."""

N_KEYPOINTS = 512
"""Maximum number of keypoints of an image: the most reliable ones."""

MIN_PROBABILITY = 0.05
"""Probability above which a pixel is a keypoint; the paper's."""

WINDOW = 5
"""Side of the window, in pixels, in which a keypoint is the most probable pixel."""

Floats = npt.NDArray[np.float32]


class Features(NamedTuple):
    """Keypoints of one image.

    Attributes:
        places: (n, 2) float32, x and y in pixels of the resized image.
        descriptors: (n, 64) float32, of unit length.
        size: width and height of the resized image.
    """

    places: Floats
    descriptors: Floats
    size: tuple[int, int]


class _Layer(nn.Module):
    """Convolution, batch normalisation without weights, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        self.layer = nn.Sequential(conv, nn.BatchNorm2d(n_out, affine=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        out: Tensor = self.layer(x)
        return out


def _chain(
    *widths: int, strides: Sequence[int], kernels: Sequence[int] | None = None
) -> list[nn.Module]:
    """Build layers of the given numbers of channels, the input's first."""
    kernels = kernels or [3] * len(strides)
    settings = zip(widths[:-1], widths[1:], kernels, strides, strict=True)
    return [_Layer(*each) for each in settings]


class XFeat(nn.Module):
    """The network of section 3 of the paper, without the matcher that refines matches.

    The names of its parts are those of the published weights. It has 657,910 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(*_chain(1, 4, 8, 8, 24, strides=(1, 2, 1, 2)))
        self.block2 = nn.Sequential(*_chain(24, 24, 24, strides=(1, 1)))
        self.block3 = nn.Sequential(*_chain(24, 64, 64, 64, strides=(2, 1, 1), kernels=(3, 3, 1)))
        self.block4 = nn.Sequential(*_chain(64, 64, 64, 64, strides=(2, 1, 1)))
        self.block5 = nn.Sequential(
            *_chain(64, 128, 128, 128, 64, strides=(2, 1, 1, 1), kernels=(3, 3, 3, 1))
        )
        self.block_fusion = nn.Sequential(*_chain(64, 64, 64, strides=(1, 1)), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(*_points(2), nn.Conv2d(64, 1, 1), nn.Sigmoid())
        self.keypoint_head = nn.Sequential(*_points(3), nn.Conv2d(64, 65, 1))

    def forward(self, gray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Describe grey images; both sides are multiples of 32.

        Args:
            gray: (n, 1, h, w) float32, of any scale: each image is set to mean 0, deviation 1.

        Returns:
            Descriptors (n, 64, h / 8, w / 8), not of unit length; the logits (n, 65, h / 8, w / 8)
            of the pixels of each cell, row by row, and of no keypoint; and the reliability of each
            cell (n, 1, h / 8, w / 8), 0 to 1.
        """
        gray = functional.instance_norm(gray)
        fine = self.block3(self.block2(self.block1(gray) + self.skip1(gray)))
        middle = self.block4(fine)
        coarse = self.block5(middle)
        size = fine.shape[-2:]
        for each in (middle, coarse):
            fine = fine + functional.interpolate(each, size, mode="bilinear")
        descriptors: Tensor = self.block_fusion(fine)
        logits: Tensor = self.keypoint_head(functional.pixel_unshuffle(gray, CELL))
        reliability: Tensor = self.heatmap_head(descriptors)
        return descriptors, logits, reliability


def _points(n: int) -> list[nn.Module]:
    """Build n layers that see one cell each."""
    return _chain(*[64] * (n + 1), strides=[1] * n, kernels=[1] * n)


def detect(net: XFeat, image: RgbImage, mask: npt.NDArray[np.uint8]) -> Features:
    """Find and describe the keypoints of a product.

    Args:
        net: the network, in evaluation mode.
        image: (h, w, 3) uint8 RGB.
        mask: (h, w) uint8, above 127 on the product.
    """
    size = resized_size(image.shape[1], image.shape[0])
    gray = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32).mean(axis=2)
    is_product = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) > 127
    return keypoints(net, torch.from_numpy(gray), torch.from_numpy(is_product))


def resized_size(width: int, height: int) -> tuple[int, int]:
    """Compute the width and height, multiples of ``STRIDE``, to which an image is resized."""
    scale = SIDE / max(width, height) / STRIDE
    return STRIDE * max(1, round(width * scale)), STRIDE * max(1, round(height * scale))


def keypoints(net: XFeat, gray: Tensor, is_product: Tensor) -> Features:
    """Find and describe the keypoints of a grey image in a mask, both (h, w).

    Keypoints are the peaks of the probability, sorted by probability times reliability.
    """
    height, width = gray.shape
    with torch.inference_mode():
        descriptors, logits, reliability = net(gray[None, None])
        probability = functional.pixel_shuffle(logits.softmax(dim=1)[:, :-1], CELL)
        largest = functional.max_pool2d(probability, WINDOW, 1, WINDOW // 2)
        is_peak = (probability == largest) & (probability > MIN_PROBABILITY) & is_product
        rows, columns = is_peak[0, 0].nonzero(as_tuple=True)
        # The weights were trained with places scaled so, half a pixel aside at the borders.
        grid = torch.stack([columns / (width - 1), rows / (height - 1)], dim=-1)[None, None] * 2 - 1
        trust = _sampled(reliability, grid, "bilinear")[:, 0] * probability[0, 0, rows, columns]
        best = trust.argsort(descending=True, stable=True)[:N_KEYPOINTS]
        unit = functional.normalize(descriptors)
        described = functional.normalize(_sampled(unit, grid[:, :, best], "bicubic"))
        places = torch.stack([columns, rows], dim=-1)[best].float()
    return Features(places.numpy(), described.numpy(), (width, height))


def _sampled(maps: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Interpolate maps (1, c, h, w) at places (1, 1, n, 2) from -1 to 1, as (n, c)."""
    return functional.grid_sample(maps, grid, mode=mode, align_corners=False)[0, :, 0].T
