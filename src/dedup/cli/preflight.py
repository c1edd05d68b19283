"""Checks of a run's settings before any work, which report all faults at once."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dedup.cli.manual import unused
from dedup.config.limits import check_limits
from dedup.config.parts import load
from dedup.config.targets import TARGET
from dedup.errors import ConfigError, DedupError
from dedup.runtime.invocation import command
from dedup.runtime.processes import is_first

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
    for check in (_check_limits, _check_task, _check_gpus, _check_columns):
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
        raise ConfigError(
            f"task=autoencoder redraws images, and encoder={target.split('.')[-2]} has no decoder: "
            "add task=contrastive, or choose encoder=conv"
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
    if not hasattr(table, "check") or (name == "detect" and not Path(source["path"]).is_file()):
        return
    columns = table.check()
    if name != "detect":
        return
    wrong = []
    block = settings["detection"]["block_by"]
    if block is not None and block not in columns:
        has = ", ".join(map(repr, columns))[:1000]
        wrong.append(f"detection.block_by={block}: the table has no such column. It has {has}")
    try:
        build(settings["grouping"]).check(columns)
    except ConfigError as error:
        wrong.append(f"grouping.{error}")
    if wrong:
        raise ConfigError("\n".join(wrong))
