"""Decorator of the entry points: config composition, run folders and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dedup import __version__
from dedup.cli.arguments import check_choices, explain, prepared
from dedup.cli.guard import guarded
from dedup.cli.manual import answer
from dedup.cli.options import check_options
from dedup.cli.outcome import one_message, point_latest, say, stop
from dedup.cli.preflight import check_settings
from dedup.cli.sweep import end_broken, keep_failure
from dedup.config.instances import build, plain
from dedup.config.renames import RENAMED, old_names, renewed
from dedup.config.targets import check_config
from dedup.errors import AlarmError, ConfigError
from dedup.runtime import processes
from dedup.runtime.invocation import ROOT
from dedup.runtime.invocation import command as called
from dedup.runtime.run_log import incomplete
from dedup.runtime.shortages import check_memory

__all__ = ["ROOT", "build", "entrypoint", "log", "one_message", "plain", "point_latest", "say"]

log = logging.getLogger("dedup")

Job = Callable[[DictConfig, Path], float | None]
"""An entry point's body: takes the config and the run folder, returns a score if it has one."""


def entrypoint(name: str) -> Callable[[Job], Callable[[], None]]:
    """Turn a function of a config and a run folder into a command.

    The command composes ``conf/<name>.yaml`` with the overrides of the command line and calls the
    function with the folder ``runs/<name>/<time>/``. After a success ``runs/<name>/latest`` points
    there. A ``DedupError`` or a wrong override ends the command with one message and an exit code,
    see ``dedup.errors``.

    Args:
        name: the command, and the stem of its config.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @wraps(job)
        def one_run(cfg: DictConfig) -> float | None:
            run_dir = Path(HydraConfig.get().runtime.output_dir)
            is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            cfg.runs = str(cfg.runs)  # runs=2026 is a folder too
            with one_message(run_dir):
                _check_launched(name)
                if is_sweep:
                    _check_sweep(plain(cfg.get("trainer")), plain(cfg.get("resume")))
                with keep_failure(run_dir) if is_sweep else nullcontext():
                    return _run(name, job, cfg, run_dir)
            return None  # a failed run of a sweep, which continues

        def command() -> None:
            # Makes Hydra raise the errors it would print, for our one message.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            conf = str(ROOT / "conf")
            try:
                with one_message(_folder(name)):
                    if (text := answer(name, sys.argv[1:])) is not None:
                        say(text)
                        return
                    check_options(name, sys.argv[1:])
                    sys.argv[1:] = [*prepared(name, sys.argv[1:]), *processes.join()]
                    check_choices(sys.argv[1:])
                    with guarded():
                        run = hydra.main(version_base="1.3", config_path=conf, config_name=name)
                        run(one_run)()
            except (HydraException, OmegaConfBaseException) as error:
                stop(explain(error, name, sys.argv[1:]), ConfigError.exit_code)
            except BrokenExecutor as error:
                end_broken(error)
            except (ValueError, RuntimeError, ImportError) as error:
                if not _is_hydras(error):
                    raise
                stop(explain(error, name, sys.argv[1:]), ConfigError.exit_code)
            except KeyboardInterrupt:
                stop("stopped: run the same command again to go on from the files on disk", 130)

        return command

    return decorate


def _run(name: str, job: Job, cfg: DictConfig, run_dir: Path) -> float | None:
    """Check the settings, call the job, and write ``run.json``."""
    if cfg.get("change") in ("add", "update"):
        from dedup.cli.commands import take_columns  # pandas

        take_columns(cfg)
    settings = plain(cfg)
    for old in sorted(old_names(settings)):
        log.warning("%s is now %s: the old name goes on working", old, RENAMED[old])
    settings = renewed(settings)
    check_config(settings)
    check_memory(run_dir, _computes(name, settings))
    check_settings(name, settings, HydraConfig.get().overrides.task, build)
    metric, alarm = None, None
    try:
        metric = job(cfg, run_dir)
    except AlarmError as error:  # the run is finished all the same
        alarm = error
    if not processes.is_first():
        return metric
    from dedup.runtime.run_record import write_run  # pandas and pyarrow: not for --help

    write_run({"version": __version__, "metric": metric, **settings}, run_dir)
    has_result = not (settings.get("preview") or settings.get("query"))
    if HydraConfig.get().mode != RunMode.MULTIRUN and has_result:
        point_latest(run_dir, Path(cfg.runs) / name / "latest")
    if lost := incomplete():
        log.warning(lost)  # no argument: the text may have several lines
    if alarm is not None:
        raise alarm
    return metric


def _check_sweep(trainer: Mapping[str, Any], resume: Any) -> None:
    gpus = trainer["gpus"]
    several = len(gpus) > 1 if isinstance(gpus, list) else gpus not in ("auto", 0, 1)
    others = {name: trainer[name] for name in ("num_processes", "num_nodes")}
    if several or max(others.values()) > 1 or processes.n_launched() > 1:
        request = " ".join(f"trainer.{name}={value}" for name, value in others.items())
        request += f" under {processes.launcher()}" if processes.n_launched() else ""
        raise ConfigError(
            f"a sweep trains each run in one process, but trainer.gpus={gpus} {request} asks for "
            "more: every further process would start a sweep. Leave out -m, or set "
            "trainer.gpus=1 trainer.num_processes=1"
        )
    if resume == "auto":
        raise ConfigError(
            "resume=auto continues one run, but a sweep starts several: leave out -m, or name one "
            "checkpoint for all of them with resume=PATH"
        )


def _check_launched(name: str) -> None:
    if name != "train" and processes.n_launched() > 1:
        raise ConfigError(
            f"{processes.launcher()} started {processes.n_launched()} processes, but "
            f"{called(name)} starts its own: run it without a launcher and set trainer.gpus=4, or "
            "trainer.num_processes=2 on a CPU"
        )


def _computes(name: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether a command surely needs torch."""
    inputs = (settings.get("query"), settings.get("checkpoint"))
    return name in ("train", "cluster") or any(value is not None for value in inputs)


def _is_hydras(error: Exception) -> bool:
    """Tell whether Hydra raised an error itself, as for options that do not go together."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = "" if last is None else str(last.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in ("hydra", "hydra_plugins")


def _folder(name: str) -> Path:
    """Guess the folder of a command's runs before its config is composed."""
    runs = [a.partition("=")[2] for a in sys.argv if a.startswith("runs=")]
    return Path(runs[-1] if runs else "runs") / name
