"""Compare the cells of products that are to be merged, and choose what the kept one gains."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from dedup.actions.gtin import is_gtin_column, read_gtin
from dedup.actions.merge import BLOCKS, FLAGS, Conflict
from dedup.detection.cell_values import numbers_of
from dedup.errors import ConfigError
from dedup.sources.addresses import join_addresses

EQUAL, FLAG = "equal", "flag"
RULES = (EQUAL, FLAG, "keep", "fill", "highest", "lowest", "union")
"""Rules of columns."""

PRICES = r"price|preis|prix|precio|preço|prezzo|prijs"
"""Words for a price, in English, German, French, Spanish, Portuguese, Italian and Dutch."""

AUTO_RULES = (
    (
        EQUAL,
        re.compile(
            r"(?:product )?brand|vendor|manufacturer|marke|hersteller|marque|fabricante?|marca|"
            r"fabbricante|produttore|merk|fabrikant"
        ),
    ),
    (
        FLAG,
        re.compile(
            rf"(?:regular |sale |selling |variant )?price|{PRICES}|verkaufspreis|"
            r"size|gr(?:ö|oe|o)(?:ss|s)e|taille|talla|tamaño|tamanho|taglia|maat|"
            r"colou?r|farbe|couleur|colore|cor|kleur"
        ),
    ),
)
"""Rules of columns by their names, in lower case, where none is set; GTINs are ``equal`` too."""

MONEY = re.compile(rf"{PRICES}|cost|amount", re.IGNORECASE)
"""Part of the name of a column whose cells are compared as amounts."""

TOLERANCE = 1.1
"""Factor by which two prices may differ."""

SEPARATORS = ("|", ";", ",")
"""Signs between the items of a cell, the surest first."""

SETTING = "plan.columns"


class Amount(NamedTuple):
    """An amount of money, or a number.

    Attributes:
        currency: as it is written, in lower case; "" without one.
        value: the number.
        cell: the text.
    """

    currency: str
    value: float
    cell: str


class Change(NamedTuple):
    """A cell that a kept product gains.

    Attributes:
        product_id: the kept product.
        column: of the user's table.
        old: its cell.
        new: the cell that it gets.
        source: ids of the products that it comes from, with blanks between.
    """

    product_id: str
    column: str
    old: str
    new: str
    source: str


def read_rules(rules: str | Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Read the setting ``plan.columns`` for a table.

    Args:
        rules: ``auto``, or texts such as ``equal:brand``; columns that these do not name have the
            rules that ``auto`` gives them.
        columns: of the user's table.

    Returns:
        The rule of each column that has another one than ``keep``, in the order of the table.

    Raises:
        ConfigError: a rule or a column does not exist.
    """
    chosen = {name: rule for name in columns if (rule := _usual(name))}
    for text in [] if rules == "auto" else [rules] if isinstance(rules, str) else rules:
        rule, _, column = str(text).partition(":")
        if rule not in RULES or not column:
            raise ConfigError(
                f"{SETTING}: there is no rule {text}, write RULE:COLUMN with one of "
                f"{', '.join(RULES)}, or auto"
            )
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(columns)[:1000]}"
            raise ConfigError(f"{SETTING}: {text}: the table has no column {column}, {hint}")
        chosen[column] = rule
    return {name: chosen[name] for name in columns if chosen.get(name, "keep") != "keep"}


def _usual(name: str) -> str:
    """Choose the rule of a column by its name; "" for none."""
    if is_gtin_column(name):
        return EQUAL
    name = unicodedata.normalize("NFC", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    words = " ".join(re.split(r"[\W_]+", name.casefold())).strip()
    return next((rule for rule, pattern in AUTO_RULES if pattern.fullmatch(words)), "")


def compared_columns(rules: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """Return the columns that must agree before products are merged, each with its rule.

    Args:
        rules: see ``read_rules``.
        columns: of the user's table. One of GTINs is compared, whatever its rule.
    """
    return {
        name: EQUAL if rules.get(name) != FLAG else FLAG
        for name in columns
        if rules.get(name) in (EQUAL, FLAG) or is_gtin_column(name)
    }


def folded(cell: str) -> str:
    """Fold a text for comparisons: compatible characters, case and blanks do not count."""
    return "".join(unicodedata.normalize("NFKC", cell).casefold().split())


@dataclass(frozen=True)
class Cells:
    """Cells of the products that may be merged.

    Args:
        products: rows of the user's table.
        id_column: its column of ids.
        rules: rules of columns, see ``read_rules``.
        image_columns: columns of image addresses, whose cells are split as such.
    """

    products: pd.DataFrame
    id_column: str
    rules: Mapping[str, str]
    image_columns: Sequence[str] = ()
    _cells: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    _amounts: dict[str, dict[str, Amount]] = field(default_factory=dict, repr=False)

    def conflicts(self, products: Sequence[str]) -> Iterator[Conflict]:
        """Find the columns in which products differ that should not.

        Two products differ in a column if both have cells there and none in common. Of a column of
        GTINs, those that are valid differ whatever the rule. Prices differ by more than 10 %, or
        in the currency.

        Args:
            products: ids of one class, sorted.
        """
        for column in self._compared:
            own = self.cells(column)
            filled = [own[each] for each in products if each in own]
            if len(filled) < 2 or all(each == filled[0] for each in filled):
                continue
            rule = self.rules.get(column, "")
            weight = BLOCKS if rule == EQUAL else FLAGS
            if is_gtin_column(column):
                yield from self._gtin_conflicts(column, products, weight if rule else "")
            elif rule == FLAG and MONEY.search(column):
                yield from self._price_conflicts(column, products)
            else:
                yield from self._text_conflicts(column, products, weight)

    @cached_property
    def _compared(self) -> list[str]:
        return [
            str(name) for name in self.products.columns
            if self.rules.get(str(name)) in (EQUAL, FLAG) or is_gtin_column(str(name))
        ]  # fmt: skip

    def cells(self, column: str) -> Mapping[str, tuple[str, ...]]:
        """Return the distinct cells of each product in a column, in the order of its rows."""
        if column not in self._cells:
            found: dict[str, tuple[str, ...]] = {}
            alone: dict[str, tuple[str]] = {}  # most products have one cell, and many share it
            ids, texts = (self.products[name].to_numpy(object) for name in (self.id_column, column))
            for product, text in zip(ids, texts, strict=True):
                if cell := text.strip():
                    cells = found.get(product, ())
                    if not cells:
                        found[product] = alone.setdefault(cell, (cell,))
                    elif cell not in cells:
                        found[product] = (*cells, cell)
            self._cells[column] = found
        return self._cells[column]

    def _gtin_conflicts(
        self, column: str, products: Sequence[str], weight: str
    ) -> Iterator[Conflict]:
        own = self.cells(column)
        valid = {each: {read_gtin(cell) for cell in own.get(each, ())} - {""} for each in products}
        if differing := _apart(valid):
            yield _conflict("gtin", column, differing, own, BLOCKS)
        elif weight:  # a number that is not valid, and is no placeholder such as 0 or n/a
            texts = {
                each: valid[each] or {folded(cell) for cell in own.get(each, ()) if _is_code(cell)}
                for each in products
            }
            if differing := _apart(texts):
                yield _conflict("differs", column, differing, own, weight)

    def _text_conflicts(
        self, column: str, products: Sequence[str], weight: str
    ) -> Iterator[Conflict]:
        own = self.cells(column)
        texts = {each: {*map(folded, own.get(each, ()))} for each in products}
        if differing := _apart(texts):
            yield _conflict("differs", column, differing, own, weight)

    def _price_conflicts(self, column: str, products: Sequence[str]) -> Iterator[Conflict]:
        own = self.cells(column)
        amounts = {each: self.amounts(column, each) for each in products}
        known = [(min(some), max(some), each) for each, some in amounts.items() if some]
        for (low, high, one), (low_other, high_other, other) in combinations(known, 2):
            if not {a.currency for a in amounts[one]} & {a.currency for a in amounts[other]}:
                yield _conflict("currency", column, (one, other), own, FLAGS)
                return
            small, large = sorted([(low.value, high.value), (low_other.value, high_other.value)])
            if large[0] > small[1] and not 0 < large[0] <= TOLERANCE * small[1]:
                yield _conflict("differs", column, (one, other), own, FLAGS)
                return
        texts = {
            each: {folded(cell) for cell in own.get(each, ())}
            for each, some in amounts.items() if not some
        }  # fmt: skip
        if differing := _apart(texts):
            yield _conflict("differs", column, differing, own, FLAGS)

    def amounts(self, column: str, product: str) -> list[Amount]:
        """Return the cells of a product that are amounts."""
        if column not in self._amounts:
            cells = {cell for some in self.cells(column).values() for cell in some}
            self._amounts[column] = _amounts(sorted(cells), column)
        known = self._amounts[column]
        return [known[cell] for cell in self.cells(column).get(product, ()) if cell in known]

    def changes(self, kept: str, others: Sequence[str]) -> Iterator[Change]:
        """Choose the cells that a kept product gains from those that lead to it.

        Args:
            kept: the kept product; of several rows the first one counts.
            others: products that lead to it, the best first.
        """
        for column, rule in self.rules.items():
            own = self.cells(column)
            old = next(iter(own.get(kept, ())), "")
            if rule == "fill" and not old:
                source = next((each for each in others if own.get(each)), "")
                if source:
                    yield Change(kept, column, old, own[source][0], source)
            elif rule in ("highest", "lowest"):
                yield from self._extreme(column, rule, kept, old, others)
            elif rule == "union":
                yield from self._united(column, kept, others)

    def _extreme(
        self, column: str, rule: str, kept: str, old: str, others: Sequence[str]
    ) -> Iterator[Change]:
        """Take the highest or lowest amount of the kept one's currency."""
        amounts = {each: self.amounts(column, each) for each in (kept, *others)}
        sign = 1 if rule == "highest" else -1
        first = next((some[0] for some in amounts.values() if some), None)
        if first is None or (old and not amounts[kept]):
            return
        usable = [
            (sign * amount.value, -place, amount.cell, each)
            for place, (each, some) in enumerate(amounts.items())
            for amount in some
            if amount.currency == first.currency
        ]
        _, _, cell, source = max(usable)
        if source != kept and cell != old:
            yield Change(kept, column, old, cell, source)

    def _united(self, column: str, kept: str, others: Sequence[str]) -> Iterator[Change]:
        """Join the items of all cells, the kept one's first."""
        own = self.cells(column)
        cells = {each: own[each] for each in (kept, *others) if own.get(each)}
        split = self._split(column, [cell for some in cells.values() for cell in some])
        old = " ".join(cells.get(kept, ())[:1])
        items = {folded(item): item for item in split.of(old)} if old else {}
        sources = []
        for each in others:
            fresh = {folded(item): item for cell in cells.get(each, ()) for item in split.of(cell)}
            fresh = {key: item for key, item in fresh.items() if key not in items}
            if fresh:
                items |= fresh
                sources.append(each)
        if sources:
            yield Change(kept, column, old, split.join(items.values()), " ".join(sources))

    def _split(self, column: str, cells: Sequence[str]) -> _Split:
        if column in self.image_columns:
            return _Split(",", is_addresses=True)
        joined = "".join(cells)
        return _Split(next((sign for sign in SEPARATORS if sign in joined), SEPARATORS[-1]))


@dataclass(frozen=True)
class _Split:
    """Splitter of cells into items, and its inverse."""

    sign: str
    is_addresses: bool = False

    def of(self, cell: str) -> list[str]:
        if self.is_addresses:
            return join_addresses([cell])[0]
        return [item.strip() for item in cell.split(self.sign) if item.strip()]

    def join(self, items: object) -> str:
        blank = "" if self.sign == "|" else " "
        return f"{self.sign}{blank}".join(items)  # type: ignore[arg-type]


def _amounts(cells: Sequence[str], column: str) -> dict[str, Amount]:
    """Read amounts, those of each currency in the notation that its cells have together."""
    table = pd.DataFrame({"cell": cells, "currency": [_currency(cell) for cell in cells]})
    found: dict[str, Amount] = {}
    for currency, part in table.groupby("currency", sort=True):
        numbers = numbers_of(part["cell"], column, SETTING)
        for cell, value in zip(part["cell"], numbers, strict=True):
            if value == value:
                found[cell] = Amount(str(currency), float(value), cell)
    return found


def _currency(cell: str) -> str:
    """Return what a cell has beside its number, in lower case."""
    return re.sub(r"[\d.,\s'\u2019+-]", "", unicodedata.normalize("NFKC", cell)).casefold()


def _apart(values: Mapping[str, set[str]]) -> tuple[str, str] | None:
    """Name the first two products that have values and none in common."""
    filled = [(product, some) for product, some in values.items() if some]
    if len({frozenset(some) for _, some in filled}) < 2:
        return None
    for (one, some), (other, others) in combinations(filled, 2):
        if not some & others:
            return one, other
    return None


def _is_code(cell: str) -> bool:
    """Tell whether a cell that is no GTIN has digits all the same, and not zeros alone."""
    return any(character.isdigit() and character != "0" for character in cell)


def _conflict(
    kind: str,
    column: str,
    products: tuple[str, str],
    cells: Mapping[str, Sequence[str]],
    weight: str,
) -> Conflict:
    values = tuple(" | ".join(cells.get(each, ())) for each in products)
    return Conflict(kind, column, products, values, weight)
