"""Fit the classifier of copies: gradient-boosted trees over the measures of an aligned pair.

    python scripts/fit_classifier.py IMAGES [--true-dups CSV] [--out FILE] [--seed 0]

Positives are edited copies (``dedup.augmentations``) of photos and of their packshots. Negatives
are other products: those with the most visual words in common, colour variants, goods on the same
ground, screenshots with the same frame, collages with the same filler, stickers of one kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.random import Generator
from safetensors.numpy import save_file
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, log_loss

from dedup.augmentations import EDITS, RgbImage, augment, edit, foreground, packshot
from dedup.detection.calibration import DOUBTFUL
from dedup.runtime.parallel import in_order
from dedup.store.decode import decode, decode_preview
from dedup.training.views import recoloured
from dedup.verification.alignment import LocalFeatures
from dedup.verification.classifier import FALLING, FEATURES, RISING, CopyClassifier, features
from dedup.verification.geometric import placements
from dedup.verification.visual_words import Vocabulary, propose

Row = tuple[str, int, int, list[list[float]]]  # kind, photo, is it a copy, features by placement


def same_products(table: Path | None, names: list[str]) -> set[tuple[int, int]]:
    """Read the pairs of photos of one product, as their positions in ``names``."""
    if table is None:
        return set()
    place = {name: number for number, name in enumerate(names)}
    pairs = pd.read_csv(table, usecols=["file_a", "file_b"]).to_numpy().tolist()
    ends = [sorted((place[a], place[b])) for a, b in pairs if a in place and b in place]
    return {(a, b) for a, b in ends}


def images(folder: Path) -> tuple[list[str], list[RgbImage]]:
    """The name of every photo in a folder, and the photo as the store's details are."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    found = in_order(lambda path: decode_preview(decode(path.read_bytes()).detail), files)
    return [file.name for file in files], list(found)


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
    if rng.random() < 0.5:
        return augment(image, rng, rng.uniform(0.4, 1), (1, 4), others=[other])[0]
    return edit(image, str(rng.choice(list(EDITS))), rng.uniform(0.1, 1), rng, other)


def looks(photo: int, base: list[RgbImage], fillers: list[RgbImage], seed: int) -> Iterator[Row]:
    """Yield the copies, variants and strangers that are made of one photo."""
    rng = np.random.default_rng([seed, photo])
    image, stranger = base[photo], base[int(rng.integers(len(base)))]
    if rng.random() < 0.5:
        image = _or(packshot(image, rng), image)
        stranger = _or(packshot(stranger, rng), stranger)
    filler = fillers[int(rng.integers(len(fillers)))]
    original = LocalFeatures.of(image)

    def row(kind: str, is_copy: int, one: LocalFeatures, other: LocalFeatures) -> Row:
        one, other = (one, other) if rng.random() < 0.5 else (other, one)
        return kind, photo, is_copy, [features(*pair) for pair in placements(one, other)]

    for _ in range(5):
        yield row("copy", 1, original, LocalFeatures.of(one_edit(image, rng, filler)))
    for _ in range(3):
        variant = recoloured(image, rng) if rng.random() < 0.4 else relit(image, rng)
        if variant is not None:
            if rng.random() < 0.6:
                variant = one_edit(variant, rng, filler)
            yield row("variant", 0, original, LocalFeatures.of(variant))
    for name in rng.choice(
        ["screenshot", "collage", "sticker", "banner", "border", "watermark"], 2
    ):
        same = int(rng.integers(2**31))
        ends = [
            edit(end, name, rng.uniform(0.5, 1), np.random.default_rng(same), filler)
            for end in (image, stranger)
        ]
        yield row("same_" + str(name), 0, LocalFeatures.of(ends[0]), LocalFeatures.of(ends[1]))
    pasted = on_ground_of(stranger, image)
    if pasted is not None:
        yield row("same_ground", 0, original, LocalFeatures.of(pasted))


def look_alikes(
    photos: list[RgbImage], known: set[tuple[int, int]], n: int, rng: Generator
) -> Iterator[Row]:
    """Yield different products whose images share the most visual words, some of them edited.

    Two garments that one seller photographed on the same floor are such a pair.
    """
    vocabulary = Vocabulary.load()
    local = list(in_order(LocalFeatures.of, photos))
    words = np.stack([vocabulary.words(each.keypoints.descriptors) for each in local])
    candidates = propose(words, None, vocabulary, 0.03, 50_000_000)
    best = np.argsort(-candidates.similarity)[: 4 * n]
    for place in np.concatenate([best[: n // 2], rng.permutation(best[n // 2 :])[: n // 2]]):
        a, b = int(candidates.left[place]), int(candidates.right[place])
        if (a, b) in known:
            continue
        yield "look_alike", a, 0, [features(*pair) for pair in placements(local[a], local[b])]
        if rng.random() < 0.5:
            other = LocalFeatures.of(one_edit(photos[b], rng, photos[b]))
            yield "look_alike", a, 0, [features(*pair) for pair in placements(local[a], other)]


def _or(image: RgbImage | None, otherwise: RgbImage) -> RgbImage:
    return otherwise if image is None else image


def fitted(rows: np.ndarray, truth: np.ndarray, seed: int) -> HistGradientBoostingClassifier:
    """Fit shallow trees, monotone in each feature that can point one way only."""
    directions = [(name in RISING) - (name in FALLING) for name in FEATURES]
    trees = HistGradientBoostingClassifier(
        learning_rate=0.08, max_iter=160, max_leaf_nodes=12, min_samples_leaf=40,
        l2_regularization=1.0, monotonic_cst=directions, random_state=seed,
    )  # fmt: skip
    return trees.fit(rows, truth)


def exported(trees: HistGradientBoostingClassifier) -> dict[str, np.ndarray]:
    """Turn the trees into the plain arrays of ``verification.classifier.CopyClassifier``."""
    nodes = [stage[0].nodes for stage in trees._predictors]  # scikit-learn shows them nowhere else
    width = max(map(len, nodes))

    def table(name: str, kind: type, leaf: float | None = None) -> np.ndarray:
        out = np.zeros((len(nodes), width), kind)
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
    """Make pairs, fit on four fifths of the photos and print the result on the others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/dedup/assets/judge.safetensors"))
    parser.add_argument("--true-dups", type=Path, help="a CSV with file_a, file_b: no negatives")
    parser.add_argument("--n", type=int, default=1500, help="photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="keep the features here, or take them from here")
    options = parser.parse_args()
    if options.rows is not None and options.rows.is_file():
        stored = np.load(options.rows)
        kinds, photos, truth, rows = (stored[name] for name in ("kinds", "photos", "truth", "rows"))
    else:
        kinds, photos, truth, rows = gathered(options)
        if options.rows is not None:
            np.savez(options.rows, kinds=kinds, photos=photos, truth=truth, rows=rows)
    told = ~((kinds == "variant") & too_alike(rows))
    kinds, photos, truth, rows = kinds[told], photos[told], truth[told], rows[told]
    held_out = photos % 5 == 0
    trees = fitted(rows[~held_out], truth[~held_out], options.seed)
    doubtful = trees.decision_function(rows) > DOUBTFUL
    share = {"fitted_share": np.array([truth[held_out & doubtful].mean()])}
    save_file(
        exported(trees) | share,
        options.out,
        {"command": "scripts/fit_classifier.py", "seed": str(options.seed)},
    )
    log_odds = CopyClassifier.load(options.out).log_odds(rows)
    assert np.allclose(log_odds, trees.decision_function(rows), atol=1e-4)
    test = held_out
    print(
        f"{(~test).sum()} placements fitted on, {test.sum()} held out, "
        f"{options.out.stat().st_size} bytes"
    )
    p = 1 / (1 + np.exp(-log_odds[test]))
    print(
        f"held out: AP {average_precision_score(truth[test], p):.4f}, "
        f"log loss {log_loss(truth[test], p):.4f}"
    )
    print("| pairs | n | score >= .5 | >= .9 | >= .99 |\n|---|---|---|---|---|")
    for kind in np.unique(kinds):
        s = p[kinds[test] == kind]
        print(
            f"| {kind} | {len(s)} |"
            + "".join(f" {(s >= t).mean():.3f} |" for t in (0.5, 0.9, 0.99))
        )


def too_alike(rows: np.ndarray) -> np.ndarray:
    """Mark the pairs that hardly differ in colour or lightness: no eye calls them variants."""
    limits = {"chroma": 8, "worst_chroma": 16, "hue": 30, "shift": 14}
    return np.all([rows[:, FEATURES.index(name)] < most for name, most in limits.items()], axis=0)


def gathered(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make the pairs: their kinds, photos, truth, and features of at most two alignments."""
    rng = np.random.default_rng(options.seed)
    names, photos = images(options.images)
    known = same_products(options.true_dups, names)
    order = rng.permutation(len(photos))
    base = [photos[place] for place in order[: options.n]]
    fillers = [photos[place] for place in order[options.n : options.n + 300]]
    pairs: list[Row] = []
    for rows in in_order(
        lambda photo: list(looks(photo, base, fillers, options.seed)), range(len(base))
    ):
        pairs += rows
    pairs += look_alikes(photos, known, 4 * options.n, rng)
    unplaced = [row for row in pairs if not row[3]]
    print(
        f"{len(pairs)} pairs; not to be laid over each other: "
        f"{sum(row[2] for row in unplaced)} copies of {sum(row[2] for row in pairs)}, "
        f"{sum(1 - row[2] for row in unplaced)} others of {sum(1 - row[2] for row in pairs)}"
    )
    # Of a copy the best alignment counts: a verdict takes the surest, too.
    best = [
        (
            kind,
            photo,
            copy,
            [max(rows, key=lambda row: row[FEATURES.index("structure")])]
            if copy and rows
            else rows,
        )
        for kind, photo, copy, rows in pairs
    ]
    flat = [(kind, photo, copy, row) for kind, photo, copy, rows in best for row in rows]
    kinds, places, truth, rows = zip(*flat, strict=True)
    return np.array(kinds), np.array(places), np.array(truth), np.array(rows)


if __name__ == "__main__":
    main()
