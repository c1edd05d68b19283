"""Is a product found again where its background changed? With each foreground, and without.

    python benchmarks/grounds.py changed --street segmentation --checkpoint lite0=runs/train/latest
    python benchmarks/grounds.py called --street segmentation --foreground none --foreground grabcut
    python benchmarks/grounds.py edited --generator make_benchmark.py --images images --n 300
    python benchmarks/grounds.py again --images images --true-dups true_duplicates.csv --n 1000

``changed``: garments (``--cut worn``) or their wearers (``--cut person``) are cut out of street
photos with the true masks, moved, and pasted on other street photos, whose own person is painted
over. ``called``: what ``detect.py encoder=bundled`` calls pairs of these. ``edited``: what
``make_benchmark.py`` writes: edits that leave the background. ``again``: the rank of one image of
a product among all when the other is asked about. Every pair of images counts; uAP is the area
under precision and recall over all. ``--framing`` takes settings of
``dedup.foregrounds.masked_store.Framing``, ``--foreground`` names of the table; for ``called``
those of the command line.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import foregrounds
import labelled
import numpy as np
import numpy.typing as npt
import pandas as pd
import pipeline
from foregrounds import Street
from PIL import Image
from quality import named
from scipy.spatial.distance import cdist, pdist

from dedup.foregrounds.masked_store import Framed, Framing, ImageReader, Product
from dedup.runtime.metrics import average_precision
from dedup.search.embedding import Embed, embed_stored
from dedup.sources.folder import FolderSource
from dedup.store.image_store import ImageStore

RgbImage = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float64]


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", choices=["changed", "called", "edited", "again"])
    add("--street", type=Path)
    add("--cut", choices=["worn", "person"], default="worn")
    add("--generator", type=Path)
    add("--images", type=Path)
    add("--true-dups", type=Path)
    add("--n", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--checkpoint", type=named, action="append", default=[], metavar="NAME=PATH")
    add("--foreground", action="append", default=[])
    add("--framing", type=json.loads, default={})
    add("--sheet", type=Path, help="write some images and what is shown of them")
    return parser.parse_args()


def stores(options: argparse.Namespace, store: ImageStore) -> Iterator[tuple[str, ImageReader]]:
    """What encoders are shown: whole images, and products by each foreground."""
    yield "none", store
    for name, find in foregrounds.foregrounds():
        asked = not options.foreground or name in options.foreground
        if asked and hasattr(find, "identity"):
            yield name, Framed(store, Product(find, Framing(**options.framing)))


def encoders(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """The bundled one, and those that are named."""
    return [("bundled", Path("bundled")), *options.checkpoint]


def embedded(checkpoint: Path, images: ImageReader, urls: Sequence[str]) -> Vectors:
    """The embeddings of images, (n, d)."""
    rows = images.rows(list(urls))
    return embed_stored(Embed(checkpoint), images, rows).astype(np.float64)


def lines(
    options: argparse.Namespace, store: ImageStore, urls: Sequence[str],
    figure: Callable[[Vectors], str],
) -> Iterator[str]:  # fmt: skip
    """A row for each foreground, a figure for each encoder."""
    shown = list(stores(options, store))
    yield f"| foreground | {' | '.join(name for name, _ in encoders(options))} | failed |"
    yield f"|---|{'---|' * (len(encoders(options)) + 1)}"
    for name, images in shown:
        failed = images.prepare(urls)["failed"] if isinstance(images, Framed) else ""
        figures = [figure(embedded(path, images, urls)) for _, path in encoders(options)]
        yield f"| {name} | {' | '.join(figures)} | {failed} |"


def paste(options: argparse.Namespace, folder: Path) -> int:
    """Write products before two backgrounds each, 000a.jpg and 000b.jpg; how many there are."""
    photos = foregrounds.streets(options.street, None)
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(photos))
    products, grounds = order[: options.n], order[options.n :]
    cleared = [without_person(photos[at]) for at in grounds]
    folder.mkdir()
    for number, at in enumerate(products):
        photo = photos[at]
        mask = photo.worn if options.cut == "worn" else photo.person
        other = pasted(photo.image, mask, cleared[number % len(cleared)], rng)
        for kind, image in (("a", photo.image), ("b", other)):
            Image.fromarray(image).save(folder / f"{number:03}{kind}.jpg", quality=90)
    return len(products)


def changed(options: argparse.Namespace, work: Path) -> None:
    """Products before other backgrounds."""
    folder = work / "pictures"
    n_products = paste(options, folder)
    store, urls = stored(folder, work)
    of = [Path(url).stem[:3] for url in urls]
    number = np.array(of, int)[:, None]
    same = pdist(number, "hamming") == 0

    def figure(vectors: Vectors) -> str:
        return f"{average_precision(-pdist(vectors), same, int(same.sum())):.3f}"

    print(f"{n_products} products ({options.cut}), {len(urls)} images, uAP\n")
    for line in lines(options, store, urls, figure):
        print(line, flush=True)
    if options.sheet:
        contact(options, store, urls[:24])


def called(options: argparse.Namespace, work: Path) -> None:
    """What detect.py says of such pairs, with each foreground's defaults."""
    folder = work / "pictures"
    n_products = paste(options, folder)
    print(f"{n_products} pairs ({options.cut})\n")
    print("| foreground | looked at | same image | same product | of these wrong |")
    print("|---|---|---|---|---|")
    for name in options.foreground or ["none", "grabcut", "skin_aware"]:
        run = work / name
        pipeline.run("detect", ["encoder=bundled", f"foreground={name}"], folder, run)
        found = run / "runs" / "detect" / "latest"
        tables = [pd.read_parquet(found / f"{it}.parquet") for it in ("pairs", "related")]
        pairs = pd.concat(tables).query("relation in ('same image', 'same product')")
        right = [true(part) for part in (pd.read_parquet(found / "candidates.parquet"), pairs)]
        looked_at, told = int(right[0].sum()), pairs.loc[right[1], "relation"].value_counts()
        figures = [told.get(it, 0) for it in ("same image", "same product")]
        wrong = len(pairs) - int(right[1].sum())
        print(f"| {name} | {looked_at} | {figures[0]} | {figures[1]} | {wrong} |", flush=True)


def true(pairs: pd.DataFrame) -> pd.Series[bool]:
    """Which pairs are of two images of one product."""
    a, b = (pairs[f"product_id_{end}"].map(lambda it: Path(it).stem[:3]) for end in "ab")
    return a == b


def without_person(photo: Street) -> RgbImage:
    """A street without who stands in it: the person is painted over, and the rest is mirrored."""
    kernel = np.ones((9, 9), np.uint8)
    hole = cv2.dilate(photo.person.astype(np.uint8) * 255, kernel)
    filled = cv2.inpaint(photo.image, hole, 3, cv2.INPAINT_TELEA)
    return np.ascontiguousarray(filled[:, ::-1])


def pasted(
    image: RgbImage, mask: foregrounds.Bools, ground: RgbImage, rng: np.random.Generator
) -> RgbImage:
    """What a mask covers, 0.8 to 1.1 times as large and moved, on another image."""
    height, width = ground.shape[:2]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    scale = rng.uniform(0.8, 1.1)
    scale = min(scale, 0.97 * height / np.ptp(rows), 0.97 * width / np.ptp(columns))
    free = np.array([width, height]) - scale * np.array([np.ptp(columns), np.ptp(rows)])
    place = free * np.array([rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.8)])
    start = place - scale * np.array([columns[0], rows[0]])
    move = np.array([[scale, 0, start[0]], [0, scale, start[1]]])
    size = (width, height)
    product = cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    share = cv2.warpAffine(soft, move, size)[..., None]
    return np.asarray(np.rint(product * share + ground * (1 - share)), np.uint8)


def edited(options: argparse.Namespace, work: Path) -> None:
    """Edits that leave the background alone."""
    folder = work / "bench"
    labelled.generate(
        options.generator, options.images, folder, options.n, options.seed, options.true_dups
    )
    of = labelled.read(folder, work, options.true_dups)
    store, images = of.stored.store, of.stored.images
    ok = images[images["status"] == "ok"].drop_duplicates("product_id").set_index("product_id")
    urls = ok["url"].loc[of.ids].tolist()

    def figure(vectors: Vectors) -> str:
        scores, true = -pdist(vectors)[of.scored], of.is_match[of.scored]
        return f"{average_precision(scores, true, int(true.sum())):.3f}"

    print(f"{len(urls)} images, {len(of.direct)} copies, uAP\n")
    for line in lines(options, store, urls, figure):
        print(line, flush=True)


def again(options: argparse.Namespace, work: Path) -> None:
    """One product, photographed twice: the rank of the one image for the other, both ways."""
    pairs = pd.read_csv(options.true_dups)
    pairs = pairs[pairs["kind"] == "same_product_other_photo"]
    ends = pairs[["file_a", "file_b"]].to_numpy()
    rest = [file.name for file in sorted(options.images.iterdir()) if file.name not in ends]
    folder = work / "pictures"
    folder.mkdir()
    for name in [*np.unique(ends), *rest[: options.n - ends.size]]:
        shutil.copy(options.images / name, folder / name)
    store, urls = stored(folder, work)
    place = {Path(url).name: at for at, url in enumerate(urls)}
    a, b = (np.array([place[name] for name in ends[:, side]]) for side in (0, 1))

    def figure(vectors: Vectors) -> str:
        return "; ".join(
            f"{rank(vectors, x, y)},{rank(vectors, y, x)}" for x, y in zip(a, b, strict=True)
        )

    print(f"{len(ends)} pairs among {len(urls)} images: rank of the other, both ways\n")
    for line in lines(options, store, urls, figure):
        print(line, flush=True)
    if options.sheet:
        contact(options, store, [urls[at] for pair in zip(a, b, strict=True) for at in pair])


def rank(vectors: Vectors, asked: int, other: int) -> int:
    """1 where the other is nearest to what is asked about."""
    distances = cdist(vectors[[asked]], vectors)[0]
    return int((np.delete(distances, asked) < distances[other]).sum()) + 1


def stored(folder: Path, work: Path) -> tuple[ImageStore, list[str]]:
    """The images of a folder, read, and their addresses by name."""
    catalogue = FolderSource(str(folder)).read()
    store = ImageStore(work / "store")
    images = store.ingest(catalogue, work)
    return store, sorted(images.loc[images["status"] == "ok", "url"])


def contact(options: argparse.Namespace, store: ImageStore, urls: Sequence[str]) -> None:
    """Write what each foreground leaves of images, an image a column."""
    rows = []
    for _, images in stores(options, store):
        pixels = images.read(images.rows(list(urls)))
        rows.append(np.hstack([one.transpose(1, 2, 0) for one in pixels]))
    Image.fromarray(np.vstack(rows)).save(options.sheet)
    print(f"\n{options.sheet}")


def main() -> None:
    """Print a table."""
    options = arguments()
    with tempfile.TemporaryDirectory() as work:
        {"changed": changed, "called": called, "edited": edited, "again": again}[options.what](
            options, Path(work)
        )


if __name__ == "__main__":
    main()
