"""The original experiment's convolutional autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.artifacts import IMAGE_SHAPE

KERNEL = 5
POOL = 4


class ConvAutoencoder(nn.Module):
    """Conv-ReLU-Conv-MaxPool-Linear-Linear, and its mirror Linear-Linear-MaxUnpool-Conv-ReLU-Conv.

    The pooling indices pass from ``encode`` to ``decode`` beside the embedding. They carry the
    picture's layout round the bottleneck, so a low reconstruction loss says little about the
    embedding: judge an encoder by how it ranks known duplicates.

    With the defaults: 36,725,859 parameters; a picture is (16, 48, 23) = 17,664 numbers after
    pooling, then 1,024, then 256.

    Args:
        embedding_dim: length d of an embedding.
        hidden_dim: width of the linear layer between pooling and embedding.
        channels: channels after the first and the second convolution.
        extra_relu: a ReLU after the second convolution and after the output, as the original
            notebook had besides the published network.
        unit: embeddings of unit length from ``forward``, as ``task=contrastive`` trains them;
            ``encode`` gives them as they are. May be set at any time.
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
        # Twice as fast on a CPU, and the same numbers.
        for conv in (self.conv1, self.conv2, self.unconv2, self.unconv1):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)

    def prepare(self, images: Tensor) -> Tensor:
        """Bring stored pictures, (n, 3, 200, 100) uint8, to float32 between 0 and 1."""
        return images.to(memory_format=torch.channels_last).float() / 255

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map prepared pictures, (n, 3, 200, 100) float32, to embeddings.

        Returns:
            Embeddings (n, d), and the pooling indices (n, 16, 48, 23) that ``decode`` needs.
        """
        hidden = self.conv2(torch.relu(self.conv1(pixels)))
        if self.extra_relu:
            hidden = torch.relu(hidden)
        pooled, indices = self.pool(hidden)
        return self.embedding(self.hidden(pooled.flatten(1))), indices

    def decode(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Map embeddings (n, d) and their pooling indices to pictures (n, 3, 200, 100) float32."""
        pooled = self.unhidden(self.unembedding(embeddings)).unflatten(1, self.pooled_shape)
        hidden = self.unpool(pooled.to(memory_format=torch.channels_last), indices)
        pixels: Tensor = self.unconv1(torch.relu(self.unconv2(hidden)))
        return torch.relu(pixels) if self.extra_relu else pixels

    def forward(self, images: Tensor) -> Tensor:
        """Map stored pictures, (n, 3, 200, 100) uint8, to embeddings (n, d) float32."""
        embeddings = self.encode(self.prepare(images))[0]
        return functional.normalize(embeddings) if self.unit else embeddings
