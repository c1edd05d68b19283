"""Integrity check of a store, byte for byte: ``dedup check store.path=PATH [repair=true]``.

``index=PATH`` checks an index instead, and ``run=PATH`` all files of a run.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, log, say
from dedup.config.instances import build
from dedup.errors import ConfigError, CorruptError
from dedup.runtime.nouns import counted
from dedup.runtime.printable import visible

if TYPE_CHECKING:
    from dedup.store.integrity import Damage
    from dedup.store.repair import Mended

MAX_NAMED = 3
"""Addresses that the line on a damaged file names; ``verify.json`` has all."""


@entrypoint("verify")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Check a store, an index or a run, repair a store on request, and write ``verify.json``.

    Raises:
        ConfigError: several things are to be checked, or an index or a run is to be repaired.
        ArtifactError: the store, index or run is missing.
        CorruptError: damage remains.
    """
    if cfg.index is None and cfg.run is None:
        _check_store(cfg, run_dir)
    else:
        _check_folder(cfg, run_dir)


def _check_folder(cfg: DictConfig, run_dir: Path) -> None:
    """Check an index, or the files of a run."""
    if cfg.repair or (cfg.index is not None and cfg.run is not None):
        raise ConfigError(
            "index=, run= and repair=true exclude each other, as only a store can be repaired: "
            "leave all but one out"
        )
    from dedup.detection.integrity import (  # pandas: not for --help
        inspect_index,
        inspect_run,
        size_of,
    )
    from dedup.runtime.files import write_json

    kind, inspect = ("index", inspect_index) if cfg.run is None else ("run", inspect_run)
    path = Path(str(cfg[kind]))
    started = monotonic()
    damages = inspect(path)
    seconds, n_bytes = monotonic() - started, size_of(path)
    if damages:
        say("\n".join(_line(damage) for damage in damages))
    log.info("%s with %d bytes checked in %.1f s", path, n_bytes, seconds)
    facts = {kind: str(path), "bytes": n_bytes, "seconds": seconds}
    records = [asdict(damage) for damage in damages]
    write_json({**facts, "damages": records, "left": records}, run_dir / "verify.json")
    if damages:
        raise CorruptError(
            f"{_files_of(damages, f'the {kind} {path}')} not what was written: see "
            f"{run_dir / 'verify.json'}, and repeat the command that made the {kind}"
        )
    say(f"{path} is intact")


def _check_store(cfg: DictConfig, run_dir: Path) -> None:
    """Check a store, and repair it on request."""
    from dedup.runtime.files import write_json  # pandas: not for --help
    from dedup.store.integrity import verify
    from dedup.store.shards import advice

    path = Path(cfg.store.path)
    damages, n_bytes, seconds = _checked(path)
    if damages:
        say("\n".join(_line(damage) for damage in damages))
    rate = n_bytes / max(seconds, 1e-9) / 1e9
    log.info("%d bytes checked in %.1f s, %.2f GB/s", n_bytes, seconds, rate)
    facts: dict[str, Any] = {"store": str(path), "bytes": n_bytes, "seconds": seconds}
    left = damages
    if damages and cfg.repair:
        mended = _repair(cfg, path, damages)
        say(_repair_lines(mended))
        left, facts["mended"] = verify(path), asdict(mended)
    facts["damages"] = [asdict(damage) for damage in damages]
    facts["left"] = [asdict(damage) for damage in left]
    write_json(facts, run_dir / "verify.json")
    if left:
        remedy = "" if cfg.repair else f", and {advice(path)}"
        raise CorruptError(
            f"{_files_of(left, f'the store {path}')} not what was written: see "
            f"{run_dir / 'verify.json'}{remedy}"
        )
    say(f"{path} is intact")


def _checked(path: Path) -> tuple[list[Damage], int, float]:
    """Check a store; return its damage, its size in bytes, and the seconds taken."""
    from dedup.runtime.files import locked
    from dedup.store.integrity import manifest, verify

    manifest(path)  # else the lock would create a folder at a misspelt path
    # A folder that nobody may write to needs no lock.
    with locked(path) if os.access(path, os.W_OK) else nullcontext():
        started = monotonic()
        damages = verify(path)
        seconds = monotonic() - started
        return damages, sum(file.stat().st_size for file in path.glob("shard-*")), seconds


def _repair(cfg: DictConfig, path: Path, damages: list[Damage]) -> Mended:
    from dedup.store.integrity import manifest
    from dedup.store.repair import repair

    stored = manifest(path) or {}
    reader = stored.get("reader", cfg.store.reader)
    return repair(build(cfg.store, fetcher=build(cfg.fetch), reader=reader), damages)


def _files_of(damages: list[Damage], what: str) -> str:
    """Begin a sentence on the damaged files: "2 files of the store S are"."""
    return f"1 file of {what} is" if len(damages) == 1 else f"{len(damages)} files of {what} are"


def _line(damage: Damage) -> str:
    """Describe a damaged file in one line."""
    n, named = len(damage.addresses), visible(", ".join(damage.addresses[:MAX_NAMED]))
    more = f" and {n - MAX_NAMED} more" if n > MAX_NAMED else ""
    detail = visible(damage.detail)
    rest = f": {detail}" if detail else f": {named}{more}" if n else ""
    return f"{damage.kind} {visible(damage.file)}{rest}"


def _repair_lines(mended: Mended) -> str:
    """Describe a repair: a line on restored images, and one for each other image or shard."""
    lines = [f"{counted(len(mended.restored), 'image')} restored unchanged"]
    lines += [f"changed or failed when read again: {visible(url)}" for url in mended.changed]
    lines += [
        f"shard {shard} was lost: the next run reads its addresses again"
        for shard in mended.emptied
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
