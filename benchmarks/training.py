"""How fast train.py and cluster.py are beside the network written as in the notebook of 2019.

Loops and ``train.py`` run in turn, each in a process of its own, on the same images in the same
order from the same weights; their losses are compared step by step.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional

from dedup.encoders.conv import ConvAutoencoder
from dedup.runtime.allocation import keep_freed_memory
from dedup.search.build import distinct_images
from dedup.search.embedding import Embed, embed_stored
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import CatalogueDataModule

ROOT = Path(__file__).parents[1]
GFLOP_OF_A_STEP, GFLOP_OF_AN_EMBEDDING = 0.83, 0.14
"""An image's multiplications and additions in the published network, 10^9."""
WARM_UP = 3
"""Steps that are not timed."""


class Notebook(nn.Module):
    """The published network as the notebook writes it; its layers in the order of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(4, return_indices=True)
        self.hidden, self.embedding = nn.Linear(17664, 1024), nn.Linear(1024, 256)
        self.unembedding, self.unhidden = nn.Linear(256, 1024), nn.Linear(1024, 17664)
        self.unpool = nn.MaxUnpool2d(4)
        self.unconv2, self.unconv1 = nn.ConvTranspose2d(16, 6, 5), nn.ConvTranspose2d(6, 3, 5)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings, and where the pooled numbers were."""
        x, indices = self.pool(self.conv2(torch.relu(self.conv1(x))))
        return self.embedding(self.hidden(x.reshape(-1, 17664))), indices

    def forward(self, x: Tensor) -> Tensor:
        """Images redrawn."""
        embeddings, indices = self.encode(x)
        x = self.unhidden(self.unembedding(embeddings)).reshape(-1, 16, 48, 23)
        redrawn: Tensor = self.unconv1(torch.relu(self.unconv2(self.unpool(x, indices))))
        return redrawn


@dataclass(frozen=True)
class Steps:
    """What a training run did.

    Attributes:
        losses: of each step.
        ends: when each ended, seconds.
        sizes: images in each.
        peak: most memory of the process, MB.
    """

    losses: list[float]
    ends: list[float]
    sizes: list[int]
    peak: float

    @property
    def rate(self) -> float:
        """Images per second of the median step, warming up left out."""
        spent = np.diff(self.ends)[WARM_UP - 1 :]
        return float(np.median(np.array(self.sizes[WARM_UP:]) / spent))


def catalogue(csv: Path, work: Path) -> tuple[ImageStore, pd.DataFrame]:
    """The store that train.py fills, and its images."""
    store = ImageStore(work / "runs" / "store" / "pillow")
    return store, store.ingest(CsvSource(str(csv)).read(), work)


def batches(csv: Path, work: Path, train_on: int) -> list[Tensor]:
    """The images of train.py's first epoch, step by step."""
    data = CatalogueDataModule(*catalogue(csv, work), train_on=train_on)
    data.setup()
    return [batch for batch in data.train_dataloader() if isinstance(batch, Tensor)]


def notebook(dealt: Sequence[Tensor]) -> Steps:
    """The plain loop over floats in memory."""
    images = [batch.float() / 255 for batch in dealt]
    network = Notebook()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-5)
    return looped(images, lambda x: functional.mse_loss(network(x), x), optimizer)


def layout(dealt: Sequence[Tensor]) -> Steps:
    """The plain loop with what a page of advice says: channels last, fused Adam, memory kept."""
    return in_layout(dealt, lambda network: network)


def compiled(dealt: Sequence[Tensor]) -> Steps:
    """The same through torch.compile."""
    return in_layout(dealt, torch.compile)


def in_layout(dealt: Sequence[Tensor], made: Callable[[nn.Module], nn.Module]) -> Steps:
    """The loop of ``layout`` with what is made of its network."""
    keep_freed_memory()
    images = [batch.float().contiguous(memory_format=torch.channels_last) / 255 for batch in dealt]
    network = Notebook().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-5, fused=True)
    redrawn = made(network)
    return looped(images, lambda x: functional.mse_loss(redrawn(x), x), optimizer)


def tuned(dealt: Sequence[Tensor]) -> Steps:
    """Our network in a loop of its own, over bytes in memory: no store, no Lightning."""
    keep_freed_memory()
    network = ConvAutoencoder()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-5, fused=True)

    def loss(images: Tensor) -> Tensor:
        pixels = network.prepare(images)
        return functional.mse_loss(network.decode(*network.encode(pixels)), pixels)

    return looped(dealt, loss, optimizer)


def looped(
    dealt: Sequence[Tensor], loss_of: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer
) -> Steps:
    """Train on each batch once."""
    losses, ends = [], []
    for x in dealt:
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        ends.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Steps(losses, ends, [len(batch) for batch in dealt], peak)


LOOPS = {loop.__name__: loop for loop in (notebook, layout, tuned, compiled)}


def in_child(name: str, csv: Path, work: Path, train_on: int) -> Steps:
    """One of ``LOOPS`` in a process of its own."""
    asked = [sys.executable, __file__, str(csv), "--child", name, "--work", str(work)]
    done = subprocess.run(
        [*asked, "--train-on", str(train_on)], capture_output=True, text=True, check=True
    )
    return Steps(**json.loads(done.stdout.splitlines()[-1]))


def trained(csv: Path, work: Path, train_on: int, sizes: list[int]) -> Steps:
    """``train.py`` itself, one epoch; its steps as TensorBoard shows them."""
    command = [
        sys.executable, str(ROOT / "train.py"), "source=csv", f"source.path={csv}", "epochs=1",
        f"data.train_on={train_on}", "trainer.gpus=0",
    ]  # fmt: skip
    child = subprocess.Popen(
        command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    events = EventAccumulator(str(work / "runs" / "train" / "latest"))
    logged = events.Reload().Scalars("train/loss")
    losses, ends = [one.value for one in logged], [one.wall_time for one in logged]
    return Steps(losses, ends, sizes, usage.ru_maxrss / 1024)


def training(csv: Path, work: Path, train_on: int, rounds: int, names: Sequence[str]) -> None:
    """Print the table of training."""
    sizes = [len(batch) for batch in batches(csv, work, train_on)]
    found: dict[str, list[Steps]] = {name: [] for name in [*names, "train.py"]}
    peaks = []
    for _ in range(rounds):
        peaks.append(matrix_unit())
        for name in names:
            found[name].append(in_child(name, csv, work, train_on))
        found["train.py"].append(trained(csv, work, train_on, sizes))
    print(f"{len(sizes)} steps of {max(sizes)}, {rounds} rounds in turn; matrix product: "
          f"{statistics.median(peaks):.0f} GFLOP/s\n")  # fmt: skip
    print("| loop | images/s | x notebook, round by round | share of the matrix product's "
          f"| greatest difference of a loss | peak MB |\n{'|---' * 6}|")  # fmt: skip
    base = found["notebook"]
    for name, runs in found.items():
        times = [run.rate / plain.rate for run, plain in zip(runs, base, strict=True)]
        share = [run.rate * GFLOP_OF_A_STEP / top for run, top in zip(runs, peaks, strict=True)]
        off = max(
            abs(a - b) for run in runs for a, b in zip(run.losses, base[0].losses, strict=True)
        )
        print(f"| {name} | {statistics.median(run.rate for run in runs):.0f} "
              f"| {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}) "
              f"| {statistics.median(share):.0%} | {off:.1e} "
              f"| {max(run.peak for run in runs):.0f} |")  # fmt: skip
    ours = [a.rate / b.rate for a, b in zip(found["train.py"], found["tuned"], strict=True)]
    print(f"\ntrain.py / tuned: {statistics.median(ours):.3f} "
          f"({min(ours):.3f} to {max(ours):.3f})")  # fmt: skip


def embedding(csv: Path, work: Path, rounds: int) -> None:
    """Print the table of embedding."""
    store, images = catalogue(csv, work)
    rows = store.rows(distinct_images(images)["url"].tolist())
    embed = Embed(work / "runs" / "train" / "latest", device="cpu")
    own = embed.encoder
    plain = Notebook().eval()
    plain.load_state_dict({n: v.contiguous() for n, v in own.state_dict().items()})
    pixels = torch.from_numpy(store.read(rows)).float() / 255

    @torch.no_grad()
    def eager() -> Tensor:
        return torch.cat([plain.encode(batch)[0] for batch in pixels.split(128)])

    def stored() -> Tensor:
        return torch.from_numpy(embed_stored(embed, store, rows))

    spent: dict[str, list[float]] = {"eager": [], "stored": []}
    for _ in range(rounds + 1):
        for name, run in (("eager", eager), ("stored", stored)):
            begun = time.perf_counter()
            result = run()
            spent[name].append(len(rows) / (time.perf_counter() - begun))
            if name == "eager":
                expected = result
    times = np.divide(spent["stored"][1:], spent["eager"][1:])
    scale, off = expected.norm(dim=1).median(), (result - expected).abs().max()
    print(f"\n{len(rows)} images, {rounds} rounds in turn\n\n| way | images/s | x eager |")
    print("|---|---|---|")
    print(f"| eager, in memory, batches of 128 | {statistics.median(spent['eager'][1:]):.0f} | 1 |")
    print(f"| cluster.py's, from the store | {statistics.median(spent['stored'][1:]):.0f} "
          f"| {np.median(times):.2f} ({times.min():.2f} to {times.max():.2f}) |")  # fmt: skip
    print(f"\ngreatest difference {off:.1e}; a median embedding's length is {scale:.2f}")


def matrix_unit() -> float:
    """10^9 operations per second of a large matrix product in float32."""
    a = torch.randn(2048, 2048)
    return 2 * 2.048**3 / best(lambda: a @ a)


def best(work: Callable[[], object], n: int = 5) -> float:
    """Seconds of the fastest of some runs, after one that is not timed."""
    work()
    spent = []
    for _ in range(n):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def layers() -> None:
    """Print the time of each part, forward and backward, for 128 images."""
    keep_freed_memory()
    plain, own = Notebook(), ConvAutoencoder()
    own.load_state_dict(plain.state_dict())
    images = torch.randint(0, 256, (128, 3, 200, 100), dtype=torch.uint8)
    pixels = images.float() / 255
    pooled, indices = plain.pool(plain.conv2(torch.relu(plain.conv1(pixels))))
    pooled, flat = pooled.detach(), pooled.detach().flatten(1)
    code = torch.randn(128, 256)

    def parts(net: Notebook | ConvAutoencoder) -> list[Callable[[Tensor], Tensor]]:
        """Convolutions of the encoder, its linear layers, those of the decoder, and its mirror."""
        if isinstance(net, ConvAutoencoder):
            last = indices.contiguous(memory_format=torch.channels_last)
            return [
                lambda x: torch.cat([net._pooled(part)[0] for part in x.split(16)]),
                lambda x: net.embedding(net.hidden(x)),
                lambda x: net.unhidden(net.unembedding(x)),
                lambda x: torch.cat([
                    net.unconv1(torch.relu(net._unpooled(*part)))
                    for part in zip(x.split(16), last.split(16), strict=True)
                ]),
            ]  # fmt: skip
        return [
            lambda x: net.pool(net.conv2(torch.relu(net.conv1(x))))[0],
            lambda x: net.embedding(net.hidden(x)),
            lambda x: net.unhidden(net.unembedding(x)),
            lambda x: net.unconv1(torch.relu(net.unconv2(net.unpool(x, indices)))),
        ]

    names = ["Conv-ReLU-Conv-MaxPool", "Linear-Linear", "Linear-Linear", "MaxUnpool-Conv-ReLU-Conv"]
    inputs = [pixels, flat, code, pooled]
    print(f"\n| part, both ways, 128 images | notebook, ms | ours, ms |\n{'|---' * 3}|")
    for name, x, plain_part, own_part in zip(names, inputs, parts(plain), parts(own), strict=True):
        cells = []
        for net, part in ((plain, plain_part), (own, own_part)):
            given = x.to(memory_format=torch.channels_last) if net is own and x.dim() == 4 else x
            given = given.clone(memory_format=torch.preserve_format).requires_grad_(x is not pixels)
            cells.append(best(lambda part=part, given=given: part(given).mean().backward()) * 1000)
        print(f"| {name} | {cells[0]:.0f} | {cells[1]:.0f} |")
    grown = [parameter.detach().clone().requires_grad_() for parameter in plain.parameters()]
    for parameter in grown:
        parameter.grad = torch.zeros_like(parameter)
    adam = [torch.optim.Adam(grown, 3e-4, weight_decay=1e-5, fused=fused) for fused in (None, True)]
    cells = [best(one.step) * 1000 for one in adam]
    print(f"| Adam | {cells[0]:.0f} | {cells[1]:.0f} |")


def main() -> None:
    """Print all tables, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--train-on", type=int, default=1700, help="products; decides the steps")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", nargs="+", default=["notebook", "layout", "tuned"])
    parser.add_argument("--child", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    csv = args.csv.resolve()
    if args.child:
        dealt = batches(csv, args.work, args.train_on)
        torch.manual_seed(0)  # as train.py's seed
        print(json.dumps(asdict(LOOPS[args.child](dealt))))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        training(csv, work, args.train_on, args.rounds, args.loops)
        embedding(csv, work, args.rounds)
        layers()  # the last, since it keeps freed memory, which eager encoding does not


if __name__ == "__main__":
    main()
