"""A catalogue whose duplicates are known, in the form that ``make_benchmark.py`` writes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ENDS = ["product_id_a", "product_id_b"]
COLOURLESS = ("gray", "sepia")
"""Edits after which a product cannot be told from its colour variant."""


class Stored(NamedTuple):
    """A catalogue whose images are read."""

    catalogue: Catalogue
    images: pd.DataFrame
    store: ImageStore

    @property
    def as_index(self) -> Index:
        """The catalogue without embeddings, for ``Grouping``."""
        none = np.empty((0, 0), np.float32)
        return Index(self.images, none, none, self.catalogue.products)


@dataclass
class Labelled:
    """The n products of a benchmark, and what every two of them are to each other.

    Pairs are numbered as ``scipy.spatial.distance.pdist`` does: n (n - 1) / 2 places.

    Attributes:
        folder: holds ``products.csv``, the images and the truth.
        work: where images are stored once they are read.
        members: a row for each product: ``product_id``, ``group_id``, ``role``, ``edit``,
            ``severity``, ``source`` and ``file``, its image.
        direct: a row for each original and its copy: ``place``, ``edit``, ``severity``.
        scored: of every pair, whether it counts. Two copies of one original do not, nor pairs that
            nobody can tell.
        hard: places of pairs that look alike and are different, and count.
    """

    folder: Path
    work: Path
    members: pd.DataFrame
    direct: pd.DataFrame
    scored: Bools
    hard: Ints

    @property
    def ids(self) -> list[str]:
        """The products, in the order of the numbers."""
        return list(self.members["product_id"])

    @property
    def files(self) -> list[Path]:
        """Their images."""
        return list(self.members["file"])

    @property
    def is_match(self) -> Bools:
        """Of every pair, whether it is an original and its copy."""
        found = np.zeros(len(self.scored), bool)
        found[self.direct["place"]] = True
        return found

    @property
    def truth(self) -> pd.DataFrame:
        """The true groups: ``product_id`` and ``group_id``."""
        return self.members[["product_id", "group_id"]]

    def places(self, pairs: pd.DataFrame) -> Ints:
        """Numbers of pairs of ids, (p,); columns as ``ENDS``."""
        order = pd.Index(self.ids)
        a, b = (order.get_indexer(pd.Index(pairs[end])) for end in ENDS)
        return condensed(a, b, len(order))

    def pairs(self, places: Ints) -> pd.DataFrame:
        """The reverse of ``places``: the smaller id first, as everywhere."""
        ends = np.array(self.ids, object)[np.stack(expanded(places, len(self.members)), axis=1)]
        return pd.DataFrame(np.sort(ends, axis=1), columns=ENDS)

    @cached_property
    def stored(self) -> Stored:
        """Its images, as the entry points read them; the first call reads them."""
        catalogue = CsvSource(str(self.folder / "products.csv")).read()
        store = ImageStore(self.work / "store")
        return Stored(catalogue, store.ingest(catalogue, self.work), store)


def condensed(a: npt.NDArray[Any], b: npt.NDArray[Any], n: int) -> Ints:
    """Places of pairs of rows among the n (n - 1) / 2 of ``pdist``, whichever comes first."""
    i, j = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
    if len(i) and (i.min() < 0 or j.max() >= n or (i == j).any()):
        raise ValueError("a pair names a product twice, or one that is not in products.csv")
    places: Ints = i * (2 * n - i - 3) // 2 + j - 1
    return places


def expanded(places: Ints, n: int) -> tuple[Ints, Ints]:
    """The rows of pairs, the smaller first: the reverse of ``condensed``."""
    starts = condensed(np.arange(n - 1), np.arange(1, n), n)
    left = np.searchsorted(starts, places, side="right") - 1
    return left, places - starts[left] + left + 1


def read(
    folder: Path, work: Path, true_dups: Path | None = None, look_alikes: Path | None = None
) -> Labelled:
    """Read a benchmark.

    Args:
        folder: what ``make_benchmark.py`` or ``relisted.py`` wrote.
        work: where images may be stored.
        true_dups: a CSV of sources, ``file_a`` and ``file_b``, that show one thing: no pair of
            products made of the two counts.
        look_alikes: a CSV of sources that show two things that look alike: such pairs of products
            are hard negatives, as the recoloured variants are.
    """
    products = table(folder / "products.csv")
    groups = table(folder / "groups.csv").set_index("productId").loc[products["productId"]]
    members = groups.reset_index().rename(columns={"productId": "product_id"})
    members["file"] = [folder / name for name in products["imageUrlStr"]]
    n = len(members)
    order = pd.Index(members["product_id"])

    def numbers(name: str) -> tuple[pd.DataFrame, Ints]:
        rows = table(folder / f"{name}.csv")
        ends = [order.get_indexer(pd.Index(rows[f"productId_{end}"])) for end in "ab"]
        return rows, condensed(ends[0], ends[1], n)

    truth, places = numbers("truth_pairs")
    is_direct = (truth["kind"] == "direct").to_numpy()
    scored = np.ones(n * (n - 1) // 2, bool)
    scored[places[~is_direct]] = False
    scored[numbers("ignore_pairs")[1]] = False
    scored[_of_sources(members, true_dups)] = False
    hard = np.union1d(numbers("hard_negatives")[1], _of_sources(members, look_alikes))
    direct = truth.loc[is_direct, ["edit", "severity"]].assign(place=places[is_direct])
    return Labelled(folder, work, members, direct, scored, hard[scored[hard]])


def table(path: Path) -> pd.DataFrame:
    """A CSV, its cells as they stand there."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _of_sources(members: pd.DataFrame, path: Path | None) -> Ints:
    """Places of the pairs of products that were made of two sources in a CSV."""
    if path is None:
        return np.empty(0, np.int64)
    usable = (members["role"] != "colour_variant") & ~members["edit"].isin(COLOURLESS)
    made_of = {name: part.index.to_numpy() for name, part in members[usable].groupby("source")}
    places = [np.empty(0, np.int64)]
    for a, b in table(path)[["file_a", "file_b"]].itertuples(index=False):
        if a in made_of and b in made_of:
            left, right = np.meshgrid(made_of[a], made_of[b])
            places.append(condensed(left.ravel(), right.ravel(), len(members)))
    return np.unique(np.concatenate(places))


def generate(
    generator: Path, images: Path, out: Path, n: int, seed: int, true_dups: Path | None
) -> Path:
    """Run ``make_benchmark.py``; the folder that it wrote."""
    command = [
        *(sys.executable, str(generator), "--images", str(images), "--out", str(out)),
        *("--n", str(n), "--seed", str(seed)),
        *(() if true_dups is None else ("--true-dups", str(true_dups))),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return out


def without(images: Path, sources: set[str], out: Path) -> Path:
    """A folder of links to those images that no benchmark was made of."""
    out.mkdir(parents=True)
    for file in sorted(images.rglob("*")):
        if file.is_file() and file.name not in sources:
            (out / file.name).symlink_to(file.resolve())
    return out
