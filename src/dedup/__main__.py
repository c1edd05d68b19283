"""The commands by name: ``dedup train``, ``cluster``, ``detect`` and ``verify``."""

from __future__ import annotations

import runpy
import sys

from dedup.config import ROOT

SCRIPTS = ("train", "cluster", "detect")
"""Those that are files of their own."""
COMMANDS = (*SCRIPTS, "verify")


def main() -> None:
    """Run the entry point named first on the command line with the arguments that follow."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: dedup {{{','.join(COMMANDS)}}} [--help] [setting=value ...]")
    name = sys.argv.pop(1)
    if name in SCRIPTS:
        runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")
    else:
        runpy.run_module(f"dedup.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
