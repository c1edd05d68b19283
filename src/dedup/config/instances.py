"""Parts from their settings, and the defaults that ``conf/`` states; without Hydra."""

from __future__ import annotations

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
    """Make the object that a config node describes, with further constructor arguments.

    What it names is one of an exact list, see ``dedup.config.targets``. The arguments are passed on
    as they are: nothing in them is resolved or built.

    Raises:
        ConfigError: its class is not one that a config may name, or takes other arguments.
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
        raise ConfigError(f"{name} cannot be built with these settings: {error}") from error


def plain(node: Any) -> Any:
    """A config node as plain values, its interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def default_settings(group: str, part: str) -> dict[str, Any]:
    """The settings of ``conf/<group>/<part>.yaml``, without those taken from elsewhere."""
    file = ROOT / "conf" / group / f"{part}.yaml"
    settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    return {key: value for key, value in settings.items() if not _is_taken(value)}


def _is_taken(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def default_config(command: str, **parts: str) -> DictConfig:
    """The config of a command as Hydra would compose it, but for what only Hydra needs.

    Args:
        command: such as ``detect``.
        parts: the part of each group that is not the default, such as ``encoder="bundled"``. A
            part may change others, as ``encoder=bundled`` does.
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
"""Groups of training alone: they name what Hydra alone knows."""


def _read(name: str) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / f"{name}.yaml"))
    return dict(settings or {})


def _overridden(group: str, part: Any) -> dict[str, str]:
    """The parts of other groups that a part chooses."""
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
    """The settings of a part, below the keys where they stand."""
    text = (ROOT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    settings = _read(f"{group}/{name}")
    inherited = [entry for entry in settings.pop("defaults", []) if isinstance(entry, str)]
    found: dict[str, Any] = {}
    for parent in inherited:
        if parent != "_self_":
            found |= _part(group, parent).get(group, {})
    package = next(
        (line.split()[2] for line in text.splitlines() if line.startswith("# @package ")), group
    )
    settings = found | settings
    for key in [] if package == "_global_" else reversed(package.split(".")):
        settings = {key: settings}
    return settings
