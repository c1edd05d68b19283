"""Construction of parts from settings, and the defaults of ``conf/``, without Hydra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dedup.config.parts import load
from dedup.config.renames import renewed
from dedup.config.targets import PARTIAL, TARGET, check_node
from dedup.errors import ConfigError, DedupError
from dedup.runtime.invocation import ROOT
from dedup.runtime.shortages import is_shortage


def build(node: Any, **arguments: Any) -> Any:
    """Build the object that a config node describes.

    Args:
        node: a config node, or plain values; ``_target_`` must be listed in
            ``dedup.config.targets``.
        arguments: further constructor arguments, passed on unchanged.

    Raises:
        ConfigError: a config may not name the class, or the class takes other arguments.
    """
    config = OmegaConf.is_config(node)
    settings = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if config else node
    settings = renewed(settings)
    check_node(settings)
    return _built(settings, arguments)


def _built(node: Any, arguments: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_built(part, {}) for part in node]
    if not isinstance(node, dict):
        return node
    settings = {key: _built(value, {}) for key, value in node.items()} | dict(arguments)
    if TARGET not in settings:
        return settings
    name, later = settings.pop(TARGET), settings.pop(PARTIAL, False)
    try:
        return partial(load(name), **settings) if later else load(name)(**settings)
    except DedupError:
        raise
    except Exception as error:
        if is_shortage(error):
            raise
        raise ConfigError(
            f"Cannot build {name} with these settings: {error}. Correct the settings"
        ) from error


def escaped(text: str) -> str:
    """Escape ``${`` in a text, so that OmegaConf resolves nothing in it."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def literal(value: Any) -> Any:
    """Convert a value, or a list of values, so that OmegaConf resolves nothing in it."""
    if isinstance(value, str):
        return escaped(value)
    if hasattr(value, "tolist"):  # a number of numpy's, an array or a series
        value = value.tolist()
    return [literal(one) for one in value] if isinstance(value, list | tuple | set) else value


def plain(node: Any) -> Any:
    """Convert a config node to plain values, with its interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def default_settings(group: str, part: str) -> dict[str, Any]:
    """Read the settings of ``conf/<group>/<part>.yaml`` that are no interpolations."""
    file = ROOT / "conf" / group / f"{part}.yaml"
    settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    return {key: value for key, value in settings.items() if not _is_interpolated(value)}


def _is_interpolated(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def default_config(command: str, **parts: str) -> DictConfig:
    """Compose a command's config as Hydra does, without the keys that only Hydra needs.

    Args:
        command: name of the command, such as ``detect``.
        parts: chosen part of each group whose default is not wanted, such as
            ``encoder="bundled"``. A part may choose others, as ``encoder=bundled`` does.
    """
    own, base = (_read(name) for name in (command, "base"))
    chosen: dict[str, Any] = {}
    for entry in [*base.pop("defaults"), *own.pop("defaults")]:
        if isinstance(entry, dict) and not next(iter(entry)).startswith("override "):
            chosen |= entry
    chosen |= parts
    for group in [*chosen]:
        for name, part in _overridden(group, chosen[group]).items():
            chosen[name] = part
    config = OmegaConf.create(base)
    for group, names in chosen.items():
        if names is not None and group not in _HYDRA:
            for name in names if isinstance(names, list) else [names]:
                config.merge_with(_part(group, name))
    config.merge_with(own)
    del config["hydra"]
    return config


_HYDRA = ("callbacks", "task")
"""Groups of training: they refer to the run's folder, which only Hydra knows."""


def _read(name: str) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / f"{name}.yaml"))
    return dict(settings or {})


def _overridden(group: str, part: Any) -> dict[str, str]:
    """Read the parts of other groups that a part chooses."""
    if not isinstance(part, str):
        return {}
    entries = _read(f"{group}/{part}").get("defaults", [])
    changes = [entry for entry in entries if isinstance(entry, dict)]
    return {
        name.removeprefix("override /"): value
        for entry in changes
        for name, value in entry.items()
        if name.startswith("override /")
    }


def _part(group: str, name: str) -> dict[str, Any]:
    """Read the settings of a part, nested below the keys of its package."""
    text = (ROOT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    settings = _read(f"{group}/{name}")
    inherited = [entry for entry in settings.pop("defaults", []) if isinstance(entry, str)]
    parents: dict[str, Any] = {}
    for parent in inherited:
        if parent != "_self_":
            parents |= _part(group, parent).get(group, {})
    package = next(
        (line.split()[2] for line in text.splitlines() if line.startswith("# @package ")), group
    )
    settings = parents | settings
    for key in [] if package == "_global_" else reversed(package.split(".")):
        settings = {key: settings}
    return settings
