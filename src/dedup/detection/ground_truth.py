"""The user's own list of duplicates, and how what was found compares with it."""

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
from dedup.metrics import bcubed, pair_scores
from dedup.runtime.nouns import counted
from dedup.runtime.shortages import pass_on

log = logging.getLogger("dedup")

ENDS = ["product_id_a", "product_id_b"]


def read_truth(path: Path) -> pd.DataFrame:
    """Pairs of product ids that are duplicates: a CSV's first two columns, as strings.

    Raises:
        ConfigError: there is no such file, or not two cells in each of its rows.
    """
    advice = "it is to be a CSV of pairs of ids, two in a row, below a header"
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
                f"truth={path} cannot be read ({error.strerror}): check truth="
            ) from error
        raise ConfigError(
            f"truth={path} cannot be read after line {line} ({error}): {advice}"
        ) from error
    if not rows:
        raise ConfigError(f"truth={path} cannot be read, as it is empty: {advice}")
    pairs = pd.DataFrame([row[: len(ENDS)] for row in rows[1:]], columns=ENDS, dtype=str)
    return pairs[pairs[ENDS[0]] != pairs[ENDS[1]]].reset_index(drop=True)


def against_truth(
    findings: DetectionResult, ids: Iterable[str], truth: pd.DataFrame
) -> dict[str, Any]:
    """Precision, recall and F1 of the pairs, and the B-cubed F1 of the groups.

    Pairs that follow from the truth, by way of a third product, count as true.

    Args:
        findings: what was found.
        ids: of all products; pairs of the truth with others are left out.
        truth: as ``read_truth`` gives it.
    """
    known = sorted(set(ids) - {""})
    strangers = sorted(set(truth[ENDS].to_numpy(object).ravel()) - set(known))
    if strangers:
        log.warning(
            "truth= names %s that the catalogue lacks, such as %s: pairs with them are left out",
            counted(len(strangers), "id"), ", ".join(map(repr, strangers[:3])),
        )  # fmt: skip
    truth = truth[truth[ENDS[0]].isin(known) & truth[ENDS[1]].isin(known)]
    groups = connected(truth)
    together = groups.merge(groups, on="group_id", suffixes=("_a", "_b"))
    whole = together[together[ENDS[0]] < together[ENDS[1]]][ENDS]
    scores = pair_scores(findings.pairs[ENDS], whole)
    found = {name: getattr(scores, name) for name in scores.__dataclass_fields__}
    found["bcubed_f1"] = bcubed(findings.groups[["product_id", "group_id"]], groups, known).f1
    return {name: None if value != value else value for name, value in found.items()}


def in_words(measured: Mapping[str, Any]) -> str:
    """Write what ``against_truth`` measured as one line."""
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


def connected(pairs: pd.DataFrame) -> pd.DataFrame:
    """The groups that pairs of ids make, by any chain: ``product_id`` and ``group_id``."""
    ids = np.unique(pairs[ENDS].to_numpy(object).ravel().astype(str))
    ends = [np.searchsorted(ids, pairs[end].to_numpy(str)) for end in ENDS]
    links = sparse.coo_array((np.ones(len(pairs), bool), tuple(ends)), shape=(len(ids), len(ids)))
    _, labels = sparse.csgraph.connected_components(links, directed=False)
    first = (
        pd.Series(ids).groupby(labels).transform("min") if len(ids) else pd.Series([], dtype=str)
    )
    return pd.DataFrame({"product_id": ids, "group_id": first.to_numpy()})
