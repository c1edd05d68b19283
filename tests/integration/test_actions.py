"""``diff.py`` and ``plan.py`` as a user types them, on a small shop."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from dedup.detection.integrity import inspect_run
from dedup.review.ledger import Choice
from dedup.review.sqlite import SqliteLedger
from tests.conftest import draw, encoded, python, run
from tests.search.test_build import save_encoder

EQUAL = ["matcher.threshold=0", "verifier=none", "checkpoint=encoder.ckpt", "source=csv"]
TRUST = "plan.trust=[same_bytes,same_pixels]"


def write_table(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["productId", "title", "imageUrlStr", "brand"])
        writer.writerows((key, f"Title {key}", f"images/{image}.jpg", brand)
                         for key, image, brand in rows)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop and two detect runs of it; in the second a product came and another one left."""
    folder = tmp_path_factory.mktemp("actions")
    save_encoder(folder / "encoder.ckpt", 0)
    (folder / "images").mkdir()
    for number in range(4):
        (folder / "images" / f"{number}.jpg").write_bytes(encoded(draw(number)))
        shutil.copy(folder / "images" / f"{number}.jpg", folder / "images" / f"{number}b.jpg")
    first = [("A", "0", "x"), ("B", "0b", "x"), ("C", "1", "x"), ("D", "1b", "y"), ("E", "2", "x"),
             ("F", "2b", "x")]  # fmt: skip
    write_table(folder, first)
    settings = [*EQUAL, "source.path=products.csv", "clusterer.n_clusters=2"]
    run("detect", *settings, "hydra.run.dir=runs/detect/monday", cwd=folder)
    write_table(folder, [*first[:4], ("E", "2", "x"), ("G", "2b", "x")])
    run("detect", *settings, "hydra.run.dir=runs/detect/tuesday", "since=runs/detect/monday",
        cwd=folder)  # fmt: skip
    return folder


def test_a_report_says_what_changed_since_the_last_run(shop: Path) -> None:
    expected = (
        r"since [-\dT:]+Z: 1 new \(new product\), 1 gone \(product removed\), 2 pairs the same"
    )
    for name in ("report.html", "detect.log"):
        assert re.search(expected, (shop / "runs/detect/tuesday" / name).read_text()), name
    assert inspect_run(shop / "runs/detect/tuesday") == []


def test_the_difference_of_two_runs(shop: Path) -> None:
    done = run("diff", "old=runs/detect/monday", cwd=shop)
    folder = shop / "runs" / "diff" / "latest"
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "diff.html", "diff.csv", "diff_groups.csv", "diff.json",
    ]  # fmt: skip
    facts = json.loads((folder / "diff.json").read_text())
    assert facts["pairs"] == {"new": 1, "gone": 1, "changed": 0, "reopened": 0, "same": 2}
    assert facts["new"]["run"] == "runs/detect/tuesday"
    assert facts["groups"] == {"grown": 1, "shrunk": 1}
    assert inspect_run(folder) == []
    seen = (folder / "diff.csv").read_text()
    run("diff", "old=runs/detect/monday", "before=runs/diff/latest", cwd=shop)
    assert (folder / "diff.csv").read_text() == seen


@pytest.mark.parametrize(("state", "code"), [("new", 1), ("changed", 0)])
def test_a_scheduler_may_fail_on_a_state(shop: Path, state: str, code: int) -> None:
    (shop / "runs/diff/latest").unlink(missing_ok=True)
    done = python("-m", "dedup", "diff", "old=runs/detect/monday", f"fail_on=[{state}]", cwd=shop)
    assert done.returncode == code, done.stderr
    assert ("fail_on=new: 1 new among the pairs" in done.stderr) == (code == 1)
    assert "Traceback" not in done.stderr
    assert (shop / "runs/diff/latest/run.json").is_file()


def test_a_plan_and_the_next_one(shop: Path) -> None:
    run("plan", TRUST, "plan.url_template=/products/{productId}", cwd=shop)
    folder = (shop / "runs" / "plan" / "latest").resolve()
    assert (folder / "redirects" / "woocommerce.csv").read_text() == (
        "source,target,regex,code\n/products/B,/products/A,0,301\n/products/G,/products/E,0,301\n"
    )
    with (folder / "conflicts.csv").open(newline="") as file:
        (conflict,) = csv.DictReader(file)
    assert (conflict["group_id"], conflict["column"]) == ("C", "brand")
    assert inspect_run(folder) == []
    decision = {"left_id": "A", "right_id": "E", "verdict": "duplicate", "kept_id": "E",
                "made_at": "2026-11-24T09:00:00Z", "undoes": None}  # fmt: skip
    (shop / "decisions.jsonl").write_text(f"{json.dumps(decision)}\n")
    done = python("-m", "dedup", "plan", TRUST, "plan.url_template=/products/{productId}",
                  "plan.decisions=decisions.jsonl", f"plan.applied={folder}", cwd=shop)  # fmt: skip
    assert done.returncode == 0, done.stderr
    later = shop / "runs" / "plan" / "latest"
    assert (later / "redirects" / "apache.map").read_text() == (
        "/products/A /products/E\n/products/B /products/E\n/products/G /products/E\n"
    )
    assert "1 to retire" in done.stderr


def test_a_plan_and_a_difference_take_the_decisions_of_a_ledger(shop: Path) -> None:
    ledger = SqliteLedger(shop / "runs" / "ledger.sqlite")
    ledger.append(
        "1", [Choice(("A", "E"), "duplicate", "E"), Choice(("C", "D"), "different")], "ann"
    )
    ledger.export(shop / "exported.jsonl")
    ledger.close()
    run("plan", TRUST, "ledger=sqlite", cwd=shop)
    folder = (shop / "runs" / "plan" / "latest").resolve()
    facts = json.loads((folder / "plan.json").read_text())
    assert facts["ledger"]["rows"] == 2
    content = (shop / "exported.jsonl").read_bytes()
    assert facts["ledger"]["sha256"] == hashlib.sha256(content).hexdigest()
    run("plan", TRUST, "plan.decisions=exported.jsonl", cwd=shop)
    other = shop / "runs" / "plan" / "latest"
    for name in ("plan.parquet", "conflicts.csv", "retire.csv"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    run("diff", "old=runs/detect/monday", "ledger=sqlite", cwd=shop)
    again = python(
        "-m", "dedup", "plan", "ledger=sqlite", "plan.decisions=exported.jsonl", cwd=shop
    )
    assert again.returncode == 2
    assert "both name decisions" in again.stderr


WRONG = {
    "no earlier run": ("diff", [], ["old= names no run"], 2),
    "no such run": ("diff", ["old=gone"], ["gone is not a result", "another detect run"], 2),
    "no such state": ("diff", ["old=a", "fail_on=[newer]"], ["fail_on", "reopened"], 2),
    "a table": ("diff", ["products.csv"], ["products.csv is no setting"], 2),
    "no such decisions": (
        "diff", ["old=runs/detect/monday", "decisions=x.jsonl"], ["x.jsonl cannot be read"], 2,
    ),
    "no such tier": ("plan", ["plan.trust=[near]"], ["plan.trust", "same_pixels"], 2),
    "no such column": ("plan", [TRUST, "plan.url_column=url"], ["no column url", "productId"], 2),
    "one page": (
        "plan", [TRUST, "plan.url_template=/p/{brand}"], ["/p/x is the page of", "url_column"], 2,
    ),
    "no such plan": ("plan", ["plan.applied=gone"], ["gone cannot be read"], 2),
    "no such ledger": (
        "plan", ["ledger=sqlite", "ledger.path=gone.sqlite"], ["no ledger at gone.sqlite"], 2,
    ),
    "not a plan": ("plan", ["plan.applied=images"], ["images is not a plan"], 2),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_what_is_wrong_is_said_in_one_message(case: str, shop: Path) -> None:
    name, arguments, words, code = WRONG[case]
    done = run(name, *arguments, cwd=shop, code=code)
    for word in words:
        assert word in done.stderr
