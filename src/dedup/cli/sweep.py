"""Sweeps: a failed run does not end the others, and a summary lists them all."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dedup.cli.outcome import one_message, point_latest, say, stop
from dedup.errors import DedupError, StalledError, StoppedError
from dedup.runtime.nouns import counted
from dedup.runtime.printable import visible
from dedup.runtime.shortages import explain_shortage

log = logging.getLogger("dedup")

FAILURE = "failure.json"
"""File of a failed run in its folder, with ``error`` and ``exit_code``."""


class _Run(NamedTuple):
    """A finished or failed run of a sweep."""

    folder: Path
    line: str
    metric: float | None
    objective: Any
    error: str
    exit_code: int


@contextmanager
def keep_failure(run_dir: Path) -> Iterator[None]:
    """Log and record the failure of a run, so that the sweep continues.

    Raises:
        StoppedError: the user stopped the run, and with it the sweep.
    """
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        failure = error if isinstance(error, DedupError) else explain_shortage(error, run_dir)
        if failure is None:
            log.exception("the run failed with an unexpected error: please report this traceback")
        else:
            log.error(str(failure))  # no argument: the text may have several lines
        _write(run_dir, failure or error)


def _write(run_dir: Path, error: Exception) -> None:
    from dedup.runtime.files import write_json  # pandas: not for --help

    text = str(error) if isinstance(error, DedupError) else f"{type(error).__name__}: {error}"
    with suppress(OSError):  # the summary then says that the run has no result
        write_json({"error": text, "exit_code": getattr(error, "exit_code", 1)}, run_dir / FAILURE)


class SweepSummary(Callback):
    """Callback after a sweep: prints a line for each run, and makes the best one the latest.

    The task's objective decides the best run; runs with different objectives have none. Failed runs
    are listed with their reasons, and the first of them sets the exit code.
    """

    folder: ClassVar[Path | None] = None
    """Folder of the sweep that was started."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder, for ``end_broken``."""
        SweepSummary.folder = Path(config.hydra.sweep.dir)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the summary."""
        with one_message(str(config.hydra.sweep.dir)):  # Hydra would turn an error into a warning
            _summarize(Path(config.hydra.sweep.dir))


def end_broken(error: BrokenExecutor) -> NoReturn:
    """End a sweep of which a worker was ended, by the system or by hand; its runs are kept.

    Raises:
        BrokenExecutor: ``error``, if no sweep was started.
    """
    folder = SweepSummary.folder
    if folder is None:
        raise error
    with one_message(folder):
        runs = _runs(folder)
        done = [run for run in runs if not run.error]
        if runs:
            say("\n".join(_lines(runs)))
        stop(
            "a worker process of the sweep was ended, probably for want of memory, and with it the "
            f"sweep: {counted(len(done), 'finished run')} kept in {folder}. Run fewer at once with "
            "hydra.launcher.n_jobs=1, or lower data.batch_size",
            StalledError.exit_code,
        )


def _runs(sweep_dir: Path) -> list[_Run]:
    return [_read(folder) for folder in sorted(sweep_dir.glob("*/"), key=_number)
            if _is_run(folder)]  # fmt: skip


def _lines(runs: Sequence[_Run]) -> list[str]:
    """Format the runs of a sweep that did not end: those with a result, then the others."""
    done = [f"{'done' if run.metric is None else format(run.metric, '<10.6g'):<10} {run.line}"
            for run in runs if not run.error]  # fmt: skip
    return [*done, *_failures(runs)]


def _failures(runs: Sequence[_Run]) -> list[str]:
    return [f"{'failed':<10} {run.line}: {visible(run.error.splitlines()[0])}"
            for run in runs if run.error]  # fmt: skip


def _summarize(sweep_dir: Path) -> None:
    runs = _runs(sweep_dir)
    failed = [run for run in runs if run.error]
    done = [run for run in runs if not run.error]
    table = _failures(runs)
    if done and all(run.metric is not None for run in done):
        table = _ranked(done, sweep_dir.parent / "latest", table)
    if table:
        say("\n".join(table))
    if failed:
        stop(f"{len(failed)} of {len(runs)} runs failed", failed[0].exit_code)


def _ranked(runs: list[_Run], latest: Path, failed: list[str]) -> list[str]:
    """Format runs with a score, best first, then the failed ones, and last the verdict."""
    first = runs[0].objective
    runs = sorted(runs, key=lambda run: run.metric or 0.0, reverse=first["mode"] == "max")
    table = [f"{run.metric:<10.6g} {run.line}" for run in runs]
    if any(run.objective != first for run in runs):
        return [*table, *failed, "no best run: they have different objectives"]
    point_latest(runs[0].folder, latest)
    return [*table, *failed, f"best of {len(runs)}: {table[0]}"]


def _read(folder: Path) -> _Run:
    from dedup.runtime.files import read_json
    from dedup.runtime.run_record import RUN, read_run

    # As typed: a resolved value may be a secret.
    file = folder / ".hydra" / "overrides.yaml"  # unless hydra.output_subdir=null
    typed: Any = OmegaConf.load(file) if file.is_file() else OmegaConf.create([])
    changes = OmegaConf.to_container(typed, resolve=False) or []
    line = visible(f"{folder}  {' '.join(map(str, changes))}")
    if (folder / RUN).is_file():
        run = read_run(folder / RUN, "run the sweep again")
        return _Run(folder, line, run["metric"], run["objective"], "", 0)
    if not (folder / FAILURE).is_file():
        return _Run(folder, line, None, None, "no result: see its log", 1)
    failure = read_json(folder / FAILURE, "a failed run", "run the sweep again")
    error, exit_code = str(failure["error"]) or "no reason", int(failure["exit_code"])
    return _Run(folder, line, None, None, error, exit_code)


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("run.json", FAILURE, ".hydra"))


def _number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdecimal() else -1, folder.name)
