"""Fit the vocabulary of visual words that comes with the package, by k-means.

    python scripts/fit_vocabulary.py IMAGES vocabulary.safetensors

The codebook is k-means on halves of RootSIFT descriptors; how rare a word is, is counted in the
images and in their mirror images. The most common words count for nothing (the stop list of Sivic
and Zisserman, 2003): on white ground they are most of what images have in common. Half of the
images count again as packshots, so that white ground is known. 300 images are held out: a copy
of each, edited by ``dedup.augmentations.augment``, is looked for among all the images. The table
shows how often it is proposed, and at what cost.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng
from PIL import Image
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from dedup.augmentations import augment, packshot
from dedup.runtime.parallel import in_order
from dedup.store.decode import decode, decode_preview, encode_preview
from dedup.verification.keypoints import (
    Descriptors,
    RgbImage,
    find_keypoints,
    mirrored_descriptors,
    root,
)
from dedup.verification.visual_words import GRID, HALF, Vocabulary, Words, propose, similarities

N_CENTROIDS = 512
N_HALVES = 150_000
N_HELD_OUT = 300
COMMON = 0.04
"""Share of the images in which a word is worth nothing."""
THRESHOLDS = (0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
COPIES = {"1-2 edits": (0.6, (1, 2)), "2-3 edits": (0.8, (2, 3)), "3-4 strong edits": (1.0, (3, 4))}
"""Kinds of copies: the strongest edit, and the fewest and most edits."""


def read(file: Path) -> RgbImage:
    """An image as the store keeps it: at most 320 pixels on its long side."""
    return decode_preview(decode(file.read_bytes()).detail)


def described(seed: int, job: tuple[int, Path]) -> list[Descriptors]:
    """Describe an image, and its packshot if its number is even."""
    number, file = job
    image = read(file)
    shot = packshot(image, default_rng([seed, number])) if number % 2 == 0 else None
    images = [image] if shot is None else [image, shot]
    return [find_keypoints(each).descriptors for each in images]


def codebook(known: Sequence[Descriptors], seed: int) -> npt.NDArray[np.float32]:
    """Cluster a sample of first and mirrored second halves: centroids, (N_CENTROIDS, 64)."""
    rows = np.concatenate(known)
    rng = default_rng(seed)
    sample = rows[rng.permutation(len(rows))[: N_HALVES // 2]]
    halves = np.concatenate([root(sample)[:, :HALF], root(mirrored_descriptors(sample))[:, :HALF]])
    with threadpool_limits(1):  # else the sums come in another order each time
        means = KMeans(N_CENTROIDS, n_init=1, max_iter=30, random_state=seed).fit(halves)
    centroids: npt.NDArray[np.float32] = np.rint(means.cluster_centers_ * GRID) / np.float32(GRID)
    return centroids.astype(np.float32)


def learn(known: Sequence[Descriptors], seed: int) -> Vocabulary:
    """Fit a vocabulary to the descriptors of images."""
    plain = Vocabulary(codebook(known, seed), np.zeros(N_CENTROIDS**2, np.float32))
    counts = np.zeros(N_CENTROIDS**2, np.int64)
    for words in in_order(plain.words, known):
        counts += np.bincount(words[words >= 0], minlength=len(counts))
        turned = plain.mirrored(words)
        counts += np.bincount(turned[turned >= 0], minlength=len(counts))
    idf = np.log((2 * len(known) + 1) / (counts + 1)).astype(np.float16)
    idf[counts > COMMON * 2 * len(known)] = 0
    return Vocabulary(plain.centroids, idf.astype(np.float32))


def copied(images: Sequence[RgbImage], strength: float, n_edits: tuple[int, int]) -> list[RgbImage]:
    """An edited copy of each image, as the store would keep it."""
    rng = default_rng(0)
    edited = (augment(each, rng, strength, n_edits, others=images)[0] for each in images)
    return [decode_preview(encode_preview(Image.fromarray(each))) for each in edited]


def print_table(vocabulary: Vocabulary, known: Words, held_out: Sequence[RgbImage]) -> None:
    """Print how often copies find their originals among all images, and how much else."""
    originals = np.stack(list(in_order(vocabulary.words_in, held_out)))
    every = np.concatenate([known, originals])
    print("| copies | threshold | recall | proposals for each |\n|---|---|---|---|")
    for name, (strength, n_edits) in COPIES.items():
        edited = copied(held_out, strength, n_edits)
        copies = np.stack(list(in_order(vocabulary.words_in, edited)))
        own = similarities(copies, originals, vocabulary)
        proposed = propose(copies, every, vocabulary, min(THRESHOLDS)).similarity
        for threshold in THRESHOLDS:
            recall, each = (own >= threshold).mean(), (proposed >= threshold).sum() / len(copies)
            print(f"| {name} | {threshold:g} | {recall:.3f} | {each:.1f} |", flush=True)


def print_times(vocabulary: Vocabulary, known: Sequence[Descriptors], words: Words) -> None:
    """Print how long words and searches take; more images are drawn from those there are."""
    print("\n| what | seconds | a second |\n|---|---|---|")
    print_time("words", len(known), lambda: list(in_order(vocabulary.words, known)))
    for count in (2_500, 10_000):
        drawn = stand_ins(words, vocabulary, count)
        search = partial(propose, drawn, None, vocabulary, 0.05)
        print_time(f"search {count:,} images", count, search)


def stand_ins(words: Words, vocabulary: Vocabulary, count: int) -> Words:
    """Draw ``count`` images, each of words drawn from all those in ``words``."""
    rng = default_rng(0)
    drawn = np.full((count, words.shape[1]), -1, np.int32)
    lengths, every = (words >= 0).sum(axis=1), words[words >= 0]
    for row, length in zip(drawn, rng.choice(lengths, count), strict=True):
        unique = np.unique(rng.choice(every, length))
        row[: len(unique)] = unique
    return drawn


def print_time(name: str, count: int, work: Callable[[], object]) -> None:
    """Print how long something takes."""
    start = time.perf_counter()
    work()
    took = time.perf_counter() - start
    print(f"| {name} | {took:.2f} | {count / took:,.0f} |", flush=True)


def main() -> None:
    """Train, save and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = sorted(options.images.iterdir())
    order = default_rng(options.seed).permutation(len(files))
    held_out, used = np.split(order, [N_HELD_OUT])
    jobs = enumerate(files[number] for number in used)
    known = [each for many in in_order(partial(described, options.seed), jobs) for each in many]
    vocabulary = learn(known, options.seed)
    vocabulary.save(
        options.out,
        command=shlex.join(["python", *sys.argv]),
        seed=str(options.seed),
        images=f"{len(used)} of {len(files)}, and {len(known) - len(used)} packshots of them",
    )
    vocabulary = Vocabulary.read(options.out)
    words = np.stack(list(in_order(vocabulary.words, known)))
    print_table(vocabulary, words, [read(files[number]) for number in held_out])
    print_times(vocabulary, known, words)


if __name__ == "__main__":
    main()
