"""What an index, a search and a result say of themselves, read.

``manifest.json``, ``search.json`` and ``result.json`` are sealed, see ``dedup.runtime.checksums``.
That they are what was written does not say who wrote it, so every fact must be there and of its
kind before anything is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import FILES, HEX, read_sealed
from dedup.runtime.invocation import command

Kind = Callable[[object], bool]
Said = dict[str, Any]

INDEX_FORMAT = 5
"""Raised when a reader of the old layout of an index would misread the new one."""

RESULT_FORMAT = 1
"""Likewise of a result."""

MANIFEST, SEARCH, RESULT = "manifest.json", "search.json", "result.json"
INDEX_FILES = ("images.parquet", "products.parquet", "vectors.npy", "centroids.npy")
SEARCH_FILES = ("near.parquet", "compared.parquet")
RESULT_FILES = tuple(
    f"{name}.parquet" for name in ("pairs", "groups", "shared", "candidates", "related", "families")
)
AGAIN = f"run {command('cluster')} again"
"""What to do about a broken index."""
WITHOUT = "name the folder of another detect run, or leave since out"
"""What to do about a broken search."""
ANEW = "run detect.py again, or name the folder of another detect run"
"""What to do about a broken result."""

ROWS_A_BYTE = 100
"""More rows than that cannot have been packed into a byte: rows that are all equal make it 19."""


class Origin(NamedTuple):
    """Where something was read, and what to do if it is wrong."""

    file: Path
    advice: str

    def refuse(self, why: str) -> NoReturn:
        """Say that the file cannot be what was written.

        Raises:
            CorruptError: always.
        """
        raise CorruptError(f"{self.file} cannot be what was written, {why}: {self.advice}")


def is_digest(value: object) -> bool:
    """Whether a value is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: object) -> bool:
    """Whether a value is a finite number from 0."""
    if is_count(value):
        return True
    return isinstance(value, float) and math.isfinite(value) and value >= 0


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and is_number(value) and value <= 1


def _are_shares(value: object, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(map(_is_share, value))


def _is_rate(value: object) -> bool:
    """Whether a value is a share and the number of copies that it is of."""
    return (
        isinstance(value, list) and len(value) == 2 and _is_share(value[0]) and is_count(value[1])
    )


def _is_point(value: object) -> bool:
    """Whether a value is a point of the curve of precision and recall."""
    if not isinstance(value, dict) or value.keys() != {"threshold", "precision", "recall"}:
        return False
    return is_number(value["threshold"]) and _are_shares([value["precision"], value["recall"]], 2)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_limit(value: object) -> bool:
    return value == "auto" or is_number(value)


_MANIFEST: dict[str, Kind] = {
    "checkpoint": _is_name,
    "checkpoint_sha256": is_digest,
    "store": _is_name,
    "reader": _is_name,
    "id_column": _is_text,
    "title_column": lambda value: value is None or isinstance(value, str),
}
"""What every index's manifest says, besides its format and its files."""
_ADDED: dict[str, Kind] = {"url_column": lambda value: value is None or isinstance(value, str)}
"""What it says since a later version: an index that lacks it is read all the same."""
_FOREGROUND: dict[str, Kind] = {"part": _is_object, "framing": _is_object, "digest": _is_name}
"""What it says where the encoder was shown products alone."""
_FACTS: dict[str, Kind] = {
    "asked": _is_limit,
    "threshold": is_number,
    "looked": _is_flag,
    "lossless": _is_flag,
    "pictures": is_count,
    "comparisons": is_count,
    "share": is_number,
    "near_pairs": is_count,
    "missed": is_number,
    "missed_share": _is_share,
    "checkpoint_sha256": is_digest,
}
"""What every search says, besides its files."""
_RESULT: dict[str, Kind] = {
    "index": lambda value: value is None or _is_name(value),
    "search": _is_object,
    "calibration": _is_object,
}
"""What every result says, besides its format and its files."""
_CALIBRATION: dict[str, Kind] = {
    "setting": lambda value: value in ("verifier.min_score", "matcher.threshold"),
    "threshold": is_number,
    "higher_is_surer": _is_flag,
    "precision": _is_share,
    "expected_precision": lambda value: value is None or _are_shares(value, 3),
    "interval": _is_share,
    "n_pairs": is_count,
}
"""Keys of a threshold that was chosen."""
_MEASURED: dict[str, Kind] = {"measured": lambda value: value is None or _is_object(value)}
"""Keys of a comparison with the user's own pairs."""
_RECALL: dict[str, Kind] = {
    "n_copies": is_count,
    "expected_recall": lambda value: _are_shares(value, 3),
    "recall_by_edit": lambda value: isinstance(value, dict) and all(map(_is_rate, value.values())),
    "curve": lambda value: isinstance(value, list) and all(map(_is_point, value)),
}
"""Keys of edited copies, where they were made."""
_OPTIONAL: dict[str, Kind] = {"words": is_number, "block_by": _is_name, "pairs": is_count}
"""What it says where it looked for words, where it compared inside blocks alone, and of how many
pairs there are in all."""


def read_manifest(folder: Path) -> tuple[Said, Said]:
    """What the manifest of an index says, and what it says of the index's files.

    Raises:
        ArtifactError: there is no index in ``folder``, or of another format.
        CorruptError: the manifest is not what was written, or cannot be.
    """
    origin = Origin(folder / MANIFEST, AGAIN)
    advice = (
        "find duplicates without one by encoder=bundled source.path=products.csv, name one with "
        f"index=PATH, or make one with {command('cluster')}"
    )
    said = read_sealed(origin.file, "an index", advice)
    number = said.get("format")
    if type(number) is not int or number != INDEX_FORMAT:
        raise ArtifactError(
            f"{folder} holds an index of format {str(number)[:100]}, this version reads format "
            f"{INDEX_FORMAT}: {AGAIN}"
        )
    files = _files(said, INDEX_FILES, origin)
    images, products = (files[name] for name in INDEX_FILES[:2])
    _check_rows("images.parquet", images["rows"], ROWS_A_BYTE * images["size"], origin)
    if products["rows"] > images["rows"]:
        origin.refuse(
            f"products.parquet has {products['rows']} records, and images.parquet {images['rows']} "
            "images, those of some are missing"
        )
    _check(said, _MANIFEST, "", origin)
    _check({"url_column": None, **said}, _ADDED, "", origin)
    if "foreground" in said:
        foreground = said["foreground"]
        _check(said, {"foreground": _is_object}, "", origin)
        _check(foreground, _FOREGROUND, "foreground's ", origin)
        _check({"failed": 0, **foreground}, {"failed": is_count}, "foreground's ", origin)
    return said, files


def read_facts(folder: Path) -> tuple[Said, Said]:
    """What a search says of itself, and of its files.

    Raises:
        ArtifactError: there is none in ``folder``, or one of an earlier version.
        CorruptError: it is not what was written, or cannot be.
    """
    origin = Origin(folder / SEARCH, WITHOUT)
    said = read_sealed(origin.file, "a search", WITHOUT)
    if FILES not in said:
        raise ArtifactError(
            f"{origin.file} was written by an earlier version, which could not tell whether it "
            "is damaged: leave since out, or search again"
        )
    files = _files(said, SEARCH_FILES, origin)
    near, compared = (files[name] for name in SEARCH_FILES)
    n = compared["rows"]
    _check_rows("compared.parquet", n, ROWS_A_BYTE * compared["size"], origin)
    _check_rows("near.parquet", near["rows"], n * (n - 1) // 2, origin)
    if said.keys() - _OPTIONAL.keys() != _FACTS.keys():
        others = ", ".join(sorted(said.keys() ^ _FACTS.keys()))[:200]
        origin.refuse(f"it says more or less than a search does, {others}")
    _check(said, _FACTS, "", origin)
    _check(said, {name: _OPTIONAL[name] for name in said.keys() & _OPTIONAL.keys()}, "", origin)
    if said["asked"] not in ("auto", said["threshold"]):
        origin.refuse("its threshold is not what was asked for")
    for name, table in (("near_pairs", "near.parquet"), ("pictures", "compared.parquet")):
        if said[name] != files[table]["rows"]:
            origin.refuse(f"its {name} are {said[name]}, and {table} has {files[table]['rows']}")
    return said, files


def read_result(folder: Path) -> tuple[Said, Said]:
    """What a result says of itself, and of its files.

    Raises:
        ArtifactError: there is none in ``folder``, or one of another format.
        CorruptError: it is not what was written, or cannot be.
    """
    origin = Origin(folder / RESULT, ANEW)
    said = read_sealed(origin.file, "a result", ANEW)
    number = said.get("format")
    if type(number) is not int or number != RESULT_FORMAT:
        raise ArtifactError(
            f"{folder} holds a result of format {str(number)[:100]}, this version reads format "
            f"{RESULT_FORMAT}: {ANEW}"
        )
    files = _files(said, RESULT_FILES, origin)
    for name, one in files.items():
        _check_rows(name, one["rows"], ROWS_A_BYTE * one["size"], origin)
    _check(said, _RESULT, "", origin)
    _check(said["search"], _FACTS if said["search"] else {}, "search's ", origin)
    calibration = {"measured": None, **said["calibration"]}
    _check(calibration, _MEASURED, "", origin)
    if calibration.keys() - _MEASURED.keys():  # else the threshold was given, and measured alone
        _check(calibration, _CALIBRATION, "", origin)
    if "n_copies" in calibration:
        _check(calibration, _RECALL, "", origin)
    return said, files


def _files(said: Said, names: tuple[str, ...], origin: Origin) -> Said:
    """Take out of a seal what it says of exactly these files."""
    files = said.pop(FILES, None)
    if not isinstance(files, dict) or files.keys() != {*names}:
        origin.refuse(f"it does not say what {', '.join(names)} are")
    for name in names:
        kinds: dict[str, Kind] = {"size": is_count, "sha256": is_digest}
        kinds |= {"rows": is_count} if name.endswith(".parquet") else {}
        one = files[name]
        if not isinstance(one, dict) or one.keys() != kinds.keys():
            origin.refuse(f"what it says of {name} is not {', '.join(kinds)}")
        _check(one, kinds, f"{name}'s ", origin)
    return files


def _check_rows(name: str, rows: int, most: int, origin: Origin) -> None:
    """Refuse a table that would be unpacked to far more rows than it can have."""
    if rows > most:
        origin.refuse(f"{name} cannot have {rows} rows, but {most} at most")


def _check(said: Mapping[str, Any], kinds: Mapping[str, Kind], whose: str, origin: Origin) -> None:
    for name, is_kind in kinds.items():
        if name not in said:
            origin.refuse(f"it does not say {whose}{name}")
        if not is_kind(said[name]):
            origin.refuse(f"its {whose}{name} is {repr(said[name])[:100]}")
