"""How the commands are called here: by scripts in a checkout, by ``dedup`` where installed."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
IS_INSTALLED = (_HERE / "conf").is_dir()
"""Whether this is a wheel's copy, which carries ``conf/`` beside its modules."""
ROOT = _HERE if IS_INSTALLED else _HERE.parents[1]
"""Where ``conf/`` and the entry points lie: beside this module in a wheel, else the checkout."""
SCRIPTS = ("train", "cluster", "detect")
"""The commands that are files of their own."""


def command(name: str) -> str:
    """Name a command as it is typed here: ``dedup detect``, or ``python detect.py``."""
    if IS_INSTALLED:
        return f"dedup {name}"
    return f"python {name}.py" if name in SCRIPTS else f"python -m dedup {name}"


def install(extra: str) -> str:
    """Tell how an extra is installed here: by the package's name, or in the checkout."""
    if IS_INSTALLED:
        return f"pip install 'dedup-catalogue[{extra}]'"
    return f"pip install -c constraints.txt '.[{extra}]' in {ROOT}"
