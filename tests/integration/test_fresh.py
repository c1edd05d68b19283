"""A table or an image that changed is noticed by each command, and its pairs follow it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import draw, encoded, run, write_shop
from tests.search.test_build import save_encoder
from tests.support.origin import Origin, Page

Serve = Callable[..., str]

SETTINGS = ["source=csv", "source.path=products.csv", "clusterer.n_clusters=2"]
CLUSTER = ["checkpoint=encoder.ckpt", *SETTINGS]
EQUAL = ["matcher.threshold=0", "verifier=none"]
NETWORK = "fetch.allow_networks=[127.0.0.0/8]"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("encoder") / "encoder.ckpt"
    save_encoder(file, 0)
    return file


@pytest.fixture
def folder(tmp_path: Path, encoder: Path) -> Path:
    shutil.copy(encoder, tmp_path / "encoder.ckpt")
    return tmp_path


def lists(folder: Path) -> dict[str, list[str]]:
    """The duplicates of each product that has some, by the latest report."""
    text = (folder / "runs/detect/latest/duplicates.json").read_text(encoding="utf-8")
    return {key: ids for key, ids in json.loads(text).items() if ids}


def test_a_replaced_web_image_is_compared_again(folder: Path, serve: Serve) -> None:
    origin = Origin({f"/{n}.jpg": Page(encoded(draw(n)), etag=f'"{n}"') for n in range(4)})
    origin.pages["/new.jpg"] = Page(encoded(draw(0)), etag='"new"')
    at = serve(handler=origin.handler())
    rows = [(f"P{n}", f"{at}/{n}.jpg") for n in range(4)]
    write_shop(folder, [*rows, ("PNEW", f"{at}/new.jpg")])
    run("cluster", *CLUSTER, NETWORK, cwd=folder)
    run("detect", *EQUAL, cwd=folder)
    assert lists(folder) == {"P0": ["PNEW"], "PNEW": ["P0"]}
    first = (folder / "runs/detect/latest").resolve()
    origin.pages["/new.jpg"] = Page(encoded(draw(3)), etag='"newer"')
    origin.take()
    done = run("cluster", "change=update", *SETTINGS, NETWORK, "store.refresh=true", cwd=folder)
    assert "asked 5 web addresses again: 4 unchanged, 1 replaced" in done.stderr
    assert "0 products added, 1 updated, 0 removed" in done.stderr
    assert sorted(one.status for one in origin.take()) == [200, 304, 304, 304, 304]
    after = {"P3": ["PNEW"], "PNEW": ["P3"]}
    run("detect", *EQUAL, f"since={first}", cwd=folder)
    assert lists(folder) == after
    run("detect", *EQUAL, cwd=folder)
    assert lists(folder) == after
    old = first.parents[1] / "cluster"
    (made,) = [one for one in old.iterdir() if not one.is_symlink() and _is_first(one)]
    done = run("detect", *EQUAL, f"index={made}", "runs=old", NETWORK, cwd=folder)
    assert "1 image was replaced since the index was made" in done.stderr
    origin.pages["/new.jpg"] = Page(status=404)
    done = run("detect", *EQUAL, *SETTINGS, NETWORK, "store.refresh=true", cwd=folder)
    assert "5 images of products.csv are to be read again, so it is read anew" in done.stderr
    assert "1 image could not be read again and stays as before: 1 http_404" in done.stderr
    assert lists(folder) == after


def _is_first(folder: Path) -> bool:
    source = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["source"]
    return "change" not in source


def test_a_changed_table_or_file_is_read_anew(folder: Path) -> None:
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    rows = [(f"P{n}", f"{n}.jpg") for n in range(4)]
    write_shop(folder, rows)
    run("cluster", *CLUSTER, cwd=folder)
    run("detect", *EQUAL, *SETTINGS, cwd=folder)
    assert lists(folder) == {}
    (folder / "3.jpg").write_bytes(encoded(draw(1)))
    done = run("detect", *EQUAL, *SETTINGS, cwd=folder)
    assert "1 image of products.csv is to be read again, so it is read anew" in done.stderr
    assert lists(folder) == {"P1": ["P3"], "P3": ["P1"]}
    (folder / "copy.jpg").write_bytes(encoded(draw(0)))
    write_shop(folder, [*rows[:3], ("PCOPY", "copy.jpg")])
    done = run("detect", *EQUAL, cwd=folder)  # about the index, which names its table
    assert "products.csv has changed since the index was made, and this is about" in done.stderr
    for is_anew in (True, False):  # then the index of the first time serves
        done = run("detect", *EQUAL, *SETTINGS, cwd=folder)
        assert ("so it is read anew" in done.stderr) == is_anew
        assert ("1 product added, 0 updated, 1 removed" in done.stderr) == is_anew
        assert lists(folder) == {"P0": ["PCOPY"], "PCOPY": ["P0"]}
