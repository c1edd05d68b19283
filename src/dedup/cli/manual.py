"""Texts of ``--help`` and ``--version``: a command's settings with the comments of ``conf/``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dedup import __version__
from dedup.cli.arguments import composed, keys, overrides, part_files, part_names
from dedup.config.targets import is_special
from dedup.runtime.invocation import ROOT, command

WIDTH, COLUMN = 100, 36
"""Characters of a line, and the column of the meanings."""

Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Titles, each with sections, parts or single keys."""

_IMAGES: Groups = (
    ("Reading of images", ("store", "fetch", "csv")),
    ("Input of the encoder", ("foreground", "framing")),
)
_EMBEDDING = ("data.batch_size", "trainer.gpus", "trainer.accelerator", "trainer.num_processes")
_RUN = ("runs", "seed", "experiment")
SETTINGS: dict[str, Groups] = {
    "train": (
        ("The run", ("epochs", "resume", "preview", *_RUN)),
        ("The catalogue", ("source",)),
        ("Training", ("encoder", "task", "views", "objective", "data", "trainer")),
        *_IMAGES,
        ("Files and figures of the training", ("callbacks",)),
    ),
    "cluster": (
        ("The index", ("checkpoint", "encoder", "change", "index", "ids")),
        ("The catalogue", ("source",)),
        ("Embedding and clustering", ("clusterer", *_EMBEDDING)),
        *_IMAGES,
        ("The run", _RUN),
    ),
    "detect": (
        ("The catalogues", ("index", "source", "against", "prefix", "since", "query")),
        ("Duplicates", ("matcher", "verifier", "detection", "calibration", "truth")),
        ("Groups and reports", ("grouping", "ledger", "health", "report", "csv")),
        ("Making an index if there is none", ("checkpoint", "encoder", "clusterer", *_EMBEDDING)),
        ("Reading of images", ("store", "fetch")),
        _IMAGES[1],
        ("The run", _RUN),
    ),
    "calibrate": (
        ("The labels", ("findings", "ledger", "precision", "by")),
        ("The run", ("csv", "runs")),
    ),
    "diff": (
        ("The runs", ("old", "new", "before", "decisions", "ledger")),
        ("What comes of it", ("fail_on", "csv")),
        ("The run", ("runs",)),
    ),
    "plan": (
        ("The plan", ("findings", "ledger", "plan")),
        ("The run", ("csv", "runs")),
    ),
    "review": (
        ("The groups", ("findings", "work")),
        ("The decisions", ("ledger", "reviewer", "export", "import")),
        ("The page", ("server", "invite", "role")),
        ("The run", ("runs",)),
    ),
    "verify": (
        ("What to check", ("store.path", "index", "run", "repair")),
        ("Reading of images by a repair", ("store", "fetch")),
        ("The run", ("runs",)),
    ),
}
"""Settings of each command, in groups."""

EXAMPLES = {
    "train": ("trainer.gpus=1 epochs=3", "experiment=relisting source.path=products.csv"),
    "cluster": ("encoder=bundled source.path=products.csv", "change=add source.path=new.csv"),
    "detect": (
        "encoder=bundled source.path=products.csv",
        "index=runs/cluster/latest grouping.keep=[highest:price,most_images]",
        "index=runs/cluster/latest query=photo.jpg",
    ),
    "calibrate": ("ledger.path=runs/ledger.sqlite", "by=category"),
    "diff": (
        "old=runs/detect/2026-11-23_06-00-00-000000",
        "old=runs/detect/2026-11-23_06-00-00-000000 fail_on=[new]",
    ),
    "plan": (
        "plan.trust=[same_bytes,same_pixels]",
        "ledger=sqlite plan.url_column=link",
    ),
    "review": ("findings=runs/detect/latest", "invite=Ann", "export=decisions.jsonl"),
    "verify": ("store.path=runs/store/pillow", "run=runs/detect/latest"),
}

_ABOUT = {"verify": "check"}
_LINE = re.compile(r"(\s*)([\w.]+):(?:\s|$)(.*)")
_LIST = re.compile(r"(?<!['=\w])\[[^\]]+\]")
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)")
_FOOTER = (
    ("--config-dir DIR", "also take parts and experiments of your own from DIR"),
    ("--multirun, -m", "start a run for each of several values, as in seed=1,2"),
    ("--cfg job", "print the config of this run; --info and --hydra-help say more"),
    ("--version", "print the version"),
)


def answer(name: str, arguments: Sequence[str]) -> str | None:
    """Write the text that a command line asks for; ``None`` if it asks for a run."""
    if "--version" in arguments:
        return f"dedup {__version__}"
    if "--help" in arguments or "-h" in arguments:
        return manual(name, arguments)
    return None


def manual(name: str, arguments: Sequence[str] = ()) -> str:
    """Describe a command: its purpose, examples, and settings with defaults and meanings.

    Args:
        name: the command.
        arguments: the command line; the parts chosen there are described.
    """
    cfg = composed(name, arguments, hydra_too=True)
    OmegaConf.set_struct(cfg, False)
    files = _files(name, cfg, arguments)
    meanings = {key: text for file, prefix in files for key, text in _meanings(file, prefix)}
    called = command(_ABOUT.get(name, name))
    lines = [f"{called}: {_head(ROOT / 'conf' / f'{name}.yaml').partition(': ')[2]}", ""]
    lines += [f"  {called} {_in_shell(example)}" for example in EXAMPLES[name]]
    lines += ["", "Change a setting with NAME=VALUE, choose a part with GROUP=PART."]
    shown: set[str] = set()
    for title, names in SETTINGS[name]:
        lines += ["", title]
        for key in names:
            lines += _described(cfg, key, meanings, arguments, shown)
    lines += ["", "Besides", *(_row(option, text) for option, text in _FOOTER)]
    return "\n".join(lines)


def overview() -> str:
    """List the commands with their purpose."""
    rows = [
        _row(f"dedup {_ABOUT.get(name, name)}", _head(ROOT / "conf" / f"{name}.yaml").partition(
            ": ")[2]) for name in SETTINGS
    ]  # fmt: skip
    return "\n".join([
        "Find duplicate products in a catalogue by their images.", "",
        "usage: dedup COMMAND [--help] [NAME=VALUE ...]", "", *rows, "",
        "Begin with: dedup detect encoder=bundled source.path=products.csv",
    ])  # fmt: skip


def unused(name: str, arguments: Sequence[str]) -> list[str]:
    """List the overrides of settings that another command has and this one ignores."""
    own = _names(name)
    others = {key for other in SETTINGS if other != name for key in _names(other)}
    return [
        override for override in overrides(arguments)
        if not _is_of(key := override.partition("=")[0].lstrip("+~"), own) and _is_of(key, others)
    ]  # fmt: skip


def _names(name: str) -> set[str]:
    return {key for _, names in SETTINGS[name] for key in names}


def _is_of(key: str, names: set[str]) -> bool:
    return any(
        key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in names
    )


def _files(name: str, cfg: DictConfig, arguments: Sequence[str]) -> list[tuple[Path, str]]:
    """List the YAML files of a composed config, each with the key it stands below."""
    files = [(ROOT / "conf" / "base.yaml", ""), (ROOT / "conf" / f"{name}.yaml", "")]
    chosen = [(str(group), part) for group, part in cfg.hydra.runtime.choices.items()]
    chosen += [("report", str(part)) for part in cfg.get("report") or ()]
    for choice, part in chosen:
        group, _, package = choice.partition("@")
        if part and not group.startswith("hydra"):
            for file in part_files(group, arguments, part):
                files += [*_parents(file, package or group), (file, package or group)]
    return files


def _parents(file: Path, prefix: str) -> list[tuple[Path, str]]:
    """List the files of the same group that a part inherits: ``csv``, ``grabcut@person``."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    entries = settings.get("defaults", ())
    names = [entry.partition("@") for entry in entries if isinstance(entry, str)]
    files = [
        (file.with_name(f"{name}.yaml"), f"{prefix}.{key}".strip(".")) for name, _, key in names
    ]
    return [(parent, key) for parent, key in files if parent.is_file()]


def _meanings(file: Path, prefix: str) -> list[tuple[str, str]]:
    """Read a YAML file's comments by dotted key: beside the key, or on the lines above it."""
    text = file.read_text(encoding="utf-8")
    package = re.match(r"# @package (\S+)", text)
    where = {"_global_": ""}.get(package[1], package[1]) if package else prefix
    meanings = [(where, _head(file))] if where else []
    path: list[tuple[int, str]] = []
    above = ""
    for line in text.splitlines():
        match = _LINE.match(line)
        comment = _COMMENT.search(line)
        if not match:
            is_text = comment and not comment[1].startswith("@package")
            above = f"{above} {comment[1]}".strip() if comment and is_text else ""
            continue
        depth = len(match[1])
        path = [(d, name) for d, name in path if d < depth] + [(depth, match[2])]
        key = ".".join([where, *(key for _, key in path)]).strip(".")
        meanings += [(key, comment[1] if comment else above)] if comment or above else []
        above = ""
    return meanings


def _head(file: Path) -> str:
    """Read the comment that a YAML file begins with, without Hydra's ``@package`` line."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines += [line[1:].strip()] if not line.startswith("# @package") else []
    return " ".join(lines)


def _described(
    cfg: DictConfig, key: str, meanings: dict[str, str], arguments: Sequence[str], shown: set[str]
) -> list[str]:
    """Describe a setting, or a part or section with all its settings, a line each."""
    lines = []
    meaning = meanings.get(key, "")
    if key == "encoder" and cfg.hydra.job.name != "train":  # the checkpoint describes it
        return [_row("encoder=bundled", "take the weights that come with the package")]
    if names := part_names(key, arguments):
        chosen = cfg.hydra.runtime.choices.get(key)
        if key == "report":
            chosen = f"[{','.join(cfg.report or ())}]"
        lines.append(_row(f"{key}={chosen or 'null'}", _of_part(meaning, names)))
    elif isinstance(cfg.get(key), DictConfig):
        lines.append(_row(f"{key}.NAME=VALUE", meaning))
    node = cfg._get_node(key) if "." not in key else None
    inside = [] if names else [key]
    if isinstance(node, DictConfig) and not node._is_none():
        inside = [f"{key}.{name}" for name in keys(node)]
    for name in inside:
        value = _value(cfg, name)
        if name not in shown and value is not None and not _is_special(name):
            shown.add(name)
            lines.append(_row(f"{name}={value}", meanings.get(name, "")))
    return lines


def _of_part(meaning: str, names: Sequence[str]) -> str:
    """Describe a chosen part, and list the alternatives."""
    several = f"One of {', '.join(names)}" if len(names) > 1 else ""
    return ". ".join(text.rstrip(".") for text in (meaning, several) if text)


def _is_special(key: str) -> bool:
    return is_special(key.rpartition(".")[2])


def _value(cfg: DictConfig, key: str) -> str | None:
    """Format a default as a user types it; ``None`` for a section."""
    parent, _, last = key.rpartition(".")
    node: Any = OmegaConf.select(cfg, parent) if parent else cfg
    if OmegaConf.is_missing(node, last):
        return "(needed)"
    try:
        value = node[last]
    except (OmegaConfBaseException, ValueError):  # the run's folder, known only in a run
        return "(the run's)"
    if isinstance(value, DictConfig):
        return None
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return _typed(plain)


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_typed(item) for item in value)}]" if not any(
            isinstance(item, dict) for item in value) else "[...]"  # fmt: skip
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or '""'


def _in_shell(typed: str) -> str:
    """Quote each word of a command line that a shell would take for a pattern of files."""
    return re.sub(r"(?<!\S)[\w.]+=\[[^\]]*\]", r"'\g<0>'", typed)


def _row(left: str, right: str) -> str:
    """Format a setting and its meaning in two columns; a list is quoted as a shell needs it."""
    key = left.partition("=")[0]
    left = _in_shell(left) if "=" in left else left
    right = _LIST.sub(rf"'{key}=\g<0>'", right)
    text = textwrap.wrap(right, WIDTH - COLUMN - 2) or [""]
    if len(left) > COLUMN - 2:
        text = ["", *text]
    rest = (" " * (COLUMN + 2) + line for line in text[1:])
    return "\n".join([f"  {left:<{COLUMN}}{text[0]}".rstrip(), *rest])
