"""``review.py``, ``calibrate.py`` and ``detect.py calibration=`` on a small shop."""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import ImageOps

from dedup.cli.reviews import opened
from dedup.detection.integrity import inspect_run
from dedup.detection.results import DetectionResult
from dedup.review.sqlite import SqliteLedger
from tests.conftest import draw, encoded, python, run

DETECT = ["encoder=bundled", "source.path=products.csv", "detection.estimate_recall=false"]
WORK = {"filters": ["brand"], "rules": [], "audit": 40, "ask": "usual"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with mirrored copies and equal files, searched and reviewed by two people."""
    folder = tmp_path_factory.mktemp("calibrate")
    (folder / "images").mkdir()
    rows = []
    for number in range(10):
        image = draw(number)
        for name, shown in (("a", image), ("b", ImageOps.mirror(image)), ("c", image)):
            (folder / "images" / f"{number}{name}.jpg").write_bytes(encoded(shown))
            rows.append((f"P{number}{name}", f"images/{number}{name}.jpg", f"brand {number % 2}"))
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["productId", "imageUrlStr", "brand"])
        writer.writerows(rows)
    run("detect", *DETECT, "hydra.run.dir=runs/detect/first", cwd=folder)
    ledger = SqliteLedger(folder / "runs" / "ledger.sqlite")
    desk, _ = opened(folder / "runs" / "detect" / "first", ledger, WORK)
    assert len(desk.audit) > 20
    for turn, name in enumerate(("ann", "bob", "ann")):
        while items := [one for one in desk.next(9, name)["items"] if one["questions"][0]["blind"]]:
            for item in items:
                (one,) = item["questions"]
                is_right = one["left"][1] == one["right"][1]
                verdict = "duplicate" if is_right else "different"
                made = {"left": one["left"], "right": one["right"], "verdict": verdict,
                        "expected": one["expected"], "blind": True}  # fmt: skip
                desk.decide(f"{turn} {item['item']}", [made], name, "key")
    ledger.close()
    return folder


def test_a_run_is_measured_and_the_next_one_corrected(shop: Path) -> None:
    done = run("calibrate", "by=brand", cwd=shop)
    folder = (shop / "runs" / "calibrate" / "latest").resolve()
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "calibration.json", "labels.csv",
    ]  # fmt: skip
    facts = json.loads((folder / "calibration.json").read_text())
    result = DetectionResult.load(shop / "runs" / "detect" / "first")
    audited = facts["audited"]["precision"]
    n = len(result.pairs)
    assert audited["labels"] == n > 20
    assert audited["wrong"] == 0
    assert audited["low"] == audited["high"] == 1  # all pairs have labels
    assert facts["audited"]["recall"]["low"] > 0.9
    assert facts["more_labels"] == 0
    assert re.search(r"measured at least 1\.000.*0\.99 is proved", done.stderr)
    with (folder / "labels.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    assert [int(row["draw"]) for row in labels] == [*range(len(labels))]
    assert {row["blind"] for row in labels} == {"True"}
    assert inspect_run(folder) == []

    again = run("detect", *DETECT, f"calibration={folder}", cwd=shop)
    later = DetectionResult.load((shop / "runs" / "detect" / "latest").resolve())
    assert later.calibration is not None
    assert later.calibration.recalibration is not None
    assert later.calibration.recalibration.to_dict() == facts["recalibration"]
    assert "Traceback" not in again.stderr
    known = {tuple(pair) for pair in result.pairs[["product_id_a", "product_id_b"]].to_numpy()}
    now = {tuple(pair) for pair in later.pairs[["product_id_a", "product_id_b"]].to_numpy()}
    assert now >= known


WRONG = {
    "no ledger": ("calibrate", ["ledger.path=gone"], "no ledger at gone"),
    "no such column": ("calibrate", ["by=colour"], "no column colour"),
    "precision of all": ("calibrate", ["precision=1"], "precision"),
    "not a calibration": (
        "detect", [*DETECT, "calibration=runs/detect/first"], "no calibration by decisions",
    ),
    "no scores": (
        "detect", [*DETECT, "calibration=made.json", "matcher.threshold=0", "verifier=none"],
        "automatic threshold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_what_does_not_fit_is_refused(case: str, shop: Path) -> None:
    name, words, message = WRONG[case]
    if "calibration=made.json" in words:
        run("calibrate", "hydra.run.dir=runs/calibrate/made", cwd=shop)
        made = shop / "runs" / "calibrate" / "made" / "calibration.json"
        (shop / "made.json").write_bytes(made.read_bytes())
    done = python("-m", "dedup", name, *words, cwd=shop)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_scores_of_another_classifier_are_not_corrected(shop: Path) -> None:
    run("calibrate", "hydra.run.dir=runs/calibrate/other", cwd=shop)
    done = python("-m", "dedup", "detect", *DETECT, "verifier.third_look=xfeat",
                  "calibration=runs/calibrate/other", cwd=shop)  # fmt: skip
    assert done.returncode != 0
    assert "another classifier" in done.stderr or "xfeat" in done.stderr
