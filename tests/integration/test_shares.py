"""The benchmark of shares of copies: what it takes as a base, and how it counts a search."""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dedup.detection.calibration import Calibration
from dedup.detection.results import DetectionResult
from dedup.schemas import PAIRS
from tests.conftest import ROOT, draw

sys.path += [str(ROOT / "scripts"), str(ROOT / "benchmarks")]
import bases
import edited
import outcomes
from held_out import is_held_out

SUMS = {
    "181": "e72b7f4636780fc97d21293bf395db04997803412dea4de68908e7d61b917111",
    "204": "6249017f9372350bfc9cf3456c324bbb3661e1bb5a7a10d61912fd1be650d52f",
    "": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
}
"""Of each key with a 0 before it, by sha256sum."""


def scene(seed: int, side: int = 120) -> Image.Image:
    return Image.fromarray(np.asarray(draw(seed, (side, side)), np.uint8))


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def test_a_third_of_the_keys_is_held_out() -> None:
    assert 0.3 < np.mean([is_held_out(str(key)) for key in range(3000)]) < 0.37
    for key, digest in SUMS.items():
        assert is_held_out(key) == (int(digest, 16) % 3 == 0)


def test_goods_are_on_white_large_enough_not_flat_and_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "goods"
    see_through = scene(1).convert("RGBA")
    see_through.putalpha(Image.fromarray(np.pad(np.full((60, 60), 255, np.uint8), 30)))
    save(see_through, folder / "a" / "alpha.png")
    save(see_through.resize((240, 240)), folder / "b" / "again.png")
    save(scene(2, 59), folder / "small.png")
    save(Image.new("RGB", (100, 100), "red"), folder / "flat.png")
    save(scene(3, 1000), folder / "large.jpg")
    (folder / "none.png").write_bytes(b"no image")
    rng = np.random.default_rng(0)
    found = bases.goods(folder, False, 10, rng, tmp_path / "out")
    names = sorted(item.key.split("/")[1].rsplit("-", 1)[0] for item in found)
    assert names in (["again", "large"], ["alpha", "large"])
    for item in found:
        with Image.open(item.file) as image:
            assert image.mode == "RGB"
            assert max(image.size) <= bases.MOST_SIDE
            if "large" not in item.key:
                assert min(image.getpixel((0, 0))) > 250


def test_photos_of_held_out_senders_alone(tmp_path: Path) -> None:
    table = tmp_path / "ids.csv"
    senders = [str(number) for number in range(12)]
    rows = [f"{sender}.jpg,{sender}" for sender in senders]
    table.write_text("\n".join(["file,sender_id", *rows]), encoding="utf-8")
    files = [tmp_path / f"{sender}.jpg" for sender in [*senders, "unlisted"]]
    taken = bases.held_out_only(files, table)
    assert [file.stem for file in taken] == [sender for sender in senders if is_held_out(sender)]
    assert bases.held_out_only(files, None) == files


def test_a_mixed_base_draws_its_kinds_alike_while_they_last() -> None:
    sizes = {"photos": 2, "packshots": 9, "goods": 9}
    items = [
        bases.Item(f"{kind}{number}", kind, Path())
        for kind, size in sizes.items()
        for number in range(size)
    ]
    drawn = bases.Base("mixed", items, []).drawn(10, np.random.default_rng(1))
    assert len({item.key for item in drawn}) == 10
    kinds = [item.kind for item in drawn]
    assert [kinds.count(kind) for kind in sizes] == [2, 4, 4]


@pytest.mark.parametrize("edits", [edited.PLAIN, edited.STRONG])
def test_copies_are_written_once_and_tell_their_edits(tmp_path: Path, edits: str) -> None:
    items = [
        bases.Item(str(seed), "photos", save(scene(seed), tmp_path / f"{seed}.png"))
        for seed in range(6)
    ]
    base = bases.Base("photos", items, items[:1])
    copies = edited.Copies(tmp_path / "copies", 5)
    made = copies(base, items, edits, 0)
    assert [copy.key for copy in made] == [item.key for item in items]
    assert all(copy.edits for copy in made)
    before = [copy.file.stat().st_mtime_ns for copy in made]
    assert copies(base, items[::-1], edits, 0) == made[::-1]
    assert [copy.file.stat().st_mtime_ns for copy in made] == before
    others = copies(base, items, edits, 1)
    assert all(a.file != b.file for a, b in zip(made, others, strict=True))


def table(*rows: tuple[str, str, float, str]) -> pd.DataFrame:
    """Pairs of ids with a score and a tier."""
    columns = ["product_id_a", "product_id_b", "score", "tier"]
    made = pd.DataFrame(rows, columns=columns)
    made = made.assign(distance=0.1, evidence="", relation="same image", image_a="", image_b="")
    return made[PAIRS.names]


def test_a_search_is_counted_by_the_truth() -> None:
    """a, b, c and f have a copy each; a and d are known to be no different products."""
    products = {name: edited.Product(name[0].lower(), Path(name)) for name in "abcdef"}
    products |= {f"{name}2": edited.Product(name, Path(name), ("grey",)) for name in "abcf"}
    result = DetectionResult(
        pairs=table(
            ("a", "a2", 0.999, "near"),  # right
            ("b", "b2", 1.0, "same_pixels"),  # right, and no near pair
            ("a2", "d", 0.98, "near"),  # unknown
            ("c", "e", 0.97, "near"),  # wrong
        ),
        candidates=table(
            ("a", "a2", 0.999, "near"),
            ("a2", "d", 0.98, "near"),
            ("c", "e", 0.97, "near"),
            ("c", "c2", 0.6, "near"),  # right, to be looked at
            ("d", "e", 0.5, "near"),  # wrong, to be looked at
        ),
        related=table(("c", "c2", math.nan, "near"), ("d", "e", math.nan, "near")).assign(
            relation="same product"
        ),
        groups=pd.DataFrame(),
        shared=pd.DataFrame(),
        calibration=Calibration(
            setting="verifier.min_score", threshold=0.9, higher_is_surer=True, precision=0.6,
            expected_precision=(0.9, 0.6, 1.0), interval=0.95, n_pairs=5,
        ),
    )  # fmt: skip
    known = bases.Bases({frozenset("ad")})
    outcome = outcomes.judged(
        result, products, known, asked=0.6, seconds=1.0, base="photos", n=6, share=0.5,
        edits=edited.PLAIN, run=0,
    )  # fmt: skip
    assert (outcome.copies, outcome.found) == (4, 2)
    assert (outcome.verified_right, outcome.verified) == (2, 4)
    assert (outcome.reported, outcome.wrong, outcome.unknown) == (2, 1, 1)
    assert outcome.precision == 0.5
    assert outcome.is_covered is False
    assert outcome.allowed == 3  # down to .6: three right pairs of four
    assert (outcome.below, outcome.below_right) == (2, 1)
    assert [fate for _, fate in outcome.fates] == [
        outcomes.REPORTED, outcomes.REPORTED, outcomes.BELOW, outcomes.UNSEEN,
    ]  # fmt: skip
    assert [mistake.ids for mistake in outcome.wrong_pairs] == [("c", "e")]
    assert [mistake.score for mistake in outcome.missed] == [0.6, -math.inf]
    (line,) = outcomes.by_edit([outcome])
    assert line == "| plain | grey | 4 | .500 | .750 | .750 |"
    assert [text.split(" | ")[2] for text in outcomes.pooled([outcome])] == ["0.5", "all"]
