"""The wheel carries configs, entry points, weights and pages, and runs without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "dedup"
CARRIED = {
    "assets": ["safetensors"], "reports": ["html", "css", "js"], "actions": ["html", "css"],
    "review/page": ["html", "css", "js", "svg"],
}  # fmt: skip
NEEDED = [
    "assets/judge.safetensors", "assets/vocabulary.safetensors", "reports/page.html",
    "reports/frame.html",
    "reports/page.css", "reports/page.js", "reports/certainty.html", "actions/plan.html",
    "review/page/index.html", "review/page/app.js", "review/page/review.css",
]  # fmt: skip


def test_the_wheel_runs_by_itself(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dedup_catalogue-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    configs = {f"dedup/{file.relative_to(ROOT)}" for file in (ROOT / "conf").rglob("*.yaml")}
    commands = ("train", "cluster", "detect", "review", "calibrate", "diff", "plan")
    entries = {f"dedup/{command}.py" for command in commands}
    carried = {
        f"dedup/{file.relative_to(PACKAGE)}"
        for folder, endings in CARRIED.items()
        for ending in endings
        for file in (PACKAGE / folder).glob(f"*.{ending}")
    }
    assert {f"dedup/{file}" for file in NEEDED} <= carried
    assert configs | entries | carried <= names

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-m", "dedup", "detect", "index=gone"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "gone is not an index" in done.stderr
    assert "make one with dedup cluster" in done.stderr
    where = subprocess.run(
        [sys.executable, "-c", "from dedup.config.instances import ROOT; print(ROOT)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()) == tmp_path / "installed" / "dedup"
