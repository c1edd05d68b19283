"""Read the product export of Magento: paths of images start from its folder of media."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dedup.sources.csv import CsvSource
from dedup.sources.paths import ImageFolder

NO_IMAGE = "no_selection"
"""What Magento writes for a product without an image."""


class MediaFolder(ImageFolder):
    """Folder of media, from which paths such as ``/w/b/wb01.jpg`` start."""

    def split(self, cells: Iterable[str]) -> tuple[list[str], str]:
        """Split a record's cells into addresses; ``no_selection`` is none."""
        return super().split("" if cell.strip() == NO_IMAGE else cell for cell in cells)

    def locate(self, address: str) -> tuple[str, str]:
        """Check and resolve the address of an image, see ``ImageFolder.locate``.

        A path with a leading ``/`` starts from the folder, or from ``base_url``, unless it lies
        below the folder as it is.
        """
        if not address.startswith("/") or address.startswith("//"):
            return super().locate(address)
        if not self.base_url:
            place, reason = super().locate(address)
            if not reason:
                return place, ""
        return super().locate(f"./{address.lstrip('/')}")


@dataclass(frozen=True)
class MagentoSource(CsvSource):
    """Source that reads Magento's export of products.

    Paths start from ``images_dir``, a copy of ``pub/media/catalog/product``, or from ``base_url``,
    its address in the web. Rows of further store views repeat the ``sku``, and count for its
    product.
    """

    id_column: str = "sku"
    url_column: str | Sequence[str] = ("base_image", "additional_images")
    title_column: str | None = "name"

    def _image_folder(self) -> ImageFolder:
        return MediaFolder(self.images_dir or str(self._folder), self.base_url or "")
