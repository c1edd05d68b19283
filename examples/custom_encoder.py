"""Search with an encoder of your own: made, registered, saved, used.

python examples/custom_encoder.py
"""

from torch import Tensor, nn
from torch.nn import functional

import dedup
from dedup.config.targets import allow
from dedup.encoders.checkpoint import save_safetensors
from dedup.sources.sample import SampleSource


class ColourGrid(nn.Module):
    """Mean colours of a grid over the image, as a unit vector."""

    def __init__(self, rows: int = 8) -> None:
        super().__init__()
        self.rows = rows  # a file rebuilds the encoder from attributes named as arguments
        self.embedding_dim = rows * 4 * 3

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, 200, 100) uint8 images to (n, d) float32."""
        means = functional.adaptive_avg_pool2d(images.float(), (self.rows, 4)).flatten(1)
        return functional.normalize(means - means.mean(1, keepdim=True))


def main(n_products: int = 60) -> None:
    """Save the encoder and find the duplicates of a drawn catalogue with it."""
    allow(ColourGrid)
    save_safetensors(ColourGrid(), "colours.safetensors")
    drawn = SampleSource(n_products=n_products)
    drawn.read()
    table = drawn.place / "products.csv"
    print(dedup.find_duplicates(table, encoder="colours.safetensors", threshold=0.05).groups)


if __name__ == "__main__":
    main()
