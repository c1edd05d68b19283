"""What lies between two stages: the shapes of the tables; how an index and a search are saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.checks import check_columns, check_compared, check_images, check_near
from dedup.claims import (
    AGAIN,
    INDEX_FORMAT,
    MANIFEST,
    SEARCH,
    WITHOUT,
    Origin,
    read_facts,
    read_manifest,
)
from dedup.confirming import Confirmed, Mapped, check_vectors, confirmed_tables, mapped_vectors
from dedup.errors import ArtifactError
from dedup.files import as_frame, sha256_file, write_array, write_table
from dedup.invocation import command
from dedup.seals import facts, write_sealed

if TYPE_CHECKING:
    from PIL import Image

Thumbnails = Callable[[Sequence[str]], dict[str, "Image.Image"]]

Image8 = npt.NDArray[np.uint8]


def _whole(picture: Image8) -> None:
    return None


def _unmasked(urls: Sequence[str]) -> list[Image8 | None]:
    return [None for _ in urls]


class Sight(NamedTuple):
    """What the pictures of an index are looked up by.

    Attributes:
        details: addresses to pictures, each (h, w, 3) uint8 RGB, 320 on the long side at most.
        words: addresses to their visual words, (n, ``keypoints.N_KEYPOINTS``) int32.
        product: a picture, as ``details`` gives it, to where its product is, (h', w') uint8, a mask
            squashed to any size, and to what the index's encoder is shown of it, (3, 200, 100)
            uint8; ``None`` where that is the whole picture.
        masks: addresses to where their products are, as ``product`` says it; ``None`` where nobody
            knows.
        derived: the folder where results are kept, see ``dedup.derived``; ``None``: nowhere.
    """

    details: Callable[[Sequence[str]], list[Image8]]
    words: Callable[[Sequence[str]], npt.NDArray[np.int32]]
    product: Callable[[Image8], tuple[Image8, Image8] | None] = _whole
    masks: Callable[[Sequence[str]], list[Image8 | None]] = _unmasked
    derived: Path | None = None


def _no_sight(urls: Sequence[str]) -> Any:
    raise ArtifactError("the index has no store attached: its pictures cannot be looked at")


FORMAT = 4
"""Of a store: raised when a reader of the old layout would misread the new one."""

BUNDLED = Path(__file__).parent / "bundled" / "relisting.safetensors"
"""The weights that come with the package: the checkpoint ``bundled``."""

IMAGE_SHAPE = (3, 200, 100)
"""Channels, height and width of every stored picture, uint8: the original experiment's size."""

Tier = Literal["same_url", "same_bytes", "same_pixels", "near"]
TIERS: tuple[Tier, ...] = ("same_url", "same_bytes", "same_pixels", "near")
"""How sure a pair is, surest first."""

Relation = Literal["same picture", "same product", "colour variant"]
RELATIONS: tuple[Relation, ...] = ("same picture", "same product", "colour variant")
"""What two products' pictures are to each other: equal or copies; one product photographed again;
one product in two colours."""

REQUESTS = pa.schema(
    [
        ("record", pa.int64()),  # row of Catalogue.products that asks for this picture
        ("product_id", pa.string()),
        ("url", pa.string()),  # an http(s) address or an absolute path
        ("alternates", pa.list_(pa.string())),  # the same picture elsewhere, tried in this order
        ("status", pa.string()),  # "" = to be read; else already "skipped" or "failed"
        ("reason", pa.string()),
    ]
)
"""A catalogue's ``requests``: at least one row for every record of the input."""

IMAGES = pa.schema(
    [
        ("record", pa.int64()),
        ("product_id", pa.string()),
        ("url", pa.string()),  # the address that was used
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),  # of the stored 3 x 200 x 100 pixels
        ("width", pa.int32()),  # of the original picture
        ("height", pa.int32()),
        ("contrast", pa.float32()),  # of the stored pixels: 0 is one flat colour; 0 where not ok
        ("status", pa.string()),  # ok | skipped | failed
        ("reason", pa.string()),  # one word, "" when ok
        ("detail", pa.string()),  # a sentence, "" when ok
    ]
)
"""One row for every request, after the store has read it. Pictures that failed are rows too."""

INDEX_IMAGES = IMAGES.append(pa.field("vector", pa.int64())).append(pa.field("cluster", pa.int64()))
"""An index's ``images``: ``vector`` is the row in ``vectors.npy``, -1 where a picture is not ok.
Pictures with equal pixels share one vector. ``cluster`` is -1 where there is no vector."""

PAIRS = pa.schema(
    [
        ("product_id_a", pa.string()),  # product_id_a < product_id_b
        ("product_id_b", pa.string()),
        ("distance", pa.float64()),  # L2 of the embeddings, lower is closer; 0 for equal pixels
        ("tier", pa.string()),  # one of TIERS
        ("image_a", pa.string()),  # the pictures that prove it: addresses
        ("image_b", pa.string()),
        ("score", pa.float64()),  # how sure, 0 to 1; 1 for equal pixels; null: the distance alone
        ("evidence", pa.string()),  # in words: "same bytes", "mirrored"; "": the distance alone
        ("relation", pa.string()),  # one of RELATIONS; "": nothing
    ]
)
"""Two products that show the same picture; each pair once, sorted by both ids."""

FAMILIES = pa.schema(
    [
        ("product_id", pa.string()),
        ("family_id", pa.string()),  # the smallest product id in the family
        ("variant_id", pa.string()),  # of one colour: its group's id, or its only product's
    ]
)
"""Products that differ in colour alone; each once, sorted by family, variant and id."""

GROUPS = pa.schema(
    [
        ("product_id", pa.string()),
        ("group_id", pa.string()),  # the smallest product id in the group
        ("kept", pa.bool_()),  # the one product of the group that stays
    ]
)
"""Products that are one; each product once, sorted by group and id."""

SHARED = pa.schema(
    [
        ("sha256_pixels", pa.string()),  # the picture
        ("product_id", pa.string()),
        ("image", pa.string()),  # its address at this product
        ("n_products", pa.int64()),  # that show the picture
        ("reason", pa.string()),  # "flat": next to nothing to be seen; "shared": by too many
    ]
)
"""Pictures that prove nothing, such as "no image available", and the products that show them: a
row for each product and picture, sorted by number of products (largest first), picture and id."""


NEAR = pa.schema(
    [
        ("pixels_a", pa.string()),  # sha256_pixels; pixels_a < pixels_b
        ("pixels_b", pa.string()),
        ("distance", pa.float64()),  # L2 of the embeddings
        ("score", pa.float64()),  # as in PAIRS
        ("evidence", pa.string()),
        ("relation", pa.string()),  # besides copies: "same product", "colour variant" or ""
        ("alike", pa.float64()),  # how sure, were colours set aside, 0 to 1; null: not looked at
    ]
)
"""Pictures within the threshold of each other, for a later search that goes on from this one."""

COMPARED = pa.schema([("sha256_pixels", pa.string())])
"""The pictures that a search compared, sorted."""


@dataclass(frozen=True)
class Search:
    """What was compared, and the pictures found near each other.

    Attributes:
        near: the schema ``NEAR``, sorted by both.
        compared: the schema ``COMPARED``.
        facts: plain JSON values. ``threshold``; ``lossless``; ``pictures`` that were compared;
            ``comparisons`` made; their ``share`` of all; ``near_pairs`` found; ``missed``, those
            beyond the comparisons made: 0 where lossless, else an estimate; ``missed_share`` of
            all; ``checkpoint_sha256`` of the encoder.
    """

    near: pd.DataFrame
    compared: pd.DataFrame
    facts: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the search into an existing folder; ``search.json`` comes last."""
        tables = {"near.parquet": (self.near, NEAR), "compared.parquet": (self.compared, COMPARED)}
        for name, (table, schema) in tables.items():
            write_table(table, schema, folder / name)
        files = {name: facts(folder / name, rows=len(tables[name][0])) for name in tables}
        write_sealed(self.facts, files, folder / SEARCH)

    @classmethod
    def load(cls, folder: Path) -> Search:
        """Read a search.

        Raises:
            ArtifactError: there is none in ``folder``, or one of an earlier version.
            CorruptError: its files are not what was written, or cannot be.
        """
        said, files = read_facts(folder)
        schemas = {"near.parquet": NEAR, "compared.parquet": COMPARED}
        near, compared = confirmed_tables(folder, schemas, files, WITHOUT)
        check_compared(compared, Origin(folder / "compared.parquet", WITHOUT))
        origin = Origin(folder / "near.parquet", WITHOUT)
        check_near(near, compared, said["looked"], RELATIONS, origin)
        return cls(as_frame(near), as_frame(compared), said)


@dataclass(frozen=True)
class Catalogue:
    """What a source read: the user's table, and the pictures that it asks for.

    Attributes:
        products: one row for every record of the input, all cells strings, columns untouched.
        requests: the pictures asked for, in the schema ``REQUESTS``.
        id_column: the column of ``products`` that holds the product's id.
        title_column: the column that holds a title to show, or ``None``.
        url_column: the column that holds the images' addresses, or ``None``.
    """

    products: pd.DataFrame
    requests: pd.DataFrame
    id_column: str = "product_id"
    title_column: str | None = None
    url_column: str | None = None


@dataclass(frozen=True)
class Index:
    """A catalogue that can be searched: pictures, their embeddings and their clusters.

    Attributes:
        images: the schema ``INDEX_IMAGES``.
        vectors: (n, d) float32, one row for each distinct picture; may be memory-mapped. Their
            first use waits until the file that they were loaded from has been checked.
        centroids: (k, d) float32, one for each cluster.
        products: the user's table, as in ``Catalogue.products``.
        manifest: checkpoint digest, store, settings and versions; plain JSON values. Where the
            encoder was shown products alone, ``foreground`` says how they were found.
        thumbnails: small pictures by address, for reports; gives none until a store is attached.
        sight: the pictures themselves, for a second look; raises until a store is attached.
    """

    images: pd.DataFrame
    if TYPE_CHECKING:
        vectors: npt.NDArray[np.float32]
    else:
        vectors: Confirmed = Confirmed()
    centroids: npt.NDArray[np.float32]
    products: pd.DataFrame
    manifest: dict[str, Any] = field(default_factory=dict)
    thumbnails: Thumbnails = lambda urls: {}
    sight: Sight = field(default_factory=lambda: Sight(_no_sight, _no_sight))

    @property
    def shows(self) -> str:
        """Digest of what the encoder was shown of pictures, "" where it was all of them."""
        return str(self.manifest.get("foreground", {}).get("digest", ""))

    def titles(self, product_ids: Collection[str]) -> dict[str, str]:
        """A title of each product that has one: the smallest, where its rows differ."""
        title, key = self.manifest.get("title_column"), self.manifest["id_column"]
        if not title:
            return {}
        rows = self.products.loc[self.products[key].isin(list(product_ids)), [key, title]]
        rows = rows[rows[title].str.strip() != ""].sort_values([key, title]).drop_duplicates(key)
        return dict(zip(rows[key], rows[title], strict=True))

    def check_encoder(self, checkpoint: str | Path) -> None:
        """Make sure that this index was made with this checkpoint.

        Raises:
            ArtifactError: it was made with another, or there is no such checkpoint.
        """
        file, made_with = checkpoint_file(checkpoint), self.manifest["checkpoint_sha256"]
        found = sha256_file(file)
        if found != made_with:
            raise ArtifactError(
                f"the index was made with {self.manifest['checkpoint']} (sha256 {made_with[:12]}), "
                f"and {file} is another (sha256 {found[:12]}): distances between the two mean "
                "nothing. Name the index's own checkpoint, "
                f"or run {command('cluster')} with this one"
            )

    def with_pictures(self, thumbnails: Thumbnails, sight: Sight) -> Index:
        """The same index with a store attached; does not wait for the vectors."""
        return replace(self, vectors=vars(self)["vectors"], thumbnails=thumbnails, sight=sight)

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``; the manifest comes last and makes it whole."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"images.parquet": self.images, "products.parquet": self.products}
        write_table(self.images, INDEX_IMAGES, folder / "images.parquet")
        write_table(self.products, None, folder / "products.parquet")
        write_array(self.vectors, folder / "vectors.npy")
        write_array(self.centroids, folder / "centroids.npy")
        files = {name: facts(folder / name, rows=len(table)) for name, table in tables.items()}
        files |= {name: facts(folder / name) for name in ("vectors.npy", "centroids.npy")}
        content = {"format": 0, **self.manifest} | {"format": INDEX_FORMAT}
        write_sealed(content, files, folder / MANIFEST)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read an index, its vectors memory-mapped.

        Raises:
            ArtifactError: there is no index in ``folder``, or of another format.
            CorruptError: its files are not what was written, or cannot be. Of ``vectors.npy``, it
                may be raised by the first use of the vectors.
        """
        manifest, files = read_manifest(folder)
        schemas = {"images.parquet": INDEX_IMAGES, "products.parquet": None}
        images, products = confirmed_tables(folder, schemas, files, AGAIN)
        paths = [folder / name for name in ("vectors.npy", "centroids.npy")]
        vectors, centroids = (mapped_vectors(file, files[file.name], AGAIN) for file in paths)
        check_vectors(paths[1], centroids, files["centroids.npy"], AGAIN)
        width, wanted = centroids.shape[1], vectors.shape[1]
        if width != wanted:
            Origin(paths[1], AGAIN).refuse(f"its rows hold {width} numbers, vectors.npy's {wanted}")
        check_columns(products, manifest, Origin(folder / MANIFEST, AGAIN))
        ids, origin = products[manifest["id_column"]], Origin(folder / "images.parquet", AGAIN)
        check_images(images, ids, len(vectors), len(centroids), origin)
        mapped: Any = Mapped(paths[0], vectors, files["vectors.npy"], AGAIN)
        return cls(as_frame(images), mapped, centroids, as_frame(products), manifest)


def checkpoint_file(path: str | Path) -> Path:
    """A checkpoint's file, from its path, its run folder's (then ``best.ckpt``) or ``bundled``.

    Raises:
        ArtifactError: there is none.
    """
    if str(path) == "bundled":
        if not BUNDLED.is_file():
            raise ArtifactError(
                f"this copy of dedup comes without the bundled weights ({BUNDLED}): install it "
                f"anew, or train an encoder with {command('train')}, and name it by checkpoint=PATH"
            )
        return BUNDLED
    file = Path(path)
    file = file / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise ArtifactError(
            f"no checkpoint at {file}: take the encoder that comes with the package, "
            "encoder=bundled source.path=products.csv, name another with checkpoint=PATH, or train "
            f"one with {command('train')}"
        )
    return file
