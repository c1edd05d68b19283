"""Convolutional autoencoder of the original experiment of 2019."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.schemas import IMAGE_SHAPE

KERNEL, POOL = 5, 4
"""Sides of the convolutions' kernels and of the pooling's windows."""
CHUNK = 16
"""Images that pass the convolutions together on a CPU, so that their activations fit the cache."""


class ConvAutoencoder(nn.Module):
    """Conv-ReLU-Conv-MaxPool-Linear-Linear, and its mirror Linear-Linear-MaxUnpool-Conv-ReLU-Conv.

    The pooling indices pass from ``encode`` to ``decode`` beside the embedding. They carry the
    image's layout past the bottleneck, so a low reconstruction loss says little about the
    embedding. Compare encoders by their ranking of known duplicates instead.

    With the defaults: 36,725,859 parameters; an image is (16, 48, 23) = 17,664 numbers after
    pooling, then 1,024, then 256.

    Args:
        embedding_dim: length d of an embedding.
        hidden_dim: width of the linear layer between pooling and embedding.
        channels: numbers of channels after the first and the second convolution.
        extra_relu: whether a ReLU follows the second convolution and the output, as in the
            original notebook, but not in the published network.
        unit: whether ``forward`` returns embeddings of unit length, as ``task=contrastive`` trains
            them; ``encode`` never does. May be set at any time.
    """

    def __init__(
        self,
        embedding_dim: int = 256,
        hidden_dim: int = 1024,
        channels: Sequence[int] = (6, 16),
        extra_relu: bool = False,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.hidden_dim = hidden_dim
        self.channels = tuple(channels)
        self.extra_relu = extra_relu
        self.unit = unit
        depth, height, width = IMAGE_SHAPE
        first, second = self.channels
        border = 2 * (KERNEL - 1)
        self.pooled_shape = (second, (height - border) // POOL, (width - border) // POOL)
        n_pooled = second * self.pooled_shape[1] * self.pooled_shape[2]

        self.conv1 = nn.Conv2d(depth, first, KERNEL)
        self.conv2 = nn.Conv2d(first, second, KERNEL)
        self.pool = nn.MaxPool2d(POOL, return_indices=True)
        self.hidden = nn.Linear(n_pooled, hidden_dim)
        self.embedding = nn.Linear(hidden_dim, embedding_dim)

        self.unembedding = nn.Linear(embedding_dim, hidden_dim)
        self.unhidden = nn.Linear(hidden_dim, n_pooled)
        self.unpool = nn.MaxUnpool2d(POOL)
        self.unconv2 = nn.ConvTranspose2d(second, first, KERNEL)
        self.unconv1 = nn.ConvTranspose2d(first, depth, KERNEL)
        # Twice as fast on a CPU, with the same result.
        for conv in (self.conv1, self.conv2, self.unconv2, self.unconv1):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)

    def prepare(self, images: Tensor) -> Tensor:
        """Scale stored images, (n, 3, 200, 100) uint8, to float32 between 0 and 1."""
        return images.to(memory_format=torch.channels_last).float() / 255

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map prepared images, (n, 3, 200, 100) float32, to embeddings.

        Returns:
            Embeddings (n, d), and the pooling indices (n, 16, 48, 23) that ``decode`` needs.
        """
        parts = [self._pooled(part) for part in torch.split(pixels, self._chunk_size(pixels))]
        pooled, indices = (torch.cat(part) for part in zip(*parts, strict=True))
        return self.embedding(self.hidden(pooled.flatten(1))), indices

    def decode(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Map embeddings (n, d) and their pooling indices to images (n, 3, 200, 100) float32."""
        pooled = self.unhidden(self.unembedding(embeddings)).unflatten(1, self.pooled_shape)
        size = self._chunk_size(pooled)
        parts = zip(torch.split(pooled, size), torch.split(indices, size), strict=True)
        pixels = torch.cat([self.unconv1(torch.relu(self._unpooled(*part))) for part in parts])
        return torch.relu(pixels) if self.extra_relu else pixels

    def forward(self, images: Tensor) -> Tensor:
        """Map stored images, (n, 3, 200, 100) uint8, to embeddings (n, d) float32."""
        embeddings = self.encode(self.prepare(images))[0]
        return functional.normalize(embeddings) if self.unit else embeddings

    def _chunk_size(self, images: Tensor) -> int:
        return CHUNK if images.device.type == "cpu" else max(1, len(images))

    def _pooled(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the pooled features (n, 16, 48, 23) and the indices of a chunk of images."""
        hidden = torch.relu(self.conv1(pixels))
        hidden = self.conv2(hidden)
        pooled, indices = self.pool(torch.relu(hidden) if self.extra_relu else hidden)
        return pooled, indices

    def _unpooled(self, pooled: Tensor, indices: Tensor) -> Tensor:
        """Mirror ``_pooled``, up to its ReLU."""
        hidden: Tensor = self.unconv2(self.unpool(pooled, indices))
        return hidden
