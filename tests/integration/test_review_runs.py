"""What was decided on is not asked again by later runs; what is new is, and nothing else."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dedup.cli.reviews import opened
from dedup.review.decisions import VERDICTS, Pair, pair_of
from dedup.review.desk import Desk
from dedup.review.ledger import RefusedError
from dedup.review.sqlite import SqliteLedger
from tests.conftest import SMALL, draw, encoded, run, write_shop

N = 20
WORK = {"filters": [], "rules": [], "audit": 0, "ask": "usual"}
PLANTED = {pair_of(f"O{n:02}", f"C{n:02}") for n in (3, 7)}
"""Pairs whose products both get a new image, which they share."""


def write(folder: Path, n_new: int = 0, replaced: tuple[int, ...] = ()) -> None:
    """Originals, and copies: of the bytes, of the pixels, or smaller ones.

    Args:
        folder: of ``products.csv``.
        n_new: new products, each a copy of an original.
        replaced: numbers of the originals and copies that show another image.
    """
    images = folder / "images"
    images.mkdir(exist_ok=True)
    rows = []
    for n in range(N):
        name = f"{n}-new" if n in replaced else str(n)
        picture = draw(1000 + n if n in replaced else n)
        content = encoded(picture)
        (images / f"{name}.jpg").write_bytes(content)
        stored = Image.open(io.BytesIO(content))
        kind = 0 if n in replaced else n % 3
        if kind == 0:
            (images / f"{name}-copy.jpg").write_bytes(content)
        elif kind == 1:
            (images / f"{name}-copy.jpg").write_bytes(encoded(stored, "PNG"))
        else:
            (images / f"{name}-copy.jpg").write_bytes(encoded(stored.resize((120, 160))))
        rows += [(f"O{n:02}", f"images/{name}.jpg"), (f"C{n:02}", f"images/{name}-copy.jpg")]
    rows += [(f"N{n:02}", f"images/{n}.jpg") for n in range(n_new)]
    write_shop(folder, rows)


def open_pairs(desk: Desk) -> set[Pair]:
    """All pairs that a reviewer is asked."""
    items = desk.next(1000, "bob")["items"]
    return {(one["left"], one["right"]) for it in items for one in it["questions"] if one["open"]}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in which every question was decided on, by verdicts at random."""
    folder = tmp_path_factory.mktemp("reviewed")
    write(folder)
    run("train", "source=csv", "source.path=products.csv", *SMALL, cwd=folder)
    run("cluster", cwd=folder)
    run("detect", cwd=folder)
    ledger = SqliteLedger(folder / "runs" / "ledger.sqlite")
    desk, _ = opened(folder / "runs" / "detect" / "latest", ledger, WORK)
    asked = open_pairs(desk)
    assert asked >= {pair_of(f"O{n:02}", f"C{n:02}") for n in range(N) if n % 3 < 2}
    draw_verdict = random.Random(0)
    for n, (left, right) in enumerate(sorted(asked)):
        choice = {"left": left, "right": right, "verdict": draw_verdict.choice(VERDICTS)}
        try:
            desk.decide(str(n), [choice], "ann", "key")
        except RefusedError:
            continue  # it contradicts others, and so follows from them
    assert not open_pairs(desk)
    ledger.close()
    return folder


def again(folder: Path) -> None:
    run("detect", cwd=folder)


def with_the_ledger(folder: Path) -> None:
    run("detect", "ledger=sqlite", cwd=folder)


def retrained(folder: Path) -> None:
    run("train", "source=csv", "source.path=products.csv", "seed=7", *SMALL, cwd=folder)
    run("cluster", cwd=folder)
    run("detect", "ledger=sqlite", cwd=folder)


def another_threshold(folder: Path) -> None:
    run("detect", "verifier=local", "verifier.min_score=0.05", cwd=folder)


def other_clusters(folder: Path) -> None:
    run("cluster", "clusterer.n_clusters=5", "seed=3", cwd=folder)
    run("detect", "ledger=sqlite", cwd=folder)


def new_products(folder: Path) -> None:
    write(folder, n_new=2, replaced=(3, 7))
    run("cluster", "source=csv", "source.path=products.csv", cwd=folder)
    run("detect", "ledger=sqlite", cwd=folder)


@pytest.mark.parametrize(
    "change",
    [again, with_the_ledger, retrained, another_threshold, other_clusters, new_products],
    ids=lambda change: change.__name__,
)
def test_nothing_is_asked_twice(change: Callable[[Path], None], decided: Path) -> None:
    change(decided)
    ledger = SqliteLedger(decided / "runs" / "ledger.sqlite")
    try:
        desk, _ = opened(decided / "runs" / "detect" / "latest", ledger, WORK)
        known = {row.pair for row in ledger.history.decisions()}
        asked = open_pairs(desk)
        planted = PLANTED if change is new_products else set()
        assert asked & known == planted == set(desk.state.reopened)
        if change is new_products:
            assert {product for pair in asked - known for product in pair} >= {"N00", "N01"}
    finally:
        ledger.close()
