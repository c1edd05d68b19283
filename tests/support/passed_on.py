"""A person's folder with an index, a run and a store that somebody else passed on, all forged."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from dedup.cli.commands import make_index
from dedup.config.instances import ROOT
from dedup.encoders.checkpoint import save_safetensors
from dedup.encoders.cnn import Cnn
from dedup.runtime.checksums import checked_text
from tests.conftest import make_shop

CANARY = "c4n4ry-of-a-secret"
"""Value of an environment variable that must not be seen anywhere."""

COMMANDS = {
    "query": ["detect"],
    "look": ["detect", "verifier=local", "matcher.threshold=0.1"],
    "remove": ["cluster", "change=remove", "ids=[P00]"],
    "add": ["cluster", "change=add", "source=csv"],
}
"""Commands that read an index which somebody passed on, with what is typed besides."""


@dataclass
class Person:
    """Who works in ``folder`` and has got ``passed`` from a stranger.

    Attributes:
        folder: the working directory, with ``products.csv`` and ``runs``.
        home: what must not be touched, with ``precious.txt``.
        passed: ``index``, ``run/net.safetensors``, ``store``.
        configs: of ``COMMANDS``, by name.
    """

    folder: Path
    home: Path
    passed: Path
    configs: dict[str, DictConfig]

    @property
    def precious(self) -> Path:
        """A file that an attack would overwrite."""
        return self.home / "precious.txt"

    def config(self, command: str, **changes: Any) -> DictConfig:
        """What a command would run with."""
        cfg = self.configs[command].copy()
        with open_dict(cfg):
            for key, value in changes.items():
                OmegaConf.update(cfg, key, value)
        return cfg

    @property
    def out(self) -> Path:
        """An empty run folder."""
        out = self.folder / "runs" / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return out


def make_person(folder: Path) -> Person:
    """A person with an honest index in ``passed``: 24 products, shown through a foreground."""
    home, work, passed = (folder / name for name in ("home", "work", "passed"))
    for one in (home, work, passed / "run", passed / "index"):
        one.mkdir(parents=True)
    (home / "precious.txt").write_text("years of work")
    (home / ".thesis.ab12.part").write_text("half of it")
    make_shop(work)
    checkpoint = passed / "run" / "net.safetensors"
    save_safetensors(Cnn(4, (4, 8)), checkpoint)
    given = [f"runs={work / 'runs'}", "trainer.gpus=0"]
    index = [f"index={passed / 'index'}", *given]
    configs = {name: composed(*words, *index) for name, words in COMMANDS.items()}
    configs["cluster"] = composed("cluster", f"checkpoint={checkpoint}", *given)
    chosen = ["foreground=skin_aware", "source=csv", f"source.path={work / 'products.csv'}"]
    stored = [f"checkpoint={checkpoint}", f"store.path={passed / 'store'}"]
    make_index(composed("cluster", *chosen, *stored, *given), passed / "index")
    (work / "runs").mkdir()
    return Person(work, home, passed, configs)


def composed(command: str, *overrides: str) -> DictConfig:
    """The config of a command."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose(command, list(overrides))


def forged(index: Path, change: Any) -> None:
    """Write an index's manifest anew, as a stranger would who knows how it is sealed.

    Args:
        index: its folder.
        change: is given what the manifest says, to change it.
    """
    file = index / "manifest.json"
    said = json.loads(file.read_text())
    change(said)
    file.write_text(_sealed(said))


def forged_run(run: Path, said: Any) -> Path:
    """Write the ``run.json`` beside a checkpoint; its path."""
    file = run / "run.json"
    file.write_text(_sealed(said) if isinstance(said, dict) else json.dumps(said))
    return file


def _sealed(said: dict[str, Any]) -> str:
    """As text with the digest of itself, where what is said is JSON at all."""
    said.pop("sha256", None)
    try:
        return checked_text(said)
    except ValueError:  # NaN
        return json.dumps(said, indent=1)


def contents(folder: Path, *, without: Path) -> dict[str, str]:
    """Every file and folder below one, by name: where a link leads, else size and digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_relative_to(without):
            continue
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"  # noqa: PTH115
        elif path.is_file():
            data = path.read_bytes()
            found[str(path)] = f"{len(data)} {hashlib.sha256(data).hexdigest()}"
        else:
            found[str(path)] = "folder"
    return found


@contextmanager
def untouched(person: Person) -> Iterator[None]:
    """Make sure that nothing outside the run's folder is made, changed or removed."""
    root, out = person.folder.parent, person.folder / "runs" / "out"
    before = contents(root, without=out)
    yield
    assert contents(root, without=out) == before
    told = [path for path in out.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in path.read_bytes() for path in told)
