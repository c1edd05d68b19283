"""Ranks of a run's processes, and their common end.

Training on several devices takes a process for each. ``training.launch``, torchrun or SLURM starts
them, and the environment gives each its rank. The first process logs and writes. The others log
warnings and errors only, and have no run folder.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT_SECONDS = 0.5
"""Seconds between two checks that the parent process is alive."""

HOLD_BACK = 3.0
"""Seconds that a process other than the first waits before it reports an error: a first process
that has the same error reports it and ends the others within this time."""

FOLLOWER = (
    "hydra.run.dir=${runs}",  # no run folder: only the first process writes
    "hydra.sweep.dir=${runs}",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=follower",
)
"""Overrides at the end of the command line of every process but the first."""


def is_first() -> bool:
    """Tell whether this is the only process of its run, or the first of several."""
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    if "LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ:
        return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
    return not n_launched() or os.environ.get("SLURM_PROCID", "0") == "0"


def n_launched() -> int:
    """Count the processes that torchrun or SLURM's srun started for this run; 0 without them.

    A job script without srun, and a shell under srun, are one process each and may start others.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return tasks if tasks > 1 else 0


def launcher() -> str:
    """Name the program that started the processes: ``torchrun`` or ``srun``."""
    return "torchrun" if "TORCHELASTIC_RUN_ID" in os.environ else "srun"


def join() -> tuple[str, ...]:
    """Join the processes of this run; to be called before anything else.

    Returns:
        Overrides for the end of the command line.
    """
    if n_launched() or os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()
    return () if is_first() else FOLLOWER


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which their parent handles.

    Otherwise each of them would print a traceback.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_with_parent() -> None:
    """End this process soon after its parent, however the parent ends.

    Otherwise a process in a collective call would wait for minutes, and a worker without its pool
    for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def hold_back() -> None:
    """Wait ``HOLD_BACK`` seconds before reporting an error, unless this is the first process."""
    if not is_first():
        time.sleep(HOLD_BACK)
