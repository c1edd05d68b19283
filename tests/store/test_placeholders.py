"""Images that prove nothing, against a slow loop over products."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from dedup.detection.exact import exact_pairs
from dedup.schemas import IMAGES, SHARED
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.store.placeholders import (
    MaxProducts,
    most_products,
    placeholders,
    with_equal_evidence,
    without_placeholders,
)
from tests.conftest import draw, encoded, write_shop


def images_of(*rows: tuple[str, str, float, str]) -> pd.DataFrame:
    """Images: product, image, contrast and status; each at an address of its own."""
    table = pd.DataFrame(list(rows), columns=["product_id", "sha256_pixels", "contrast", "status"])
    table["contrast"] = table["contrast"].astype(np.float32)
    table["url"] = [f"u{number}" for number in range(len(rows))]
    return table.reindex(columns=IMAGES.names)


def random_images(seed: int, n: int = 160) -> pd.DataFrame:
    """Some images that few products show, some that many do, some of them flat."""
    rng = np.random.default_rng(seed)
    image = np.minimum(rng.integers(0, 12, n), rng.integers(0, 12, n))
    contrast = rng.choice([0.0, 0.4, 0.5, 1.5, 3.0, 40.0], 12)[image]
    products = rng.integers(0, 30, n)
    status = rng.choice(["ok", "ok", "ok", "failed", "skipped"], n)
    rows = zip(products, image, contrast, status, strict=True)
    return images_of(*((f"P{a}", f"s{b}", float(c), str(d)) for a, b, c, d in rows))


def slow_shared(
    images: pd.DataFrame, most: int, least: float
) -> list[tuple[str, str, str, int, str]]:
    """The rows of ``SHARED``, by looking at every image in turn."""
    rows: list[tuple[str, str, str, int, str]] = []
    ok = images[images["status"] == "ok"].to_dict("records")
    for image in {row["sha256_pixels"] for row in ok}:
        addresses: dict[str, list[str]] = {}
        for row in ok:
            if row["sha256_pixels"] == image:
                addresses.setdefault(row["product_id"], []).append(row["url"])
                flat, blank = row["contrast"] < least, row["contrast"] < 0.5
        n = len(addresses)
        if n >= 2 and (blank or n > (min(most, 10) if flat else most)):
            reason = "flat" if flat else "shared"
            rows += [(image, key, min(urls), n, reason) for key, urls in addresses.items()]
    return sorted(rows, key=lambda row: (-row[3], row[0], row[1]))


@pytest.mark.parametrize("seed", range(15))
def test_the_shared_ones_are_those_of_a_slow_loop(seed: int) -> None:
    images, most = random_images(seed), [5, 12][seed % 2]
    shared = placeholders(images, max_products=most, min_contrast=3.0)
    assert shared.columns.tolist() == SHARED.names
    rows = list(shared.itertuples(index=False, name=None))
    assert rows == slow_shared(images, most, 3.0)
    shuffled = placeholders(images.sample(frac=1, random_state=seed), most, 3.0)
    pd.testing.assert_frame_equal(shuffled, shared)
    equal = with_equal_evidence(images, most, 3.0)
    silent = images["sha256_pixels"].isin(shared["sha256_pixels"]) | (images["contrast"] < 0.5)
    pd.testing.assert_frame_equal(equal, images[(images["status"] == "ok") & ~silent])


@pytest.mark.parametrize("seed", range(15))
def test_what_tells_something_is_what_is_left(seed: int) -> None:
    images = random_images(seed)
    left = without_placeholders(images, max_products=5, min_contrast=3.0)
    pd.testing.assert_frame_equal(left, images.loc[left.index])
    silent = set(placeholders(images, 5, 3.0)["sha256_pixels"])
    fine = (images["status"] == "ok") & (images["contrast"] >= 3)
    assert (
        left.index.tolist() == images.index[fine & ~images["sha256_pixels"].isin(silent)].tolist()
    )


def test_a_flat_image_of_one_product_is_not_shared_and_tells_nothing() -> None:
    images = images_of(("A", "white", 0.5, "ok"), ("A", "coat", 30.0, "ok"))
    assert placeholders(images).empty
    assert without_placeholders(images)["sha256_pixels"].tolist() == ["coat"]


@pytest.mark.parametrize(
    ("n_products", "max_products", "most"),
    [
        (12, "auto", 10), (219, "auto", 10), (220, "auto", 11), (1999, "auto", 99),
        (2000, "auto", 100), (2100, "auto", 100), (12, 3, 3), (2000, 150, 150),
    ],
)  # fmt: skip
def test_as_many_products_as_allowed_are_not_too_many(
    n_products: int, max_products: MaxProducts, most: int
) -> None:
    for n_showing in (most, most + 1):
        logo = [(f"P{number:04}", "logo", 30.0, "ok") for number in range(n_showing)]
        own = [(f"P{number:04}", f"own{number}", 30.0, "ok") for number in range(n_products)]
        images = images_of(*logo, *own, ("X", "y", 30.0, "failed"))
        assert most_products(images, max_products) == most
        too_many = n_showing > most
        assert placeholders(images, max_products)["n_products"].tolist() == (
            [n_showing] * n_showing if too_many else []
        )
        for left in (without_placeholders, with_equal_evidence):
            n = (left(images, max_products)["sha256_pixels"] == "logo").sum()
            assert n == (0 if too_many else n_showing)


def test_one_product_may_show_a_image_often() -> None:
    images = images_of(*[("A", "coat", 30.0, "ok")] * 200)
    assert placeholders(images).empty
    assert len(without_placeholders(images)) == 200


def test_flat_wins_over_shared() -> None:
    images = images_of(*((f"P{number}", "white", 1.0, "ok") for number in range(9)))
    assert set(placeholders(images, max_products=3)["reason"]) == {"flat"}


def test_no_images() -> None:
    assert placeholders(images_of()).columns.tolist() == SHARED.names
    assert without_placeholders(images_of()).empty


def stored(folder: Path, *names: str) -> tuple[ImageStore, pd.DataFrame]:
    """A store of these files, each the image of one product, and its images."""
    shop = write_shop(folder, [(f"P{number}", name) for number, name in enumerate(names)])
    store = ImageStore(folder / "store")
    return store, store.ingest(CsvSource(str(shop)).read(), folder)


def test_contrast_tells_how_much_there_is_to_be_seen(tmp_path: Path) -> None:
    red = Image.new("RGB", (100, 200))
    red.paste("red", (0, 0, 50, 200))  # half of one channel: a deviation of 127.5, the largest
    (tmp_path / "red.png").write_bytes(encoded(red, "PNG"))
    noise = np.random.default_rng(0).normal(245, 1.5, (400, 300, 3)).clip(0, 255).astype(np.uint8)
    (tmp_path / "noise.jpg").write_bytes(encoded(Image.fromarray(noise)))
    (tmp_path / "gray.jpg").write_bytes(encoded(Image.new("RGB", (300, 400), "#123456")))
    (tmp_path / "drawn.jpg").write_bytes(encoded(draw(1)))
    store, images = stored(tmp_path, "red.png", "gray.jpg", "noise.jpg", "drawn.jpg", "gone.jpg")
    assert images["contrast"].dtype == np.float32
    half, gray, noisy, drawn, gone = images["contrast"]
    assert (half, gray, gone) == (127.5, 0, 0)
    assert 0 < noisy < 2
    assert drawn > 12
    pixels = store.read(store.rows(images["url"][2:4].tolist())).astype(float)
    slow = [max(np.std(channel) for channel in image) for image in pixels]
    assert [noisy, drawn] == pytest.approx(slow, rel=1e-6)
    assert without_placeholders(images)["product_id"].tolist() == ["P0", "P3"]


def test_a_blank_image_at_two_products_is_found(tmp_path: Path) -> None:
    (tmp_path / "drawn.jpg").write_bytes(encoded(draw(1)))
    for name, kind in (("blank.jpg", "JPEG"), ("copy.png", "PNG")):
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", (300, 400), "white"), kind))
    _, images = stored(tmp_path, "drawn.jpg", "blank.jpg", "copy.png", "drawn.jpg")
    shared = placeholders(images)
    assert shared["product_id"].tolist() == ["P1", "P2"]
    assert set(shared["reason"]) == {"flat"}


def white_shirt(collar: int) -> Image.Image:
    """A shirt hardly darker than the white ground."""
    image = Image.new("RGB", (300, 400), "white")
    draw = ImageDraw.Draw(image)
    draw.polygon([(60, 60), (240, 60), (220, 360), (80, 360)], fill=(252, 252, 253))
    draw.ellipse((120, 40, 180, 60 + collar), fill=(249, 249, 250))
    return image


def test_white_goods_on_white_are_evidence_by_equal_pixels_alone(tmp_path: Path) -> None:
    for name, image in (("a", white_shirt(30)), ("b", white_shirt(60))):
        (tmp_path / f"{name}.png").write_bytes(encoded(image, "PNG"))
        (tmp_path / f"{name}.bmp").write_bytes(encoded(image, "BMP"))
    _, images = stored(tmp_path, "a.png", "a.bmp", "b.png", "b.bmp")
    assert ((images["contrast"] > 0.5) & (images["contrast"] < 3)).all()
    assert placeholders(images).empty
    assert without_placeholders(images).empty
    pairs = exact_pairs(with_equal_evidence(images))
    ends = pairs[["product_id_a", "product_id_b", "tier"]].to_numpy().tolist()
    assert ends == [["P0", "P1", "same_pixels"], ["P2", "P3", "same_pixels"]]


def test_a_row_that_is_skipped_has_no_contrast(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(encoded(draw(0)))
    shop = CsvSource(str(write_shop(tmp_path, [("P0", "0.jpg"), ("P0", "0.jpg")]))).read()
    images = ImageStore(tmp_path / "store").ingest(shop, tmp_path)
    assert images["status"].tolist() == ["ok", "skipped"]
    assert (images["contrast"] > 0).tolist() == [True, False]
