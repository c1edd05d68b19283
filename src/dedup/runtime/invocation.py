"""Names of the commands as users type them, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
IS_INSTALLED = (_HERE / "conf").is_dir()
"""Whether the package is installed: a wheel carries ``conf/`` beside its modules."""
ROOT = _HERE if IS_INSTALLED else _HERE.parents[1]
"""Folder of ``conf/`` and the entry points: the package's in a wheel, else the checkout's."""
SCRIPTS = ("train", "cluster", "detect", "review", "calibrate", "diff", "plan")
"""Commands with a script of their own."""


def command(name: str) -> str:
    """Name a command as users type it: ``dedup detect``, or ``python detect.py``."""
    if IS_INSTALLED:
        return f"dedup {name}"
    return f"python {name}.py" if name in SCRIPTS else f"python -m dedup {name}"


def install(extra: str) -> str:
    """Name the command that installs an extra, from the package index or from the checkout."""
    if IS_INSTALLED:
        return f"pip install 'dedup-catalogue[{extra}]'"
    return f"pip install -c constraints.txt '.[{extra}]' in {ROOT}"
