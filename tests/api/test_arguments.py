"""A wrong argument is one error that names the argument, before anything is read."""

import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dedup
from dedup.api.arguments import configured, source_of
from dedup.api.errors import SETTINGS, in_python
from dedup.sources.jsonl import JsonlSource
from dedup.sources.parquet import ParquetSource
from tests.conftest import write_shop

TEXTS = {"NUL": "a\0b", "half a character": "a\ud800b"}
LONG = "x" * 5000


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table whose images nobody reads; its folder is the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_shop(tmp_path, [("P0", "gone.jpg")])


def refused(call: Any, *words: str) -> str:
    """Check that a call ends with one sentence that has these words, and nothing is made."""
    with pytest.raises(dedup.DedupError) as caught:
        call()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert not [key for key in SETTINGS.values() if "." in key and key in message], message
    assert len(message) < 600
    assert not Path("runs/store").exists()
    return message


@pytest.mark.parametrize("name", SETTINGS)
def test_each_argument_is_named_in_place_of_its_setting(name: str) -> None:
    message, kept = f"wrong: set {SETTINGS[name]}= to a column", f", ~/my-{SETTINGS[name]}s is kept"
    assert in_python(message + kept) == f"wrong: set {name}= to a column{kept}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"id": "sku"}, "set id= to one of its columns"),
        ({"images": "photo"}, "set images= to one of its columns"),
        ({"id": 5}, 'id=5: expected a text, such as id="5"'),
        ({"title": 5}, 'title="5"'),
        ({"choice": "frist"}, "choice=frist: expected one of first, second, all; did you mean f"),
        ({"images_dir": "gone"}, "images_dir='gone' is not a folder"),
        ({"precision": 2}, "precision=2: expected"),
        ({"threshold": -1}, "threshold=-1: expected"),
        ({"block_by": "titel"}, "block_by=titel: the table has no such column; did you mean title"),
        ({"keep": "lowest:price"}, "keep: lowest:price: the table has no column price"),
        ({"keep": "larges"}, "did you mean largest?"),
        ({"encoder": "bundle"}, "did you mean bundled?"),
        ({"encoder": "gone"}, "name another with encoder=PATH"),
        *(({name: 5}, f"{name} is of type int") for name in ("encoder", "images_dir", "store")),
        *(({"since": odd}, "since is of type") for odd in (5, {}, [["out"]], b"out")),
        ({"since": "gone"}, "leave since out"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(given: dict[str, Any], words: str) -> None:
    refused(lambda: dedup.find_duplicates("products.csv", **given), words)


@pytest.mark.parametrize("remove", [5, {"A1": 1}, [["A1"]], [1], np.array([1]), b"A1"])
def test_ids_to_remove_are_texts(remove: Any) -> None:
    refused(lambda: dedup.update_index("index", remove=remove), "remove ")


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_that_no_file_can_have_is_refused(kind: str) -> None:
    text = TEXTS[kind]
    for call in (
        lambda: dedup.find_duplicates(text),
        lambda: dedup.Index.load(text),
        lambda: dedup.DetectionResult.load(text),
        lambda: dedup.query("index", [text]),
        lambda: dedup.update_index("index", remove=[text]),
        *(
            lambda name=name: dedup.find_duplicates("products.csv", **{name: text})
            for name in ("id", "title", "images_dir", "store", "encoder", "since", "keep")
        ),
    ):
        refused(call, kind, "correct the text")


@pytest.mark.parametrize("column", ["productId", "title", "imageUrlStr"])
def test_a_cell_with_half_a_character_is_named(column: str) -> None:
    frame = pd.DataFrame({"productId": ["A"], "title": ["B"], "imageUrlStr": ["C"]}, dtype=object)
    frame.loc[0, column] = TEXTS["half a character"]
    refused(lambda: dedup.find_duplicates(frame, progress=False), "row 0", column)


def test_a_long_path_is_cut_in_the_message() -> None:
    for call in (
        lambda: dedup.Index.load(LONG),
        lambda: dedup.DetectionResult.load(LONG),
        lambda: dedup.find_duplicates(LONG),
        *(
            lambda name=name: dedup.find_duplicates("products.csv", **{name: LONG})
            for name in ("images_dir", "store", "encoder", "since")
        ),
        lambda: dedup.build_index("products.csv", folder=LONG, progress=False),
    ):
        refused(call, "too long")


def test_remedies_are_those_of_python(tmp_path: Path) -> None:
    Path("wide.csv").write_bytes("productId,imageUrlStr\nP0,ü.jpg\n".encode() + b"P1,\xfc.jpg\n")
    Path("photo.jpg").write_bytes(b"\xff\xd8")
    refused(lambda: dedup.find_duplicates("wide.csv"), "pandas.read_csv, with encoding=, such")
    refused(lambda: dedup.find_duplicates("photo.jpg"), "with dedup.query, or pass its folder")
    refused(lambda: dedup.Index.load("gone"), 'by dedup.find_duplicates("products.csv")')


def test_warnings_name_arguments_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dedup"), pytest.raises(dedup.SourceError):
        dedup.find_duplicates("products.csv", title="nam", progress=False)
    assert "Set title= to one of its columns" in caplog.text


def test_shared_arguments_are_listed_and_others_are_not_taken() -> None:
    names = [*inspect.signature(dedup.find_duplicates).parameters]
    assert {"id", "images", "title", "choice", "images_dir", "encoder", "store"} <= {*names}
    assert "column of the product's id" in str(dedup.build_index.__doc__)
    with pytest.raises(TypeError, match="no argument treshold; did you mean threshold"):
        dedup.find_duplicates("products.csv", treshold=1)  # type: ignore[call-arg]


def test_the_source_of_a_file_is_found_out(tmp_path: Path) -> None:
    lines = tmp_path / "shop.txt"
    lines.write_text('{"sku": 1, "photo": "a.jpg"}\n')
    frame = pd.DataFrame({"sku": ["1"], "photo": ["a.jpg"]})
    frame.to_parquet(tmp_path / "shop.parquet")
    for path, kind in ((lines, JsonlSource), (tmp_path / "shop.parquet", ParquetSource)):
        source, described = source_of(
            configured("bundled", {}), path, {"id": "sku", "images": "photo"}
        )
        assert type(source) is kind
        assert described["_target_"] == f"{kind.__module__}.{kind.__qualname__}"
        products = source.read().products
        assert products.to_dict("list") == {"sku": ["1"], "photo": ["a.jpg"]}
