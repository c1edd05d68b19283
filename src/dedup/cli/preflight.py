"""Checks of a run's settings before any work, which report all faults at once."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dedup.cli.arguments import USE_BUNDLED
from dedup.cli.manual import unused
from dedup.config.limits import check_limits
from dedup.config.parts import load
from dedup.config.targets import TARGET
from dedup.errors import ConfigError, DedupError
from dedup.runtime.invocation import command
from dedup.runtime.processes import is_first
from dedup.sources.cells import is_cell
from dedup.sources.table_copies import is_there
from dedup.store.local_files import is_remote

log = logging.getLogger("dedup")

AUTOENCODER = "dedup.training.tasks.autoencoder.AutoencoderTask"
DECODES = "dedup.encoders.conv.ConvAutoencoder"
"""The autoencoder task, and the encoder with a decoder: known by name, without loading torch."""

Build = Callable[[Any], Any]
Settings = Mapping[str, Any]


def check_settings(name: str, settings: Settings, overrides: Sequence[str], build: Build) -> None:
    """Check the settings of a run, and warn of those that its command does not use.

    Args:
        name: the command.
        settings: its composed config in plain values, whose targets are checked already.
        overrides: the overrides typed.
        build: builds the object that a part of the settings describes.

    Raises:
        DedupError: settings cannot work; the message has a line or more for each.
    """
    wrong: list[DedupError] = []
    for check in _CHECKS:
        try:
            check(name, settings, build)
        except DedupError as error:
            wrong.append(error)
            if check is _check_limits and "source." in str(error):
                break  # the source cannot be built
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ConfigError("\n".join(map(str, wrong)))
    if is_first():
        for override in unused(name, overrides):
            log.warning("%s is not used by %s: leave it out", override, command(name))


def _check_limits(name: str, settings: Settings, build: Build) -> None:
    check_limits(settings)


def _check_task(name: str, settings: Settings, build: Build) -> None:
    """Check that an encoder to be trained by reconstruction has a decoder."""
    target = settings["encoder"].get(TARGET)
    is_trained = name == "train" and settings["preview"] is None
    if not is_trained or settings["task"][TARGET] != AUTOENCODER or target == DECODES:
        return
    encoder = load(target)
    if not inspect.isclass(encoder):
        encoder = build(settings["encoder"])
    if not hasattr(encoder, "decode"):
        part = target.split(".")[-2]
        as_it_is = f". Or use it as it is: {USE_BUNDLED}" if part == "bundled" else ""
        raise ConfigError(
            f"task=autoencoder redraws images, and encoder={part} has no decoder: add "
            f"task=contrastive, or choose encoder=conv{as_it_is}"
        )


def _check_gpus(name: str, settings: Settings, build: Build) -> None:
    """Check that this machine has the GPUs of ``trainer.accelerator=gpu``."""
    trainer = settings.get("trainer", {})
    is_used = name in ("train", "cluster") or (name == "detect" and settings["checkpoint"])
    if not is_used or trainer.get("accelerator") != "gpu":
        return
    from dedup.training.devices import choose_devices, visible_gpus  # imports torch

    choose_devices(trainer["gpus"], "gpu", visible_gpus(), trainer["num_processes"])


def _check_columns(name: str, settings: Settings, build: Build) -> None:
    """Check by its header that a table has the columns that settings name."""
    source = settings.get("source") or {}
    is_read = name == "train" or settings.get("change") in ("build", "add", "update")
    is_read = is_read or (name == "detect" and settings["index"] is None)
    if not is_read or not is_first() or not isinstance(source.get("path"), str):
        return
    table = build(source)
    if name == "detect" and is_there(source["path"]):  # an index may be all that is left
        from dedup.pipeline import check_columns

        reports = (build(settings["report"]) or {}).values()
        block_by, grouping = settings["detection"]["block_by"], build(settings["grouping"])
        check_columns(table, block_by, grouping, reports)
    elif name != "detect" and hasattr(table, "check"):
        table.check()


def _check_query(name: str, settings: Settings, build: Build) -> None:
    """Check that ``query=`` names images; those on disk if a catalogue is read before."""
    query = settings.get("query")
    if query is None:
        return
    several = [str(one) for one in (query if isinstance(query, list) else [query])]
    if not several or "" in several:
        raise ConfigError(
            "query= names no image: give the path or the address of one, as in query=photo.jpg, or "
            "leave it out"
        )
    is_read = isinstance((settings.get("source") or {}).get("path"), str)
    gone = [one for one in several if is_read and not _is_found(one)]
    if gone:
        raise ConfigError(
            f"query={gone[0]}: there is no such file. query= takes images, each a path or an "
            "http(s) address, and no ids of products"
        )


def _is_found(address: str) -> bool:
    """Tell whether an image is a file that exists, or is on no disk to look at."""
    return is_remote(address) or is_cell(address) or Path(address).exists()


def _check_truth(name: str, settings: Settings, build: Build) -> None:
    """Check the file of ``truth=``, which is needed at the end."""
    truth = settings.get("truth")
    if isinstance(truth, str):
        from dedup.detection.ground_truth import read_truth  # pandas

        read_truth(Path(truth))


def _check_since(name: str, settings: Settings, build: Build) -> None:
    """Check that ``since=`` names the folder of a search."""
    since = settings.get("since")
    if isinstance(since, str):
        from dedup.search.manifest import SEARCH
        from dedup.search.state import SearchState

        if not (Path(since) / SEARCH).is_file():
            SearchState.load(Path(since))  # says what is missing


_CHECKS = (
    _check_limits, _check_task, _check_gpus, _check_columns, _check_query, _check_truth,
    _check_since,
)  # fmt: skip
