"""A program that is forked does what one does that starts anew, and leaves the next one alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL, python
from tests.support.zygote import ZYGOTE

COMMANDS = [
    ["train", "source=csv", "source.path=products.csv", *SMALL, "epochs=1"],
    ["cluster"],
    ["detect", "matcher.threshold=0.1"],
]
ENDS = {
    "pass": (0, "", ""),
    "print('å'); raise SystemExit": (0, "å\n", ""),
    "raise SystemExit('why')": (1, "", "why\n"),
    "import os; os._exit(9)": (9, "", ""),
    "import os; os.kill(os.getpid(), 15)": (-15, "", ""),
    "import atexit; atexit.register(print, 'last'); print('first')": (0, "first\nlast\n", ""),
}
STATE = """
import logging, os, random, signal, sys
import numpy as np, torch
print(len(logging.getLogger("dedup").handlers), signal.getsignal(signal.SIGTERM).name,
      os.environ.get("LEFT"), os.getcwd(), sys.argv, sys.stdin.read())
for chance in random.random(), np.random.rand(), torch.initial_seed():
    print(chance, file=sys.stderr)
logging.getLogger("dedup").addHandler(logging.NullHandler())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.environ["LEFT"] = "behind"
torch.manual_seed(5)
os.chdir("/")
"""


@pytest.mark.parametrize("code", ENDS)
def test_it_ends_as_a_process_does(tmp_path: Path, code: str) -> None:
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == ENDS[code]


def test_an_error_shows_its_traceback(tmp_path: Path) -> None:
    done = python("-c", "1 / 0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_nothing_of_one_is_left_for_the_next(tmp_path: Path) -> None:
    first, second = (python("-c", STATE, "a", "b", cwd=tmp_path) for _ in "12")
    anew = python("-c", STATE, "a", "b", cwd=tmp_path, process=True)
    assert first.returncode == anew.returncode == 0, first.stderr
    assert first.stdout == second.stdout == anew.stdout
    chances = [done.stderr.split() for done in (first, second, anew)]
    assert len({chance for drawn in chances for chance in drawn}) == 9  # each has its own


def test_it_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        python("-c", "import time; time.sleep(60)", cwd=tmp_path, timeout=0.1)
    assert python("-c", "print(1)", cwd=tmp_path).stdout == "1\n"


def test_what_is_read_at_the_start_takes_a_process_of_its_own() -> None:
    assert ZYGOTE.serves({**os.environ, "WORLD_SIZE": "2"})
    assert not ZYGOTE.serves({**os.environ, "OMP_NUM_THREADS": "7"})
    assert not ZYGOTE.serves({**os.environ, "PYTHONHASHSEED": "7"})


def written(folder: Path) -> dict[str, bytes]:
    """What the commands left, but for logs, and times and paths of the folder itself."""
    runs = folder / "runs"
    files = {
        f"{command}/{name}": (runs / command / "latest" / name)
        for command, names in {
            "train": ["best.ckpt", "last.ckpt"],
            "cluster": ["vectors.npy", "centroids.npy", "images.parquet", "catalogue.csv"],
            "detect": ["pairs.parquet", "groups.parquet", "duplicates.csv", "report.html"],
        }.items()
        for name in names
    }
    return {name: file.read_bytes() for name, file in files.items()}


def test_commands_after_each_other_leave_what_processes_leave(shop: Path) -> None:
    """The processes have another seed of hashes, too: no byte may depend on it."""
    found = []
    for n_time, process in enumerate((False, True, False)):
        shutil.rmtree(shop.parent / "runs", ignore_errors=True)
        for command, *overrides in COMMANDS:
            done = python(
                str(ROOT / f"{command}.py"), *overrides, cwd=shop.parent, process=process,
                **({"PYTHONHASHSEED": str(n_time)} if process else {}),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        found.append(written(shop.parent))
    for other in found[1:]:
        assert [name for name in other if other[name] != found[0][name]] == []
