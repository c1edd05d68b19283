"""Which of several processes this one is, and how they end together.

Training on several devices takes a process for each. They are started by ``launching``, by
torchrun or by SLURM, and learn from the environment which of them they are. The first one speaks
and writes; the others say warnings and errors alone, and have no run folder.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT_SECONDS = 0.5
"""How often a process looks whether the one that started it is still there."""

HOLD_BACK = 3.0
"""Seconds that a process other than the first waits before it says what ended it: where the first
knows too, it says so and ends the others by then."""

FOLLOWER = (
    "hydra.run.dir=${runs}",  # there is no run folder: what is to be written the first one writes
    "hydra.sweep.dir=${runs}",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=follower",
)
"""What the command line of every process but the first ends with."""


def is_first() -> bool:
    """Whether this is the only process of its run, or the first of several."""
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    if "LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ:
        return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
    return not n_launched() or os.environ.get("SLURM_PROCID", "0") == "0"


def n_launched() -> int:
    """How many processes torchrun or SLURM's srun started for this run; 0 without them.

    A job's script that SLURM runs without srun, and a shell that srun gives, are one process each
    and may start others.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return tasks if tasks > 1 else 0


def launcher() -> str:
    """What started the processes: ``torchrun`` or ``srun``."""
    return "torchrun" if "TORCHELASTIC_RUN_ID" in os.environ else "srun"


def join() -> tuple[str, ...]:
    """Take this process's place among those of its run, before anything else.

    Returns:
        What the command line is to end with.
    """
    if n_launched() or os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()
    return () if is_first() else FOLLOWER


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started in here take no notice of Ctrl-C: that is their parent's business.

    They would else say where they were, from their first moment on.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_with_parent() -> None:
    """End this process soon after the one that started it, however that one ends.

    A process that waits for another in a collective call waits for minutes, and a worker whose
    pool is gone for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def hold_back() -> None:
    """Wait before an error is said, unless this is the first process."""
    if not is_first():
        time.sleep(HOLD_BACK)
