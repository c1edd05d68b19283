"""The command line before Hydra parses it: names of files as people have them, errors in words."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf

from dedup.config.limits import TEXTS
from dedup.errors import ConfigError
from dedup.runtime.invocation import ROOT, command
from dedup.store.local_files import is_http

WITH_VALUE = (
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p"),
    *("--cfg", "-c", "--info", "-i", "--experimental-rerun"),
)
"""Hydra's options whose value is an argument of its own."""
PLACES = (
    *("query", "runs", "ids", "store.path", "foreground.model", "encoder.weights", "encoder.path"),
    *("source.path", "source.folder", "source.images_dir", "against", "checkpoint", "index"),
    *("resume", "run", "since", "truth", "hydra.run.dir", "hydra.sweep.dir"),
)
"""Settings that name files, folders or web addresses."""
NAMES = (*PLACES, *TEXTS, "fetch.contact")
"""Settings whose value is quoted where Hydra cannot parse it as typed."""
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
TABLE_ENDINGS = (".csv", ".tsv", ".txt")


def prepared(name: str, arguments: Sequence[str]) -> list[str]:
    """Put a command line into the form that Hydra parses.

    Values that name files or addresses are quoted where Hydra's grammar would refuse or split
    them, ``~`` is expanded, and a bare table or folder becomes ``source.path=``. All other
    arguments stay as they are.

    Args:
        name: the command.
        arguments: what was typed after it.

    Raises:
        ConfigError: an argument is no ``NAME=VALUE``, or its value cannot be parsed.
    """
    is_sweep = "-m" in arguments or "--multirun" in arguments
    done: list[str] = []
    catalogues: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            done += [argument, *islice(rest, int(argument in WITH_VALUE))]
        elif _is_override(argument):
            done.append(_parsable(argument, is_sweep))
            catalogues += [argument] if argument.startswith("source.path=") else []
        else:
            done += _of_catalogue(name, argument, arguments)
            catalogues.append(argument)
    if len(catalogues) > 1:
        raise ConfigError(f"{' and '.join(catalogues)} name two catalogues: leave one of them out")
    return done


def overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither options of Hydra's nor the values of such."""
    typed: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            next(rest, None)
        elif not argument.startswith("-"):
            typed.append(argument)
    return typed


def explain(error: Exception, name: str, arguments: Sequence[str]) -> str:
    """Put a composition error into one message, with the nearest key for an unknown one.

    Args:
        error: what Hydra or OmegaConf raised.
        name: the command.
        arguments: its command line; a part chosen there decides which keys exist.
    """
    message = str(error).strip()
    see = f"See {command(name)} --help"
    if absent := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        group, part = absent.groups()
        names = ", ".join(part_names(group, arguments))
        return f"there is no {group}={part}: choose one of {names}\n{see}"
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


def check_choices(arguments: Sequence[str]) -> None:
    """Make sure that parts are chosen by names, and that ``runs=`` names a folder.

    Hydra's own error for ``matcher=null`` says less, and for ``runs=null`` it makes a folder None.

    Raises:
        ConfigCompositionException: one is not.
        HydraException: what chooses one cannot be parsed.
    """
    if {"runs=", "runs=null", "runs=~"} & {*arguments}:
        raise ConfigCompositionException(
            "runs= names no folder: leave it out for the folder runs, or name one, runs=PATH"
        )
    for choice in choices(arguments):
        override = _parsed(choice)
        chosen = override.value()
        several = chosen if isinstance(chosen, list) else [chosen]
        if override.is_sweep_override() or all(isinstance(one, str) for one in several):
            continue
        group = override.key_or_group
        raise ConfigCompositionException(
            f"{choice} chooses no part: a part is chosen by its name, {group}="
            f"{' or '.join(part_names(group, arguments))}"
        )


def composed(name: str, arguments: Sequence[str], *, hydra_too: bool = False) -> DictConfig:
    """Compose a command's config with the parts that its command line chooses, and no more."""
    own = [f"hydra.searchpath=[{', '.join(f'file://{folder}' for folder in _own(arguments))}]"]
    chosen = [choice for choice in choices(arguments) if not _parsed(choice).is_sweep_override()]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose(name, overrides=own + chosen, return_hydra_config=hydra_too)


def choices(arguments: Sequence[str]) -> list[str]:
    """Those overrides that choose a part: ``source=csv``."""
    groups = {folder.name for conf in _folders(arguments) for folder in conf.iterdir()
              if folder.is_dir()}  # fmt: skip
    return [a for a in arguments if a.partition("=")[0].partition("@")[0] in groups and "=" in a]


def part_names(group: str, arguments: Sequence[str] = ()) -> list[str]:
    """The names of the parts of a kind, one's own in ``--config-dir`` among them."""
    return sorted(file.stem for file in part_files(group, arguments))


def part_files(group: str, arguments: Sequence[str] = (), part: str = "*") -> list[Path]:
    """The files of the parts of a kind, or of one part."""
    return [file for conf in _folders(arguments) for file in (conf / group).glob(f"{part}.yaml")]


def keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Every key of a config, with those below it, dotted."""
    known = []
    for key in map(str, node):
        known.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            known += keys(child, f"{prefix}{key}.")
    return known


def _unknown(wrong: str, name: str, arguments: Sequence[str]) -> str:
    known = keys(composed(name, arguments))
    near = difflib.get_close_matches(wrong, known, n=1)
    siblings = [key for key in known if key.rpartition(".")[0] == wrong.rpartition(".")[0]]
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(siblings)}"
    if parts := _parts_with(wrong, arguments):
        hint = f"choose a part that has it, {' or '.join(parts)}"
    return f"there is no setting {wrong}: {hint}"


def _parts_with(setting: str, arguments: Sequence[str]) -> list[str]:
    """The parts that have a setting: ``source.path`` is in ``source=csv`` and ``source=folder``."""
    group, _, key = setting.partition(".")
    # As a container: a DictConfig does not contain what is "???".
    parts: dict[str, Any] = {
        file.stem: OmegaConf.to_container(OmegaConf.load(file)) or {}
        for file in sorted(part_files(group, arguments))
    }
    # A file for the whole config, as a task's, has the part's settings below its group.
    own = {name: part.get(group, part) or {} for name, part in parts.items()}
    return [f"{group}={name}" for name, settings in own.items() if key in settings]


def _folders(arguments: Sequence[str]) -> list[Path]:
    return [ROOT / "conf", *_own(arguments)]


def _own(arguments: Sequence[str]) -> list[Path]:
    """The folder of one's own configs, ``--config-dir``."""
    folders: list[str] = []
    for number, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            folders += [value] if value else arguments[number + 1 : number + 2]
    return [Path(folder).resolve() for folder in folders if Path(folder).is_dir()]


def _is_override(argument: str) -> bool:
    """Whether an argument is meant for Hydra, and not the name of a file."""
    if re.fullmatch(r"[+~]{1,2}\w[\w.@/:]*", argument):  # ~verifier
        return True
    key, sign, _ = argument.partition("=")
    return bool(sign and re.fullmatch(r"[+~]{0,2}[\w.@/:$-]+", key)) and not _exists(argument)


def _of_catalogue(name: str, typed: str, arguments: Sequence[str]) -> list[str]:
    """The overrides that a bare table or folder stands for.

    Raises:
        ConfigError: it is neither.
    """
    place = _at_home(typed)
    ending = Path(place).suffix.lower()
    is_folder = Path(place).is_dir()
    if name in ("check", "verify") or not (is_folder or ending in TABLE_ENDINGS):
        meant = "query" if ending in IMAGE_ENDINGS else "source.path"
        hint = "" if name in ("check", "verify") else f"did you mean {_shown(meant, place)}? "
        raise ConfigError(
            f"{typed} is no setting: {hint}A setting is typed as NAME=VALUE\n"
            f"See {command(name)} --help"
        )
    chosen = [] if any(one.startswith("source=") for one in arguments) else [
        f"source={'folder' if is_folder else 'csv'}"
    ]  # fmt: skip
    return [*chosen, f"source.path={_in_quotes(place)}"]


def _parsable(argument: str, is_sweep: bool) -> str:
    """An override as it was typed, or with its value quoted.

    Raises:
        ConfigError: it cannot be parsed, and nobody knows what is meant.
    """
    key, _, value = argument.partition("=")
    name = key.lstrip("+")
    if name not in NAMES:
        _check_parsed(argument)
        return argument
    typed = _at_home(value) if name in PLACES else value
    return f"{key}={_value(name, typed, is_sweep)}"


def _value(name: str, typed: str, is_sweep: bool) -> str:
    """The value of a setting that is a text, quoted where it would be read as something else."""
    is_one = name in PLACES and (_exists(typed) or is_http(typed))
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
    other = override.value() != typed and "${" not in typed
    return _in_quotes(typed) if other and _exists(typed) else typed


def _in_pieces(name: str, typed: str) -> str:
    """Values of a sweep or a list, each quoted where it cannot be parsed."""
    return ",".join(_value(name, piece, is_sweep=False) for piece in typed.split(","))


def _check_parsed(argument: str) -> None:
    try:
        _parsed(argument)
    except HydraException as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{argument} cannot be parsed ({why}): if the value is one text, write "
            f"{_quoted_for_shell(argument)}"
        ) from error


def _quoted_for_shell(argument: str) -> str:
    """An override in the form that a shell hands to Hydra as one text."""
    key, _, value = argument.partition("=")
    return _shown(key, value)


def _shown(key: str, value: str) -> str:
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
    """A path with ``~`` expanded; an address or another text as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's changes x//y


def _exists(path: str) -> bool:
    try:
        return Path(_at_home(path)).exists()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL
        return False
