"""Start and stop the processes of a training run together.

Without torchrun or SLURM, ``python train.py trainer.gpus=4`` starts itself three more times once
the images are read. Lightning could do so too. But it appends settings to the command line that
suit Hydra's defaults alone, and when a child ends it kills the parent without an exit code.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.rendezvous import rendezvous

from dedup.errors import LostProcessError
from dedup.runtime.processes import ignore_interrupts, is_first, n_launched

log = logging.getLogger("dedup")

POLL_SECONDS = 0.2
"""Seconds between two checks of the children."""

GRACE = 2.0
"""Seconds from a child's end to that of the whole run, unless the run ends by itself."""

PATIENCE = 5.0
"""Seconds for which a process waits after losing another, to be ended by the one with a reason."""

READING = timedelta(days=30)
"""Longest wait for the first process, which may have a million images to fetch."""


def fit(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None = None,
) -> None:
    """Train in the trainer's number of processes.

    An error in a process ends all of them, with its message and its exit code.

    Args:
        trainer: result of ``build_trainer``.
        task: task to train.
        data: data module of the images.
        checkpoint: checkpoint to resume from.

    Raises:
        LostProcessError: another process ended without a message.
    """
    with _start_others(trainer) as children:
        try:
            trainer.fit(task, data, ckpt_path=checkpoint)
        except RuntimeError as error:
            # Perhaps another process ended. It reports the reason, and its parent ends this one.
            if trainer.world_size > 1:
                time.sleep(PATIENCE)
            if any(child.poll() is not None for child in children):
                raise LostProcessError(
                    f"one of {trainer.world_size} processes ended before training did: resume from "
                    "last.ckpt with resume=PATH"
                ) from error
            raise


@contextmanager
def _start_others(trainer: pl.Trainer) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start or await the other processes, and end them after use; yield the started ones."""
    if n_launched() > 1:
        store = _wait_for_first(trainer)
        yield []
        del store
    elif trainer.world_size > 1 and _is_parent(trainer):
        children = _start_children(trainer)
        is_over = threading.Event()
        threading.Thread(target=_watch, args=(children, is_over), daemon=True).start()
        try:
            yield children
            for child in children:
                child.wait()
        finally:
            is_over.set()
            _end(children)
    else:
        yield []


def _is_parent(trainer: pl.Trainer) -> bool:
    """Whether this process has to start others, since Lightning does not fork them."""
    strategy = trainer.strategy
    is_forked = isinstance(strategy, DDPStrategy) and not isinstance(
        strategy.launcher, _SubprocessScriptLauncher | None
    )
    return not is_forked and "LOCAL_RANK" not in os.environ


def _start_children(trainer: pl.Trainer) -> list[subprocess.Popen[bytes]]:
    """Run this command again for each further device of this machine."""
    environment = cast(Any, trainer.strategy).cluster_environment
    os.environ.update(
        MASTER_ADDR=environment.main_address,
        MASTER_PORT=str(environment.main_port),
        NODE_RANK=str(environment.node_rank()),
        WORLD_SIZE=str(trainer.world_size),
        LOCAL_RANK="0",  # keeps Lightning from starting processes itself
    )
    command = [sys.executable, *sys.orig_argv[1:]]
    with ignore_interrupts():
        return [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env={**os.environ, "LOCAL_RANK": str(number)}
            )
            for number in range(1, trainer.num_devices)
        ]


def _watch(children: Sequence[subprocess.Popen[bytes]], is_over: threading.Event) -> None:
    """End the run after a child failed; the main thread might wait for that child forever."""
    while not is_over.wait(POLL_SECONDS):
        codes = [code for child in children if (code := child.poll())]
        if codes and not is_over.wait(GRACE):
            code = codes[0]
            if code < 0:
                log.error(
                    "one of %d processes was ended by signal %d (9 is often a lack of memory): "
                    "last.ckpt is intact, resume from it with resume=PATH",
                    len(children) + 1,
                    -code,
                )
                code = LostProcessError.exit_code
            _end(children)
            os._exit(code)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.kill()  # they have no unsaved results
        child.wait()


def _wait_for_first(trainer: pl.Trainer) -> Any:
    """Wait until the first process has read the images; Lightning gives up after half an hour.

    Returns:
        The store of the rendezvous, to be kept until Lightning has made its own.
    """
    environment = cast(Any, trainer.strategy).cluster_environment
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    rank, world_size = environment.global_rank(), environment.world_size()
    meeting = rendezvous("env://", rank=rank, world_size=world_size, timeout=READING)
    store = next(meeting)[0]
    if is_first():
        store.set("dedup/read", "yes")
    else:
        store.wait(["dedup/read"], READING)
    return store
