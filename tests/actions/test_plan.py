"""Plans of whole shops: planted conflicts, files that are done and undone, plans in a row."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dedup.actions.plan import Plan, Planner
from dedup.actions.plan_report import write_plan
from dedup.actions.runs import DetectRun
from dedup.errors import ArtifactError, ConfigError, CorruptError, SourceError
from dedup.runtime.tables import read_table
from dedup.schemas import PLAN
from tests.actions.runs import Pair, pair, shop_run

TRUST = ["same_pixels"]
COLUMNS = ("id", "title", "brand", "gtin", "price", "size", "link", "tags")
GTINS = ["4006381333931", "036000291452", "96385074", "9780306406157"]


def product(key: str, **cells: str) -> dict[str, str]:
    own = {"id": key, "title": f"Title {key}", "brand": "Acme", "price": "10.00 EUR", "size": "M",
           "link": f"https://shop.example/p/{key}"}  # fmt: skip
    return dict.fromkeys(COLUMNS, "") | own | cells


def shop(rows: Sequence[dict[str, str]], pairs: Sequence[Pair], **more: Any) -> DetectRun:
    return shop_run(pd.DataFrame(rows, columns=list(COLUMNS)), pairs, **more)


def equal(a: str, b: str) -> Pair:
    return pair(a, b, "same_pixels")


PLANTS = {  # of a column: cells of two products that conflict, and others that do not
    "gtin": ((GTINS[0], GTINS[1]), (GTINS[1], f"0{GTINS[1]}")),
    "brand": (("Acme", "Umbra"), ("Acme ", "ACME")),
    "price": (("10.00 EUR", "11.50 EUR"), ("10.00 EUR", "10,90 EUR")),
    "size": (("M", "L"), ("10 cm", "10cm")),
}


def test_planted_conflicts_are_found_and_no_others() -> None:
    rows, pairs, planted = [], [], set()
    for number in range(1200):
        column, (wrong, fine) = list(PLANTS.items())[number % len(PLANTS)]
        is_planted = number < 200
        names = [f"G{number:04}-{place}" for place in range(2 + number % 3)]
        cells = wrong if is_planted else fine
        if column == "price" and not is_planted:
            cells = ("10.00 EUR", "10.90 EUR")
        rows += [
            product(name, **{column: cells[min(place, 1)]}) for place, name in enumerate(names)
        ]
        pairs += [equal(names[0], other) for other in names[1:]]
        if is_planted:
            planted.add((names[0], column))
    plan = Planner(trust=TRUST)(shop(rows, pairs))
    assert {(each.group_id, each.conflict.column) for each in plan.conflicts} == planted
    reviewed = {each.group_id for each in plan.actions if each.action == "review"}
    assert reviewed == {group for group, _ in planted}
    assert plan.counts()["groups"] == 1200
    assert plan.counts()["keep"] == 1000


def small_shop() -> DetectRun:
    """Two groups to merge, one with a conflict, one undecided pair and a family of variants."""
    rows = [
        product("A", title="", tags="new"), product("B", tags="sale"), product("C", tags="new, x"),
        product("D"), product("E", link="https://shop.example/p/e%20e?x=1"),
        product("F", size="S"), product("G", size="L"),
        product("H"), product("I"), product("V"), product("=W", link=""),
    ]  # fmt: skip
    pairs = [equal("A", "B"), equal("B", "C"), equal("D", "E"), equal("F", "G"), pair("H", "I"),
             equal("=W", "V")]  # fmt: skip
    families = {"A": "A", "V": "A", "H": "A", "D": "D", "E": "D"}
    return shop(rows, pairs, families=families, kept=["B", "V"])


def planner(**more: Any) -> Planner:
    columns = ["fill:title", "union:tags"]
    return Planner(**({"trust": TRUST, "columns": columns, "url_column": "link"} | more))


def write(plan: Plan, folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_plan(plan, {}, folder)
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_files_of_a_plan(tmp_path: Path) -> None:
    folder = write(planner()(small_shop()), tmp_path / "plan")
    table = read_table(folder / "plan.parquet", PLAN)
    assert table[["group_id", "product_id", "action", "target"]].to_numpy().tolist() == [
        ["=W", "=W", "redirect", "V"], ["=W", "V", "keep", ""],
        ["A", "A", "redirect", "B"], ["A", "B", "keep", ""], ["A", "C", "redirect", "B"],
        ["D", "D", "keep", ""], ["D", "E", "redirect", "D"],
        ["F", "F", "review", ""], ["F", "G", "review", ""],
    ]  # fmt: skip
    assert [row["product_id"] for row in rows_of(folder / "retire.csv")] == ["=W", "A", "C", "E"]
    assert rows_of(folder / "changes.csv") == [
        {"product_id": "B", "column": "tags", "old": "sale", "new": "sale, new, x",
         "source": "A C"},
    ]  # fmt: skip
    assert [list(row.values()) for row in rows_of(folder / "conflicts.csv")] == [
        ["=W", "no_page", "", "=W", "", "no redirect of =W", "", "noted"],
        ["F", "differs", "size", "F", "G", "S", "L", "review"],
    ]
    assert (folder / "redirects" / "shopify.csv").read_text() == (
        "Redirect from,Redirect to\n/p/A,/p/B\n/p/C,/p/B\n/p/e%20e?x=1,/p/D\n"
    )
    assert (folder / "merchant.csv").read_text() == "id,item_group_id\nB,B\nH,B\nV,B\n"
    facts = json.loads((folder / "plan.json").read_text())
    assert facts["counts"]["undecided_pairs"] == 1
    assert {*facts["files"]} == {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    } - {"plan.json"}
    page = (folder / "plan.html").read_text(encoding="utf-8")
    assert "4 products to retire" in page
    assert "<script" not in page


def done(folder: Path, state: dict[str, dict[str, str]], undo: bool = False) -> None:
    """Do what the files of a plan say to products, cells and redirects, or take it back."""
    place = folder / "undo" if undo else folder
    for row in rows_of(place / "changes.csv"):
        cells = state[row["product_id"]]
        assert cells[row["column"]] == row["old"]
        cells[row["column"]] = row["new"]
    for row in rows_of(folder / "undo" / "restore.csv" if undo else folder / "retire.csv"):
        state[row["product_id"]]["sold"] = "yes" if undo else "no"
    redirects = state["redirects"]
    if undo:
        for row in rows_of(place / "remove_redirects.csv"):
            assert redirects.pop(row["source"]) == row["target"]
        redirects |= {row["source"]: row["target"] for row in rows_of(place / "set_redirects.csv")}
    else:
        for row in rows_of(folder / "redirects" / "shopify.csv"):
            redirects[row["Redirect from"]] = row["Redirect to"]


def state_of(run: DetectRun) -> dict[str, dict[str, str]]:
    rows = run.products.to_dict("records")
    state = {str(row["id"]): {**map_text(row), "sold": "yes"} for row in rows}
    return {**state, "redirects": {}}


def map_text(row: Any) -> dict[str, str]:
    return {str(name): str(cell) for name, cell in row.items()}


def test_a_plan_that_is_done_and_undone_leaves_what_was_there(tmp_path: Path) -> None:
    run = small_shop()
    first = write(planner()(run), tmp_path / "first")
    state, before = state_of(run), state_of(run)
    done(first, state)
    assert state["A"]["sold"] == "no"
    assert state["redirects"]["/p/A"] == "/p/B"
    middle = json.loads(json.dumps(state))
    decisions = write_decisions(tmp_path, [("B", "D", "D")])
    later = planner(applied=first, decisions=decisions, columns="auto")(run)
    second = write(later, tmp_path / "second")
    done(second, state)
    assert state["redirects"] == {
        "/p/A": "/p/D", "/p/B": "/p/D", "/p/C": "/p/D", "/p/e%20e?x=1": "/p/D",
    }  # fmt: skip
    done(second, state, undo=True)
    assert state == middle
    done(first, state, undo=True)
    assert state == before


def write_decisions(folder: Path, made: Sequence[tuple[str, str, str]]) -> Path:
    path = folder / "decisions.jsonl"
    lines = [
        {"left_id": a, "right_id": b, "verdict": "duplicate", "kept_id": kept or None,
         "made_at": f"2026-11-{day:02}", "undoes": None, "reviewer": "kim"}
        for day, (a, b, kept) in enumerate(made, start=1)
    ]  # fmt: skip
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def test_two_plans_in_a_row_are_one_of_both(tmp_path: Path) -> None:
    run = small_shop()
    first = write(planner()(run), tmp_path / "first")
    decisions = write_decisions(tmp_path, [("C", "D", ""), ("H", "I", "I")])
    both = planner(decisions=decisions)(run)
    receipt = tmp_path / "done.csv"
    receipt.write_bytes((first / "retire.csv").read_bytes())
    for applied in (first, str(receipt), [receipt]):
        second = planner(decisions=decisions, applied=applied)(run)
        for plan in (both, second):
            targets = {each.product_id: each.target for each in plan.actions}
            assert targets == {
                "A": "B", "B": "", "C": "B", "D": "B", "E": "B", "F": "", "G": "", "H": "I",
                "I": "", "V": "", "=W": "V",
            }  # fmt: skip
        assert sorted(second.redirects) == sorted(both.redirects)
        assert [each.product_id for each in second.retired()] == ["D", "H"]
        changed = [each.product_id for each in second.actions if each.change == "changed"]
        assert changed == ["E"]
    again = planner(decisions=decisions, applied=write(second, tmp_path / "second"))(run)
    assert again.retired() == []
    assert again.n_imported == 0
    assert sorted(again.redirects) == sorted(both.redirects)


def test_pages_of_products_that_left_the_table_are_remembered(tmp_path: Path) -> None:
    run = small_shop()
    first = write(planner()(run), tmp_path / "first")
    left = run.products[~run.products["id"].isin(["A", "C", "E", "=W"])]
    later = shop(left.to_dict("records"), [pair("H", "I")])
    decisions = write_decisions(tmp_path, [("B", "D", "D")])
    second = planner(applied=first, decisions=decisions)(later)
    assert {each.source: each.target for each in second.redirects} == {
        "/p/A": "/p/D", "/p/B": "/p/D", "/p/C": "/p/D", "/p/e%20e?x=1": "/p/D",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_change_a_byte(seed: int, tmp_path: Path) -> None:
    run, rng = small_shop(), random.Random(seed)
    rows = run.products.to_dict("records")
    mixed = shop(rng.sample(rows, len(rows)), [], kept=["B", "V"])
    pairs = run.result.pairs.sample(frac=1, random_state=seed)
    object.__setattr__(mixed, "result", run.result)
    object.__setattr__(mixed.result, "pairs", pairs)
    one = write(planner()(small_shop()), tmp_path / "one")
    other = write(planner()(mixed), tmp_path / "other")
    for file in one.rglob("*.*"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file.name


def test_people_decide_over_flags_and_rules(tmp_path: Path) -> None:
    decisions = write_decisions(tmp_path, [("F", "G", "G")])
    plan = planner(decisions=decisions)(small_shop())
    (flag,) = [each for each in plan.conflicts if each.conflict.column == "size"]
    assert not flag.is_open
    of = {each.product_id: each for each in plan.actions}
    assert (of["F"].action, of["F"].target, of["F"].decided_by) == ("redirect", "G", "kim")
    assert (of["G"].reason, of["G"].decided_by) == ("chosen", "kim")


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"trust": ["near"]}, ConfigError, "near is no tier of equal images"),
    ({"redirects": ["shopware"]}, ConfigError, "there is no format shopware"),
    ({"url_column": "lnk"}, ConfigError, "no column lnk"),
    ({"columns": ["fill:titel"]}, ConfigError, "did you mean title?"),
    ({"applied": "gone"}, ArtifactError, "gone cannot be read"),
    ({"url_column": None, "url_template": "/p/{brand}"}, SourceError, "is the page of"),
]


@pytest.mark.parametrize(("settings", "error", "message"), REFUSED)
def test_what_a_plan_refuses(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        planner(**settings)(small_shop())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,target\nA,B\n", "has no column product_id"),
        ("product_id,target\nA,\n", "line 2: a product and another one"),
        ("product_id,target\nA,A\n", "line 2: a product and another one"),
        ("product_id,target\nA,B\nB,A\n", "leads in a circle"),
    ],
)
def test_a_receipt_that_is_refused(text: str, message: str, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.csv"
    receipt.write_text(text)
    with pytest.raises(SourceError) as caught:
        planner(applied=receipt)(small_shop())
    assert message in str(caught.value)


def test_a_plan_that_was_damaged_is_refused(tmp_path: Path) -> None:
    folder = write(planner()(small_shop()), tmp_path / "plan")
    file = folder / "plan.parquet"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(CorruptError, match=r"plan\.parquet is not what was written"):
        planner(applied=folder)(small_shop())


def test_a_plan_of_nothing_says_what_to_do() -> None:
    plan = Planner()(small_shop())
    assert plan.actions == []
    assert "plan.trust=[same_bytes,same_pixels]" in plan.notes[0]
    assert "No redirects were written" in Planner(trust=TRUST)(small_shop()).notes[0]


def test_a_plan_says_which_columns_it_compared() -> None:
    plan = Planner(trust=TRUST)(small_shop())
    assert "; compared " in plan.sentence()
    assert plan.compared["brand"] == "equal"
    keep = [f"keep:{name}" for name in plan.compared if name != "gtin"]
    assert "; compared gtin (equal)" in Planner(trust=TRUST, columns=keep)(small_shop()).sentence()


def test_a_plan_that_compares_no_column_warns() -> None:
    rows = pd.DataFrame({"id": ["A", "B"], "Ware": ["x", "y"]})
    run = shop_run(rows, [equal("A", "B")])
    plan = Planner(trust=TRUST)(run)
    assert any("No column is compared" in note for note in plan.notes)
    assert "compared" not in plan.sentence()
