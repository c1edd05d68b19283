"""Check byte for byte: ``python -m dedup check store.path=PATH [repair=true]``.

``index=PATH`` checks an index instead, and ``run=PATH`` all that a run left in its folder.
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
"""Addresses in the line on a damage; ``verify.json`` has all."""


@entrypoint("verify")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Print a line for each damage, put right what can be where that is asked for, and write it up.

    Raises:
        ConfigError: more than one thing is to be checked, or what is no store to be put right.
        ArtifactError: there is no store, or what else is to be checked.
        CorruptError: damage is left.
    """
    if cfg.index is None and cfg.run is None:
        _verify_store(cfg, run_dir)
    else:
        _verify_folder(cfg, run_dir)


def _verify_folder(cfg: DictConfig, run_dir: Path) -> None:
    """Check an index, or what a run left."""
    if cfg.repair or (cfg.index is not None and cfg.run is not None):
        raise ConfigError(
            "index= and run= check one folder, and repair=true mends a store alone: leave out all "
            "but one of them"
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
    facts |= {"damages": [asdict(one) for one in damages], "left": [asdict(one) for one in damages]}
    write_json(facts, run_dir / "verify.json")
    if damages:
        raise CorruptError(
            f"{_of(damages, f'the {kind} {path}')} not what was written: see "
            f"{run_dir / 'verify.json'}, and run the command that made it again"
        )
    say(f"{path} is whole")


def _verify_store(cfg: DictConfig, run_dir: Path) -> None:
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
        mended = _repaired(cfg, path, damages)
        say(_said(mended))
        left, facts["mended"] = verify(path), asdict(mended)
    facts |= {"damages": [asdict(one) for one in damages], "left": [asdict(one) for one in left]}
    write_json(facts, run_dir / "verify.json")
    if left:
        what = "" if cfg.repair else f", and {advice(path)}"
        raise CorruptError(
            f"{_of(left, f'the store {path}')} not what was written: see "
            f"{run_dir / 'verify.json'}{what}"
        )
    say(f"{path} is whole")


def _checked(path: Path) -> tuple[list[Damage], int, float]:
    """The damage to a store, its size in bytes, and the seconds that it took."""
    from dedup.runtime.files import locked
    from dedup.store.integrity import manifest, verify

    manifest(path)  # else a lock would make a folder of a mistyped path
    # Nobody can be writing where nobody may.
    with locked(path) if os.access(path, os.W_OK) else nullcontext():
        started = monotonic()
        damages = verify(path)
        seconds = monotonic() - started
        return damages, sum(file.stat().st_size for file in path.glob("shard-*")), seconds


def _repaired(cfg: DictConfig, path: Path, damages: list[Damage]) -> Mended:
    from dedup.store.integrity import manifest
    from dedup.store.repair import repair

    said = manifest(path) or {}
    reader = said.get("reader", cfg.store.reader)
    return repair(build(cfg.store, fetcher=build(cfg.fetch), reader=reader), damages)


def _of(damages: list[Damage], what: str) -> str:
    return f"1 file of {what} is" if len(damages) == 1 else f"{len(damages)} files of {what} are"


def _line(damage: Damage) -> str:
    """One line on a damaged file."""
    n, named = len(damage.addresses), visible(", ".join(damage.addresses[:MAX_NAMED]))
    more = f" and {n - MAX_NAMED} more" if n > MAX_NAMED else ""
    detail = visible(damage.detail)
    said = f": {detail}" if detail else f": {named}{more}" if n else ""
    return f"{damage.kind} {visible(damage.file)}{said}"


def _said(mended: Mended) -> str:
    """What a repair did, a line for each kind."""
    lines = [f"{counted(len(mended.restored), 'picture')} read again, unchanged"]
    lines += [f"reads otherwise now, or fails: {visible(url)}" for url in mended.changed]
    lines += [
        f"shard {shard} was lost: the next run reads its addresses again"
        for shard in mended.emptied
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
