"""Command line: ``dedup train``, ``cluster``, ``detect``, ``review``, and the other commands."""

from __future__ import annotations

import difflib
import runpy
import sys

from dedup import __version__
from dedup.runtime.invocation import ROOT, SCRIPTS

COMMANDS = (*SCRIPTS, "check")
"""Names of the commands."""
RENAMED = {"verify": "check"}
"""New names of renamed commands, whose old names still work."""


def main() -> None:
    """Run the command that the first argument names, with the other arguments."""
    typed = sys.argv[1] if len(sys.argv) > 1 else ""
    if typed in ("--help", "-h", "help"):
        from dedup.cli.manual import overview  # Hydra, which the version need not load

        sys.stdout.write(f"{overview()}\n")
    elif typed == "--version":
        sys.stdout.write(f"dedup {__version__}\n")
    elif typed in COMMANDS or typed in RENAMED:
        _run(sys.argv.pop(1))
    else:
        sys.stderr.write(f"{_usage(typed)}\n")
        sys.exit(2)


def _run(name: str) -> None:
    if name in RENAMED:
        sys.stderr.write(
            f"dedup {name} has been renamed: use dedup {RENAMED[name]}; both names work\n"
        )
    if name in SCRIPTS:
        runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")
    else:
        runpy.run_module("dedup.cli.check", run_name="__main__")


def _usage(typed: str) -> str:
    usage = f"usage: dedup {{{','.join(COMMANDS)}}} [--help] [setting=value ...]"
    if not typed:
        return usage
    near = difflib.get_close_matches(typed, COMMANDS, n=1)
    hint = f"did you mean dedup {near[0]}?" if near else "see dedup --help"
    return f"{usage}\nthere is no command {typed}: {hint}"


if __name__ == "__main__":
    main()
