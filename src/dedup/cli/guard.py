"""Check of what Hydra itself builds from a config, before it builds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from dedup.config.targets import check_hydra


@contextmanager
def guarded() -> Iterator[None]:
    """Check the node ``hydra`` of each config that Hydra composes meanwhile.

    Hydra builds its callbacks before it calls the command, and offers no place for a check between
    composing and building. So this one is put where Hydra loads a config: it sees exactly what
    Hydra will build.
    """
    load = ConfigLoaderImpl.load_configuration

    def load_checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        config = load(self, *args, **kwargs)
        check_hydra(_resolved(config.hydra))
        return config

    ConfigLoaderImpl.load_configuration = load_checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def _resolved(node: Any) -> Any:
    """Convert a node to plain values; what only a run can resolve stays a text."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        return {str(key): _resolved(_value(node, key)) for key in node}
    if isinstance(node, ListConfig) and not node._is_none() and not node._is_missing():
        return [_resolved(_value(node, number)) for number in range(len(node))]
    return node


def _value(node: Any, key: Any) -> Any:
    try:
        return node[key]
    except (OmegaConfBaseException, ValueError):
        return str(node._get_node(key)._value())
