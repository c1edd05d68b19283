"""Several processes beside one: every product embedded once, and the same loss at every step.

    python benchmarks/distributed.py --processes 2

Draws a shop, runs the entry points once with one process and once with several, on the CPU, and
compares what they leave behind. The contrastive task learns by views that do not depend on what
else is in a process's share: without edits, with colour variants.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pipeline import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dedup.runtime.tables import write_rows
from dedup.search.index import Index

N_PRODUCTS = 103
SMALL = ["encoder=conv", "encoder.embedding_dim=32", "encoder.hidden_dim=64"]
TASKS = {
    "autoencoder": ["task=autoencoder"],
    "contrastive": ["task=contrastive", "views.n_edits=[0,0]", "views.hue_variants=0.5"],
}
INDEX = ["images.parquet", "vectors.npy", "centroids.npy", "products.parquet", "manifest.json"]


@dataclass(frozen=True)
class Training:
    """What a training run left.

    Attributes:
        losses: ``train/loss`` at every step.
        measures: by name, at every validation.
        weights: of the encoder after the last step, in a row.
    """

    losses: npt.NDArray[np.float64]
    measures: dict[str, npt.NDArray[np.float64]]
    weights: npt.NDArray[np.float64]

    @classmethod
    def load(cls, folder: Path) -> Training:
        """Read a run's folder."""
        events = EventAccumulator(str(folder)).Reload()
        logged = {
            name: np.array([event.value for event in events.Scalars(name)])
            for name in events.Tags()["scalars"]
            if name == "train/loss" or name.startswith("val/")
        }
        state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
        weights = np.concatenate([value.double().numpy().ravel() for value in state.values()])
        return cls(logged.pop("train/loss"), logged, weights)


def drawn(folder: Path) -> Path:
    """A table of products, each with an image like no other; its path."""
    folder.mkdir()
    rows = []
    for number in range(N_PRODUCTS):
        noise = np.random.default_rng(number).integers(0, 256, (8, 6, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((150, 200), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg")
        rows.append((f"P{number:03}", f"image {number}", f"{number}.jpg"))
    write_rows(("productId", "title", "imageUrlStr"), rows, folder / "products.csv")
    return folder / "products.csv"


def trained(task: str, table: Path, work: Path, n_processes: int, epochs: int) -> Training:
    """Train with so many processes, 16 images a step in all."""
    runs = work / f"{task}-{n_processes}"
    settings = [*SMALL, *TASKS[task], "data.batch_size=16", f"epochs={epochs}", *cpu(n_processes)]
    run("train", [*settings, f"runs={runs}", f"store.path={work / 'store'}"], table, work)
    return Training.load(runs / "train" / "latest")


def embedded(checkpoint: Path, table: Path, work: Path, n_processes: int) -> Path:
    """Make an index with so many processes; its folder."""
    runs = work / f"index-{n_processes}"
    settings = [f"checkpoint={checkpoint}", *cpu(n_processes)]
    run("cluster", [*settings, f"runs={runs}", f"store.path={work / 'store'}"], table, work)
    return runs / "cluster" / "latest"


def cpu(n_processes: int) -> list[str]:
    """The settings for so many processes on the CPU."""
    return ["trainer.accelerator=cpu", f"trainer.num_processes={n_processes}"]


def print_embedding(one: Path, several: Path, n_processes: int) -> None:
    """How the indexes of one and of several processes compare."""
    first, second = Index.load(one), Index.load(several)
    asked = Counter(first.products[first.manifest["id_column"]])
    found = Counter(second.images["product_id"])
    placed = second.images["vector"]
    equal = first.vectors.tobytes() == second.vectors.tobytes()
    same = [name for name in INDEX if (one / name).read_bytes() == (several / name).read_bytes()]
    print(f"## {len(second.products)} products embedded by {n_processes} processes\n")
    print("| | |\n|---|---|")
    print(f"| products missing | {sum((asked - found).values())} |")
    print(f"| products more than once | {sum((found - asked).values())} |")
    print(f"| images with a vector | {(placed >= 0).sum()} of {len(placed)} |")
    print(f"| distinct vectors | {len(np.unique(placed))} places, {second.vectors.shape} |")
    print(f"| vectors bit for bit those of one process | {'yes' if equal else 'NO'} |")
    print(f"| files byte for byte those of one process | {len(same)} of {len(INDEX)} |\n")


def print_training(task: str, one: Training, several: Training, n_processes: int) -> None:
    """How the losses of one and of several processes compare, step by step."""
    apart = np.abs(one.losses - several.losses)
    print(f"## {task}: {n_processes} processes beside one, {len(apart)} steps\n")
    print("| step | one process | several | difference |\n|---|---|---|---|")
    for step in sorted({0, 1, 2, len(apart) // 2, len(apart) - 1, int(apart.argmax())}):
        values = one.losses[step], several.losses[step], apart[step]
        print("| {} | {:.6f} | {:.6f} | {:.1e} |".format(step, *values))
    print(f"| greatest | | | {apart.max():.1e} |\n")
    for name, values in one.measures.items():
        worst = np.abs(values - several.measures[name]).max()
        print(f"Greatest difference of `{name}`: {worst:.1e}")
    moved = np.abs(one.weights - several.weights)
    print(f"Weights after the last step: greatest difference {moved.max():.1e}, ", end="")
    print(f"mean {moved.mean():.1e}\n")


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        table = drawn(work / "shop")
        runs = {
            (task, n): trained(task, table, work, n, asked.epochs)
            for task in TASKS
            for n in (1, asked.processes)
        }
        checkpoint = work / "autoencoder-1" / "train" / "latest"
        indexes = [embedded(checkpoint, table, work, n) for n in (1, asked.processes)]
        print_embedding(*indexes, asked.processes)
        for task in TASKS:
            print_training(task, runs[task, 1], runs[task, asked.processes], asked.processes)


if __name__ == "__main__":
    main()
