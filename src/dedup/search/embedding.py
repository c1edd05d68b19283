"""Embed images in batches, on one device or on several.

A CPU computes with one thread a worker, and with several workers side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dedup.encoders.checkpoint import load_encoder
from dedup.errors import LostProcessError
from dedup.foregrounds.masked_store import Framed, ImageReader, Product
from dedup.runtime.parallel import in_order, n_threads
from dedup.runtime.processes import end_with_parent, ignore_interrupts
from dedup.runtime.progress import counting
from dedup.runtime.torch_threads import one_torch_thread
from dedup.store.image_store import ImageStore

Vectors = npt.NDArray[np.float32]

MICRO_BATCH = 16
"""Images that go through the encoder together, always exactly so many; see ``Embed``."""

BLOCKS_EACH = 4
"""Blocks for each worker, at least, so that no worker waits long for the last block."""


class Embed:
    """Map a batch of columns to columns; loads the encoder once.

    The encoder always gets exactly ``MICRO_BATCH`` images, padded with zeros, and computes them
    on one thread. With another batch size, and on some processors with another number of
    threads, convolutions and matrix products add in another order. The embedding of an image
    would then differ by some 1e-5. With a fixed batch and one thread, its bits depend on the
    image and the machine alone, not on its batch or its neighbours. So an image added later, or
    a query, gets the embedding that it would have in a new index. On a CPU this is also about
    the fastest way: activations fit the cache, and no thread waits for another.

    Args:
        checkpoint: file of a checkpoint, or its run folder.
        device: device to compute on; ``auto`` takes a GPU if there is one. Bits are equal
            between runs on one device, not between devices or kinds of processor.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self.encoder: nn.Module = load_encoder(checkpoint).to(device)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Add the column ``embedding``, (n, d) float32, to a batch with ``pixels``, uint8."""
        pixels = batch["pixels"]
        # An empty batch runs the encoder on zeros, since the encoder alone knows d.
        starts = range(0, max(1, len(pixels)), MICRO_BATCH)
        blocks = self.each(lambda at: self.block(pixels[at : at + MICRO_BATCH]), starts)
        return {**batch, "embedding": np.concatenate(list(blocks))}

    def each(self, work: Callable[[int], Vectors], jobs: Iterable[int]) -> Iterator[Vectors]:
        """Yield ``work(job)`` for each job in order; on a CPU several run at a time."""
        if self.device != "cpu":
            yield from map(work, jobs)
            return
        with one_torch_thread():
            yield from in_order(work, jobs)

    def block(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """Embed pixels, (n, 3, 200, 100), as (n, d) float32, in the calling thread."""
        starts = range(0, max(1, len(pixels)), MICRO_BATCH)
        return np.concatenate([self._embed(pixels[at : at + MICRO_BATCH]) for at in starts])

    @torch.inference_mode()
    def _embed(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """Embed at most ``MICRO_BATCH`` images."""
        # A copy: columns may be read-only, such as Ray's and memory-mapped ones.
        padded = np.zeros((MICRO_BATCH, *pixels.shape[1:]), np.uint8)
        padded[: len(pixels)] = pixels
        output = self.encoder(torch.from_numpy(padded).to(self.device)).float().cpu().numpy()
        embeddings: Vectors = output[: len(pixels)]
        return embeddings


def embed_stored(
    embed: Embed, store: ImageReader, rows: npt.NDArray[np.int64], batch_size: int = 128
) -> Vectors:
    """Embed stored images, (n, d) float32, for (n, 2) places in the store.

    Each worker reads at most ``batch_size`` images at once, rounded up to whole micro-batches.
    The embeddings do not depend on it.
    """
    step = min(_whole(batch_size), _whole(-(-len(rows) // (BLOCKS_EACH * n_threads()))))
    starts = range(0, max(1, len(rows)), step)

    def work(start: int) -> Vectors:
        return embed.block(store.read(rows[start : start + step]))

    return _joined(embed.each(work, starts), len(rows))


def embed_on(
    devices: Sequence[str],
    checkpoint: str | Path,
    store: ImageReader,
    rows: npt.NDArray[np.int64],
    batch_size: int = 128,
) -> Vectors:
    """Embed stored images on several devices, with a process for each.

    A process takes the next block when it is done, so that fast devices do not wait for slow
    ones. Processes on CPUs share the cores.

    Args:
        devices: devices as torch names them; a name may be repeated.
        checkpoint: file of a checkpoint, or its run folder.
        store: store of the images.
        rows: (n, 2) places in the store.
        batch_size: images read at once, at most.

    Returns:
        The embeddings, (n, d) float32, of the same bits as on a single device.

    Raises:
        LostProcessError: a process was ended from outside.
    """
    step = min(_whole(batch_size), _whole(-(-len(rows) // len(devices))))
    n_workers = min(len(devices), -(-len(rows) // step))
    if n_workers < 2:
        return embed_stored(Embed(checkpoint, devices[0]), store, rows, batch_size)
    context = get_context("spawn")
    waiting = context.SimpleQueue()
    for device in devices[:n_workers]:
        waiting.put(device)
    product = store.product if isinstance(store, Framed) else None
    places = (str(checkpoint), str(store.path), store.reader, product)
    threads = max(1, n_threads() // n_workers)
    blocks = [rows[start : start + step] for start in range(0, len(rows), step)]
    with ProcessPoolExecutor(n_workers, context, _begin, (waiting, threads, *places)) as pool:
        try:
            with ignore_interrupts():
                embedded = pool.map(_embed_block, blocks)
            return _joined(embedded, len(rows))
        except BrokenProcessPool as error:
            raise LostProcessError(
                f"one of {n_workers} processes that embed images was ended from outside, often "
                "for lack of memory: nothing of the index was written. Try again with fewer "
                "processes, by trainer.gpus or trainer.num_processes"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(
    waiting: Any, threads: int, checkpoint: str, path: str, reader: str, product: Product | None
) -> None:
    """Make this process a worker for the next device in the queue."""
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by ``n_threads``
    _worker.update(
        device=waiting.get(), checkpoint=checkpoint, path=path, reader=reader, product=product
    )


def _embed_block(rows: npt.NDArray[np.int64]) -> Vectors:
    embed, store = _loaded()
    embeddings: Vectors = embed({"pixels": store.read(rows)})["embedding"]
    return embeddings


@cache
def _loaded() -> tuple[Embed, ImageReader]:
    """Load the encoder and the store of a worker at its first task, which can report errors."""
    embed = Embed(_worker["checkpoint"], _worker["device"])
    store = ImageStore(_worker["path"], _worker["reader"])
    return embed, store if _worker["product"] is None else Framed(store, _worker["product"])


_worker: dict[str, Any] = {}


def _whole(n_images: int) -> int:
    """Round a number of images up to whole micro-batches."""
    return max(1, -(-n_images // MICRO_BATCH)) * MICRO_BATCH


def _joined(blocks: Iterable[Vectors], n_images: int) -> Vectors:
    """Join blocks of embeddings as they come, and show how many images are done."""
    parts = []
    with counting("embedding images", n_images, "images") as count:
        for part in blocks:
            parts.append(part)
            count(len(part))
    return np.concatenate(parts)
