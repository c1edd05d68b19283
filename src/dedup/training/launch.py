"""Training in several processes: they begin together, and end together.

Without torchrun or SLURM, ``python train.py trainer.gpus=4`` starts three more of itself once the
images are read. Lightning would, too; but it appends settings to the command line that suit
Hydra's defaults alone, and where a child ends it kills its parent without an exit code.
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
from dedup.runtime.processes import deaf_children, is_first, n_launched

log = logging.getLogger("dedup")

LOOK = 0.2
"""Seconds between two looks at the children."""

GRACE = 2.0
"""Seconds from a child's end to that of the whole run, unless the run ends by itself."""

PATIENCE = 5.0
"""Seconds that a process which has lost another waits to be ended by whoever knows why."""

READING = timedelta(days=30)
"""How long processes wait for the first one, which may have a million images to fetch."""


def fit(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None = None,
) -> None:
    """Train, in as many processes as the trainer asks for.

    An error in one process ends all of them, with its message and its exit code.

    Args:
        trainer: what ``build_trainer`` gave.
        task: what is trained.
        data: its images.
        checkpoint: what to go on from.

    Raises:
        LostProcessError: another process ended without a word.
    """
    with _company(trainer) as children:
        try:
            trainer.fit(task, data, ckpt_path=checkpoint)
        except RuntimeError as error:
            # It may be that another process ended: that one says why, and this one is ended.
            if trainer.world_size > 1:
                time.sleep(PATIENCE)
            if any(child.poll() is not None for child in children):
                raise LostProcessError(
                    f"one of {trainer.world_size} processes ended before training did: go on from "
                    "last.ckpt with resume=PATH"
                ) from error
            raise


@contextmanager
def _company(trainer: pl.Trainer) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The other processes, as long as they are needed, and those of them that this one started."""
    if n_launched() > 1:
        together = _met(trainer)
        yield []
        del together
    elif trainer.world_size > 1 and _is_parent(trainer):
        children = _children(trainer)
        over = threading.Event()
        threading.Thread(target=_watch, args=(children, over), daemon=True).start()
        try:
            yield children
            for child in children:
                child.wait()
        finally:
            over.set()
            _end(children)
    else:
        yield []


def _is_parent(trainer: pl.Trainer) -> bool:
    """Whether this process is to start others, and Lightning does not fork them."""
    strategy = trainer.strategy
    forked = isinstance(strategy, DDPStrategy) and not isinstance(
        strategy.launcher, _SubprocessScriptLauncher | None
    )
    return not forked and "LOCAL_RANK" not in os.environ


def _children(trainer: pl.Trainer) -> list[subprocess.Popen[bytes]]:
    """This command once more for each further device of this machine."""
    environment = cast(Any, trainer.strategy).cluster_environment
    os.environ.update(
        MASTER_ADDR=environment.main_address,
        MASTER_PORT=str(environment.main_port),
        NODE_RANK=str(environment.node_rank()),
        WORLD_SIZE=str(trainer.world_size),
        LOCAL_RANK="0",  # tells Lightning that it need not start any
    )
    command = [sys.executable, *sys.orig_argv[1:]]
    with deaf_children():
        return [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env={**os.environ, "LOCAL_RANK": str(number)}
            )
            for number in range(1, trainer.num_devices)
        ]


def _watch(children: Sequence[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """End the run where a child failed; the main thread may wait for that child for ever."""
    while not over.wait(LOOK):
        codes = [code for child in children if (code := child.poll())]
        if codes and not over.wait(GRACE):
            code = codes[0]
            if code < 0:
                log.error(
                    "one of %d processes was ended by signal %d (9 is often a lack of memory): "
                    "what last.ckpt holds is whole, go on from it with resume=PATH",
                    len(children) + 1,
                    -code,
                )
                code = LostProcessError.exit_code
            _end(children)
            os._exit(code)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.kill()  # they keep nothing that is not kept already
        child.wait()


def _met(trainer: pl.Trainer) -> Any:
    """Wait until the first process has read the images; for Lightning half an hour is an error.

    Returns:
        What they met at: it has to stay until Lightning has made its own.
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
