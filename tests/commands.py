"""Runs commands one after another in one process, as a user types them: torch is loaded once.

From standard input comes a JSON list of commands, each a list of a command's name and its
arguments. After each, a line on standard output and one on standard error tell its exit code.
"""

import json
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
END = "== the command ended with exit code"


class Ended(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def run_all(commands: Sequence[Sequence[str]], cwd: Path) -> list[Ended]:
    """Run commands in a folder; none may show a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands", str(cwd)],
        cwd=ROOT, input=json.dumps(commands).encode(), capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    outs, errs = (stream.decode().split(END) for stream in (done.stdout, done.stderr))
    assert "Traceback" not in done.stderr.decode(), done.stderr.decode()
    codes = [int(rest.split()[0]) for rest in outs[1:]]
    said = [[text.partition("\n")[2] if n else text for n, text in enumerate(it)] for it in
            (outs, errs)]  # fmt: skip
    return [Ended(*one) for one in zip(codes, said[0], said[1], strict=False)]


def main() -> None:
    """Be that process."""
    import os

    from hydra.core.global_hydra import GlobalHydra

    commands = json.load(sys.stdin)
    os.chdir(sys.argv[1])
    for name, *arguments in commands:
        sys.argv = [name, *arguments]
        code: object = 0
        try:
            if name == "verify":
                runpy.run_module("dedup.verify", run_name="__main__")
            else:
                runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        GlobalHydra.instance().clear()
        for stream in (sys.stdout, sys.stderr):
            print(END, code, file=stream, flush=True)


if __name__ == "__main__":
    main()
