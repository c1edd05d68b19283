"""The digest by which a changed table or folder is told."""

import hashlib
import os
from pathlib import Path

import pytest

from dedup.errors import SourceError
from dedup.sources.csv import CsvSource
from dedup.sources.folder import FolderSource


def test_a_table_is_told_by_its_bytes_alone(tmp_path: Path) -> None:
    table = tmp_path / "products.csv"
    table.write_bytes(b"productId,imageUrlStr\nA,a.jpg\n")
    source = CsvSource(str(table))
    first = source.digest()
    assert first == hashlib.sha256(table.read_bytes()).hexdigest()
    info = table.stat()
    table.write_bytes(b"productId,imageUrlStr\nB,a.jpg\n")
    os.utime(table, ns=(info.st_atime_ns, info.st_mtime_ns))  # an editor may keep the time
    assert source.digest() != first
    table.write_bytes(b"productId,imageUrlStr\nA,a.jpg\n")
    os.utime(table, (0, 0))
    assert source.digest() == first


@pytest.mark.parametrize("place", ["gone.csv", "."], ids=["gone", "a_folder"])
def test_what_is_no_table_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(SourceError, match=r"source\.path="):
        CsvSource(str(tmp_path / place)).digest()


def test_a_folder_is_told_by_the_names_of_its_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"1")
    source = FolderSource(str(tmp_path))
    first = source.digest()
    (tmp_path / "a.png").write_bytes(b"2")  # the store tells changed files
    (tmp_path / "more.txt").write_bytes(b"1")
    assert source.digest() == first
    (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
    renamed = source.digest()
    assert renamed != first
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.jpg").write_bytes(b"1")
    assert source.digest() not in (first, renamed)
