"""Are colour variants told from copies? What each pair of a benchmark is called.

    python benchmarks/variants.py --generator make_benchmark.py --images images \
        --true-dups true_duplicates.csv --look-alikes hard_negatives.csv \
        --checkpoint relisting.ckpt --n 500 --seed 1 --out OUT

The benchmark is what ``make_benchmark.py`` writes: originals, edited copies, recoloured variants.
The entry points run on it with ``matcher.variants`` at each of its values. Edits of light and
colour (``dedup.augmentations``, and a white balance far stronger than those) are looked at besides,
``--edited`` photos each, and so are the listed real pairs.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import labelled
import numpy as np
import pandas as pd
import pipeline
from labelled import Labelled
from skimage.color import deltaE_ciede2000

from dedup.augmentations import RgbImage, edit
from dedup.runtime.parallel import in_order
from dedup.schemas import RELATIONS
from dedup.store.decode import decode, decode_preview
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier, Verdict
from dedup.verification.relations import NOTHING, VARIANT

CALLED = (*RELATIONS, NOTHING)
LIGHT = ("white_balance", "brightness", "contrast", "gamma", "curve", "saturation", "vignette",
         "haze", "fade", "gray", "sepia", "posterize", "palette")  # fmt: skip
STRENGTHS = (0.5, 1.0)
LAMPS = (0.8, 0.9, 1.1, 1.25)
"""By which the strong white balance multiplies red, and divides blue."""

VISIBLE = 10.0
"""CIEDE2000, over the middle of the image, below which a variant hardly looks another."""

SURE = 0.75
"""Score from which on the listed pairs are called copies: about what a catalogue chooses."""

ENDS = ["product_id_a", "product_id_b"]


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--generator", type=Path, required=True, help="make_benchmark.py")
    add("--images", type=Path, required=True, help="the images that it takes")
    add("--true-dups", type=Path, required=True, help="CSV: file_a, file_b, kind")
    add("--look-alikes", type=Path, required=True, help="CSV: file_a, file_b, kind")
    add("--checkpoint", type=Path, required=True)
    add("--n", type=int, default=500, help="originals")
    add("--seed", type=int, default=1)
    add("--edited", type=int, default=60, help="photos for each edit of light and colour")
    add("--out", type=Path, default=Path("variants"))
    return parser.parse_args()


def image(file: Path) -> RgbImage:
    """A file as a store's details are."""
    return decode_preview(decode(file.read_bytes()).detail)


def called(pairs: pd.DataFrame, found: pd.DataFrame) -> pd.Series[str]:
    """What a run called each of some pairs, columns ``product_id_a`` and ``product_id_b``."""
    names = {
        frozenset(row[:2]): row[2]
        for row in found[[*ENDS, "relation"]].itertuples(index=False, name=None)
    }
    ends = pairs[ENDS].itertuples(index=False, name=None)
    return pd.Series([names.get(frozenset(pair), NOTHING) for pair in ends], pairs.index)


def line(name: str, told: pd.Series[str]) -> str:
    """A row of the table: how many, and the share of each relation."""
    shares = (f"{(told == relation).mean():.3f}" for relation in CALLED)
    return f"| {name} | {len(told)} | " + " | ".join(shares) + " |"


HEAD = "| pairs | n | " + " | ".join(RELATIONS) + " | nothing |\n|---|---|---|---|---|---|"


def apart(one: Path, other: Path) -> float:
    """Mean CIEDE2000 over the middle of two images of one size."""
    labs = []
    for file in (one, other):
        small = cv2.resize(image(file), (64, 64), interpolation=cv2.INTER_AREA)[16:48, 16:48]
        labs.append(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
    return float(deltaE_ciede2000(*labs).mean())


def of_benchmark(of: Labelled, found: pd.DataFrame) -> Iterator[str]:
    """What the benchmark's variants and copies were called."""
    renamed = {"productId_a": ENDS[0], "productId_b": ENDS[1]}
    hard = labelled.table(of.folder / "hard_negatives.csv").rename(columns=renamed)
    truth = labelled.table(of.folder / "truth_pairs.csv").rename(columns=renamed)
    told = called(hard, found)
    plain = hard["type"] == "colour_variant"
    file = dict(zip(of.ids, of.files, strict=True))
    ends = hard.loc[plain, ENDS].itertuples(index=False, name=None)
    differ = pd.Series([apart(file[a], file[b]) for a, b in ends], hard.index[plain])
    yield f"{HEAD}\n{line('variant, original', told[plain])}"
    yield line("variant, edited copy", told[~plain])
    yield line("**variant, all**", told)
    for degrees, part in told.groupby(hard["degrees"]):
        yield line(f"... turned by {degrees}°", part)
    faint = differ.index[differ < VISIBLE]
    yield line(f"... under {VISIBLE:g} CIEDE2000 apart", told[faint])
    told = called(truth, found)
    direct = truth["kind"] == "direct"
    for name, part in told[direct].groupby(truth.loc[direct, "edit"]):
        yield line(f"original, copy: {name}", part)
    yield line("**original, copy: all**", told[direct])
    yield line("copy, copy", told[~direct])
    yield listed_wrongly(of, found)


def listed_wrongly(of: Labelled, found: pd.DataFrame) -> str:
    """How many of the variants that a run lists are none."""
    listed = found[found["relation"] == VARIANT]
    facts = of.members.set_index("product_id")
    sources = [facts.loc[listed[end], "source"].to_numpy() for end in ENDS]
    roles = [(facts.loc[listed[end], "role"] == "colour_variant").to_numpy() for end in ENDS]
    right = (sources[0] == sources[1]) & (roles[0] != roles[1])
    other = (sources[0] != sources[1]).sum()
    return (
        f"\n{len(listed)} pairs were listed as colour variants: {right.sum()} are, "
        f"{len(listed) - right.sum() - other} are copies, {other} are of two photos."
    )


def lamp(photo: RgbImage, factor: float) -> RgbImage:
    """Red times a factor, blue divided by it, as bright as before."""
    gains = np.array([factor, 1, 1 / factor]) / max(factor, 1 / factor) ** 0.5
    return np.clip(photo * gains + 0.5, 0, 255).astype(np.uint8)


def edited(photo: RgbImage, seed: int) -> Iterator[tuple[str, RgbImage]]:
    """Copies of a photo in another light or colour, with the name of the edit."""
    rng = np.random.default_rng(seed)
    for name in LIGHT:
        for strength in STRENGTHS:
            yield f"{name}, {strength:g}", edit(photo, name, strength, rng)
    for factor in LAMPS:
        yield f"lamp, {factor:g}", lamp(photo, factor)


def of_light(of: Labelled, n: int, verifier: GeometricVerifier) -> Iterator[str]:
    """What the verifier calls copies in another light or colour."""
    originals = of.members.loc[of.members["role"] == "original", "file"].tolist()[:n]
    rows: list[tuple[str, Verdict]] = []

    def looks(numbered: tuple[int, Path]) -> list[tuple[str, Verdict]]:
        photo = image(numbered[1])
        copies = list(edited(photo, numbered[0]))
        seen = LocalFeatures.of(photo)
        verdicts = verifier((seen, LocalFeatures.of(copy)) for _, copy in copies)
        return [(name, it) for (name, _), it in zip(copies, verdicts, strict=True)]

    for part in in_order(looks, enumerate(originals)):
        rows += part
    table = pd.DataFrame(
        [(name, it.relation == VARIANT, it.score) for name, it in rows],
        columns=["edit", "variant", "score"],
    )
    yield "| photo, the same in another light | n | colour variant | median score |"
    yield "|---|---|---|---|"
    for name, part in table.groupby("edit", sort=False):
        share, score = part["variant"].mean(), part["score"].median()
        yield f"| {name} | {len(part)} | {share:.3f} | {score:.2f} |"
    yield f"| **all** | {len(table)} | {table['variant'].mean():.3f} | |"


def of_real(options: argparse.Namespace, verifier: GeometricVerifier) -> Iterator[str]:
    """What the verifier calls the listed real pairs."""
    yield "| listed as | images | score | variant | apart | within | called |"
    yield "|---|---|---|---|---|---|---|"
    for table in (options.look_alikes, options.true_dups):
        for row in labelled.table(table).to_dict("records"):
            files = [options.images / row[f"file_{end}"] for end in "ab"]
            verdict = verifier([tuple(LocalFeatures.of(image(file)) for file in files)])[0]
            yield _real(row, verdict)


def _real(row: dict[str, Any], verdict: Verdict) -> str:
    seen = None if verdict.placement is None else verdict.placement.colours
    alike = 1 / (1 + np.exp(-verdict.alike))
    measured = f"{seen.apart:.1f} | {seen.within:.2f}" if seen else "|"
    ends = " ".join(row[f"file_{end}"][:8] for end in "ab")
    by_score = "same image" if verdict.score >= SURE and verdict.relation != VARIANT else ""
    called = by_score or verdict.relation or "nothing"
    return (
        f"| {row['kind'].replace('_', ' ')} | {ends} | {verdict.score:.2f} | {alike:.2f} | "
        f"{measured} | {called} |"
    )


def runs(of: Labelled, checkpoint: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """The folder of a detect run for each value of ``matcher.variants``; all have one search."""
    path, recipe = of.folder / "products.csv", "experiment=relisting"
    pipeline.run("cluster", [recipe, f"checkpoint={checkpoint.resolve()}"], path, work)
    since: list[str] = []
    for variants in ("separate", "merge", "ignore"):
        pipeline.run("detect", [recipe, f"matcher.variants={variants}", *since], path, work)
        folder = (work / "runs" / "detect" / "latest").resolve()
        since = since or [f"since={folder}"]
        yield variants, folder


def of_groups(of: Labelled, folders: dict[str, Path]) -> Iterator[str]:
    """What each value does to pairs, groups and families."""
    role = of.members.set_index("product_id")["role"]
    yield "| matcher.variants | pairs | groups | largest | of two colours | families | products |"
    yield "|---|---|---|---|---|---|---|"
    for variants, folder in folders.items():
        pairs, groups, families = (
            pd.read_parquet(folder / f"{name}.parquet") for name in ("pairs", "groups", "families")
        )
        sizes = groups.groupby("group_id").size()
        kinds = groups["product_id"].map(role).eq("colour_variant").groupby(groups["group_id"])
        mixed = (kinds.any() & ~kinds.all()).sum()
        yield (
            f"| {variants} | {len(pairs)} | {len(sizes)} | {sizes.max()} | {mixed} | "
            f"{families['family_id'].nunique()} | {len(families)} |"
        )


def main() -> None:
    """Print the tables."""
    options = arguments()
    out = options.out / f"n{options.n}-seed{options.seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=out)).resolve()
    labelled.generate(
        options.generator, options.images, out / "bench", options.n, options.seed, options.true_dups
    )
    of, verifier = labelled.read(out / "bench", work, options.true_dups), GeometricVerifier()
    folders = dict(runs(of, options.checkpoint, work))
    tables = (pd.read_parquet(folders["separate"] / f"{it}.parquet") for it in ("pairs", "related"))
    found = pd.concat(tables)
    print(f"n {options.n}, seed {options.seed}: {dict(Counter(of.members['role']))}\n", flush=True)
    for lines in (of_benchmark(of, found), of_groups(of, folders),
                  of_light(of, options.edited, verifier), of_real(options, verifier)):  # fmt: skip
        for text in lines:
            print(text, flush=True)
        print()


if __name__ == "__main__":
    main()
