"""Decisions of people on pairs of products, and the images that a product had then."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, NamedTuple

from dedup.errors import ConfigError

DUPLICATE: Final = "duplicate"
VERDICTS = (DUPLICATE, "other_product", "variant", "different", "unsure")
"""Verdicts on a pair: one product; one image, but another product; a variant of one product, such
as a colour; different products; and not known."""
APART = ("other_product", "variant", "different")
"""Verdicts by which two products are no duplicates."""
IN_WORDS = {
    DUPLICATE: "the same product",
    "other_product": "the same image, but another product",
    "variant": "a variant",
    "different": "not a duplicate",
    "unsure": "not sure",
}
"""Verdicts in words."""
SOURCES = ("key", "page", "rule", "import", "carried")
"""Origins of a decision: a single key, a page of pairs, a rule, a file, and a renamed product."""

MAX_TEXT = 10_000
"""Longest note or context, in characters."""

Pair = tuple[str, str]
"""Two product ids, the smaller first."""
Place = tuple[str, int]
"""Batch and number of a decision: its name in every copy of a ledger."""


def pair_of(one: str, other: str) -> Pair:
    """Order two product ids."""
    return (one, other) if one < other else (other, one)


class Digests(NamedTuple):
    """Digests of an image: of its stored pixels, and of its file's bytes."""

    pixels: str
    bytes: str


UNKNOWN = Digests("", "")
"""Stands for an image that is not known."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the ledger: a verdict on a pair, or the undoing of a batch.

    Attributes:
        batch: id of the batch that it was given in.
        seq: its number in the batch, from 0.
        left: the smaller product id; "" where a batch is undone.
        right: the larger product id.
        verdict: one of ``VERDICTS``; "" where a batch is undone.
        kept: the product that the reviewer wants to keep; "" for no choice.
        left_print: fingerprint of the left product's images, see ``fingerprint``.
        right_print: fingerprint of the right product's images.
        shown_left: digests of the left image that was looked at; empty if unknown.
        shown_right: digests of the right one.
        reviewer: name of who decided.
        source: one of ``SOURCES``.
        run: the run whose result was reviewed.
        context: what was known then, such as the score; never part of a key.
        note: remark of the reviewer.
        took_ms: milliseconds from the display to the decision; -1 if unknown.
        made_at: time in UTC, as in 2026-01-31T12:00:00.000000Z.
        undoes: the batch that this row undoes; "" for none.
        replaces: earlier decisions that contradict this one and were overruled on purpose.
    """

    batch: str
    seq: int
    left: str
    right: str
    verdict: str
    kept: str = ""
    left_print: str = ""
    right_print: str = ""
    shown_left: Digests = UNKNOWN
    shown_right: Digests = UNKNOWN
    reviewer: str = ""
    source: str = "key"
    run: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    took_ms: int = -1
    made_at: str = ""
    undoes: str = ""
    replaces: tuple[Place, ...] = ()

    @property
    def pair(self) -> Pair:
        """The two products."""
        return self.left, self.right

    @property
    def place(self) -> Place:
        """Name of this row in every copy of the ledger."""
        return self.batch, self.seq

    @property
    def order(self) -> tuple[str, str, int]:
        """Sort key: later decisions are larger."""
        return self.made_at, self.batch, self.seq

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        values = asdict(self)
        values["shown_left"], values["shown_right"] = list(self.shown_left), list(self.shown_right)
        values["replaces"] = [list(place) for place in self.replaces]
        values["context"] = dict(self.context)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Read the values of ``to_dict``.

        Raises:
            ConfigError: a value is missing, or is none that a decision can have.
        """
        known = {one.name for one in fields(cls)}
        if strange := set(values) - known:
            raise ConfigError(f"a decision has no {', '.join(sorted(strange))}")
        try:
            plain = dict(values)
            for name in ("shown_left", "shown_right"):
                if name in plain:
                    plain[name] = Digests(*plain[name])
            plain["replaces"] = tuple(
                (str(batch), int(seq)) for batch, seq in plain.get("replaces", ())
            )
            decision = cls(**plain)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the values of a decision are incomplete: {error}") from error
        decision.check()
        return decision

    def check(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a value is none that a decision can have.
        """
        texts: tuple[object, ...] = (
            *(self.batch, self.left, self.right, self.kept, self.reviewer, self.run, self.note),
            *(self.undoes, self.made_at, self.left_print, self.right_print),
            *(*self.shown_left, *self.shown_right),
        )
        if not all(isinstance(text, str) and "\0" not in text for text in texts):
            raise ConfigError("a decision has a value that is no text, or holds a NUL character")
        if not isinstance(self.seq, int) or self.seq < 0 or not isinstance(self.took_ms, int):
            raise ConfigError("seq and took_ms of a decision are whole numbers")
        if not self.batch or not self.reviewer or len(self.batch) > 100:
            raise ConfigError("a decision needs a batch of 1 to 100 characters, and a reviewer")
        if self.source not in SOURCES:
            raise ConfigError(f"source={self.source}: choose one of {', '.join(SOURCES)}")
        if len(self.note) > MAX_TEXT or not isinstance(self.context, Mapping):
            raise ConfigError(f"a note has {MAX_TEXT:,} characters at most, and context is a table")
        if self.undoes:
            if self.verdict or self.left or self.right:
                raise ConfigError("a row that undoes a batch has no pair and no verdict")
            return
        if self.verdict not in VERDICTS:
            raise ConfigError(f"verdict={self.verdict}: choose one of {', '.join(VERDICTS)}")
        if not self.left < self.right:
            raise ConfigError(
                f"a decision is on two products, the smaller id first: {self.left!r} and "
                f"{self.right!r} are not"
            )
        if self.kept not in ("", *self.pair):
            raise ConfigError(f"kept={self.kept!r} is neither {self.left!r} nor {self.right!r}")


def fingerprint(pixels: Collection[str]) -> str:
    """Name a set of images by the digests of their pixels."""
    if len(pixels) == 1:
        return hashlib.sha256("".join(pixels).encode()).hexdigest()
    return hashlib.sha256("\n".join(sorted(set(pixels))).encode()).hexdigest()
