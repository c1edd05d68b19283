"""What cannot work is told before anything is read, all of it at once."""

import logging
from pathlib import Path

import pytest
from omegaconf import open_dict

from dedup.cli.arguments import composed
from dedup.cli.entrypoint import build, plain
from dedup.cli.preflight import check_settings
from dedup.errors import ConfigError, DedupError
from tests.conftest import write_shop

PARTS = ("encoder", "source", "task")


def check(name: str, *typed: str) -> None:
    """Check what a command line with these settings asks for."""
    cfg = composed(name, typed)
    with open_dict(cfg):
        del cfg.callbacks  # they know their folder in a run alone
    cfg.merge_with_dotlist([one for one in typed if one.partition("=")[0] not in PARTS])
    check_settings(name, plain(cfg), typed, build)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table whose images nobody reads."""
    return write_shop(tmp_path, [("P0", "gone.jpg")])


def test_all_that_is_wrong_is_told_at_once(table: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check("detect", f"source.path={table}", "matcher.precision=2",
              "detection.block_by=brand", "grouping.keep=[highest:price]")  # fmt: skip
    for words in ("matcher.precision=2", "detection.block_by=brand", "highest:price"):
        assert words in str(caught.value)


def test_all_columns_that_lack_are_named(table: Path) -> None:
    with pytest.raises(DedupError, match=r"no column 'sku' and no column 'photo'.*'productId'"):
        check("cluster", f"source.path={table}", "source.id_column=sku", "source.url_column=photo")


@pytest.mark.parametrize("encoder", ["cnn", "bundled"])
def test_an_encoder_without_decoder_is_no_autoencoder(encoder: str) -> None:
    with pytest.raises(ConfigError, match=f"encoder={encoder} has no decoder: add task=contr"):
        check("train", f"encoder={encoder}")
    check("train", f"encoder={encoder}", "task=contrastive")


def test_a_setting_of_another_command_is_named(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dedup"):
        check("detect", f"source.path={table}", "data.num_workers=2")
    assert "data.num_workers=2 is not used by python detect.py" in caplog.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("truth=gone.csv", "truth=gone.csv cannot be read"),
        ("truth=one.csv", "truth=one.csv has 1 column in line 1"),
        ("since=gone", "gone is not a search"),
        ("report.csv.columns=[nope]", "report.csv.columns: the table has no column nope"),
        ("detection.block_by=titel", "did you mean title?"),
        ('query=""', "query= names no image"),
        ("query=[]", "query= names no image"),
        ("query=P0", "query=P0: there is no such file"),
        ("source.path=.", ". is a folder and no table: read its images with source=folder"),
        ("source.path=photo.jpg", "photo.jpg is an image and no table: find the products that"),
    ],
)
def test_what_is_needed_late_is_checked_first(
    table: Path, monkeypatch: pytest.MonkeyPatch, typed: str, words: str
) -> None:
    monkeypatch.chdir(table.parent)
    Path("one.csv").write_text("id\n")
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DedupError) as caught:
        check("detect", "encoder=bundled", "source=csv", f"source.path={table}", typed)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", "grouping.keep: lowest:price: the table has no column price"),
        ("photo.jpg", "an image and not a folder"),
        ("products.csv", "choose source=csv"),
    ],
)
def test_a_folder_is_checked_too(
    table: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(table.parent)
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DedupError) as caught:
        check("detect", "source=folder", f"source.path={path}", "grouping.keep=[lowest:price]")
    assert words in str(caught.value)
