"""Match the keypoints of two images by LighterGlue, a small LightGlue for XFeat.

A descriptor alone sees a few pixels, and all denim has the same. Here keypoints look at each other,
within their image and in the other one, before they are matched.

Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023,
section 3. The published weights have 6 layers of width 96 with one head of attention each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.verification.xfeat import N_CHANNELS, Features

WIDTH, N_LAYERS = 96, 6
"""Length of a keypoint's state, and number of layers."""

MIN_CONFIDENCE = 0.1
"""Probability from which two keypoints match; the paper's."""

Ints = npt.NDArray[np.int64]


def _update(width: int) -> nn.Sequential:
    """Build what a keypoint learns from its state and a message, both (n, width)."""
    wide = 2 * width
    return nn.Sequential(
        nn.Linear(wide, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, width)
    )


def _updated(ffn: nn.Sequential, state: Tensor, message: Tensor) -> Tensor:
    new: Tensor = state + ffn(torch.cat([state, message], dim=-1))
    return new


class _SelfAttention(nn.Module):
    """Attention within an image; queries and keys are turned by their places (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ffn = _update(width)

    def forward(self, state: Tensor, angles: Tensor) -> Tensor:
        """Map states (n, width) with angles (n, width / 2) to new states."""
        query, key, value = self.Wqkv(state).unflatten(-1, (-1, 3)).unbind(-1)
        message = _attended(_turned(query, angles), _turned(key, angles), value)
        return _updated(self.ffn, state, self.out_proj(message))


class _CrossAttention(nn.Module):
    """Attention between two images, with the same keys both ways."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qk = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.ffn = _update(width)

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Map the states of both images, (n, width) and (m, width), to new states."""
        ends = [(self.to_qk(state), self.to_v(state)) for state in (one, other)]
        (key, value), (other_key, other_value) = ends
        message = self.to_out(_attended(key, other_key, other_value))
        other_message = self.to_out(_attended(other_key, key, value))
        return _updated(self.ffn, one, message), _updated(self.ffn, other, other_message)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width)
        self.cross_attn = _CrossAttention(width)

    def forward(
        self, one: Tensor, angles: Tensor, other: Tensor, other_angles: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map the states of both images, with angles as in ``_SelfAttention``, to new states."""
        one, other = self.self_attn(one, angles), self.self_attn(other, other_angles)
        new: tuple[Tensor, Tensor] = self.cross_attn(one, other)
        return new


class _Assignment(nn.Module):
    """Similarity of keypoints, and whether each has a match at all (section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matchability = nn.Linear(width, 1)
        self.final_proj = nn.Linear(width, width)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Compute the log probability of each match, (n, m); equations 7 to 9 of the paper."""
        width = one.shape[-1]
        similarity = self.final_proj(one) @ self.final_proj(other).T / width**0.5
        has_match, other_has = (
            functional.logsigmoid(self.matchability(state)) for state in (one, other)
        )
        both = similarity.log_softmax(dim=1) + similarity.log_softmax(dim=0)
        log_probability: Tensor = both + has_match + other_has.T
        return log_probability


class LighterGlue(nn.Module):
    """The matcher's network, without its early exits, which change what it finds.

    The names of its parts are those of the published weights.
    """

    def __init__(self, width: int = WIDTH, n_layers: int = N_LAYERS) -> None:
        super().__init__()
        self.input_proj = nn.Linear(N_CHANNELS, width)
        self.posenc = nn.ModuleDict({"Wr": nn.Linear(2, width // 2, bias=False)})
        self.transformers = nn.ModuleList(_Layer(width) for _ in range(n_layers))
        # The published file has an assignment for each early exit; this is the last one's.
        self.log_assignment = nn.ModuleDict({str(n_layers - 1): _Assignment(width)})

    def forward(self, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """Compute the log probability that keypoints match.

        Args:
            one: descriptors (n, 64) of unit length, and places (n, 2) with the image's middle at 0
                and its longer side from -1 to 1.
            other: likewise, m keypoints.

        Returns:
            (n, m) float32.
        """
        (state, angles), (other_state, other_angles) = (
            (self.input_proj(descriptors), self.posenc["Wr"](places))
            for descriptors, places in (one, other)
        )
        for layer in self.transformers:
            state, other_state = layer(state, angles, other_state, other_angles)
        (assignment,) = self.log_assignment.values()
        log_probability: Tensor = assignment(state, other_state)
        return log_probability


def matched(net: LighterGlue, left: Features, right: Features) -> tuple[Ints, Ints]:
    """Match keypoints that are mutually the most probable, as two arrays of numbers."""
    if not len(left.places) or not len(right.places):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    with torch.inference_mode():
        log_probability = net(*(_as_input(each) for each in (left, right)))
        best, place = log_probability.max(dim=1)
        rows = torch.arange(len(place))
        is_match = (log_probability.argmax(dim=0)[place] == rows) & (best.exp() > MIN_CONFIDENCE)
    return rows[is_match].numpy(), place[is_match].numpy()


def _as_input(features: Features) -> tuple[Tensor, Tensor]:
    size = np.array(features.size, np.float32)
    places = (features.places - size / 2) / (size.max() / 2)
    return torch.from_numpy(features.descriptors), torch.from_numpy(places)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values (m, d) for each query (n, d), by keys (m, d)."""
    shared: Tensor = functional.scaled_dot_product_attention(query[None], key[None], value[None])
    return shared[0]


def _turned(values: Tensor, angles: Tensor) -> Tensor:
    """Turn each two neighbours of (n, d) by an angle, (n, d / 2): rotary encoding (Su 2021)."""
    even, odd = values[:, ::2], values[:, 1::2]
    cosine, sine = angles.cos(), angles.sin()
    pairs = [even * cosine - odd * sine, odd * cosine + even * sine]
    return torch.stack(pairs, dim=-1).flatten(1)
