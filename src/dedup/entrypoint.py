"""What the three entry points share: composing a config, exit codes, run folders."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dedup import __version__, ranks
from dedup.allowed import check_config
from dedup.config import ROOT, plain
from dedup.errors import ConfigError, DedupError
from dedup.limits import check_limits
from dedup.runlog import incomplete
from dedup.shortages import check_memory, told
from dedup.visible import visible, visible_lines

log = logging.getLogger("dedup")

LINK_SECONDS = 60
"""After so long a link that is not in its place yet is of a process that was killed."""

Job = Callable[[DictConfig, Path], float | None]


def entrypoint(name: str) -> Callable[[Job], Callable[[], None]]:
    """Make a job, called with its config and its run folder, into a command.

    The command composes ``conf/<name>.yaml`` with the overrides on the command line, runs the job
    in ``runs/<name>/<time>/`` and points ``runs/<name>/latest`` at it once it succeeded. A
    ``DedupError`` and a wrong override end as one message and an exit code, see ``dedup.errors``.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @wraps(job)
        def one_run(cfg: DictConfig) -> float | None:
            run_dir = Path(HydraConfig.get().runtime.output_dir)
            sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
            cfg.runs = str(cfg.runs)  # runs=2026 is a folder too
            with one_message(run_dir):
                settings = plain(cfg)
                check_config(settings)
                check_limits(settings)
                _check_launched(name)
                if sweeping:
                    _check_sweep(settings)
                check_memory(run_dir, _computes(name, settings))
                metric = job(cfg, run_dir)
                if not ranks.is_first():
                    return metric
                from dedup.runs import seal_run  # pandas and pyarrow: not for --help

                seal_run({"version": __version__, "metric": metric, **settings}, run_dir)
                is_look = settings.get("preview") or settings.get("query")  # leaves no result
                if not sweeping and not is_look:
                    point_latest(run_dir, Path(cfg.runs) / name / "latest")
                if lost := incomplete():
                    log.warning(lost)  # the text itself: it may have lines of its own
            return metric

        def command() -> None:
            # Hydra then raises what it would print, and we say it in one message.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            conf = str(ROOT / "conf")
            sys.argv += ranks.join()
            try:
                check_choices(name, sys.argv[1:])
                with one_message(_folder(name)):
                    hydra.main(version_base="1.3", config_path=conf, config_name=name)(one_run)()
            except (HydraException, OmegaConfBaseException) as error:
                _stop(explain(error, name, sys.argv[1:]), ConfigError.exit_code)
            except KeyboardInterrupt:
                _stop("stopped: the same command goes on with what is already on disk", 130)

        return command

    return decorate


def point_latest(run_dir: Path, latest: Path) -> None:
    """Make ``latest`` a link to ``run_dir``, in one step, also where others do so at that moment.

    Raises:
        OSError: it cannot be made, and is what it was.
    """
    for left in latest.parent.glob(f".{latest.name}[-.]*"):  # by a process that was killed
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > LINK_SECONDS:
                left.unlink()
    link = latest.with_name(f".{latest.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        link.symlink_to(os.path.relpath(run_dir, latest.parent), target_is_directory=True)
        link.replace(latest)
    except OSError as error:
        error.filename2 = str(latest)  # not the link beside it
        raise
    finally:
        with suppress(OSError):
            link.unlink()


def typed() -> list[str]:
    """What was typed on the command line, such as ``matcher.threshold=0``; none outside a run."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


@contextmanager
def one_message(where: Path | str) -> Iterator[None]:
    """End the command with one message and an exit code where something is wrong or lacking.

    Args:
        where: what is named where an error names no file.
    """
    try:
        yield
    except DedupError as error:
        _stop(str(error), error.exit_code)
    except Exception as error:
        found = told(error, where)
        if found is None:
            raise
        log.debug("where it was:", exc_info=error)
        traceback.clear_frames(error.__traceback__)  # and with them what takes the memory
        _stop(str(found), found.exit_code)


def say(text: str) -> None:
    """Write a result to stdout, where it has arrived once this returns.

    Raises:
        OSError: it has not.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def check_choices(name: str, arguments: Sequence[str]) -> None:
    """Make sure that parts are chosen by names, and that ``runs=`` names a folder.

    Hydra's own error for ``matcher=null`` says less, and for ``runs=null`` it makes a folder None.

    Args:
        name: the command.
        arguments: its command line.

    Raises:
        ConfigCompositionException: one is not.
        HydraException: what chooses one cannot be parsed.
    """
    if {"runs=", "runs=null", "runs=~"} & {*arguments}:
        raise ConfigCompositionException(
            "runs= names no folder: leave it out for the folder runs, or name one, runs=PATH"
        )
    for choice in _choices(arguments):
        override = OverridesParser.create().parse_override(choice)
        chosen = override.value()
        several = chosen if isinstance(chosen, list) else [chosen]
        if override.is_sweep_override() or all(isinstance(one, str) for one in several):
            continue
        group = override.key_or_group
        raise ConfigCompositionException(
            f"{choice} chooses no part: a part is chosen by its name, {group}="
            f"{' or '.join(_names(group))}"
        )


def explain(error: Exception, name: str, arguments: Sequence[str]) -> str:
    """A composition error as one message, with the nearest key for a key that does not exist.

    Args:
        error: what Hydra or OmegaConf raised.
        name: the command.
        arguments: its command line; a part chosen there decides which keys exist.
    """
    message = str(error).strip()
    absent = re.search(r"Could not find '([^']+)/([^'/]+)'", message)
    if absent:
        group, part = absent.groups()
        names = ", ".join(_names(group))
        return f"there is no {group}={part}: choose one of {names}\nSee python {name}.py --help"
    found = re.search(r"Could not override '([^']+)'", message)
    if not found:
        return f"{message}\nSee python {name}.py --help"
    wrong = found.group(1)
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        known = _keys(hydra.compose(name, overrides=_choices(arguments)))
    near = difflib.get_close_matches(wrong, known, n=1)
    siblings = [key for key in known if key.rpartition(".")[0] == wrong.rpartition(".")[0]]
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(siblings)}"
    if parts := _parts_with(wrong):
        hint = f"choose a part that has it, {' or '.join(parts)}"
    return f"there is no setting {wrong}: {hint}\nSee python {name}.py --help"


class SweepSummary(Callback):
    """After a sweep: a line for each run, the best one named and made the latest.

    Best is what the task's objective says. Where the runs had different ones, none is.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read what each run left."""
        with one_message(str(config.hydra.sweep.dir)):  # Hydra makes a warning of an error
            self._summarize(Path(config.hydra.sweep.dir))

    def _summarize(self, sweep_dir: Path) -> None:
        from dedup.runs import read_run

        runs = []
        for file in sorted(sweep_dir.glob("*/run.json")):
            run = read_run(file, "run the sweep again")
            # As they were typed: what is resolved may be a secret.
            said = file.parent / ".hydra" / "overrides.yaml"  # unless hydra.output_subdir=null
            typed: Any = OmegaConf.load(said) if said.is_file() else OmegaConf.create([])
            changes = OmegaConf.to_container(typed, resolve=False) or []
            line = f"{file.parent}  {' '.join(map(str, changes))}"
            runs.append((run["metric"], visible(line), file.parent, run["objective"]))
        if not runs or any(metric is None for metric, *_ in runs):
            return
        objectives = [run[3] for run in runs]
        runs.sort(key=lambda run: run[0], reverse=objectives[0]["mode"] == "max")
        table = [f"{metric:<10.6g} {line}" for metric, line, *_ in runs]
        if all(objective == objectives[0] for objective in objectives):
            point_latest(runs[0][2], sweep_dir.parent / "latest")
            table.append(f"best of {len(runs)}: {table[0]}")
        else:
            table.append("no best run: they have different objectives")
        say("\n".join(table))


def _check_sweep(settings: Mapping[str, Any]) -> None:
    trainer = settings["trainer"]
    gpus = trainer["gpus"]
    several = len(gpus) > 1 if isinstance(gpus, list) else gpus not in ("auto", 0, 1)
    others = {name: trainer[name] for name in ("num_processes", "num_nodes")}
    if several or max(others.values()) > 1 or ranks.n_launched() > 1:
        asked = " ".join(f"trainer.{name}={value}" for name, value in others.items())
        asked += f" under {ranks.launcher()}" if ranks.n_launched() else ""
        raise ConfigError(
            f"a sweep trains each run in one process, and trainer.gpus={gpus} {asked} asks for "
            "more: every further process would be a sweep of its own. Leave out -m, or set "
            "trainer.gpus=1 trainer.num_processes=1"
        )
    if settings.get("resume") == "auto":
        raise ConfigError(
            "resume=auto goes on with one run, and a sweep starts several: leave out -m, or name "
            "a checkpoint for all of them with resume=PATH"
        )


def _check_launched(name: str) -> None:
    if name != "train" and ranks.n_launched() > 1:
        raise ConfigError(
            f"{ranks.launcher()} started {ranks.n_launched()} processes, and {name}.py starts its "
            "own: run it alone, with trainer.gpus=4, or trainer.num_processes=2 on a CPU"
        )


def _stop(message: str, code: int) -> None:
    ranks.hold_back()
    if logging.getLogger().handlers:
        log.error(message)  # as the text, not as an argument: it may have lines of its own
    else:
        sys.stderr.write(f"{visible_lines(message)}\n")
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at its end, and have an exit code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _computes(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a command surely needs torch."""
    asked = [settings.get("query"), settings.get("checkpoint")]
    return name in ("train", "cluster") or any(one is not None for one in asked)


def _folder(name: str) -> Path:
    """Where a command's runs go, before its config is there to say so."""
    runs = [a.partition("=")[2] for a in sys.argv if a.startswith("runs=")]
    return Path(runs[-1] if runs else "runs") / name


def _choices(arguments: Sequence[str]) -> list[str]:
    """Those overrides that choose a part: ``source=csv``."""
    groups = {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()}
    return [a for a in arguments if a.partition("=")[0] in groups]


def _names(group: str) -> list[str]:
    """The names of the parts of a kind."""
    return sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml"))


def _parts_with(setting: str) -> list[str]:
    """The parts that have a setting: ``source.path`` is in ``source=csv`` and ``source=folder``."""
    group, _, key = setting.partition(".")
    files = sorted((ROOT / "conf" / group).glob("*.yaml"))
    # As a container: a DictConfig does not contain what is "???".
    parts: dict[str, Any] = {
        file.stem: OmegaConf.to_container(OmegaConf.load(file)) or {} for file in files
    }
    # A file for the whole config, as a task's, has the part's settings below its group.
    own = {name: part.get(group, part) or {} for name, part in parts.items()}
    return [f"{group}={name}" for name, settings in own.items() if key in settings]


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, node):
        keys.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            keys += _keys(child, f"{prefix}{key}.")
    return keys
