"""Plan the merge of duplicate products: what to keep, what to retire, and where it leads.

Nothing here talks to a shop. The plan is files, and what was done with them comes back as
``plan.applied``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.actions.addresses import check_pages, page_addresses, same_page
from dedup.actions.columns import Cells, Change, compared_columns, read_rules
from dedup.actions.decisions import Decisions, read_decisions
from dedup.actions.merge import (
    KEEP,
    NEW,
    NOTES,
    REDIRECT,
    REVIEW,
    RULE,
    SAME,
    Action,
    Conflict,
    GroupConflict,
    Link,
    Merge,
    merge,
)
from dedup.actions.receipts import Retired, read_applied
from dedup.actions.redirects import SHOPS, Redirect
from dedup.actions.runs import DetectRun
from dedup.errors import ArtifactError, ConfigError
from dedup.review.decisions import APART, DUPLICATE
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted

EXACT = ("same_url", "same_bytes", "same_pixels")
"""Tiers that a plan may trust without a decision, the surest first."""
ENDS = ["product_id_a", "product_id_b"]


@dataclass(frozen=True)
class Plan:
    """The plan of a merge.

    Attributes:
        actions: of each product, by group and id.
        conflicts: in groups, those that are open and those that are only listed.
        changes: cells that kept products gain.
        pages: paths of each product; empty without addresses.
        redirects: of all retired products; the first ones are new or changed.
        n_imported: number of redirects that are new or changed.
        outdated: redirects of earlier plans that changed.
        item_groups: products of families of variants, and the id of their family.
        shops: formats of redirects to write; none without addresses.
        store_ids: Magento's stores.
        notes: sentences on what the plan lacks.
        compared: columns that must agree before products are merged, each with its rule.
        n_undecided: reported pairs that nobody has decided on and no rule trusts.
        inputs: files that the plan was made from.
        ledger: facts of the ledger that it was made from; empty without one.
    """

    actions: list[Action]
    conflicts: list[GroupConflict]
    changes: list[Change]
    pages: Mapping[str, Sequence[str]]
    redirects: list[Redirect]
    n_imported: int
    outdated: list[Redirect]
    item_groups: dict[str, str]
    shops: Sequence[str]
    store_ids: Sequence[int]
    notes: list[str]
    n_undecided: int
    compared: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count the products by action, and what else the plan holds."""
        by = Counter(each.action for each in self.actions)
        return {
            "groups": len({each.group_id for each in self.actions}),
            **{action: by.get(action, 0) for action in (KEEP, REDIRECT, REVIEW)},
            "retire": len(self.retired()),
            "conflicts": sum(each.is_open for each in self.conflicts),
            "noted": sum(not each.is_open for each in self.conflicts),
            "changes": len(self.changes),
            "redirects": len(self.redirects),
            "item_groups": len(self.item_groups),
            "undecided_pairs": self.n_undecided,
        }

    def retired(self) -> list[Action]:
        """List the products that this plan retires, without those of earlier plans."""
        return [each for each in self.actions if each.action == REDIRECT and each.change == NEW]

    def sentence(self) -> str:
        """Say in one line what the plan does, and which columns it compared."""
        counts = self.counts()
        compared = "; compared " + self.named_columns() if self.compared and self.actions else ""
        return (
            f"{counted(counts['groups'], 'group')}: {counts[KEEP]:,} kept, {counts['retire']:,} to "
            f"retire, {counts[REVIEW]:,} to review ({counted(counts['conflicts'], 'conflict')})"
            f"{compared}"
        )

    def named_columns(self) -> str:
        """Name the columns that are compared, each with its rule."""
        return ", ".join(f"{name} ({rule})" for name, rule in self.compared.items())


class Planner:
    """Plan the merge of the duplicates that a detect run found.

    Args:
        decisions: file of people's decisions, see ``decisions.read_decisions``; ``None`` for none.
        trust: tiers whose pairs are merged where nobody has decided on them, some of ``EXACT``. A
            tier stands for the surer ones too: one address or file has one picture.
        applied: what was done of earlier plans, see ``receipts.read_applied``: a place or several.
        columns: rules of columns, see ``columns.read_rules``.
        url_column: column with the addresses of pages.
        url_template: path with columns in braces instead, such as ``/products/{handle}``.
        redirects: formats of redirects, some of ``redirects.SHOPS``.
        store_ids: Magento's stores.
    """

    def __init__(
        self,
        decisions: str | Path | None = None,
        trust: Sequence[str] = (),
        applied: str | Path | Sequence[str | Path] | None = None,
        columns: str | Sequence[str] = "auto",
        url_column: str | None = None,
        url_template: str | None = None,
        redirects: Sequence[str] = SHOPS,
        store_ids: Sequence[int] = (1,),
    ) -> None:
        self.decisions = decisions
        self.trust = trust
        self.applied = applied
        self.columns = columns
        self.url_column = url_column
        self.url_template = url_template
        self.redirects = redirects
        self.store_ids = store_ids

    def __call__(self, run: DetectRun, decided: Decisions | None = None) -> Plan:
        """Make the plan.

        Args:
            run: a detect run whose index is there.
            decided: people's decisions, instead of those of a file; ``None`` for the file's.

        Raises:
            ConfigError: a setting is wrong, a column does not exist, or decisions are named twice.
            ArtifactError: a file is missing, or the run's index is gone.
            SourceError: a file has wrong content, or pages of products collide.
        """
        self._check(run)
        decisions = read_decisions(self.decisions) if decided is None else decided
        retired = read_applied(self.places())
        rules = read_rules(self.columns, list(map(str, run.products.columns)))
        id_column = run.manifest["id_column"]
        pages = page_addresses(run.products, id_column, self.url_column, self.url_template)
        links = _links(run, decisions, self.trust)
        concerned = {product for link in links for product in link.pair}
        cells = Cells(
            run.products[[key in concerned for key in run.products[id_column].to_numpy(object)]],
            id_column, rules,
            _image_columns(run.manifest),
        )  # fmt: skip
        known = Merge(
            alive=set(run.images["product_id"].to_numpy(object)),
            links=links,
            barriers={pair: each.verdict for pair, each in decisions.items()
                      if each.verdict in APART},
            chosen=_chosen(decisions),
            rank=_rank(run.result.groups),
            base={product: each.target for product, each in retired.items()},
        )  # fmt: skip
        actions, conflicts = merge(known, cells.conflicts)
        changes = _changes(actions, cells, known)
        plan = self._with_pages(run, actions, conflicts, changes, pages, retired, decisions)
        return _with_compared(plan, compared_columns(rules, list(map(str, run.products.columns))))

    def _check(self, run: DetectRun) -> None:
        wrong = [tier for tier in self.trust if tier not in EXACT]
        if wrong:
            raise ConfigError(
                f"plan.trust: {', '.join(wrong)} is no tier of equal images, use some of "
                f"{', '.join(EXACT)}"
            )
        if wrong := [name for name in self.redirects if name not in SHOPS]:
            raise ConfigError(
                f"plan.redirects: there is no format {', '.join(wrong)}, use some of "
                f"{', '.join(SHOPS)}"
            )
        if not run.manifest:
            raise ArtifactError(
                f"the index that {run.name} was found in is gone, and with it your table: run "
                f"{command('detect')} again"
            )

    def places(self) -> list[str | Path]:
        """List what was applied of earlier plans, the oldest first."""
        if self.applied is None:
            return []
        return [self.applied] if isinstance(self.applied, str | Path) else list(self.applied)

    def _with_pages(
        self,
        run: DetectRun,
        actions: list[Action],
        conflicts: list[GroupConflict],
        changes: list[Change],
        pages: dict[str, list[str]],
        retired: Mapping[str, Retired],
        decisions: Decisions,
    ) -> Plan:
        """Add redirects between pages, families of variants, and notes on what is missing."""
        has_pages = self.url_column is not None or self.url_template is not None
        pages = {**{key: list(each.pages) for key, each in retired.items() if each.pages}, **pages}
        redirected = [each for each in actions if each.action == REDIRECT]
        target_of = {each.product_id: each.target for each in redirected}
        check_pages(pages, target_of, same_page)
        conflicts = [*conflicts, *(_without_pages(redirected, pages) if has_pages else ())]
        changed = [each for each in redirected if each.change != SAME]
        same = [each for each in redirected if each.change == SAME]
        imported = _redirects(changed, pages)
        notes = [] if has_pages or not actions else [
            "No redirects were written: name the pages of your products with plan.url_column or "
            "plan.url_template"
        ]  # fmt: skip
        return Plan(
            actions=actions,
            conflicts=sorted(conflicts),
            changes=changes,
            pages=pages,
            redirects=[*imported, *_redirects(same, pages)],
            n_imported=len(imported),
            outdated=_redirects(
                [each._replace(target=each.former_target) for each in changed
                 if each.former_target], pages,
            ),
            item_groups=_item_groups(run.result.families, decisions, actions),
            shops=self.redirects if has_pages else (),
            store_ids=self.store_ids,
            notes=notes + ([] if actions else [_nothing(decisions, self.trust)]),
            n_undecided=_n_undecided(run, decisions, self.trust),
        )  # fmt: skip


def _with_compared(plan: Plan, compared: Mapping[str, str]) -> Plan:
    """Add the columns that are compared, and a note where products are merged without any."""
    if plan.actions and not compared:
        note = (
            "No column is compared before products are merged, as no name is a known one: say "
            "which hold the brand and the price, as in 'plan.columns=[equal:BRAND,flag:PRICE]'"
        )
        return replace(plan, notes=[*plan.notes, note])
    return replace(plan, compared=compared)


def _image_columns(manifest: Mapping[str, object]) -> list[str]:
    columns = manifest.get("url_column") or []
    return [columns] if isinstance(columns, str) else list(columns)  # type: ignore[call-overload]


def _links(run: DetectRun, decisions: Decisions, trust: Sequence[str]) -> list[Link]:
    """Collect the reasons to merge: people's decisions, and trusted pairs without one."""
    links = [
        Link(pair, "decided to be duplicates", each.reviewer or "a person")
        for pair, each in decisions.items() if each.verdict == DUPLICATE
    ]  # fmt: skip
    pairs = run.result.pairs
    exact = pairs[pairs["tier"].isin(_trusted(trust))]
    return links + [
        Link((a, b), tier.replace("_", " "), RULE)
        for a, b, tier in exact[[*ENDS, "tier"]].to_numpy(object)
        if (a, b) not in decisions
    ]


def _trusted(trust: Sequence[str]) -> list[str]:
    """List the tiers that are trusted: those named, and all surer ones."""
    return list(EXACT[: max((EXACT.index(tier) + 1 for tier in trust), default=0)])


def _n_undecided(run: DetectRun, decisions: Decisions, trust: Sequence[str]) -> int:
    pairs = run.result.pairs
    others = pairs[~pairs["tier"].isin(_trusted(trust))]
    return sum((a, b) not in decisions for a, b in others[ENDS].to_numpy(object))


def _chosen(decisions: Decisions) -> dict[str, int]:
    """Return the products that people want to keep, the one chosen last as 0."""
    made: dict[str, float] = {}
    for each in decisions.values():
        if each.kept_id and each.verdict == DUPLICATE:
            made[each.kept_id] = max(each.made_at, made.get(each.kept_id, each.made_at))
    newest = sorted(made, key=lambda product: (-made[product], product))
    return {product: place for place, product in enumerate(newest)}


def _rank(groups: pd.DataFrame) -> dict[str, int]:
    """Return the products that the grouping keeps, which come before all others."""
    return dict.fromkeys(groups.loc[groups["kept"].astype(bool), "product_id"].tolist(), 0)


def _changes(actions: Sequence[Action], cells: Cells, known: Merge) -> list[Change]:
    """Choose what each kept product gains from those that this plan retires."""
    if not cells.rules:
        return []
    retired: dict[str, list[str]] = {}
    for each in actions:
        if each.action == REDIRECT and each.change == NEW:
            retired.setdefault(each.target, []).append(each.product_id)
    last = len(known.rank)
    return [
        change
        for kept in sorted(retired)
        for change in cells.changes(
            kept, sorted(retired[kept], key=lambda each: (known.rank.get(each, last), each))
        )
    ]


def _without_pages(
    redirected: Sequence[Action], pages: Mapping[str, Sequence[str]]
) -> list[GroupConflict]:
    """List the redirects that cannot be written, as one of the products has no address."""
    return [
        GroupConflict(
            each.group_id,
            Conflict("no_page", "", (missing,), (f"no redirect of {each.product_id}",), NOTES),
            False,
        )
        for each in redirected
        for missing in (each.product_id, each.target)
        if not pages.get(missing)
    ]


def _redirects(actions: Sequence[Action], pages: Mapping[str, Sequence[str]]) -> list[Redirect]:
    """Lead all pages of each product to the first page of its target."""
    made: dict[str, Redirect] = {}
    for each in actions:
        targets = pages.get(each.target, ())
        for source in pages.get(each.product_id, ()):
            if targets and same_page(source) not in map(same_page, targets):
                made.setdefault(source, Redirect(source, targets[0]))
    return [made[source] for source in sorted(made)]


def _item_groups(
    families: pd.DataFrame, decisions: Decisions, actions: Sequence[Action]
) -> dict[str, str]:
    """Join variants: the products of one family get its smallest id; retired ones are left out."""
    away = {each.product_id: each.target for each in actions if each.action == REDIRECT}
    pairs = [
        *zip(families["product_id"], families["family_id"], strict=True),
        *(pair for pair, each in decisions.items() if each.verdict == "variant"),
    ]
    standing = [(away.get(a, a), away.get(b, b)) for a, b in pairs]
    links = [Link((min(pair), max(pair)), "", "") for pair in standing if pair[0] != pair[1]]
    alive = {product for link in links for product in link.pair}
    joined, _ = merge(Merge(alive, links), lambda products: ())
    return {each.product_id: each.group_id for each in joined}


def _nothing(decisions: Decisions, trust: Sequence[str]) -> str:
    if not decisions and not trust:
        return (
            "The plan is empty, as nothing is decided: name people's decisions with ledger=sqlite "
            "or plan.decisions=PATH, or trust equal images with "
            "plan.trust=[same_bytes,same_pixels]"
        )
    return "The plan is empty: no two products are decided to be duplicates, or trusted"
