"""The worst mistakes of a run, to be looked at: ``gallery.html`` and one PNG for each list."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labelled import Ints, Labelled, expanded
from PIL import Image, ImageDraw
from pipeline import Found

from dedup.runtime.tables import write_rows
from dedup.store.decode import to_rgb

SIDE = 200
LINE = 14
COLUMNS = 4


@dataclass(frozen=True)
class Mistake:
    """A pair that was decided wrongly, or nearly so."""

    files: tuple[Path, Path]
    ids: tuple[str, str]
    what: str  # what the two are in truth
    score: float
    taken: bool
    evidence: str

    @property
    def said(self) -> str:
        """What the run made of it."""
        score = "no candidate" if self.score == -np.inf else f"score {self.score:.4g}"
        return f"{score}, {'taken' if self.taken else 'not taken'} {self.evidence}".strip()


def missed(found: Found, of: Labelled, most: int = 20) -> list[Mistake]:
    """Originals and copies that were not taken, the lowest scores first."""
    places = of.direct["place"].to_numpy()
    places = places[~found.taken[places]]
    order = np.argsort(found.scores[places], kind="stable")
    return _mistakes(found, of, places[order][:most])


def wrong(found: Found, of: Labelled, most: int = 20) -> list[Mistake]:
    """Pairs of different products, those taken and then the highest scores first."""
    places = np.flatnonzero(of.scored & ~of.is_match & (found.taken | (found.scores > -np.inf)))
    order = np.lexsort([-found.scores[places], ~found.taken[places]])
    return _mistakes(found, of, places[order][:most])


def write(lists: dict[str, list[Mistake]], folder: Path) -> Path:
    """Write ``gallery.html``, and a CSV and a PNG for each list; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        "<!doctype html><meta charset=utf-8><title>Worst mistakes</title>",
        "<style>body{font:14px sans-serif}figure{display:inline-block;margin:8px;max-width:430px}"
        "img{height:200px;margin-right:4px}</style>",
    ]
    for name, mistakes in lists.items():
        parts.append(f"<h1>{html.escape(name)}: {len(mistakes)}</h1>")
        parts += map(_figure, mistakes)
        slug = name.replace(" ", "_")
        sheet(mistakes).save(folder / f"{slug}.png")
        rows = [
            (*each.ids, *(f.name for f in each.files), each.what, each.said) for each in mistakes
        ]
        head = ("product_id_a", "product_id_b", "image_a", "image_b", "what", "said")
        write_rows(head, rows, folder / f"{slug}.csv")
    page = folder / "gallery.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def sheet(mistakes: Sequence[Mistake]) -> Image.Image:
    """All pairs in one image, each with two lines below."""
    wide, high = 2 * SIDE + 10, SIDE + 2 * LINE + 10
    n_rows = max(1, -(-len(mistakes) // COLUMNS))
    canvas = Image.new("RGB", (COLUMNS * wide, n_rows * high), "white")
    draw = ImageDraw.Draw(canvas)
    for number, mistake in enumerate(mistakes):
        x, y = number % COLUMNS * wide, number // COLUMNS * high
        for place, file in enumerate(mistake.files):
            canvas.paste(_thumbnail(file), (x + place * SIDE, y))
        for place, text in enumerate((mistake.what, mistake.said)):
            plain = text.encode("ascii", "replace").decode()
            draw.text((x, y + SIDE + 2 + place * LINE), plain[:66], fill="black")
    return canvas


def _mistakes(found: Found, of: Labelled, places: Ints) -> list[Mistake]:
    members = of.members.to_dict("records")
    edits = {int(row["place"]): row for row in of.direct.to_dict("records")}
    lists = []
    for place, a, b in zip(places.tolist(), *expanded(places, len(members)), strict=True):
        one, other = members[a], members[b]
        edit = edits.get(place)
        what = f"{edit['edit']} {edit['severity']}" if edit else f"{_kind(one)} | {_kind(other)}"
        lists.append(
            Mistake(
                files=(one["file"], other["file"]),
                ids=(one["product_id"], other["product_id"]),
                what=what.strip(),
                score=float(found.scores[place]),
                taken=bool(found.taken[place]),
                evidence=found.evidence.get(place, ""),
            )
        )
    return lists


def _kind(member: dict[str, str]) -> str:
    """What a product is in a benchmark, in short."""
    words = (member["group_id"], member["role"], member["edit"], member["severity"])
    return " ".join(word for word in words if word)


def _thumbnail(file: Path) -> Image.Image:
    with Image.open(file) as image:
        small = to_rgb(image)
    small.thumbnail((SIDE - 2, SIDE), Image.Resampling.LANCZOS)
    return small


def _figure(mistake: Mistake) -> str:
    images = "".join(f"<img src='{_uri(file)}'>" for file in mistake.files)
    caption = f"{mistake.what}<br>{mistake.said}<br>{' '.join(mistake.ids)}"
    lines = [html.escape(line) for line in caption.split("<br>")]
    return f"<figure>{images}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _uri(file: Path) -> str:
    buffer = io.BytesIO()
    _thumbnail(file).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
