"""Is a product found again in another photo? Agreeing keypoints by SIFT, XFeat and LighterGlue.

    python benchmarks/rephotographed.py --images images --true-dups true_duplicates.csv \
        --look-alikes hard_negatives.csv --street segmentation

Real: the pairs that ``--true-dups`` lists as ``same_product_other_photo``; the look-alikes; and the
strangers, pairs of different products with the nearest embeddings (``encoder=bundled``). Products
that the first tables of this benchmark showed in two photos, by eye, are in ``SEEN``: no strangers.

Made: wearers' pairs. What a street photo's person wears is real and cut out by its mask. A copy is
turned by up to 10°, made 0.7 to 1.1 times as large, folded (each pixel moved smoothly, by some 2 %
of the width), lit otherwise, and put on another street. A second photo of a garment would differ
more: no sleeve moves here, and the sensor is the same. In another colour, the hue of the copy is
turned by 120° besides: such a pair must not be called the same product.

The number of inliers from which a pair is the same product is chosen on the wearers' pairs and on
every other stranger, and measured on the listed pairs and the other strangers. The limit of the
colours is chosen on the wearers' pairs. ``dedup.verification.relations`` has both, rounded.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import foregrounds
import grounds
import labelled
import numpy as np
import numpy.typing as npt
import pandas as pd
from foregrounds import Street
from scipy.spatial.distance import cdist
from variants import image

from dedup.verification import third_look
from dedup.verification.alignment import Alignment, LocalFeatures, align
from dedup.verification.colour import compare_colours
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import (
    LIKE_AGREEING,
    N_AGREEING,
    NOTHING,
    SAME_PRODUCT,
    is_other_photo,
)
from dedup.verification.xfeat import Features

Pair = tuple[LocalFeatures, LocalFeatures]
RgbImage = npt.NDArray[np.uint8]

SEEN = (
    ("0f181177", "c943efe8"),
    ("5d4e1c72", "d898c146"),
    ("7e13df93", "c967b9f9"),
)
"""Starts of the names of images that show one product, as seen by eye, and are not listed."""

MIN_SIMILARITY = 0.82
"""Cosine from which two descriptors match that are mutually nearest: XFeat's own limit."""

COLOURS = (3, 4, 5, 5.5, 6, 7)
"""Limits of the colours to look at."""

BOTH = ("ground", "colour")

MAX_FALSE = 0.005
"""Share of the chosen strangers that may be called the same product, at most."""


class Pairs(NamedTuple):
    """Pairs of one kind, with a name for each."""

    kind: str
    names: list[str]
    pairs: list[Pair]


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True)
    add("--true-dups", type=Path, required=True, help="CSV: file_a, file_b, kind")
    add("--look-alikes", type=Path, required=True, help="CSV: file_a, file_b, kind")
    add("--street", type=Path, required=True, help="images/, masks/ and labels.csv")
    add("--n", type=int, default=30, help="wearers")
    add("--strangers", type=int, default=300)
    add("--candidates", type=int, default=200, help="images for the rank of the partner")
    add("--seed", type=int, default=0)
    return parser.parse_args()


def folded(photo: Street, rng: np.random.Generator) -> Street:
    """A photo whose pixels are moved smoothly, turned, and lit otherwise."""
    height, width = photo.image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for map_ in (x, y):
        rough = rng.normal(size=(height, width)).astype(np.float32)
        smooth = cv2.GaussianBlur(rough, (0, 0), width / 12)
        map_ += 0.02 * width * smooth / smooth.std()
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-10, 10), 1)
    x, y = (turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] for row in (0, 1))
    maps = x.astype(np.float32), y.astype(np.float32)
    moved = cv2.remap(photo.image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    worn = cv2.remap(photo.worn.astype(np.uint8), *maps, cv2.INTER_NEAREST) > 0
    gamma, gains = rng.uniform(0.75, 1.3), rng.uniform(0.9, 1.1, 3)
    lit = 255 * (moved / 255) ** gamma * gains
    return Street(np.clip(lit, 0, 255).astype(np.uint8), worn, worn)


def recoloured(photo: RgbImage) -> RgbImage:
    """A photo with its hues turned by 120°."""
    hsv = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def wearers(options: argparse.Namespace) -> Iterator[Pairs]:
    """Garments of the wearers on two grounds, and in another colour on the second."""
    photos = foregrounds.streets(options.street, None)
    rng = np.random.default_rng(options.seed)
    order = rng.permutation([at for at, it in enumerate(photos) if it.worn.mean() > 0.03])
    chosen, others = order[: options.n], order[options.n : 2 * options.n]
    same, recolours = [], []
    for at, other in zip(chosen, others, strict=True):
        copy, ground = folded(photos[at], rng), grounds.without_person(photos[other])
        place = rng.integers(2**32)
        one = LocalFeatures.of(photos[at].image)
        for shown, pairs in ((copy.image, same), (recoloured(copy.image), recolours)):
            pasted = grounds.pasted(shown, copy.worn, ground, np.random.default_rng(place))
            pairs.append((one, LocalFeatures.of(pasted)))
    names = [str(at) for at in chosen]
    yield Pairs("wearer, another ground", names, same)
    yield Pairs("wearer, another colour", names, recolours)


class Catalogue:
    """The images of a folder, with their embeddings."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            store, urls = grounds.stored(folder, Path(work))
            self.vectors = grounds.embedded(Path("bundled"), store, urls)
        self.folder = folder
        self.names = [Path(url).name for url in urls]
        self._seen: dict[str, LocalFeatures] = {}

    def __getitem__(self, name: str) -> LocalFeatures:
        if name not in self._seen:
            self._seen[name] = LocalFeatures.of(image(self.folder / name))
        return self._seen[name]

    def pairs(self, kind: str, ends: Sequence[tuple[str, str]]) -> Pairs:
        """Pairs of images by name."""
        names = [f"{a[:8]} {b[:8]}" for a, b in ends]
        return Pairs(kind, names, [(self[a], self[b]) for a, b in ends])

    def nearest(self, name: str, n: int) -> list[str]:
        """The names of the n images that are nearest to one, the nearest first."""
        at = self.names.index(name)
        order = np.argsort(cdist(self.vectors[[at]], self.vectors)[0], kind="stable")
        return [self.names[place] for place in order if place != at][:n]

    def strangers(self, n: int, known: set[frozenset[str]]) -> list[tuple[str, str]]:
        """The n pairs with the nearest embeddings that are not known to be related."""
        distances = cdist(self.vectors, self.vectors)
        distances[np.tril_indices(len(distances))] = np.inf
        flat = np.argpartition(distances, 20 * n, axis=None)[: 20 * n]
        rows, columns = np.unravel_index(flat[np.argsort(distances.ravel()[flat])], distances.shape)
        pairs = [(self.names[a], self.names[b]) for a, b in zip(rows, columns, strict=True)]
        return [pair for pair in pairs if frozenset(it[:8] for it in pair) not in known][:n]


class Counts:
    """Counts keypoints that agree; features of an image are computed once."""

    def __init__(self) -> None:
        self.third = third_look.ThirdLook()
        self.seconds: dict[str, list[float]] = {}
        self._features: dict[int, tuple[LocalFeatures, Features]] = {}

    def features(self, seen: LocalFeatures) -> Features:
        """XFeat's keypoints on the product."""
        if id(seen) not in self._features:
            self._features[id(seen)] = seen, self._timed("XFeat, image", self.third._features, seen)
        return self._features[id(seen)][1]

    def sift(self, pair: Pair) -> int:
        """Inliers of the alignment by RootSIFT, anywhere in the images."""
        found = self._timed("SIFT", align, *pair)
        return 0 if found is None else found.n_inliers

    def nearest(self, pair: Pair) -> int:
        """Inliers of XFeat's keypoints that are mutually nearest."""
        ends = [self.features(each) for each in pair]
        found = self._timed("XFeat, nearest", self._nearest, pair, *ends)
        return 0 if found is None else found.n_inliers

    def alignment(self, pair: Pair) -> Alignment | None:
        """The third look's alignment."""
        ends = [self.features(each) for each in pair]
        return self._timed("XFeat, LighterGlue", self._by_matcher, pair, *ends)

    def matched(self, pair: Pair) -> int:
        """Inliers of XFeat's keypoints that LighterGlue matches."""
        found = self.alignment(pair)
        return 0 if found is None else found.n_inliers

    def _nearest(self, pair: Pair, left: Features, right: Features) -> Alignment | None:
        similarity = left.descriptors @ right.descriptors.T
        if not similarity.size:
            return None
        rows, best = np.arange(len(similarity)), similarity.argmax(axis=1)
        is_match = (similarity.argmax(axis=0)[best] == rows) & (
            similarity[rows, best] > MIN_SIMILARITY
        )
        chosen = third_look._chosen(left, rows[is_match]), third_look._chosen(right, best[is_match])
        return third_look._aligned(*pair, *chosen)

    def _by_matcher(self, pair: Pair, left: Features, right: Features) -> Alignment | None:
        return third_look._aligned(*pair, *self.third._matched(left, right))

    def _timed(self, name: str, work: Callable[..., object], *of: object) -> object:
        start = time.process_time()
        result = work(*of)
        self.seconds.setdefault(name, []).append(time.process_time() - start)
        return result


def table(pairs: Pairs, counts: Counts, verifier: GeometricVerifier) -> pd.DataFrame:
    """A row for each pair: how many keypoints agree, and what it is called by SIFT."""
    rows = []
    verdicts = verifier(pairs.pairs)
    for name, pair, verdict in zip(pairs.names, pairs.pairs, verdicts, strict=True):
        alignment = counts.alignment(pair)
        n = 0 if alignment is None else alignment.n_inliers
        colours = compare_colours(*pair, alignment) if alignment is not None else None
        apart = np.nan if colours is None else colours.apart
        by_sift = "same image" if verdict.score >= 0.75 else verdict.relation
        rows.append((pairs.kind, name, counts.sift(pair), counts.nearest(pair), n, apart, by_sift))
    columns = ["kind", "pair", "sift", "nearest", "matched", "apart", "called"]
    return pd.DataFrame(rows, columns=columns)


def chosen(of: pd.Series[int], strangers: pd.Series[int]) -> tuple[int, float]:
    """The least number that few strangers reach, and the share of true pairs that reach it."""
    limits = np.arange(1, 2 + int(max(of.max(), strangers.max())))
    limit = int(limits[[(strangers >= it).mean() <= MAX_FALSE for it in limits]][0])
    return limit, float((of >= limit).mean())


def third(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which pairs the third look calls the same product."""
    ends = zip(rows["called"], rows["matched"], rows["apart"], strict=True)
    called = [by == NOTHING and is_other_photo(n, apart) for by, n, apart in ends]
    return pd.Series(called, rows.index, bool)


def rank(catalogue: Catalogue, ends: tuple[str, str], n: int, count: Callable[[Pair], int]) -> str:
    """The rank of the one image among those nearest to the other, by keypoints that agree."""
    name, other = ends
    near = catalogue.nearest(name, n)
    if other not in near:
        return "none"
    scores = {it: count((catalogue[name], catalogue[it])) for it in near}
    return str(1 + sum(score >= scores[other] for it, score in scores.items() if it != other))


def main() -> None:
    """Print the tables."""
    options = arguments()
    counts, verifier, catalogue = Counts(), GeometricVerifier(), Catalogue(options.images)
    listed, alike = (labelled.table(it) for it in (options.true_dups, options.look_alikes))
    known = {frozenset(pair) for pair in SEEN}
    for rows in (listed, alike):
        ends = rows[["file_a", "file_b"]].itertuples(index=False, name=None)
        known |= {frozenset(name[:8] for name in pair) for pair in ends}
    other = listed[listed["kind"] == "same_product_other_photo"]
    full = {name[:8]: name for name in catalogue.names}
    ends_of = {
        "listed": list(other[["file_a", "file_b"]].itertuples(index=False, name=None)),
        "seen": [(full[a], full[b]) for a, b in SEEN],
        "look-alike": list(alike[["file_a", "file_b"]].itertuples(index=False, name=None)),
    }
    far = catalogue.strangers(options.strangers, known)
    kinds = [
        *wearers(options),
        catalogue.pairs("strangers, to choose on", far[::2]),
        catalogue.pairs("strangers, to measure on", far[1::2]),
        *(catalogue.pairs(kind, ends) for kind, ends in ends_of.items()),
    ]
    found = pd.concat([table(pairs, counts, verifier) for pairs in kinds], ignore_index=True)
    of = dict(list(found.groupby("kind", sort=False)))
    report(of)
    print(flush=True)
    print("| listed pair | SIFT | XFeat, nearest | XFeat, LighterGlue |\n|---|---|---|---|")
    for ends in ends_of["listed"]:
        ranks = (
            rank(catalogue, ends, options.candidates, count)
            for count in (counts.sift, counts.nearest, counts.matched)
        )
        print(f"| {ends[0][:8]} {ends[1][:8]} | {' | '.join(ranks)} |", flush=True)
    print("\n| step | n | CPU ms |\n|---|---|---|")
    for name, seconds in counts.seconds.items():
        print(f"| {name} | {len(seconds)} | {1000 * np.mean(seconds):.1f} |")


def report(of: dict[str, pd.DataFrame]) -> None:
    """Print the numbers of keypoints, the limits, and what pairs are called."""
    names = {"sift": "SIFT", "nearest": "XFeat, nearest", "matched": "XFeat, LighterGlue"}
    print("| pairs | n | " + " | ".join(names.values()) + " |\n|---|---|---|---|---|")
    for kind, rows in of.items():
        cells = [
            "{:.0f}, {:.0f}, {:.0f}".format(*rows[name].quantile([0, 0.5, 1])) for name in names
        ]
        print(f"| {kind} | {len(rows)} | " + " | ".join(cells) + " |")
    choose, measure = of["strangers, to choose on"], of["strangers, to measure on"]
    print("\n| keypoints by | limit | wearers | strangers | listed pairs | other strangers |")
    print("|---|---|---|---|---|---|")
    for name, text in names.items():
        limit, share = chosen(of["wearer, another ground"][name], choose[name])
        others = ((rows[name] >= limit).mean() for rows in (choose, of["listed"], measure))
        figures = " | ".join(f"{it:.3f}" for it in (share, *others))
        print(f"| {text} | {limit} | {figures} |")
    print(f"\nWearers from {N_AGREEING} inliers, by colours:\n")
    print("| CIEDE2000 at most | same colour | other colour |\n|---|---|---|")
    kinds = [of[f"wearer, another {it}"].query("matched >= @N_AGREEING") for it in BOTH]
    for like in COLOURS:
        figures = " | ".join(f"{(rows['apart'] <= like).sum()} of {len(rows)}" for rows in kinds)
        print(f"| {like:g} | {figures} |")
    text = f"from {N_AGREEING} inliers, and colours at most {LIKE_AGREEING:g} CIEDE2000 apart"
    print(f"\nWith the third look, {text}:\n")
    print("| pairs | n | same image | same product by SIFT | with the third look |")
    print("|---|---|---|---|---|")
    for kind, rows in of.items():
        by_sift = rows["called"] == SAME_PRODUCT
        added = by_sift | third(rows)
        figures = (len(rows), (rows["called"] == "same image").sum(), by_sift.sum(), added.sum())
        print(f"| {kind} | " + " | ".join(str(it) for it in figures) + " |")
    print("\n| pair | SIFT | XFeat, nearest | XFeat, LighterGlue | apart | called | third look |")
    print("|---|---|---|---|---|---|---|")
    shown = pd.concat([of[kind] for kind in ("listed", "seen", "look-alike")])
    for row, is_third in zip(shown.itertuples(), third(shown), strict=True):
        print(
            f"| {row.kind} {row.pair} | {row.sift} | {row.nearest} | {row.matched} | "
            f"{row.apart:.1f} | {row.called or 'nothing'} | {SAME_PRODUCT if is_third else ''} |"
        )


if __name__ == "__main__":
    main()
