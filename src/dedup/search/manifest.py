"""Read and check the manifests of an index, a search and a result.

``manifest.json``, ``search.json`` and ``result.json`` carry checksums, see
``dedup.runtime.checksums``. Checksums do not show who wrote a file. So every field must be present
and of its type before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import FILES, HEX, read_checked
from dedup.runtime.invocation import command

Kind = Callable[[object], bool]
Facts = dict[str, Any]

INDEX_FORMAT = 5
"""Format of an index; raised when a reader of the old layout would misread the new one."""

RESULT_FORMAT = 1
"""Format of a result; raised likewise."""

MANIFEST, SEARCH, RESULT = "manifest.json", "search.json", "result.json"
INDEX_FILES = ("images.parquet", "products.parquet", "vectors.npy", "centroids.npy")
SEARCH_FILES = ("near.parquet", "compared.parquet")
RESULT_FILES = tuple(
    f"{name}.parquet" for name in ("pairs", "groups", "shared", "candidates", "related", "families")
)
LATER = ("health.parquet", "decided.parquet")
"""Files of a result that earlier versions did not write; the last one needs a ledger."""
AGAIN = f"run {command('cluster')} again"
"""Advice for a damaged index."""
WITHOUT = "name the folder of another detect run, or leave since out"
"""Advice for a damaged search."""
ANEW = "run detect.py again, or name the folder of another detect run"
"""Advice for a damaged result."""

MAX_ROWS_A_BYTE = 100
"""Rows of a Parquet file per byte of it, at most; equal rows, the extreme, reach 19."""


class Origin(NamedTuple):
    """A file that is being checked, and the advice if it is wrong."""

    file: Path
    advice: str

    def refuse(self, why: str) -> NoReturn:
        """Report that the file is invalid.

        Raises:
            CorruptError: always.
        """
        raise CorruptError(f"{self.file} is invalid: {why}; {self.advice}")


def is_digest(value: object) -> bool:
    """Return whether a value is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def is_count(value: object) -> bool:
    """Return whether a value is an integer from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: object) -> bool:
    """Return whether a value is a finite number from 0."""
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


def _are_columns(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    )


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
"""Fields of every index's manifest, besides its format and its files."""
_ADDED: dict[str, Kind] = {
    "url_column": lambda value: value is None or _are_columns(value),
    "table": lambda value: value is None or _is_table(value),
}
"""Fields added later; an index may lack them."""
_FOREGROUND: dict[str, Kind] = {"part": _is_object, "framing": _is_object, "digest": _is_name}
"""Fields of ``foreground``, of an index whose encoder was shown products alone."""
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
"""Fields of ``search.json``, besides its files."""
_RESULT: dict[str, Kind] = {
    "index": lambda value: value is None or _is_name(value),
    "search": _is_object,
    "calibration": _is_object,
}
"""Fields of ``result.json``, besides its format and its files."""
_CALIBRATION: dict[str, Kind] = {
    "setting": lambda value: value in ("verifier.min_score", "matcher.threshold"),
    "threshold": is_number,
    "higher_is_surer": _is_flag,
    "precision": _is_share,
    "expected_precision": lambda value: value is None or _are_shares(value, 3),
    "interval": _is_share,
    "n_pairs": is_count,
}
"""Fields of ``calibration``, of a result whose threshold was chosen."""
_MEASURED: dict[str, Kind] = {"measured": lambda value: value is None or _is_measured(value)}
"""Fields of a comparison with the user's own pairs."""
_RECALL: dict[str, Kind] = {
    "n_copies": is_count,
    "expected_recall": lambda value: _are_shares(value, 3),
    "recall_by_edit": lambda value: isinstance(value, dict) and all(map(_is_rate, value.values())),
    "curve": lambda value: isinstance(value, list) and all(map(_is_point, value)),
}
"""Fields of edited copies, where they were made."""
_OPTIONAL: dict[str, Kind] = {
    "words": is_number,
    "block_by": _is_name,
    "pairs": is_count,
    "against": _is_flag,
    "verdicts": _is_text,
}
"""Fields of ``search.json`` with visual words, with ``block_by``, the number of all pairs, between
two catalogues, and with a verifier."""


def _is_table(value: object) -> bool:
    """Check the place of an index's table, and the digest of what was read there."""
    return (
        isinstance(value, dict)
        and value.keys() == {"path", "sha256"}
        and _is_name(value["path"])
        and is_digest(value["sha256"])
    )


def _is_measured(value: object) -> bool:
    """Check a comparison with the user's own pairs."""
    shares, counts = ("precision", "recall", "f1", "bcubed_f1"), ("n_true", "n_found", "n_wrong")
    return (
        isinstance(value, dict)
        and all(value.get(name) is None or _is_share(value[name]) for name in shares)
        and all(is_count(value.get(name)) for name in counts)
    )


def read_manifest(folder: Path) -> tuple[Facts, Facts]:
    """Read the manifest of an index.

    Returns:
        The manifest without ``files``, and ``files``: the checksums by file name.

    Raises:
        ArtifactError: ``folder`` holds no index, or one of another format.
        CorruptError: the manifest is damaged or invalid.
    """
    origin = Origin(folder / MANIFEST, AGAIN)
    advice = (
        "find duplicates without an index by encoder=bundled source.path=products.csv, name an "
        f"index with index=PATH, or make one with {command('cluster')}"
    )
    manifest = read_checked(origin.file, "an index", advice)
    _check_format(manifest, "an index", INDEX_FORMAT, origin)
    files = _pop_files(manifest, INDEX_FILES, origin)
    images, products = (files[name] for name in INDEX_FILES[:2])
    _check_rows("images.parquet", images["rows"], MAX_ROWS_A_BYTE * images["size"], origin)
    if products["rows"] > images["rows"]:
        origin.refuse(
            f"products.parquet has {products['rows']} records, and images.parquet only "
            f"{images['rows']} images"
        )
    _check_fields(manifest, _MANIFEST, "", origin)
    _check_fields({**dict.fromkeys(_ADDED), **manifest}, _ADDED, "", origin)
    if "foreground" in manifest:
        foreground = manifest["foreground"]
        _check_fields(manifest, {"foreground": _is_object}, "", origin)
        _check_fields(foreground, _FOREGROUND, "foreground.", origin)
        _check_fields({"failed": 0, **foreground}, {"failed": is_count}, "foreground.", origin)
    return manifest, files


def read_facts(folder: Path) -> tuple[Facts, Facts]:
    """Read the facts of a search.

    Returns:
        The facts without ``files``, and ``files``: the checksums by file name.

    Raises:
        ArtifactError: ``folder`` holds no search, or one of an earlier version.
        CorruptError: ``search.json`` is damaged or invalid.
    """
    origin = Origin(folder / SEARCH, WITHOUT)
    facts = read_checked(origin.file, "a search", WITHOUT)
    if FILES not in facts:
        raise ArtifactError(
            f"{origin.file} was written by an earlier version, without checksums: leave since "
            "out, or search again"
        )
    files = _pop_files(facts, SEARCH_FILES, origin)
    near, compared = (files[name] for name in SEARCH_FILES)
    n_images = compared["rows"]
    _check_rows("compared.parquet", n_images, MAX_ROWS_A_BYTE * compared["size"], origin)
    _check_rows("near.parquet", near["rows"], n_images * (n_images - 1) // 2, origin)
    if facts.keys() - _OPTIONAL.keys() != _FACTS.keys():
        names = ", ".join(sorted(facts.keys() ^ _FACTS.keys()))[:200]
        origin.refuse(f"fields are missing or unknown, see {names}")
    _check_search(facts, "", origin)
    if facts["asked"] not in ("auto", facts["threshold"]):
        origin.refuse("its threshold differs from the setting in asked")
    for name, table in (("near_pairs", "near.parquet"), ("pictures", "compared.parquet")):
        if facts[name] != files[table]["rows"]:
            origin.refuse(f"{name} is {facts[name]}, and {table} has {files[table]['rows']} rows")
    return facts, files


def read_result(folder: Path) -> tuple[Facts, Facts]:
    """Read the facts of a result.

    Returns:
        The facts without ``files``, and ``files``: the checksums by file name.

    Raises:
        ArtifactError: ``folder`` holds no result, or one of another format.
        CorruptError: ``result.json`` is damaged or invalid.
    """
    origin = Origin(folder / RESULT, ANEW)
    facts = read_checked(origin.file, "a result", ANEW)
    _check_format(facts, "a result", RESULT_FORMAT, origin)
    listed = facts.get(FILES)
    later = [name for name in LATER if isinstance(listed, dict) and name in listed]
    files = _pop_files(facts, (*RESULT_FILES, *later), origin)
    for name, file in files.items():
        _check_rows(name, file["rows"], MAX_ROWS_A_BYTE * file["size"], origin)
    _check_fields(facts, _RESULT, "", origin)
    if facts["search"]:  # else nothing was compared
        _check_search(facts["search"], "search.", origin)
    calibration = {"measured": None, **facts["calibration"]}
    _check_fields(calibration, _MEASURED, "calibration.", origin)
    if calibration.keys() - _MEASURED.keys():  # else the threshold was given, and measured alone
        _check_fields(calibration, _CALIBRATION, "calibration.", origin)
    if "n_copies" in calibration:
        _check_fields(calibration, _RECALL, "calibration.", origin)
    return facts, files


def _check_format(facts: Facts, what: str, wanted: int, origin: Origin) -> None:
    """Make sure that a manifest is of the format that this version reads.

    Raises:
        ArtifactError: it is of another, or names none.
    """
    number = facts.get("format")
    if type(number) is not int or number != wanted:
        raise ArtifactError(
            f"{origin.file.parent} holds {what} of format {str(number)[:100]}, and this version "
            f"reads format {wanted}: {origin.advice}"
        )


def _check_search(facts: Facts, prefix: str, origin: Origin) -> None:
    """Check the fields of a search, and those that it may have."""
    optional = {name: kind for name, kind in _OPTIONAL.items() if name in facts}
    _check_fields(facts, _FACTS | optional, prefix, origin)


def _pop_files(facts: Facts, names: tuple[str, ...], origin: Origin) -> Facts:
    """Take the checksums of exactly these files out of a manifest."""
    files = facts.pop(FILES, None)
    if not isinstance(files, dict) or files.keys() != {*names}:
        origin.refuse(f"{FILES} does not list exactly {', '.join(names)}")
    for name in names:
        kinds: dict[str, Kind] = {"size": is_count, "sha256": is_digest}
        kinds |= {"rows": is_count} if name.endswith(".parquet") else {}
        file = files[name]
        if not isinstance(file, dict) or file.keys() != kinds.keys():
            origin.refuse(f"the fields of {name} are not {', '.join(kinds)}")
        _check_fields(file, kinds, f"{name}'s ", origin)
    return files


def _check_rows(name: str, n_rows: int, max_rows: int, origin: Origin) -> None:
    """Refuse a table that would unpack to far more rows than it can have."""
    if n_rows > max_rows:
        origin.refuse(f"{name} cannot have {n_rows} rows, but {max_rows} at most")


def _check_fields(
    facts: Mapping[str, Any], kinds: Mapping[str, Kind], prefix: str, origin: Origin
) -> None:
    for name, is_kind in kinds.items():
        if name not in facts:
            origin.refuse(f"{prefix}{name} is missing")
        if not is_kind(facts[name]):
            origin.refuse(f"{prefix}{name} is {repr(facts[name])[:100]}, which is not allowed")
