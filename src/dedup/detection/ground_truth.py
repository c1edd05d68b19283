"""Measure a result against the user's own list of duplicates: precision, recall, B-cubed F1."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.runtime.metrics import bcubed, pair_scores
from dedup.runtime.nouns import counted
from dedup.runtime.shortages import pass_on

log = logging.getLogger("dedup")

ENDS = ["product_id_a", "product_id_b"]


def read_truth(path: Path) -> pd.DataFrame:
    """Read pairs of duplicate product ids from the first two columns of a CSV, as strings.

    Raises:
        ConfigError: the file cannot be read, or a row has fewer than two cells.
    """
    advice = "give a CSV with a header and two product ids in each row"
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = []
            for row in reader:
                line = reader.line_num
                if row and len(row) < len(ENDS):
                    raise ConfigError(f"truth={path} has 1 column in line {line}: {advice}")
                rows += [row] if row else []
    except (OSError, ValueError, csv.Error) as error:
        pass_on(error, path)
        if isinstance(error, OSError) and not line:
            raise ConfigError(
                f"truth={path} cannot be read ({error.strerror}): check the path"
            ) from error
        raise ConfigError(
            f"truth={path} cannot be read after line {line} ({error}): {advice}"
        ) from error
    if not rows:
        raise ConfigError(f"truth={path} cannot be read, since it is empty: {advice}")
    pairs = pd.DataFrame([row[: len(ENDS)] for row in rows[1:]], columns=ENDS, dtype=str)
    return pairs[pairs[ENDS[0]] != pairs[ENDS[1]]].reset_index(drop=True)


def against_truth(
    findings: DetectionResult, ids: Iterable[str], truth: pd.DataFrame
) -> dict[str, Any]:
    """Measure precision, recall and F1 of the pairs, and B-cubed F1 of the groups.

    Pairs that follow from the truth through a third product count as true.

    Args:
        findings: the result.
        ids: ids of all products; true pairs with other ids are left out.
        truth: pairs as ``read_truth`` returns them.
    """
    catalogue = sorted(set(ids) - {""})
    unknown = sorted(set(truth[ENDS].to_numpy(object).ravel()) - set(catalogue))
    if unknown:
        log.warning(
            "truth= names %s that the catalogue lacks, such as %s: pairs with them are left out",
            counted(len(unknown), "id"), ", ".join(map(repr, unknown[:3])),
        )  # fmt: skip
    truth = truth[truth[ENDS[0]].isin(catalogue) & truth[ENDS[1]].isin(catalogue)]
    groups = group_connected(truth)
    together = groups.merge(groups, on="group_id", suffixes=("_a", "_b"))
    true_pairs = together[together[ENDS[0]] < together[ENDS[1]]][ENDS]
    scores = pair_scores(findings.pairs[ENDS], true_pairs)
    measured = {name: getattr(scores, name) for name in scores.__dataclass_fields__}
    found_groups = findings.groups[["product_id", "group_id"]]
    measured["bcubed_f1"] = bcubed(found_groups, groups, catalogue).f1
    return {name: None if value != value else value for name, value in measured.items()}


def in_words(measured: Mapping[str, Any]) -> str:
    """Format the figures of ``against_truth`` as one line."""
    precision, recall, f1, bcubed_f1 = (
        "none" if measured[name] is None else f"{measured[name]:.3f}"
        for name in ("precision", "recall", "f1", "bcubed_f1")
    )
    return (
        f"precision {precision} ({counted(measured['n_found'], 'pair')} found, "
        f"{measured['n_wrong']:,} of them not in the list), recall {recall} (of "
        f"{counted(measured['n_true'], 'true pair')}), F1 {f1}, B-cubed F1 of the groups "
        f"{bcubed_f1}"
    )


def group_connected(pairs: pd.DataFrame) -> pd.DataFrame:
    """Group ids by the connected components of pairs: ``product_id`` and ``group_id``."""
    ids = np.unique(pairs[ENDS].to_numpy(object).ravel().astype(str))
    ends = [np.searchsorted(ids, pairs[end].to_numpy(str)) for end in ENDS]
    links = sparse.coo_array((np.ones(len(pairs), bool), tuple(ends)), shape=(len(ids), len(ids)))
    _, labels = sparse.csgraph.connected_components(links, directed=False)
    first = (
        pd.Series(ids).groupby(labels).transform("min") if len(ids) else pd.Series([], dtype=str)
    )
    return pd.DataFrame({"product_id": ids, "group_id": first.to_numpy()})
