"""Runs commands one after another, as a user types them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT, python


class Ended(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def run_all(commands: Sequence[Sequence[str]], cwd: Path) -> list[Ended]:
    """Run commands in a folder, each a list of its name and its arguments.

    None may show a traceback.
    """
    return [_ended(*command, cwd=cwd) for command in commands]


def _ended(name: str, *arguments: str, cwd: Path) -> Ended:
    program = ["-m", "dedup", "check"] if name == "verify" else [str(ROOT / f"{name}.py")]
    done = python(*program, *arguments, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)
