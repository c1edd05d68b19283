"""Compare two detect runs: pairs and groups that came, went or changed, and why.

One function tells why a pair of one run is not in the other. A new pair asks it about the earlier
run, a pair that is gone about the later run. So the differences of two runs mirror each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from dedup.actions.decisions import Decisions
from dedup.actions.group_diff import group_changes
from dedup.actions.runs import DetectRun, changed_settings
from dedup.actions.text_columns import is_in, joined, texts_of
from dedup.review.decisions import APART
from dedup.runtime.nouns import counted
from dedup.schemas import GROUP_CHANGES, PAIR_CHANGES, SEEN

Bools = npt.NDArray[np.bool_]
ENDS = ["product_id_a", "product_id_b"]
STATES = ("new", "gone", "changed", "reopened")
"""States of a pair that is not the same in both runs, in the order of reports."""

CAUSES = {
    "product": ("new_product", "product_removed"),
    "decided": ("decided", "decided"),
    "image": ("new_image", "image_changed"),
    "placeholder": ("no_placeholder", "became_placeholder"),
    "threshold": ("above_threshold", "below_threshold"),
    "settings": ("settings_changed", "settings_changed"),
    "candidate": ("now_compared", "not_compared"),
}
"""Reasons why a pair is in one run alone, the strongest first; named for new and for gone pairs."""


@dataclass(frozen=True)
class Difference:
    """The difference of two runs.

    Attributes:
        pairs: the schema ``PAIR_CHANGES``.
        groups: the schema ``GROUP_CHANGES``.
        seen: the schema ``SEEN``: all pairs of the new run.
        n_old: number of pairs of the old run.
        n_new: number of pairs of the new run.
        n_same: number of pairs that are the same in both.
        settings: settings that differ, with old and new value.
        old: name and time of the old run.
        new: name and time of the new run.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame
    seen: pd.DataFrame
    n_old: int
    n_new: int
    n_same: int
    settings: list[tuple[str, str, str]]
    old: tuple[str, str]
    new: tuple[str, str]

    def counts(self) -> dict[str, int]:
        """Count the pairs by state."""
        counts = self.pairs["state"].value_counts()
        return {state: int(counts.get(state, 0)) for state in STATES} | {"same": self.n_same}

    def causes(self) -> dict[str, dict[str, int]]:
        """Count the pairs by state and cause, the most frequent cause first."""
        found = self.pairs.groupby(["state", "cause"]).size().sort_index()
        found = found.sort_values(ascending=False, kind="stable")
        causes: dict[str, dict[str, int]] = {}
        for state in STATES:
            rows = found[found.index.get_level_values("state") == state]
            if len(rows):
                names = rows.index.get_level_values("cause")
                causes[state] = {str(name): int(n) for name, n in zip(names, rows, strict=True)}
        return causes

    def group_counts(self) -> dict[str, int]:
        """Count the groups by kind of change; a group may count for several."""
        kinds = self.groups["changes"].str.split().explode().value_counts()
        return {str(kind): int(n) for kind, n in sorted(kinds.items())}

    def sentence(self) -> str:
        """Say in one line how the new run differs from the old one."""
        counts, causes = self.counts(), self.causes()
        parts = []
        for state in STATES:
            if counts[state]:
                first = next(iter(causes[state])).replace("_", " ")
                several = " mostly" if len(causes[state]) > 1 else ""
                parts.append(f"{counts[state]:,} {state} ({first}{several})")
        return f"since {self.old[1]}: {', '.join(parts) or 'no pair changed'}, " + (
            f"{counted(counts['same'], 'pair')} the same"
        )


def difference(
    old: DetectRun,
    new: DetectRun,
    decisions: Decisions | None = None,
    seen: pd.DataFrame | None = None,
) -> Difference:
    """Compare two runs.

    Args:
        old: the earlier run.
        new: the later run.
        decisions: people's decisions; a pair that one of them keeps apart has the cause
            ``decided``.
        seen: first dates that are known already, schema ``SEEN``; pairs may be repeated.
    """
    decisions = decisions or {}
    settings = changed_settings(old, new)
    both = _both(old, new)
    is_same = _is_same(both)
    both["state"] = np.select(
        [~both["in_old"], ~both["in_new"], ~is_same], ["new", "gone", "changed"], "same"
    )
    both["cause"], both["detail"] = "", ""
    for state, present, absent in (("new", new, old), ("gone", old, new)):
        _explain(both, state, present, absent, settings, decisions)
    _explain_changed(both)
    _reopen(both, old, new, decisions)
    both["first_seen"] = _first_seen(both, old, new, seen)
    rows = both[both["state"] != "same"]
    rank = rows["state"].map({state: place for place, state in enumerate(STATES)})
    pairs = rows.assign(rank=rank).sort_values(["rank", *ENDS])[PAIR_CHANGES.names]
    known = both.loc[both["in_new"], SEEN.names]
    return Difference(
        pairs=pairs.reset_index(drop=True),
        groups=group_changes(old.result.groups, new.result.groups)[GROUP_CHANGES.names],
        seen=known.reset_index(drop=True),
        n_old=len(old.result.pairs),
        n_new=len(new.result.pairs),
        n_same=int((both["state"] == "same").sum()),
        settings=settings,
        old=(old.name, old.made),
        new=(new.name, new.made),
    )


def _both(old: DetectRun, new: DetectRun) -> pd.DataFrame:
    """Join the pairs of both runs: a row for each pair, sorted by ids, with both runs' values."""
    sides = []
    for name, run in (("old", old), ("new", new)):
        pairs, kept = run.result.pairs, _kept(run.result.groups)
        own: dict[str, Any] = {
            f"{name}_{column}": pairs[column]
            for column in ("tier", "relation", "score", "image_a", "image_b", "distance")
        }
        own[f"{name}_kept"] = _kept_of(pairs, kept)
        sides.append(pd.DataFrame({**{end: pairs[end] for end in ENDS}, **own}))
    both = sides[0].merge(sides[1], on=ENDS, how="outer", indicator=True, sort=True)
    for name, alone in (("old", "right_only"), ("new", "left_only")):
        both[f"in_{name}"] = (both["_merge"] != alone).to_numpy()
        for column in ("tier", "relation", "image_a", "image_b", "kept"):
            cells = both[f"{name}_{column}"]
            is_text = isinstance(cells.dtype, pd.StringDtype)  # of no rows, it may hold floats
            both[f"{name}_{column}"] = (cells if is_text else cells.astype(object)).fillna("")
    return both.drop(columns="_merge")


def _kept(groups: pd.DataFrame) -> pd.DataFrame:
    """Return by product its group and the kept product."""
    kept = groups[groups["kept"].astype(bool)].set_index("group_id")["product_id"]
    return pd.DataFrame(
        {
            "group": groups["group_id"].to_numpy(),
            "kept": groups["group_id"].map(kept).to_numpy(),
        },
        index=groups["product_id"].to_numpy(),
        dtype=object,
    )


def _kept_of(pairs: pd.DataFrame, kept: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Return the kept product of each pair in one group; "" for others."""
    a, b = (kept.reindex(pairs[end]) for end in ENDS)
    is_one = (a["group"].to_numpy() == b["group"].to_numpy()) & a["group"].notna().to_numpy()
    return np.where(is_one, a["kept"].fillna("").to_numpy(), "")


def _is_same(both: pd.DataFrame) -> pd.Series[bool]:
    same = pd.Series(True, both.index)
    for column in ("tier", "relation", "kept"):
        same &= both[f"old_{column}"] == both[f"new_{column}"]
    return same


def _explain(
    both: pd.DataFrame,
    state: str,
    present: DetectRun,
    absent: DetectRun,
    settings: list[tuple[str, str, str]],
    decisions: Decisions,
) -> None:
    """Fill in why the pairs of one state are not in the run where they are absent."""
    is_new = state == "new"
    rows = both[both["state"] == state]
    if not len(rows):
        return
    side = "new" if is_new else "old"
    digests = _digests(rows, side, present.images)
    compared = _compared(rows, absent)
    named = "; ".join(f"{key}: {before} -> {after}" for key, before, after in settings)
    gone = [~is_in(rows[end], absent.images["product_id"]) for end in ENDS]
    lost = [_is_lost(rows[end], digest, absent.images)
            for end, digest in zip(ENDS, digests, strict=True)]  # fmt: skip
    silent = [is_in(digest, absent.result.shared["sha256_pixels"]) for digest in digests]
    apart = np.array([_is_apart(pair, decisions) for pair in _keys(rows)], bool)
    far = _is_too_far(rows, side, absent)
    checks: dict[str, Bools] = {
        "product": gone[0] | gone[1],
        "decided": apart,
        "image": lost[0] | lost[1],
        "placeholder": silent[0] | silent[1],
        "threshold": compared["is_candidate"].to_numpy() | far,
        "settings": np.full(len(rows), bool(settings)),
        "candidate": np.ones(len(rows), bool),
    }
    cause = np.select(list(checks.values()), list(checks), "")
    names = {key: words[0 if is_new else 1] for key, words in CAUSES.items()}
    both.loc[rows.index, "cause"] = [names[each] for each in cause]
    details = _Details(rows, side, gone, lost, silent, compared, absent, present, named)
    both.loc[rows.index, "detail"] = details.of(cause, is_new, decisions)


@dataclass(frozen=True)
class _Details:
    """Writer of a sentence for each pair of one state."""

    rows: pd.DataFrame
    side: str
    gone: list[Bools]
    lost: list[Bools]
    silent: list[Bools]
    compared: pd.DataFrame
    absent: DetectRun
    present: DetectRun
    settings: str

    def of(self, cause: npt.NDArray[np.str_], is_new: bool, decisions: Decisions) -> list[str]:
        """Write the sentences; ``cause`` has a key of ``CAUSES`` for each row."""
        ids = [self.rows[end].tolist() for end in ENDS]
        images = [self.rows[f"{self.side}_image_{end}"].tolist() for end in "ab"]
        there, here = ("old", "new") if is_new else ("new", "old")
        limits = [_limit(run) for run in (self.absent, self.present)]
        threshold = "" if limits[0] == limits[1] else f"; the threshold is {limits[0]}, and " + (
            f"{limits[1]} in the {here} run"
        )  # fmt: skip
        own = self.rows[f"{self.side}_score"].tolist()
        scores, distances = (self.compared[name].tolist() for name in ("score", "distance"))
        texts = []
        for row, each in enumerate(cause):
            if each == "product":
                names = [ids[end][row] for end in (0, 1) if self.gone[end][row]]
                text = f"not in the {there} run: {' and '.join(names)}"
            elif each in ("image", "placeholder"):
                flags = self.lost if each == "image" else self.silent
                names = [images[end][row] for end in (0, 1) if flags[end][row]]
                what = "not shown in" if each == "image" else "no evidence in"
                text = f"{what} the {there} run: {' and '.join(names)}"
            elif each == "decided":
                decision = decisions[(ids[0][row], ids[1][row])]
                text = f"decided: {decision.verdict.replace('_', ' ')}" + (
                    f", by {decision.reviewer}" if decision.reviewer else ""
                )
            elif each == "threshold":
                values = [_measure(scores[row], distances[row]), _measure(own[row], np.nan)]
                text = f"{values[0] or 'too far'} in the {there} run" + (
                    f", {values[1]} in the {here} run" if values[1] else ""
                )
                text += threshold
                text += f"; {self.settings}" if self.settings else ""
            elif each == "settings":
                text = self.settings
            else:
                text = f"no candidate of the {there} run, with equal settings"
            texts.append(text)
        return texts


def _measure(score: float, distance: float) -> str:
    """Write a score, or else a distance; "" where neither is known."""
    if score == score:
        return f"score {score:g}"
    return f"distance {distance:g}" if distance == distance else ""


def _limit(run: DetectRun) -> str:
    """Write the threshold that a run chose or was given."""
    calibration, search = run.result.calibration, run.result.search
    if calibration is not None:
        return f"{calibration.threshold:g}"
    return "0" if search is None else f"{search.threshold:g}"


def _digests(rows: pd.DataFrame, side: str, images: pd.DataFrame) -> list[pd.Series[str]]:
    """Return the digests of the images that show each pair, of product a and of product b."""
    known, shown = joined(images["product_id"], images["url"]), texts_of(images["sha256_pixels"])
    digests = []
    for end, image in zip(ENDS, (f"{side}_image_a", f"{side}_image_b"), strict=True):
        place = pc.index_in(joined(rows[end], rows[image]), value_set=known)
        found = pc.fill_null(shown.take(place), "")
        digests.append(pd.Series(found.to_numpy(zero_copy_only=False), rows.index, dtype=str))
    return digests


def _is_lost(ids: pd.Series[str], digests: pd.Series[str], images: pd.DataFrame) -> Bools:
    """Tell which products do not show an image of these pixels."""
    shown = joined(images["product_id"], images["sha256_pixels"])
    is_shown: Bools = pc.is_in(joined(ids, digests), value_set=shown).to_numpy(zero_copy_only=False)
    return ~is_shown


def _compared(rows: pd.DataFrame, run: DetectRun) -> pd.DataFrame:
    """Return the score and the distance of each pair in a run that does not report it."""
    names = [*ENDS, "score", "distance"]
    tables = [table[names] for table in (run.result.candidates, run.result.related) if len(table)]
    if not tables:
        empty = {"score": np.nan, "distance": np.nan, "is_candidate": False}
        return pd.DataFrame(empty, index=rows.index)
    known = pd.concat(tables).drop_duplicates(ENDS).assign(is_candidate=True)
    found = rows[ENDS].merge(known, on=ENDS, how="left").set_axis(rows.index)
    return found.assign(is_candidate=found["is_candidate"].eq(True))


def _is_too_far(rows: pd.DataFrame, side: str, absent: DetectRun) -> Bools:
    """Tell which near pairs lie beyond the distance at which a run without a verifier stops."""
    search = absent.result.search
    is_near = (rows[f"{side}_tier"] == "near").to_numpy()
    if search is None:  # nothing but equal pixels was searched
        return is_near
    if search.looked or search.threshold is None:
        return np.zeros(len(rows), bool)
    return is_near & (rows[f"{side}_distance"] > search.threshold).to_numpy()


def _keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(rows[ENDS[0]], rows[ENDS[1]], strict=True))


def _is_apart(pair: tuple[str, str], decisions: Decisions) -> bool:
    decision = decisions.get(pair)
    return decision is not None and decision.verdict in APART


def _explain_changed(both: pd.DataFrame) -> None:
    """Fill in which values of a changed pair differ, with the old and the new ones."""
    rows = both[both["state"] == "changed"]
    causes, details = [], []
    columns = ("tier", "relation", "kept")
    values = [rows[f"{side}_{name}"].tolist() for name in columns for side in ("old", "new")]
    for row in zip(*values, strict=True):
        pairs = zip(columns, row[::2], row[1::2], strict=True)
        differ = [(name, old, new) for name, old, new in pairs if old != new]
        causes.append(" ".join(f"{name}_changed" for name, _, _ in differ))
        texts = (f"{name}: {old or 'none'} -> {new or 'none'}" for name, old, new in differ)
        details.append("; ".join(texts))
    both.loc[rows.index, "cause"] = causes
    both.loc[rows.index, "detail"] = details


def _reopen(both: pd.DataFrame, old: DetectRun, new: DetectRun, decisions: Decisions) -> None:
    """Mark the pairs of the new run whose decision was made on other images."""
    if not decisions:
        return
    decided = [pair in decisions for pair in _keys(both)]
    rows = both[both["in_new"] & np.array(decided, bool)]
    if not len(rows):
        return
    digests = _digests(rows, "new", new.images)
    unseen = [
        _is_lost(rows[end], digest, old.images) for end, digest in zip(ENDS, digests, strict=True)
    ]
    for place, pair in enumerate(_keys(rows)):
        decision = decisions[pair]
        shown = (digests[0].iloc[place], digests[1].iloc[place])
        is_other = any(unseen[end][place] and shown[end] != decision.pixels[end] for end in (0, 1))
        if is_other:
            names = [
                rows[f"new_image_{'ab'[end]}"].iloc[place]
                for end in (0, 1)
                if unseen[end][place] and shown[end] != decision.pixels[end]
            ]
            both.loc[rows.index[place], ["state", "cause", "detail"]] = [
                "reopened",
                "new_image",
                f"decided as {decision.verdict.replace('_', ' ')} before this was shown: "
                f"{' and '.join(names)}",
            ]


def _first_seen(
    both: pd.DataFrame, old: DetectRun, new: DetectRun, seen: pd.DataFrame | None
) -> pd.Series[str]:
    """Return for each pair the earliest known time of a run that reported it."""
    times = np.where(both["in_new"], min(old.made, new.made), old.made)
    own = pd.Series(np.where(both["in_old"], times, new.made).astype(object), both.index)
    if seen is None or not len(seen):
        return own
    earliest = seen.groupby(ENDS, as_index=False)["first_seen"].min()
    known = both[ENDS].merge(earliest, on=ENDS, how="left")["first_seen"].set_axis(both.index)
    return known.where(known.notna() & (known.fillna("") < own), own)


def alarming(found: Difference, states: Sequence[str]) -> list[str]:
    """Say which of the given states occur, with their numbers; a decided pair does not count."""
    pairs = found.pairs[found.pairs["cause"] != "decided"]
    counts = pairs["state"].value_counts()
    return [f"{int(counts[state]):,} {state}" for state in states if counts.get(state, 0)]
