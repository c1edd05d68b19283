"""Preparation of a command line for Hydra's parser, and plain messages for its errors."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf

from dedup.config.instances import escaped
from dedup.config.limits import TEXT_LISTS, TEXTS
from dedup.download.buckets import is_bucket
from dedup.errors import ConfigError
from dedup.runtime.invocation import ROOT, command
from dedup.runtime.nearest import meant
from dedup.sources.cells import is_cell
from dedup.sources.image_formats import IMAGE_SUFFIXES
from dedup.sources.kinds import ENDINGS, kind_of
from dedup.store.local_files import is_remote

WITH_VALUE = (
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p"),
    *("--cfg", "-c", "--info", "-i", "--experimental-rerun"),
)
"""Hydra's options whose value is the next argument."""
PLACES = (
    *("query", "runs", "ids", "store.path", "foreground.model", "encoder.weights", "encoder.path"),
    *("source.path", "source.folder", "source.images_dir", "against", "checkpoint", "index"),
    *("resume", "run", "since", "truth", "hydra.run.dir", "hydra.sweep.dir"),
    *("old", "new", "before", "decisions", "findings", "plan.applied", "plan.decisions"),
    *("ledger.path", "export", "import", "calibration"),
)
"""Settings that name files, folders or addresses."""
NO_CATALOGUE = ("check", "verify", "review", "calibrate", "diff", "plan")
"""Commands that read no catalogue."""
NAMES = (*PLACES, *TEXTS, *TEXT_LISTS, "fetch.contact")
"""Settings whose value is quoted where Hydra cannot parse it as typed."""
USE_BUNDLED = f"{command('detect')} encoder=bundled source.path=products.csv"
"""Command that finds duplicates with the encoder that comes with the package."""


def prepared(name: str, arguments: Sequence[str]) -> list[str]:
    """Convert a command line to the form that Hydra parses.

    Values that name files or addresses are quoted if Hydra's grammar would refuse or split them.
    ``~`` is expanded, and a bare table or folder becomes ``source.path=``. Options come first: the
    parser refuses one between two settings. All other arguments stay unchanged.

    Args:
        name: the command.
        arguments: the command line after it.

    Raises:
        ConfigError: an argument is no ``NAME=VALUE``, or its value cannot be parsed.
    """
    is_sweep = "-m" in arguments or "--multirun" in arguments
    options: list[str] = []
    done: list[str] = []
    catalogues: list[str] = []
    rest = iter(_with_info(arguments))
    for argument in rest:
        if argument.startswith("-"):
            options += [argument, *islice(rest, int(argument in WITH_VALUE))]
        elif _is_override(argument):
            done.append(_parsable(argument, is_sweep))
            catalogues += [argument] if argument.startswith("source.path=") else []
        else:
            done += _of_catalogue(name, argument, arguments)
            catalogues.append(argument)
    if len(catalogues) > 1:
        raise ConfigError(
            f"{' and '.join(catalogues)} name several catalogues: leave all but one out"
        )
    return options + done


def _with_info(arguments: Sequence[str]) -> Iterator[str]:
    """Give ``--info`` its default value; else the parser would take the setting that follows."""
    for at, argument in enumerate(arguments):
        following = arguments[at + 1 : at + 2]
        is_alone = not following or following[0].startswith("-") or "=" in following[0]
        yield "--info=all" if argument in ("--info", "-i") and is_alone else argument


def overrides(arguments: Sequence[str]) -> list[str]:
    """List the arguments that are neither Hydra's options nor their values."""
    typed: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            next(rest, None)
        elif not argument.startswith("-"):
            typed.append(argument)
    return typed


def explain(error: Exception, name: str, arguments: Sequence[str]) -> str:
    """Explain a composition error in one message, with the nearest key for an unknown one.

    Args:
        error: error from Hydra or OmegaConf.
        name: the command.
        arguments: the command line; the parts chosen there decide which keys exist.
    """
    message = str(error).strip()
    see = f"See {command(name)} --help"
    if absent := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        group, part = absent.groups()
        of_hydra = message.partition("Available options")[2].partition("Config search")[0]
        names = part_names(group, arguments) or of_hydra.split("\n", 1)[-1].split()
        one_of = f"choose one of {', '.join(names)}{meant(part, names)}"
        return f"there is no {group}={part}: {one_of}\n{see}"
    if several := re.search(r"Ambiguous value for argument '(.+)'\n", message):
        key, _, value = several[1].partition("=")
        return (
            f"{several[1]} names several values: sweep over them with -m, give a list as "
            f"{shlex.quote(f'{key}=[{value}]')}, or one text as {_quoted_for_shell(several[1])}"
        )
    if missing := re.search(r"Missing mandatory value: (\S+)", message):
        return f"{missing[1]} has no value: add {missing[1]}=VALUE\n{see}"
    unknown = re.search(r"Could not override '([^']+)'", message)
    return f"{_unknown(unknown[1], name, arguments) if unknown else message}\n{see}"


def typed() -> list[str]:
    """List the overrides typed, such as ``matcher.threshold=0``; empty outside a run."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def check_choices(arguments: Sequence[str]) -> None:
    """Check that parts are chosen by name, and that ``runs=`` names a folder.

    Hydra's own error for ``matcher=null`` says less, and ``runs=null`` would make a folder None.

    Raises:
        ConfigCompositionException: a part or ``runs`` is chosen by another value.
        HydraException: a choice cannot be parsed.
    """
    if {"runs=", "runs=null", "runs=~"} & {*arguments}:
        raise ConfigCompositionException(
            "runs= names no folder: leave it out to use the folder runs, or name one with runs=PATH"
        )
    for choice in choices(arguments):
        override = _parsed(choice)
        chosen = override.value()
        several = chosen if isinstance(chosen, list) else [chosen]
        if override.is_sweep_override() or all(isinstance(part, str) for part in several):
            continue
        group = override.key_or_group
        raise ConfigCompositionException(
            f"{choice} chooses no part: choose one by its name, {group}="
            f"{' or '.join(part_names(group, arguments))}"
        )


def composed(name: str, arguments: Sequence[str], *, hydra_too: bool = False) -> DictConfig:
    """Compose a command's config with the parts that its command line chooses."""
    own = [f"hydra.searchpath=[{', '.join(f'file://{folder}' for folder in _own(arguments))}]"]
    chosen = [choice for choice in choices(arguments) if not _parsed(choice).is_sweep_override()]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose(name, overrides=own + chosen, return_hydra_config=hydra_too)


def choices(arguments: Sequence[str]) -> list[str]:
    """List the overrides that choose a part, such as ``source=csv``."""
    groups = {folder.name for conf in _folders(arguments) for folder in conf.iterdir()
              if folder.is_dir()}  # fmt: skip
    return [a for a in arguments if a.partition("=")[0].partition("@")[0] in groups and "=" in a]


def part_names(group: str, arguments: Sequence[str] = ()) -> list[str]:
    """List the names of a group's parts, including the user's own in ``--config-dir``."""
    return sorted(file.stem for file in part_files(group, arguments))


def part_files(group: str, arguments: Sequence[str] = (), part: str = "*") -> list[Path]:
    """List the YAML files of a group's parts, or of one part."""
    return [file for conf in _folders(arguments) for file in (conf / group).glob(f"{part}.yaml")]


def keys(node: DictConfig, prefix: str = "") -> list[str]:
    """List every dotted key of a config, nested keys included."""
    names = []
    for key in map(str, node):
        names.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            names += keys(child, f"{prefix}{key}.")
    return names


def _unknown(wrong: str, name: str, arguments: Sequence[str]) -> str:
    known = keys(composed(name, arguments))
    own = wrong.rpartition(".")[2]
    near = [key for key in known if key.rpartition(".")[2] == own]
    near.sort(key=lambda key: key.startswith("trainer."))  # rarely meant
    near = near or difflib.get_close_matches(wrong, known, n=1)
    siblings = [key for key in known if key.rpartition(".")[0] == wrong.rpartition(".")[0]]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(siblings)}"
    if parts := _parts_with(wrong, arguments):
        hint = f"choose a part that has it, {' or '.join(parts)}"
    if wrong == "source.path":
        typed = next((a.partition("=")[2] for a in arguments if a.startswith("source.path=")), "")
        place = _at_home(typed.strip("'"))
        hint += f"; here add source={kind_of(place)}"
        if name == "train" and "encoder=bundled" in arguments:
            hint += f" task=contrastive. Or use encoder=bundled as it is: {USE_BUNDLED}"
    return f"there is no setting {wrong}: {hint}"


def _parts_with(setting: str, arguments: Sequence[str]) -> list[str]:
    """List the parts with a setting: ``source.path`` is in ``source=csv`` and ``source=folder``."""
    group, _, key = setting.partition(".")
    # As a container: a DictConfig hides keys whose value is "???".
    parts: dict[str, Any] = {
        file.stem: OmegaConf.to_container(OmegaConf.load(file)) or {}
        for file in sorted(part_files(group, arguments))
    }
    # A file with @package _global_, as a task's, has the settings below its group.
    own = {name: part.get(group, part) or {} for name, part in parts.items()}
    return [f"{group}={name}" for name, settings in own.items() if key in settings]


def _folders(arguments: Sequence[str]) -> list[Path]:
    return [ROOT / "conf", *_own(arguments)]


def _own(arguments: Sequence[str]) -> list[Path]:
    """List the user's own config folders, ``--config-dir``."""
    folders: list[str] = []
    for number, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            folders += [value] if value else arguments[number + 1 : number + 2]
    return [Path(folder).resolve() for folder in folders if Path(folder).is_dir()]


def _is_override(argument: str) -> bool:
    """Tell whether an argument is an override, and not the name of a file."""
    if re.fullmatch(r"[+~]{1,2}\w[\w.@/:]*", argument):  # ~verifier
        return True
    if is_bucket(argument):
        return False
    key, sign, _ = argument.partition("=")
    return bool(sign and re.fullmatch(r"[+~]{0,2}[\w.@/:$-]+", key)) and not _exists(argument)


def _of_catalogue(name: str, typed: str, arguments: Sequence[str]) -> list[str]:
    """Translate a bare table or folder into overrides.

    Raises:
        ConfigError: the argument is neither.
    """
    place = _at_home(typed)
    ending = Path(place).suffix.lower()
    is_folder = Path(place).is_dir()
    if name in NO_CATALOGUE or not (is_folder or ending in ENDINGS):
        likely = "query" if ending in IMAGE_SUFFIXES else "source.path"
        hint = "" if name in NO_CATALOGUE else f"did you mean {shown_override(likely, place)}? "
        raise ConfigError(
            f"{typed} is no setting: {hint}Settings have the form NAME=VALUE\n"
            f"See {command(name)} --help"
        )
    chosen = [] if any(argument.startswith("source=") for argument in arguments) else [
        f"source={_part_of(place, arguments)}"
    ]  # fmt: skip
    return [*chosen, f"source.path={_in_quotes(escaped(place))}"]


def _part_of(place: str, arguments: Sequence[str]) -> str:
    """Choose the source of a bare table: ``auto`` for the export of a shop's tool, else ``csv``.

    Columns that are named make a file a plain table, unless it is XML.
    """
    from dedup.sources.auto import is_feed, known_export  # pandas: not for --help

    kind = kind_of(place)
    if kind != "csv":
        return kind
    is_named = any(argument.startswith("source.") for argument in arguments)
    if is_feed(place) or (not is_named and known_export(place)):
        return "auto"
    return "csv"


def _parsable(argument: str, is_sweep: bool) -> str:
    """Quote an override's value if Hydra would not parse it as typed.

    Raises:
        ConfigError: the override cannot be parsed, and quoting may change its meaning.
    """
    key, _, value = argument.partition("=")
    name = key.lstrip("+")
    if name not in NAMES:
        _check_parsed(argument)
        return argument
    typed = _at_home(value) if name in PLACES else value
    return f"{key}={_value(name, typed, is_sweep)}"


def _value(name: str, typed: str, is_sweep: bool) -> str:
    """Quote the value of a text setting if Hydra would read it as something else."""
    is_one = name in PLACES and (_exists(typed) or is_remote(typed) or is_cell(typed))
    if is_one and "${" in typed:
        return _in_quotes(escaped(typed))
    try:
        override = _parsed(f"{name}={typed}")
    except HydraException:
        if _exists(typed):
            return _in_quotes(typed)
        if typed.startswith("[") and typed.endswith("]"):
            return f"[{_in_pieces(name, typed[1:-1])}]"
        return _in_pieces(name, typed) if is_sweep else _in_quotes(typed)
    if override.is_sweep_override():
        is_list = is_sweep and all(map(_exists, typed.split(",")))
        is_text = is_one or (name not in PLACES and not is_sweep)
        return _in_quotes(typed) if is_text and not is_list else typed
    is_changed = override.value() != typed and "${" not in typed
    return _in_quotes(typed) if is_changed and _exists(typed) else typed


def _in_pieces(name: str, typed: str) -> str:
    """Quote each value of a sweep or list that cannot be parsed."""
    return ",".join(_value(name, piece, is_sweep=False) for piece in typed.split(","))


def _check_parsed(argument: str) -> None:
    try:
        _parsed(argument)
    except HydraException as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"Cannot parse {argument}: {why}. If the value is one text, write "
            f"{_quoted_for_shell(argument)}"
        ) from error


def _quoted_for_shell(argument: str) -> str:
    """Quote an override so that Hydra receives its value as one text from a shell."""
    key, _, value = argument.partition("=")
    return shown_override(key, value)


def shown_override(key: str, value: str) -> str:
    """Write an override as it is typed in a shell, quoted where it must be."""
    try:
        is_plain = _parsed(f"{key}={value}").value() == value
    except HydraException:
        is_plain = False
    quote = Quote.single if '"' in value and "'" not in value else Quote.double
    quoted = value if is_plain else QuotedString(value, quote).with_quotes()
    return shlex.quote(f"{key}={quoted}") if not is_plain or " " in value else f"{key}={value}"


def _in_quotes(value: str) -> str:
    return QuotedString(value, Quote.single).with_quotes()


def _parsed(argument: str) -> Override:
    return OverridesParser.create().parse_override(argument)


def _at_home(path: str) -> str:
    """Expand ``~`` in a path; addresses and other texts stay unchanged."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's changes x//y


def _exists(path: str) -> bool:
    try:
        return Path(_at_home(path)).exists()
    except (OSError, ValueError):  # no valid file name: too long, or with a NUL
        return False
