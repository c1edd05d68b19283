"""Fit the classifier of copies and variants: boosted trees over the measures of an aligned pair.

    python scripts/fit_classifier.py PHOTOS [--senders CSV] [--true-dups CSV] [--goods FOLDER]

Positives are edited copies (``dedup.augmentations``) of photos, of their packshots, of goods on
white and of drawn goods. Negatives are other products: those that a run would compare
(``mined_pairs``), families that look alike (``look_alikes.KINDS`` that are fitted), colour
variants, goods on the same ground, screenshots with the same frame, collages with the same filler,
stickers of one kind.
Photos of senders that are held out, and goods whose name is (``held_out``), measure the result, as
do the kinds that are never fitted. A second set of trees is fitted on the same pairs with the
colour variants as positives. ``--goods`` is any folder of PNG or JPEG files of
different things, such as Debian's openclipart-png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from fitting_images import Item, as_stored, goods_of, photos_of, quality_of
from held_out import UNLISTED
from look_alikes import KINDS
from mined_pairs import Row, by_embedding, by_words, mined, packshots_of, placed
from numpy.random import Generator
from safetensors.numpy import save_file
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, log_loss

from dedup.augmentations import EDITS, RgbImage, augment, edit, foreground, packshot
from dedup.detection.mixture import LEAST
from dedup.runtime.parallel import in_order
from dedup.training.views import recoloured
from dedup.verification.alignment import LocalFeatures
from dedup.verification.classifier import (
    FALLING,
    FEATURES,
    OF_VARIANTS,
    RISING,
    CopyClassifier,
)

N_QUANTILES = 400
MINED = (
    ("look_alike", "near_alike"),
    ("look_alike_goods", "near_alike_goods"),
    ("look_alike_packshots",),
)
"""Strangers as catalogues of three sorts have them; the last are never fitted on."""
MORE = 3
"""Factor by which more goods are looked through for held-out strangers: few score high."""

OF_FAMILIES = 2.0
"""Weight of a pair of a family of look-alikes, of which there are fewer than of other strangers."""

VARIANTS = ("variant", "variant_of_goods", "neutral_variants", "coloured_variants")
"""Kinds of pairs that show one product in two colours."""

LIGHT = ("white_balance", "brightness", "contrast", "gamma", "curve", "saturation", "vignette",
         "haze", "fade", "gray", "sepia", "posterize", "palette")  # fmt: skip
"""Edits of light and colour, which variants must be told from."""

PLAIN = ("mirror", "crop", "border", "sticker", "gray", "brightness", "white_balance", "contrast",
         "rescale", "recompress")  # fmt: skip
"""Edits that most copies of a catalogue have, and hardly any other."""

MOST_PLAIN = 0.5
"""Strength of such an edit, at most."""

PLAIN_COPIES = ("plain_copy", "plain_copy_of_goods", "plain_copy_of_drawn")
"""Kinds of copies with such an edit. They are fitted on; a catalogue may have harder ones, and
a threshold that is chosen by plainer ones is too shy then."""

MOVED = FEATURES.index("moved")
LEAST_MOVED = 6.0
"""CIELAB units between the products of two variants, at least."""


def same_products(table: Path | None) -> set[frozenset[str]]:
    """Read the pairs of photos of one product, by their names."""
    if table is None:
        return set()
    pairs = pd.read_csv(table, usecols=["file_a", "file_b"]).to_numpy().tolist()
    return {frozenset(pair) for pair in pairs} | {UNLISTED}


def relit(image: RgbImage, rng: Generator) -> RgbImage | None:
    """Recolour the product alone, in lightness or hue, as the variants of a shop are."""
    mask = foreground(image)
    if not 0.1 < mask.mean() < 0.8:
        return None
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)[..., None]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    change = np.zeros(3, np.float32)
    change[0] = rng.choice([-1, 1]) * rng.uniform(18, 45) * (rng.random() < 0.7)
    angle = rng.uniform(0, 2 * np.pi)
    if change[0] == 0 or rng.random() < 0.5:
        change[1:] = rng.uniform(18, 50) * np.array([np.cos(angle), np.sin(angle)])
    lab[..., 0] = lab[..., 0] * rng.uniform(0.7, 1) + change[0]
    lab[..., 1:] += change[1:]
    other = cv2.cvtColor(
        np.clip(lab, (0, -110, -110), (100, 110, 110)).astype(np.float32), cv2.COLOR_LAB2RGB
    )
    mixed = image * (1 - soft) + np.clip(other * 255, 0, 255) * soft
    return np.asarray(mixed.round(), np.uint8)


def on_ground_of(image: RgbImage, other: RgbImage) -> RgbImage | None:
    """Paste the product of ``image`` on the whole of another photo."""
    mask = foreground(image)
    if not 0.1 < mask.mean() < 0.7:
        return None
    size = (image.shape[1], image.shape[0])
    ground = cv2.resize(other, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.asarray((image * soft + ground * (1 - soft)).round(), np.uint8)


def one_edit(image: RgbImage, rng: Generator, other: RgbImage) -> RgbImage:
    """Apply one edit of any kind and strength, or a chain of up to four."""
    if rng.random() < 0.4:
        edited = augment(image, rng, rng.uniform(0.4, 1), (1, 4), others=[other])[0]
    else:
        edited = edit(image, str(rng.choice(list(EDITS))), rng.uniform(0.1, 1), rng, other)
    return as_stored(edited, quality_of(rng))


def plain_edit(image: RgbImage, rng: Generator) -> RgbImage:
    """Apply one edit as most copies of a catalogue have it."""
    edited = edit(image, str(rng.choice(PLAIN)), rng.uniform(0.05, MOST_PLAIN), rng)
    return as_stored(edited, quality_of(rng))


def in_other_light(image: RgbImage, rng: Generator) -> RgbImage:
    """Apply one edit of light or colour, of any strength."""
    edited = edit(image, str(rng.choice(LIGHT)), rng.uniform(0.1, 1), rng)
    return as_stored(edited, quality_of(rng))


def variant_of(image: RgbImage, rng: Generator, filler: RgbImage) -> RgbImage | None:
    """Draw another colour of a product, mostly edited further."""
    variant = recoloured(image, rng) if rng.random() < 0.4 else relit(image, rng)
    if variant is not None and rng.random() < 0.6:
        variant = one_edit(variant, rng, filler)
    return variant


def of_photo(seed: int, base: Sequence[Item], fillers: Sequence[Item], at: int) -> list[Row]:
    """Make the copies, variants and strangers of one photo."""
    rng = np.random.default_rng([seed, at])
    item, stranger = base[at], base[int(rng.integers(len(base)))].image
    image = item.image
    if rng.random() < 0.5:
        image = _or(packshot(image, rng), image)
        stranger = _or(packshot(stranger, rng), stranger)
    filler = fillers[int(rng.integers(len(fillers)))].image
    original = LocalFeatures.of(image)

    def row(kind: str, is_copy: int, one: LocalFeatures, other: LocalFeatures) -> Row:
        return Row(kind, item.name, is_copy, placed(rng, one, other), item.held_out)

    rows = [
        row("copy", 1, original, LocalFeatures.of(one_edit(image, rng, filler))) for _ in range(4)
    ]
    rows.append(row("copy_in_light", 1, original, LocalFeatures.of(in_other_light(image, rng))))
    for _ in range(2):
        rows.append(row("plain_copy", 1, original, LocalFeatures.of(plain_edit(image, rng))))
    for _ in range(2):
        variant = variant_of(image, rng, filler)
        if variant is not None:
            rows.append(row("variant", 0, original, LocalFeatures.of(variant)))
    name = str(rng.choice(["screenshot", "collage", "sticker", "banner", "border", "watermark"]))
    same = int(rng.integers(2**31))
    ends = [
        edit(end, name, rng.uniform(0.5, 1), np.random.default_rng(same), filler)
        for end in (image, stranger)
    ]
    rows.append(row("same_" + name, 0, *map(LocalFeatures.of, ends)))
    pasted = on_ground_of(stranger, image)
    if pasted is not None:
        rows.append(row("same_ground", 0, original, LocalFeatures.of(pasted)))
    return rows


def of_goods(seed: int, base: Sequence[Item], at: int) -> list[Row]:
    """Make four copies of an image of goods, one in another light, one plain, and a variant."""
    rng = np.random.default_rng([seed, 1, at])
    item, filler = base[at], base[int(rng.integers(len(base)))].image
    original = LocalFeatures.of(item.image)

    def row(kind: str, is_copy: int, other: RgbImage) -> Row:
        rows = placed(rng, original, LocalFeatures.of(other))
        return Row(kind, item.name, is_copy, rows, item.held_out)

    rows = [row("copy_of_goods", 1, one_edit(item.image, rng, filler)) for _ in range(2)]
    rows.append(row("copy_in_light_of_goods", 1, in_other_light(item.image, rng)))
    rows.append(row("plain_copy_of_goods", 1, plain_edit(item.image, rng)))
    variant = variant_of(item.image, rng, filler)
    if variant is not None:
        rows.append(row("variant_of_goods", 0, variant))
    return rows


def of_family(seed: int, photos: Sequence[Item], job: tuple[str, int, bool]) -> list[Row]:
    """Draw one family: its pairs are negatives, and copies of members are positives."""
    name, number, held_out = job
    rng = np.random.default_rng([seed, 2, sorted(KINDS).index(name), number, held_out])
    drawn = [photos[place].image for place in rng.permutation(len(photos))[:12]]
    members = [as_stored(image, quality_of(rng)) for image in KINDS[name].make(rng, drawn)]
    seen = [LocalFeatures.of(image) for image in members]
    group = f"{name} {number}"
    rows = [
        Row(name, group, 0, placed(rng, one, other), held_out)
        for one, other in list(combinations(seen, 2))[:6]
    ]
    for at in range(4):
        at, is_plain = at % 2, at > 1
        copy = plain_edit(members[at], rng) if is_plain else one_edit(members[at], rng, drawn[0])
        edited, of = LocalFeatures.of(copy), "plain_copy_of_drawn" if is_plain else "copy_of_drawn"
        rows.append(Row(of, group, 1, placed(rng, seen[at], edited), held_out))
        other = seen[(at + 1) % len(seen)]
        rows.append(Row(name, group, 0, placed(rng, other, edited), held_out))
    if name in VARIANTS:
        lit = LocalFeatures.of(in_other_light(members[0], rng))
        rows.append(Row("copy_in_light_of_drawn", group, 1, placed(rng, seen[0], lit), held_out))
    return rows


def _or(image: RgbImage | None, otherwise: RgbImage) -> RgbImage:
    return otherwise if image is None else image


def fitted(
    rows: np.ndarray, truth: np.ndarray, weight: np.ndarray, seed: int, directions: Sequence[int]
) -> HistGradientBoostingClassifier:
    """Fit shallow trees, which rise or fall with each feature that can point one way only."""
    trees = HistGradientBoostingClassifier(
        learning_rate=0.06, max_iter=400, max_leaf_nodes=10, min_samples_leaf=40,
        l2_regularization=1.0, monotonic_cst=directions, random_state=seed,
    )  # fmt: skip
    return trees.fit(rows, truth, sample_weight=weight)


def exported(trees: HistGradientBoostingClassifier) -> dict[str, np.ndarray]:
    """Turn the trees into the plain arrays of ``verification.classifier.CopyClassifier``."""
    nodes = [stage[0].nodes for stage in trees._predictors]  # scikit-learn shows them nowhere else
    width = max(map(len, nodes))

    def table(name: str, kind: type, leaf: float | None = None) -> np.ndarray:
        out = np.full((len(nodes), width), 0 if leaf is None else leaf, kind)
        for tree, part in enumerate(nodes):
            inner = np.where(part["is_leaf"], leaf, part[name]) if leaf is not None else part[name]
            out[tree, : len(part)] = inner
        return out

    value = np.zeros((len(nodes), width), np.float32)
    for tree, part in enumerate(nodes):
        value[tree, : len(part)] = np.where(part["is_leaf"], part["value"], 0)
    return {
        "feature": table("feature_idx", np.int16, -1),
        "threshold": table("num_threshold", np.float64),
        "left": table("left", np.int16),
        "right": table("right", np.int16),
        "value": value,
        "base": np.array([float(np.ravel(trees._baseline_prediction)[0])], np.float64),
    }


def main() -> None:
    """Make pairs, fit, and print the result on what is held out and on the kinds never fitted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("photos", type=Path)
    add("--senders", type=Path, help="a CSV with file, sender_id")
    add("--true-dups", type=Path, help="a CSV with file_a, file_b: no negatives")
    add("--goods", type=Path, help="a folder of images of different things")
    add("--out", type=Path, default=Path("src/dedup/assets/judge.safetensors"))
    add("--n", type=int, default=700, help="photos that copies are made of")
    add("--n-goods", type=int, default=2500)
    add("--families", type=int, default=50, help="of each kind")
    add(
        "--more",
        type=int,
        default=0,
        help="photos, and goods, of which only copies and variants "
        "are made besides: they cost less than look-alikes do",
    )
    add("--seed", type=int, default=0)
    add("--rows", type=Path, help="keep the features here, or take them from here")
    options = parser.parse_args()
    if options.rows is None or not options.rows.is_file():
        table = gathered(options)
        if options.rows is not None:
            np.savez(options.rows, **table)
    else:
        with np.load(options.rows) as stored:
            table = dict(stored)
    rows, truth, kinds, test = (table[name] for name in ("rows", "truth", "kinds", "held_out"))
    told = ~(np.isin(kinds, VARIANTS) & too_alike(rows))
    rows, truth, kinds, test = rows[told], truth[told], kinds[told], test[told]
    compared = rows[:, MOVED] >= 0
    weight = np.where([kind in KINDS for kind in kinds], OF_FAMILIES, 1.0)
    directions = [(name in RISING) - (name in FALLING) for name in FEATURES]
    trees = fitted(rows[~test], truth[~test], weight[~test], options.seed, directions)
    seen = trees.decision_function(rows)
    is_variant, used = np.isin(kinds, VARIANTS), compared & ~test
    own = fitted(rows[used], is_variant[used], weight[used], options.seed, [0] * len(FEATURES))
    save_file(
        exported(trees)
        | {OF_VARIANTS + name: array for name, array in exported(own).items()}
        | tails(
            seen[test & (truth == 1) & ~np.isin(kinds, PLAIN_COPIES)],
            strangers=[seen[test & np.isin(kinds, sort)] for sort in MINED],
            look_alikes=[seen[test & np.isin(kinds, [*KINDS])]],
        ),
        options.out,
        {"command": "scripts/fit_classifier.py", "seed": str(options.seed)},
    )
    judge = CopyClassifier.load(options.out.resolve())
    log_odds = judge.log_odds(rows)
    assert np.allclose(log_odds, seen, atol=1e-4)
    variant = np.full(len(rows), -np.inf)
    variant[compared] = judge.variant_log_odds(rows[compared])
    assert np.allclose(variant[compared], own.decision_function(rows[compared]), atol=1e-4)
    size = options.out.stat().st_size
    print(f"{(~test).sum()} placements fitted on, {test.sum()} held out, {size} bytes\n\nCopies:")
    report(log_odds[test], truth[test], kinds[test])
    print("\nColour variants:")
    report(variant[test], is_variant[test], kinds[test])


def tails(copies: np.ndarray, **strangers: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Sum up the log odds of held-out copies and strangers for ``dedup.detection.mixture``.

    Strangers of several sorts of catalogues count alike, however many there are of each.
    """
    quantiles = np.quantile(copies, (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES)
    moments = {
        name: np.array([moments_of(odds) for odds in sorts if (odds > LEAST).any()])
        for name, sorts in strangers.items()
    }
    for name, found in moments.items():
        if not len(found):
            sys.exit(f"no held-out pair of {name} scores high: give more photos, goods or families")
    return {
        "copies": quantiles.astype(np.float64),
        **{name: found.mean(axis=0) for name, found in moments.items()},
    }


def moments_of(odds: np.ndarray) -> tuple[float, float]:
    """Compute the mean of the excess over ``LEAST`` and that of its square."""
    excess = odds[odds > LEAST] - LEAST
    return float(excess.mean()), float((excess**2).mean())


def report(log_odds: np.ndarray, truth: np.ndarray, kinds: np.ndarray) -> None:
    """Print the result by kind."""
    p = 1 / (1 + np.exp(np.minimum(-log_odds, 700)))
    print(
        f"held out: AP {average_precision_score(truth, p):.4f}, log loss {log_loss(truth, p):.4f}"
    )
    print("| pairs | fitted | n | score >= .5 | >= .9 | >= .99 |\n|---|---|---|---|---|---|")
    for kind in np.unique(kinds):
        s = p[kinds == kind]
        is_fitted = "yes" if kind not in KINDS or KINDS[str(kind)].fitted else "no"
        shares = "".join(f" {(s >= t).mean():.3f} |" for t in (0.5, 0.9, 0.99))
        print(f"| {kind} | {is_fitted} | {len(s)} |{shares}")


def too_alike(rows: np.ndarray) -> np.ndarray:
    """Mark the pairs whose products hardly differ: no eye calls them variants.

    Where the products could not be told from their grounds, the whole images count.
    """
    limits = {"chroma": 8, "worst_chroma": 16, "hue": 30, "shift": 14}
    whole = np.all([rows[:, FEATURES.index(name)] < most for name, most in limits.items()], axis=0)
    moved = rows[:, MOVED]
    return np.where(moved < 0, whole, moved < LEAST_MOVED)


def gathered(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Make the pairs: ``FEATURES``, truth, kind, group and whether they are held out."""
    rng = np.random.default_rng(options.seed)
    photos = photos_of(options.photos, options.senders)
    known = same_products(options.true_dups)
    order = [photos[place] for place in rng.permutation(len(photos))]
    base, rest = order[: options.n], order[options.n :]
    goods = goods_of(options.goods, options.n_goods, rng) if options.goods else []
    fit_photos = [item for item in order if not item.held_out]
    test_photos = [item for item in order if item.held_out]

    def family(job: tuple[str, int, bool]) -> list[Row]:
        return of_family(options.seed, test_photos if job[2] else fit_photos, job)

    made: list[Row] = []
    steps: list[tuple[str, Callable[..., list[Row]], Sequence[object]]] = [
        ("photos", partial(of_photo, options.seed, base, rest[:300] or base), range(len(base))),
        ("goods", partial(of_goods, options.seed, goods), range(len(goods))),
        ("families", family, family_jobs(options.families)),
    ]
    for name, work, parts in steps:
        made += [row for rows in in_order(work, parts) for row in rows]
        print(f"{name}: {len(made)} pairs", file=sys.stderr)
    strangers = [*mined({"look_alike": by_words, "near_alike": by_embedding}, photos, known)]
    if goods:
        more = goods_of(options.goods, MORE * options.n_goods, rng)
        strangers += strangers_of_goods(goods, more)
    cut_out = packshots_of(fit_photos)[: 2 * options.n]
    strangers += mined({"look_alike_packshots": by_words}, cut_out, known, [True])
    made += sorted(strangers, key=lambda row: row.kind)  # the bits of the trees depend on the order
    made += more_copies(options, rest)
    copies = [row for row in made if row.is_copy]
    print(
        f"{len(made)} pairs; not to be laid over each other: "
        f"{sum(not row.placed for row in copies)} copies of {len(copies)}"
    )
    return table_of(made)


def more_copies(options: argparse.Namespace, photos: Sequence[Item]) -> list[Row]:
    """Make the copies and variants of the first photos, and of as many goods."""
    if not options.more:
        return []
    seed, base = options.seed + 1, photos[: options.more]
    goods: Sequence[Item] = ()
    if options.goods:
        goods = goods_of(options.goods, options.more, np.random.default_rng(seed))
    steps = (
        (partial(of_photo, seed, base, base), base),
        (partial(of_goods, seed, goods), goods),
    )
    return [
        row for work, items in steps for rows in in_order(work, range(len(items))) for row in rows
    ]


def family_jobs(n_families: int) -> list[tuple[str, int, bool]]:
    """List the families to draw: kind, number and whether it is held out."""
    return [
        (name, number, held_out)
        for name, kind in KINDS.items()
        for held_out in (False, True)
        if kind.fitted or held_out
        for number in range(n_families * (2 if name in VARIANTS else 1) // (3 if held_out else 1))
    ]


def strangers_of_goods(goods: Sequence[Item], more: Sequence[Item]) -> Iterator[Row]:
    """Yield strangers among goods; of those held out with words in common, from more goods."""
    words, near = {"look_alike_goods": by_words}, {"near_alike_goods": by_embedding}
    yield from mined(words | near, goods, set(), [False])
    yield from mined(words, more, set(), [True])
    yield from mined(near, goods, set(), [True])


def table_of(made: Sequence[Row]) -> dict[str, np.ndarray]:
    """Lay out pairs as a table, a row for each placement."""
    # Of a copy the best alignment counts: a verdict takes the surest, too.
    structure = FEATURES.index("structure")
    flat = [
        (values, row)
        for row in made
        for values in (
            sorted(row.placed, key=lambda it: it[structure])[-1:] if row.is_copy else row.placed
        )
    ]
    return {
        "rows": np.array([values for values, _ in flat]),
        "truth": np.array([row.is_copy for _, row in flat]),
        "kinds": np.array([row.kind for _, row in flat]),
        "groups": np.array([row.group for _, row in flat]),
        "held_out": np.array([row.held_out for _, row in flat]),
    }


if __name__ == "__main__":
    main()
