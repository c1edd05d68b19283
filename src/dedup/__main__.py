"""``dedup train``, ``dedup cluster``, ``dedup detect``: the three entry points by name."""

from __future__ import annotations

import runpy
import sys

from dedup.entrypoint import ROOT

COMMANDS = ("train", "cluster", "detect")


def main() -> None:
    """Run the entry point named first on the command line with the arguments that follow."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: dedup {{{','.join(COMMANDS)}}} [--help] [setting=value ...]")
    name = sys.argv.pop(1)
    runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
