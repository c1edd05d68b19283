"""Hints for settings that were typed as options, and for options that exclude each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dedup.cli.arguments import NAMES, WITH_VALUE, composed, keys, shown_override
from dedup.errors import ConfigError
from dedup.runtime.invocation import command
from dedup.runtime.nearest import meant, nearest

MODES = (
    ("--multirun", "-m"),
    ("--run", "-r"),
    ("--cfg", "-c"),
    ("--info", "-i"),
    ("--shell-completion", "-sc"),
)
"""Options of which Hydra takes one at most, each with its short form."""
OPTIONS = (
    *(option for forms in MODES for option in forms),
    *("--help", "-h", "--hydra-help", "--version", "--resolve", *WITH_VALUE),
)
"""Options that the commands take."""


def check_options(name: str, arguments: Sequence[str]) -> None:
    """Check that each argument with a dash is an option, and not a setting: ``--seed 1``.

    Args:
        name: the command.
        arguments: the command line after it.

    Raises:
        ConfigError: it is a setting or unknown, or two options exclude each other.
    """
    rest = iter(enumerate(arguments))
    modes = set()
    for number, argument in rest:
        option, _, value = argument.partition("=")
        if not argument.startswith("-"):
            continue
        modes |= {forms for forms in MODES if option in forms}
        if option in WITH_VALUE and not value:
            next(rest, None)
        elif not _is_known(option):
            following = arguments[number + 1 :][:1]
            usual = [one for one in following if not one.startswith("-") and "=" not in one]
            raise ConfigError(_hint(name, option, value or "".join(usual) or "VALUE", arguments))
    if len(modes) > 1:
        several = " and ".join(forms[0] for forms in MODES if forms in modes)
        raise ConfigError(f"{several} exclude each other: leave all but one out")


def _is_known(option: str) -> bool:
    """Tell whether Hydra takes an option; it takes the beginning of a long one, and ``-cjob``."""
    if option.startswith("--"):
        return any(one.startswith(option) for one in OPTIONS)
    return any(option.startswith(one) for one in OPTIONS if not one.startswith("--"))


def _written(key: str, value: str) -> str:
    return shown_override(key, value) if key in NAMES else shlex.quote(f"{key}={value}")


def _hint(name: str, option: str, value: str, arguments: Sequence[str]) -> str:
    """Say how the setting is written that an option seems to mean."""
    typed = option.strip("-").replace("-", "_")
    plain = [one for one in arguments if not one.startswith("-")]
    known = keys(composed(name, plain))
    own = [key for key in known if key == typed]
    own = own or [key for key in known if key.rpartition(".")[2] == typed]
    own = own or [key for key in (nearest(typed, known),) if key]
    if own:
        how = " or ".join(_written(key, value) for key in own[:3])
        return f"{option} is no option: a setting is written NAME=VALUE, {how}"
    hint = meant(option, OPTIONS) or ": leave it out."
    return f"there is no option {option}{hint} See {command(name)} --help"
