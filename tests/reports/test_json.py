"""The original experiment's format, read back."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports.json import JsonReport
from dedup.schemas import FAMILIES, GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index

NO_GROUPS = pd.DataFrame(columns=GROUPS.names)
NONE_SHARED = pd.DataFrame(columns=SHARED.names)
EMPTY = np.zeros((0, 2), np.float32)
INDEX = Index(pd.DataFrame(columns=INDEX_IMAGES.names), EMPTY, EMPTY, pd.DataFrame())


def written(ends: list[tuple[str, str]], folder: Path) -> str:
    """The report on pairs between these products."""
    rows = [(a, b, 0.0, "same_url", "u", "u", 1.0, "same address", "same image") for a, b in ends]
    pairs = pd.DataFrame(rows, columns=PAIRS.names)
    path = JsonReport().write(DetectionResult(pairs, NO_GROUPS, NONE_SHARED), INDEX, folder)
    assert path == folder / "duplicates.json"
    return path.read_text(encoding="utf-8")


def test_each_product_lists_those_it_is_paired_with(tmp_path: Path) -> None:
    text = written([("B", "C"), ("A", "B"), ("D", "E")], tmp_path)
    assert text == (
        '{\n "A": [\n  "B"\n ],\n "B": [\n  "A",\n  "C"\n ],\n "C": [\n  "B"\n ],\n'
        ' "D": [\n  "E"\n ],\n "E": [\n  "D"\n ]\n}\n'
    )


def test_no_pairs_are_an_empty_object(tmp_path: Path) -> None:
    assert written([], tmp_path) == "{}\n"


def test_keys_and_lists_are_sorted_and_symmetric(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 30, (60, 2)).tolist()
    ends = sorted({(f"P{min(n):02}", f"P{max(n):02}") for n in numbers if n[0] != n[1]})
    report = json.loads(written(ends, tmp_path))
    assert list(report) == sorted(report)
    assert all(partners == sorted(set(partners)) for partners in report.values())
    assert sorted((a, b) for a in report for b in report[a] if a < b) == ends
    assert all(a in report[b] for a in report for b in report[a])


def test_ids_stay_as_they_are(tmp_path: Path) -> None:
    odd = ["007", "1e5", "NA", 'a"b\\c', "naïve ‮ id", "a\nb", " a"]
    ends = [(min(one, "null"), max(one, "null")) for one in odd]
    assert json.loads(written(ends, tmp_path))["null"] == sorted(odd)


def test_relations_are_told_where_there_are_others_than_the_same_image(tmp_path: Path) -> None:
    copy = ("B", "C", 0.0, "same_url", "u", "u", 1.0, "same address", "same image")
    related = [
        ("A", "B", 0.5, "near", "u", "v", 0.75, "other colours", "colour variant"),
        ("A", "D", 0.5, "near", "u", "v", math.nan, "", "same product"),
    ]
    findings = DetectionResult(
        pairs=pd.DataFrame([copy], columns=PAIRS.names),
        groups=NO_GROUPS,
        shared=NONE_SHARED,
        related=pd.DataFrame(related, columns=PAIRS.names),
        families=pd.DataFrame(
            [("A", "A", "A"), ("B", "A", "B"), ("C", "A", "B")], columns=FAMILIES.names
        ),
    )
    path = JsonReport().write(findings, INDEX, tmp_path)
    assert json.loads(path.read_text()) == {"B": ["C"], "C": ["B"]}
    told = json.loads(path.with_name("relations.json").read_text())
    assert told["families"] == {"A": {"A": ["A"], "B": ["B", "C"]}}
    pairs = [(it["product_id_a"], it["product_id_b"], it["relation"], it["score"])
             for it in told["pairs"]]  # fmt: skip
    assert pairs == [
        ("A", "B", "colour variant", 0.75),
        ("A", "D", "same product", None),
        ("B", "C", "same image", 1.0),
    ]
