"""Save, load and check the index of a catalogue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.errors import ArtifactError
from dedup.runtime.checked_files import (
    CheckedArray,
    CheckedAttribute,
    check_vectors,
    map_vectors,
    read_checked_tables,
)
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.files import sha256_file, write_array
from dedup.runtime.invocation import command
from dedup.runtime.tables import as_frame, write_table
from dedup.search.consistency import check_columns, check_images, check_owners
from dedup.search.manifest import (
    AGAIN,
    INDEX_FORMAT,
    MANIFEST,
    Origin,
    read_manifest,
)

if TYPE_CHECKING:
    pass
from dedup.encoders.paths import checkpoint_file
from dedup.schemas import INDEX_IMAGES, Thumbnails
from dedup.search.image_access import ImageAccess, no_images


@dataclass(frozen=True)
class Index:
    """Images of a catalogue with their embeddings and clusters.

    Attributes:
        images: the schema ``INDEX_IMAGES``.
        vectors: (n, d) float32, one row for each distinct image; may be memory-mapped. Their
            first use waits until their file has been checked.
        centroids: (k, d) float32, one for each cluster.
        products: the user's table, as in ``Catalogue.products``.
        manifest: checkpoint digest, store, settings and versions; plain JSON values. Holds
            ``foreground`` where the encoder was shown products alone.
        thumbnails: small images by address, for reports; none until a store is attached.
        sight: images by address, for the verifier; raises until a store is attached.
        folder: folder that the index was read from, for messages; ``None`` where it was made.
    """

    images: pd.DataFrame
    if TYPE_CHECKING:
        vectors: npt.NDArray[np.float32]
    else:
        vectors: CheckedAttribute = CheckedAttribute()
    centroids: npt.NDArray[np.float32]
    products: pd.DataFrame
    manifest: dict[str, Any] = field(default_factory=dict)
    thumbnails: Thumbnails = lambda urls: {}
    sight: ImageAccess = field(default_factory=lambda: ImageAccess(no_images, no_images))
    folder: Path | None = field(default=None, compare=False)

    @property
    def shows(self) -> str:
        """Digest of the foreground that the encoder was shown, "" for whole images."""
        return str(self.manifest.get("foreground", {}).get("digest", ""))

    @property
    def url_columns(self) -> list[str]:
        """Columns of the table with the images' addresses; none where it names no addresses."""
        columns = self.manifest.get("url_column") or []
        return [columns] if isinstance(columns, str) else list(columns)

    def titles(self, product_ids: Collection[str]) -> dict[str, str]:
        """Return the title of each product that has one: the smallest, where its rows differ."""
        title, key = self.manifest.get("title_column"), self.manifest["id_column"]
        if not title:
            return {}
        rows = self.products.loc[self.products[key].isin(list(product_ids)), [key, title]]
        rows = rows[rows[title].str.strip() != ""].sort_values([key, title]).drop_duplicates(key)
        return dict(zip(rows[key], rows[title], strict=True))

    def check_encoder(self, checkpoint: str | Path) -> None:
        """Check that this index was made with a checkpoint.

        Raises:
            ArtifactError: it was made with another, or there is no such checkpoint.
        """
        file, made_with = checkpoint_file(checkpoint), self.manifest["checkpoint_sha256"]
        digest = sha256_file(file)
        if digest != made_with:
            raise ArtifactError(
                f"the index was made with {self.manifest['checkpoint']} (sha256 {made_with[:12]}), "
                f"and {file} is another checkpoint (sha256 {digest[:12]}): embeddings of different "
                "checkpoints cannot be compared. Name the index's own checkpoint, "
                f"or run {command('cluster')} with this one"
            )

    def with_images(self, thumbnails: Thumbnails, sight: ImageAccess) -> Index:
        """Return the index with a store attached; does not wait for the vectors."""
        return replace(self, vectors=vars(self)["vectors"], thumbnails=thumbnails, sight=sight)

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``, the manifest last, so that a part is never loaded."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"images.parquet": self.images, "products.parquet": self.products}
        write_table(self.images, INDEX_IMAGES, folder / "images.parquet")
        write_table(self.products, None, folder / "products.parquet")
        write_array(self.vectors, folder / "vectors.npy")
        write_array(self.centroids, folder / "centroids.npy")
        files = {name: file_facts(folder / name, rows=len(table)) for name, table in tables.items()}
        files |= {name: file_facts(folder / name) for name in ("vectors.npy", "centroids.npy")}
        content = {"format": 0, **self.manifest} | {"format": INDEX_FORMAT}
        write_checked(content, files, folder / MANIFEST)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read an index, its vectors memory-mapped.

        Raises:
            ArtifactError: ``folder`` holds no index, or one of another format.
            CorruptError: a file is damaged or invalid. Of ``vectors.npy``, it may be raised by
                the first use of the vectors.
        """
        manifest, files = read_manifest(folder)
        schemas = {"images.parquet": INDEX_IMAGES, "products.parquet": None}
        images, products = read_checked_tables(folder, schemas, files, AGAIN)
        paths = [folder / name for name in ("vectors.npy", "centroids.npy")]
        vectors, centroids = (map_vectors(file, files[file.name], AGAIN) for file in paths)
        check_vectors(paths[1], centroids, files["centroids.npy"], AGAIN)
        width, wanted = centroids.shape[1], vectors.shape[1]
        if width != wanted:
            Origin(paths[1], AGAIN).refuse(f"its rows hold {width} numbers, vectors.npy's {wanted}")
        check_columns(products, manifest, Origin(folder / MANIFEST, AGAIN))
        ids, origin = products[manifest["id_column"]], Origin(folder / "images.parquet", AGAIN)
        check_images(images, ids, len(vectors), len(centroids), origin)
        mapped: Any = CheckedArray(paths[0], vectors, files["vectors.npy"], AGAIN)
        frames = as_frame(images), as_frame(products)
        return cls(frames[0], mapped, centroids, frames[1], manifest, folder=folder)


def load_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Read an index without its vectors: the images, the user's table and the manifest.

    Returns:
        The schema ``INDEX_IMAGES``, the table, and the manifest.

    Raises:
        ArtifactError: ``folder`` holds no index, or one of another format.
        CorruptError: a table is damaged or invalid.
    """
    manifest, files = read_manifest(folder)
    schemas = {"images.parquet": INDEX_IMAGES, "products.parquet": None}
    images, products = read_checked_tables(folder, schemas, files, AGAIN)
    check_columns(products, manifest, Origin(folder / MANIFEST, AGAIN))
    origin = Origin(folder / "images.parquet", AGAIN)
    check_owners(images, products[manifest["id_column"]], origin)
    return as_frame(images), as_frame(products), manifest
