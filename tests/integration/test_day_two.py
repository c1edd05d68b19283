"""An index that changes, two catalogues, and reports on any machine, as the commands give them."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from dedup.runtime.tables import read_table
from dedup.schemas import GROUPS, PAIRS
from dedup.search.index import Index
from tests.conftest import run, shuffled

REPORTS = ["duplicates.json", "duplicates.csv", "report.html", "pairs.parquet", "groups.parquet"]
NEAR = "matcher.threshold=0.1"


def part(shop: Path, name: str, products: Sequence[str]) -> str:
    """A table of some of the shop's products, beside it; the overrides that name it."""
    lines = (shop / "products.csv").read_text().splitlines(keepends=True)
    chosen = [line for line in lines[1:] if line.split(",")[0] in products]
    (shop / name).write_text("".join([lines[0], *chosen]))
    return f"source.path={name}"


def products(*numbers: int) -> list[str]:
    return [f"P{number:02}" for number in numbers]


def found(shop: Path, runs: str) -> list[pd.DataFrame]:
    """Pairs and groups of the latest search."""
    latest = shop / runs / "detect" / "latest"
    schemas = {"pairs": PAIRS, "groups": GROUPS}
    return [read_table(latest / f"{name}.parquet", schema) for name, schema in schemas.items()]


def test_any_sequence_of_changes_ends_where_a_fresh_run_does(trained: Path) -> None:
    store = f"store.path={trained}/runs/store/pillow"
    common = ["checkpoint=runs/train/latest", store, "source=csv"]
    run("cluster", *common, "runs=two", part(trained, "first.csv", products(*range(12))),
        cwd=trained)  # fmt: skip
    run("detect", "runs=two", NEAR, cwd=trained)
    steps = [
        ["change=add", "source=csv", part(trained, "second.csv", products(*range(12, 24)))],
        ["change=remove", "ids=[P03,P04]"],
        ["change=update", "source=csv", part(trained, "third.csv", products(0, 3, 5))],
    ]
    for step in steps:
        done = run("cluster", "runs=two", *step, cwd=trained)
        (line,) = re.findall(r"next: python detect.py (.*)", done.stderr)
        words = shlex.split(line)
        assert words[1:] == ["since=two/detect/latest", NEAR]
        done = run("detect", "runs=two", *words, cwd=trained)
        named = [Path(line).name for line in done.stdout.splitlines()]
        assert named == [
            "duplicates.json", "duplicates.csv", "groups.csv", "health.csv", "report.html",
        ]  # fmt: skip
    (trained / "gone.txt").write_text("P21\nP20\n")
    run("cluster", "runs=two", "change=remove", "ids=gone.txt", cwd=trained)
    run("detect", "runs=two", NEAR, "since=two/detect/latest", cwd=trained)
    left = products(*(set(range(24)) - {4, 20, 21}))
    run("cluster", *common, "runs=fresh", part(trained, "left.csv", left), cwd=trained)
    run("detect", "runs=fresh", NEAR, cwd=trained)
    for one, other in zip(found(trained, "two"), found(trained, "fresh"), strict=True):
        pd.testing.assert_frame_equal(one, other)
    pairs = found(trained, "two")[0]
    assert "same_url" in set(pairs["tier"])
    assert "near" in set(pairs["tier"])
    assert sorted(Index.load(trained / "two/cluster/latest").products["productId"]) == sorted(left)


def test_a_changed_table_is_read_as_the_index_was(trained: Path) -> None:
    table = trained / "galleries.csv"
    header, first, second = (
        "sku,name,photos", "A,one,images/5.jpg;images/6.jpg", "B,two,images/7.jpg"
    )  # fmt: skip
    table.write_text("\n".join([header, first, second]) + "\n")
    settings = ["source.id_column=sku", "source.url_column=photos", "source.title_column=name",
                "source.choice=all"]  # fmt: skip
    run("cluster", "checkpoint=runs/train/latest", "source=csv", "source.path=galleries.csv",
        "runs=gallery", *settings, cwd=trained)  # fmt: skip
    table.write_text("\n".join([header, first, second, "C,three,images/8.jpg"]) + "\n")
    change = ["change=update", "source=csv", "source.path=galleries.csv", "runs=gallery"]
    done = run("cluster", *change, cwd=trained)
    assert "1 product added, 0 updated, 0 removed" in done.stderr
    assert "source.choice='all'" in done.stderr
    done = run("cluster", *change, cwd=trained)  # of the changed index, likewise
    assert "0 products added, 0 updated, 0 removed" in done.stderr
    done = run("cluster", *change, "source.choice=first", cwd=trained)
    assert "0 products added, 1 updated, 0 removed" in done.stderr
    run("cluster", "change=remove", "ids=[B]", "runs=gallery", cwd=trained)
    done = run("cluster", *change, cwd=trained)  # as it was read last
    assert "1 product added, 0 updated, 0 removed" in done.stderr


def test_two_catalogues(trained: Path) -> None:
    run("cluster", "checkpoint=runs/train/latest", "source=csv", "runs=theirs",
        part(trained, "theirs.csv", products(20, 21, 5)), cwd=trained)  # fmt: skip
    index = (trained / "runs" / "cluster" / "latest").resolve()
    run("detect", f"index={index}", "against=theirs/cluster/latest", "prefix=T:", "runs=across",
        cwd=trained)  # fmt: skip
    lists = json.loads((trained / "across/detect/latest/duplicates.json").read_text())
    theirs = {key: values for key, values in lists.items() if key.startswith("T:")}
    assert theirs == {"T:P20": ["P00", "P20"], "T:P21": ["P01", "P21"], "T:P05": ["P05"]}
    assert not [key for values in theirs.values() for key in values if key.startswith("T:")]


@pytest.mark.parametrize(
    ("settings", "threads"),
    [([NEAR, "checkpoint=runs/train/latest"], ["1", "2", "4"]), (["encoder=bundled"], ["1", "4"])],
    ids=["trained", "bundled"],
)
def test_reports_do_not_depend_on_threads_batches_or_row_order(
    trained: Path, settings: list[str], threads: list[str]
) -> None:
    found = []
    for number, n in enumerate(threads):
        for kept in ("verdicts", "recall"):  # else the first run's results would be compared
            shutil.rmtree(trained / "runs" / "store" / "pillow" / kept, ignore_errors=True)
        table = shuffled(trained / "products.csv", number, f"threads-{n}.csv")
        folder = f"equal-{settings[0]}-{n}".replace("=", "-")
        run("detect", "source=csv", f"source.path={table}", *settings, f"runs={folder}",
            f"data.batch_size={1 + 8 * number}", "store.path=runs/store/pillow", cwd=trained,
            OMP_NUM_THREADS=n)  # fmt: skip
        latest = trained / folder / "detect" / "latest"
        names = [*REPORTS, "search.json", "near.parquet", "compared.parquet", "calibration.json"]
        found.append({name: (latest / name).read_bytes() for name in names})
    for other in found[1:]:
        assert [name for name in other if other[name] != found[0][name]] == []
