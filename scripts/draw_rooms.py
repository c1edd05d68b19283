"""Draw the rooms of the package by floors.

    python scripts/draw_rooms.py docs/rooms.svg

``tests/test_layers.py`` has the floors that are drawn. The text of a room is the first sentence of
its docstring.
"""

from __future__ import annotations

import argparse
import ast
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "dedup"
WIDTH, HEIGHT, GAP, LEFT = 1120, 64, 12, 44
"""Of the drawing and of a room, pixels."""
STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1d2733}"
    ".name{font-size:15px;font-weight:600}"
    ".purpose{font-size:11.5px;fill:#4a5766}"
    ".room{fill:#e8f0f7;stroke:#8fb0cc}"
    ".file{fill:#f6f3ea;stroke:#c9bd94}"
    ".arrow{stroke:#8a94a0;stroke-width:2;fill:none}"
)


def read_floors() -> list[list[str]]:
    """Read the names of the rooms by floor, the lowest first."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS":
            return [sorted(rooms) for rooms in ast.literal_eval(node.value)]
    raise SystemExit("Cannot draw: tests/test_layers.py has no FLOORS. Name the floors there.")


def read_purpose(room: str) -> str:
    """Read what a room is for: the first sentence of its docstring."""
    module = SRC / f"{room}.py"
    file = module if module.is_file() else SRC / room / "__init__.py"
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = " ".join(doc.split("\n\n")[0].split())
    return first.split(". ")[0].replace("``", "").rstrip(".")


def draw_room(room: str, left: float, top: int, width: float) -> str:
    """Draw one room, its name and at most two lines of its purpose."""
    kind = "room" if (SRC / room).is_dir() else "file"
    lines = wrap(read_purpose(room), max(12, int(width / 6.1)), max_lines=2, placeholder=" …")
    texts = [
        f'<text class="purpose" x="{left + 12:.0f}" y="{top + 41 + 14 * row}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    ]
    return "\n".join(
        [
            f'<rect class="{kind}" x="{left:.0f}" y="{top}" width="{width:.0f}" '
            f'height="{HEIGHT}" rx="8"/>',
            f'<text class="name" x="{left + 12:.0f}" y="{top + 23}">{room}</text>',
            *texts,
        ]
    )


def draw_floor(rooms: list[str], top: int) -> str:
    """Draw the rooms of one floor side by side."""
    width = (WIDTH - LEFT - GAP * len(rooms)) / len(rooms)
    lefts = [LEFT + place * (width + GAP) for place in range(len(rooms))]
    return "\n".join(
        draw_room(room, left, top, width) for room, left in zip(rooms, lefts, strict=True)
    )


def draw() -> str:
    """Draw all floors as SVG, the highest on top."""
    floors = read_floors()[::-1]
    height = len(floors) * (HEIGHT + GAP) + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-label="The rooms of dedup by floors: a room imports lower floors only">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<path class="arrow" d="M30 {GAP + 6}V{height - GAP - 8}m-7 -9l7 9l7 -9"/>',
            f'<text class="purpose" transform="translate(22 {height // 2}) rotate(-90)" '
            'text-anchor="middle">a room imports lower floors only</text>',
            *[draw_floor(rooms, GAP + row * (HEIGHT + GAP)) for row, rooms in enumerate(floors)],
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write the drawing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="the SVG file to write")
    parser.parse_args().out.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
