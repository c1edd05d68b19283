"""Products framed and kept, against slow code; and the three commands with a foreground."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dedup.detection.detector import merged
from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds import Mask
from dedup.foregrounds.lab_otsu import LabOtsu
from dedup.foregrounds.masked_store import MASK_SHAPE, Framed, Framing, Product
from dedup.search.embedding import Embed
from dedup.search.index import Index
from dedup.sources.csv import CsvSource
from dedup.store.decode import resize_pillow
from dedup.store.image_store import ImageStore
from dedup.store.integrity import verify
from dedup.store.repair import repair
from tests.conftest import DAMAGES, SMALL, draw, encoded, run, write_shop
from tests.support.drawn_scenes import RgbImage, garment

WITH = "foreground=lab_otsu"


@dataclass(frozen=True)
class Bright:
    """What is brighter than a limit; fails where that is nothing."""

    limit: int = 128
    version: int = 1

    def __call__(self, image: RgbImage) -> Mask | None:
        found = image.mean(axis=2) > self.limit
        return np.where(found, np.uint8(255), np.uint8(0)) if found.any() else None

    @property
    def identity(self) -> dict[str, Any]:
        return {"part": "bright", "limit": self.limit, "version": self.version}


def block(left: int, top: int, wide: int, high: int) -> tuple[RgbImage, Mask]:
    """A red block on blue, 60 x 80, and its mask."""
    image = np.full((80, 60, 3), (0, 0, 255), np.uint8)
    mask = np.zeros((80, 60), np.uint8)
    mask[top : top + high, left : left + wide] = 255
    image[mask > 0] = (255, 0, 0)
    return image, mask


def test_a_product_fills_its_box_and_the_ground_is_gone() -> None:
    image, mask = block(10, 20, 20, 40)
    before = image.copy()
    framed = Framing(margin=0, ground=77)(image, mask)
    assert framed.shape == (40, 20, 3)
    assert (framed == (255, 0, 0)).all()
    framed = Framing(margin=0.1, ground=77)(image, mask)
    assert framed.shape == (48, 28, 3)
    assert (framed[4:-4, 4:-4] == (255, 0, 0)).all()
    assert (framed[:4] == 77).all()
    assert (framed[:, -4:] == 77).all()
    assert np.array_equal(image, before)


def test_place_and_ground_do_not_matter() -> None:
    one, other = block(3, 5, 30, 30), block(25, 45, 30, 30)
    other[0][other[1] == 0] = (9, 200, 9)
    for framing in (Framing(), Framing(aspect="keep"), Framing(margin=0.5)):
        assert np.array_equal(framing(*one), framing(*other))


def test_a_box_may_reach_beyond_the_image() -> None:
    image, mask = block(0, 0, 60, 80)
    framed = Framing(margin=0.25, ground=0)(image, mask)
    assert framed.shape == (120, 100, 3)
    assert (framed[20:-20, 20:-20] == (255, 0, 0)).all()
    assert framed[:20].max() == 0


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (30, 30)])
def test_keeping_the_aspect_widens_the_box_to_that_of_the_pixels(size: tuple[int, int]) -> None:
    image, mask = block(5, 5, *size)
    framed = Framing(margin=0, aspect="keep", ground=0)(image, mask)
    assert framed.shape[0] == 2 * framed.shape[1]
    assert (framed[..., 0] == 255).sum() == size[0] * size[1]


def test_soft_edges_mix_with_the_ground() -> None:
    image, mask = block(10, 10, 20, 20)
    mask[10:30, 10:30] = 153
    framed = Framing(margin=0, ground=100)(image, mask)
    assert framed[5, 5].tolist() == [193, 40, 40]


def test_an_unknown_aspect_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"framing\.aspect"):
        Framing(aspect="square")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, RgbImage]:
    """Seven images with a bright part and two dark ones, in a shop; by address."""
    folder = tmp_path / "images"
    folder.mkdir()
    made = {}
    for number in range(9):
        image = (np.asarray(draw(number)) // 4).astype(np.uint8)
        if number < 7:
            image[30 + number : 150, 20 : 90 + number] += 180
        path = folder / f"{number}.png"
        Image.fromarray(image).save(path)
        made[str(path)] = image
    write_shop(tmp_path, [(f"P{n}", url) for n, url in enumerate(made)])
    return made


def opened(folder: Path, find: Any = None, shard_rows: int = 4) -> tuple[Framed, ImageStore]:
    """The shop's images, read, and their products."""
    store = ImageStore(folder / "store", shard_rows=shard_rows)
    store.ingest(CsvSource(str(folder / "products.csv"), images_dir="/").read(), folder)
    return Framed(store, Product(find or Bright(), Framing())), store


def slowly(image: RgbImage, product: Product) -> RgbImage | None:
    """What is shown of an image, a step at a time."""
    mask = product.foreground(image)
    if mask is None:
        return None
    small = cv2.resize(mask, MASK_SHAPE[::-1], interpolation=cv2.INTER_AREA)
    full = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return resize_pillow(Image.fromarray(product.framing(image, full)))


def test_every_image_is_its_product_or_whole(tmp_path: Path, images: dict[str, RgbImage]) -> None:
    framed, store = opened(tmp_path)
    rows = framed.rows(list(images))
    details, whole = store.details_at(rows), store.read(rows)
    shown = framed.read(rows)
    for at in range(9):
        slow = slowly(details[at], framed.product)
        assert (slow is None) == (at >= 7)
        assert np.array_equal(shown[at], whole[at] if slow is None else slow)
        found = framed.found_in(details[at])  # as a query is treated
        assert (found is None) == (slow is None)
        assert found is None or np.array_equal(found[1], shown[at])
        kept = framed.masks([list(images)[at]])[0]
        assert (kept is None) == (slow is None)
        assert found is None or np.array_equal(found[0], kept)
    assert not np.array_equal(shown[0], whole[0])
    assert framed.prepare(list(images))["failed"] == framed.failed(list(images)) == 2
    cut = framed.details_at(rows)
    assert np.array_equal(cut[8], details[8])
    assert (cut[0][0, 0] == 128).all()
    assert cut[0].shape < details[0].shape


def test_shards_and_threads_do_not_matter(
    tmp_path: Path, images: dict[str, RgbImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = opened(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (tmp_path / "b").mkdir()
    write_shop(tmp_path / "b", [(f"P{n}", url) for n, url in enumerate(images)])
    other, _ = opened(tmp_path / "b", shard_rows=512)
    urls = list(images)
    assert one.read(one.rows(urls)).tobytes() == other.read(other.rows(urls)).tobytes()


def kept(folder: Path) -> dict[Path, int]:
    """The files beside the shards, and when each was written."""
    files = [*folder.glob("store/*.masks-*"), *folder.glob("store/*.framed-*")]
    return {file: file.stat().st_mtime_ns for file in files}


def test_what_was_found_is_kept_for_the_next_run(
    tmp_path: Path, images: dict[str, RgbImage]
) -> None:
    framed, _ = opened(tmp_path)
    assert framed.prepare(list(images))["made"] == 9
    before = kept(tmp_path)
    assert len(before) == 6  # two of each of three shards
    again, _ = opened(tmp_path)
    assert again.prepare(list(images))["made"] == 0
    assert again.read(again.rows(list(images))).any()
    assert kept(tmp_path) == before


@pytest.mark.parametrize("changed", [Bright(limit=130), Bright(version=2)])
def test_other_settings_or_code_are_kept_apart(
    tmp_path: Path, images: dict[str, RgbImage], changed: Bright
) -> None:
    framed, store = opened(tmp_path)
    framed.prepare(list(images))
    other = Framed(store, Product(changed, Framing()))
    assert other.prepare(list(images))["made"] == 9
    assert other.product.digest != framed.product.digest
    wider = Framed(store, Product(Bright(), Framing(margin=0.2)))
    assert wider.prepare(list(images))["made"] == 0  # the masks are the same
    rows = framed.rows(list(images))
    assert not np.array_equal(wider.read(rows), framed.read(rows))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["masks", "framed"])
def test_a_broken_file_is_found_and_made_again(
    tmp_path: Path, images: dict[str, RgbImage], kind: str, damage: Callable[[Path], None]
) -> None:
    framed, _ = opened(tmp_path)
    rows = framed.rows(list(images))
    whole = framed.read(rows)
    file = next(file for file in kept(tmp_path) if f"00001.{kind}" in file.name)
    before = file.read_bytes()
    damage(file)
    assert [(one.file, one.kind) for one in verify(tmp_path / "store")] == [(file.name, "changed")]
    again, _ = opened(tmp_path)
    assert np.array_equal(again.read(rows), whole)
    assert file.read_bytes() == before
    assert verify(tmp_path / "store") == []


def test_a_repair_drops_what_is_broken(tmp_path: Path, images: dict[str, RgbImage]) -> None:
    framed, store = opened(tmp_path)
    framed.prepare(list(images))
    file = next(iter(kept(tmp_path)))
    DAMAGES[0](file)
    repair(store, verify(tmp_path / "store"))
    assert not file.exists()
    assert verify(tmp_path / "store") == []


def test_a_image_that_is_not_there_is_an_error(tmp_path: Path, images: dict[str, RgbImage]) -> None:
    framed, _ = opened(tmp_path)
    for ask in (framed.read, framed.masks_at, framed.details_at):
        with pytest.raises(ArtifactError, match="lacks an image"):
            ask(framed.rows(["/absent.png"]))
    with pytest.raises(ArtifactError, match="lacks an image"):
        framed.prepare(["/absent.png"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 garments on plain grounds and 3 images without any; trained and clustered with masks."""
    folder = tmp_path_factory.mktemp("worn")
    (folder / "images").mkdir()
    rows = []
    for number in range(15):
        plain = Image.fromarray(garment(number, plain=True)[0])
        image = plain if number < 12 else draw(number)
        (folder / "images" / f"{number}.png").write_bytes(encoded(image, "PNG"))
        rows.append((f"P{number:02}", f"images/{number}.png"))
    write_shop(folder, rows)
    source = ["source=csv", "source.path=products.csv"]
    run("train", WITH, *source, *SMALL, cwd=folder)
    run("cluster", WITH, cwd=folder)
    return folder


def index_of(folder: Path) -> Index:
    return Index.load(folder / "runs" / "cluster" / "latest")


def test_failures_are_counted_and_said(shop: Path) -> None:
    manifest = index_of(shop).manifest["foreground"]
    assert (manifest["failed"], manifest["part"]["_target_"][-7:]) == (3, "LabOtsu")
    for command in ("train", "cluster"):
        run_dir = shop / "runs" / command / "latest"
        facts = json.loads((run_dir / "foreground.json").read_text())
        assert (facts["pictures"], facts["failed"]) == (15, 3)
        log = (run_dir / f"{command}.log").read_text()
        assert "no product found in 3 of 15 images" in log


def test_the_encoder_is_shown_products(shop: Path) -> None:
    index = index_of(shop)
    store = ImageStore(index.manifest["store"])
    images = index.images.drop_duplicates("vector").sort_values("vector")
    product = Product(LabOtsu(), Framing())
    rows = store.rows(images["url"].tolist())
    details, whole = store.details_at(rows), store.read(rows)
    slow = [slowly(detail, product) for detail in details]
    pixels = np.stack([w if s is None else s for s, w in zip(slow, whole, strict=True)])
    embed = Embed(shop / "runs" / "train" / "latest", device="cpu")
    assert np.array_equal(embed({"pixels": pixels})["embedding"], index.vectors)


def test_a_query_finds_the_product_before_another_ground(shop: Path, tmp_path: Path) -> None:
    image, inside = garment(4, plain=True, shift=(9, -14))
    image[~inside] = (205, 225, 250)
    file = tmp_path / "asked.png"
    Image.fromarray(image).save(file)
    done = run("detect", f"query={file}", "matcher.threshold=1000", cwd=shop)
    nearest = json.loads(done.stdout)[0]
    assert nearest["product_id"] == "P04"


def test_an_index_that_grows_is_the_one_made_anew(shop: Path, tmp_path: Path) -> None:
    lines = (shop / "products.csv").read_text().splitlines(keepends=True)
    for name, part in (("first", lines[:9]), ("rest", [lines[0], *lines[9:]])):
        (shop / f"{name}.csv").write_text("".join(part))
    whole = index_of(shop)
    elsewhere = [f"runs={tmp_path}", f"checkpoint={shop / 'runs' / 'train' / 'latest'}"]
    run("cluster", WITH, "source.path=first.csv", *elsewhere, cwd=shop)
    run("cluster", "change=add", "source.path=rest.csv", *elsewhere, cwd=shop)
    index = Index.load(tmp_path / "cluster" / "latest")
    assert index.manifest["foreground"] == whole.manifest["foreground"]

    def by_url(one: Index) -> dict[str, bytes]:
        rows = one.images[["url", "vector"]].itertuples(index=False)
        return {url: one.vectors[vector].tobytes() for url, vector in rows}

    assert by_url(index) == by_url(whole)


def test_two_processes_embed_products_as_one_does(shop: Path, tmp_path: Path) -> None:
    table = (shop / "products.csv").read_text()
    for number in range(15, 20):
        image = Image.fromarray(garment(number, plain=True)[0])
        (shop / "images" / f"{number}.png").write_bytes(encoded(image, "PNG"))
        table += f"P{number},Title of P{number},images/{number}.png\n"
    (shop / "more.csv").write_text(table)
    elsewhere = [f"runs={tmp_path}", f"checkpoint={shop / 'runs' / 'train' / 'latest'}"]
    two = ["trainer.num_processes=2", "data.batch_size=16"]
    run("cluster", WITH, "source.path=more.csv", *elsewhere, *two, cwd=shop)
    index = Index.load(tmp_path / "cluster" / "latest")
    whole = index_of(shop)
    assert len(index.vectors) == len(whole.vectors) + 5
    assert {vector.tobytes() for vector in whole.vectors} < {it.tobytes() for it in index.vectors}


def test_another_foreground_than_the_index_has_is_refused(shop: Path, tmp_path: Path) -> None:
    done = run("detect", "foreground=grabcut", cwd=shop, code=2)
    assert "made with foreground=lab_otsu" in done.stderr
    elsewhere = [f"runs={tmp_path}", f"checkpoint={shop / 'runs' / 'train' / 'latest'}"]
    done = run("cluster", *elsewhere, cwd=shop)
    assert "trained with foreground=lab_otsu" in done.stderr
    assert "foreground" not in Index.load(tmp_path / "cluster" / "latest").manifest


def test_where_every_mask_fails_whole_images_are_used(trained: Path, tmp_path: Path) -> None:
    elsewhere = [f"runs={tmp_path}", f"checkpoint={trained / 'runs' / 'train' / 'latest'}"]
    never = ["foreground=grabcut", "foreground.least_area=0.99"]  # and not along the border
    done = run("cluster", *never, "source.path=products.csv", *elsewhere, cwd=trained)
    assert "WARNING" in done.stderr
    assert "no product found in 22 of 22 images" in done.stderr
    index, whole = Index.load(tmp_path / "cluster" / "latest"), index_of(trained)
    assert index.manifest["foreground"]["failed"] == 22
    assert np.array_equal(index.vectors, whole.vectors)


def test_without_a_foreground_nothing_is_made(trained: Path) -> None:
    assert "foreground" not in index_of(trained).manifest
    store = trained / "runs" / "store" / "pillow"
    assert not (trained / "runs" / "train" / "latest" / "foreground.json").exists()
    assert all(len(file.name.split(".")) <= 3 for file in store.iterdir())


def test_a_preview_shows_images_and_stops(shop: Path) -> None:
    before = (shop / "runs" / "train" / "latest").resolve()
    done = run("train", WITH, "preview=6", "source=csv", "source.path=products.csv", cwd=shop)
    assert (shop / "runs" / "train" / "latest").resolve() == before
    page = next(shop.glob("runs/train/*/preview.html"))
    text = page.read_text()
    assert text.count("<article") == 6
    assert (
        text.count("nothing found")
        == json.loads((page.parent / "foreground.json").read_text())["failed"]
    )
    assert "http" not in text.replace("http-equiv", "")
    assert list(page.parent.glob("events.out.tfevents.*"))
    assert not list(page.parent.glob("*.ckpt"))
    assert str(page) in done.stderr.replace("\n", "")
    done = run("train", "preview=6", cwd=shop, code=2)
    assert "foreground=grabcut" in done.stderr


def test_catalogues_of_two_foregrounds_are_not_compared(shop: Path) -> None:
    framed = index_of(shop)
    manifest = {name: v for name, v in framed.manifest.items() if name != "foreground"}
    whole = Index(framed.images, framed.vectors, framed.centroids, framed.products, manifest)
    with pytest.raises(ArtifactError, match="another foreground"):
        merged(framed, whole, "B:")
