"""Every command in the documents runs as it stands there, top to bottom, in a shop's folder.

Those that train do so with a small network, on fewer drawn products; ``make stress`` runs them
unchanged.
"""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedup.cli.reviews import opened
from dedup.detection.results import DetectionResult
from dedup.review.ledger import Choice
from dedup.review.sqlite import SqliteLedger
from tests.conftest import draw, encoded, python, write_shop

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
LINKED = [*DOCS, *(ROOT / name for name in (*OTHERS, "src/dedup/assets/README.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAKE = {"make demo", "make test"}  # make test runs this file; .ci/run runs make test
ACTIVATE = ". .venv/bin/activate"
SERVER = "tensorboard --logdir runs/train/latest"
REVIEW = "python review.py"
CALIBRATE = "python calibrate.py"


def commands(path: Path) -> list[str]:
    """The lines of a document's shell blocks, comments left out."""
    lines = [
        line for block in BLOCK.findall(path.read_text("utf-8")) for line in block.splitlines()
    ]
    return [line for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Reader:
    """Who types the commands.

    Attributes:
        folder: where.
        is_brief: whether commands that train get a small network and few drawn products.
    """

    folder: Path
    is_brief: bool

    def run(self, command: str) -> None:
        """Run one command as it stands, and show what it printed if it fails."""
        # Its processes import torch anew; tests/integration/test_entrypoints.py runs one.
        if self.is_brief and "sweep_joblib" in command:
            command = re.sub(r",\S+", "", command.replace(" -m ", " --cfg job "))
        program, *arguments = shlex.split(command)
        if program == "dedup":
            program, arguments = "python", ["-m", "dedup", *arguments]
        if program == "python":
            more = briefer(command) if self.is_brief else []
            done = python(*arguments, *more, cwd=self.folder, **environment())
        else:
            done = subprocess.run(
                [program, *arguments], cwd=self.folder, env=environment(), capture_output=True,
                text=True,
            )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def briefer(command: str) -> list[str]:
    """Settings with which a command that trains takes seconds."""
    if "train.py" not in command or "--" in command:  # the latter only prints
        return []
    drawn = [] if "source" in command else ["source.n_products=60"]
    has_size = "hidden_dim" in command or "relisting" in command
    return drawn if has_size else [*drawn, "encoder.hidden_dim=16"]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="brief"),
        pytest.param(False, id="whole", marks=pytest.mark.stress),
    ],
)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody beside the entry points, a small shop, and a training run."""
    folder = tmp_path_factory.mktemp("docs")
    for entry in ("train", "cluster", "detect", "review", "calibrate", "diff", "plan"):
        (folder / f"{entry}.py").symlink_to(ROOT / f"{entry}.py")
    (folder / "images").mkdir()
    for number in range(1, 13):
        (folder / "images" / f"a{number}.jpg").write_bytes(encoded(draw(number)))
    write_shop(folder, [(f"A{number}", f"images/a{number}.jpg") for number in range(1, 13)])
    reader = Reader(folder, request.param)
    reader.run("python train.py epochs=1 encoder.hidden_dim=16")
    return reader


def environment() -> dict[str, str]:
    """As after activating the environment that runs this test."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def decide(folder: Path) -> None:
    """Decide on all pairs that the latest search compared, as people would on the page."""
    run = (folder / "runs" / "detect" / "latest").resolve()
    ledger = SqliteLedger(folder / "runs" / "ledger.sqlite")
    desk, _ = opened(run, ledger, {"filters": [], "rules": [], "audit": 0, "ask": "usual"})
    compared = DetectionResult.load(run).candidates
    known = ledger.history
    choices = [
        Choice(one.pair, "different", shown=one.shown)
        for one in desk.catalogue.evidence(compared)
        if known.current(one.pair) is None
    ]
    ledger.append("by hand", choices, "ann", desk.images, run=run.name)
    ledger.close()


@pytest.mark.parametrize("path", [d for d in DOCS if commands(d)], ids=lambda d: d.name)
def test_the_commands_run(path: Path, reader: Reader) -> None:
    for command in commands(path):
        if command in MAKE or command == ACTIVATE:
            continue
        if command == SERVER:
            check_tensorboard(reader.folder)
        elif command == REVIEW:
            check_review(reader.folder)
        elif command == CALIBRATE:
            decide(reader.folder)
            reader.run(command)
        else:
            reader.run(command)


def check_tensorboard(folder: Path) -> None:
    """Start TensorBoard on a free port, wait until it serves, and stop it."""
    arguments = [*shlex.split(SERVER), "--port", "0"]
    with subprocess.Popen(
        arguments, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        served = any("http://localhost" in line for line in server.stderr)
        server.terminate()
    assert served


def check_review(folder: Path, command: str = REVIEW) -> None:
    """Start the review app on a free port, open its page, and stop it as Ctrl-C does."""
    arguments = [sys.executable, *shlex.split(command)[1:], "server.port=0"]
    with subprocess.Popen(
        arguments, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        link = server.stdout.readline().split()[1]
        with urllib.request.urlopen(link) as answer:
            assert b"Review duplicates" in answer.read()
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 0, said
    assert "every decision is in runs/ledger.sqlite" in said


def test_the_demo_names_the_command_that_opens_the_app(trained: Path, tmp_path: Path) -> None:
    (line,) = re.findall(r'^\t@echo "(.*)"$', (ROOT / "Makefile").read_text(), re.MULTILINE)
    words, _, told = line.partition(": ")
    assert words == "Decide on the groups"
    assert told == "$(V)/bin/python review.py"
    shutil.copytree(trained, tmp_path / "demo", symlinks=True)
    (tmp_path / "demo" / "review.py").symlink_to(ROOT / "review.py")
    check_review(tmp_path / "demo", told)


def test_the_two_commands_of_the_readme_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {command.removeprefix("make ") for command in MAKE} <= set(targets)
    assert set(commands(README)) >= MAKE
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_python_of_the_readme_is_that_of_its_page() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    page = ROOT / "docs" / "reference" / "api.md"  # its examples are run by tests/test_api.py
    assert example in page.read_text("utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKED, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert target.startswith("https://") or there.exists(), target
        assert not anchor or target.startswith("https://") or anchor in anchors(there), target


def test_the_drawn_rooms_are_those_of_the_layers() -> None:
    spec = importlib.util.spec_from_file_location("draw_rooms", ROOT / "scripts" / "draw_rooms.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    committed = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert committed == script.draw(), "run: python scripts/draw_rooms.py docs/rooms.svg"
