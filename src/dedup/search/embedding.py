"""Images to embeddings, a batch of columns at a time, on one device or on several.

A CPU computes with one thread a worker, and with several workers side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
from dedup.runtime.processes import deaf_children, end_with_parent
from dedup.runtime.progress import counting
from dedup.store.image_store import ImageStore

Vectors = npt.NDArray[np.float32]

MICRO_BATCH = 16
"""Images that go through the encoder together, always exactly so many; see ``Embed``."""

BLOCKS_EACH = 4
"""Blocks for each worker, at least, so that none waits long for the last one."""


class Embed:
    """Maps a batch of columns to columns; loads the encoder once.

    The encoder always gets exactly ``MICRO_BATCH`` images, the last ones filled up with zeros,
    and computes them on one thread. A convolution or a matrix product adds in another order for
    another batch size, and for another number of threads on some processors, so that the same
    image would differ by some 1e-5. So an embedding has the same bits whatever the batch, the
    place in it, its neighbours and the number of threads: on one machine it depends on the
    image alone, and an image added or asked about later lies exactly where it would lie in an
    index made anew. It is also about the fastest on a CPU: what lies between two layers fits the
    cache, and no thread waits for another.

    Args:
        checkpoint: a checkpoint's file or its run folder.
        device: where to compute; ``auto`` takes a GPU if there is one. Bits are equal between
            runs on one device, not between devices or kinds of processor.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self.encoder: nn.Module = load_encoder(checkpoint).to(device)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Add the column ``embedding``, (n, d) float32, to one with ``pixels``, uint8."""
        pixels = batch["pixels"]
        # Of no images one batch of zeros: the encoder alone knows d.
        starts = range(0, max(1, len(pixels)), MICRO_BATCH)
        found = self.each(lambda at: self.block(pixels[at : at + MICRO_BATCH]), starts)
        return {**batch, "embedding": np.concatenate(list(found))}

    def each(self, work: Callable[[int], Vectors], jobs: Iterable[int]) -> Iterator[Vectors]:
        """``work(job)`` for each job, in their order; on a CPU several at a time."""
        if self.device != "cpu":
            yield from map(work, jobs)
            return
        with _one_thread_each():
            yield from in_order(work, jobs)

    def block(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """The embeddings, (n, d) float32, of (n, 3, 200, 100) pixels, computed here and now."""
        starts = range(0, max(1, len(pixels)), MICRO_BATCH)
        return np.concatenate([self._embed(pixels[at : at + MICRO_BATCH]) for at in starts])

    @torch.inference_mode()
    def _embed(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """Embeddings of at most ``MICRO_BATCH`` images."""
        # A copy: columns may be read-only, such as Ray's and memory-mapped ones.
        padded = np.zeros((MICRO_BATCH, *pixels.shape[1:]), np.uint8)
        padded[: len(pixels)] = pixels
        found = self.encoder(torch.from_numpy(padded).to(self.device)).float().cpu().numpy()
        embeddings: Vectors = found[: len(pixels)]
        return embeddings


def embed_stored(
    embed: Embed, store: ImageReader, rows: npt.NDArray[np.int64], batch_size: int = 128
) -> Vectors:
    """Embeddings of stored images, (n, d) float32, for (n, 2) places in the store.

    Each worker reads ``batch_size`` images at once, at most and rounded up to whole
    micro-batches; the embeddings do not depend on it.
    """
    step = min(_whole(batch_size), _whole(-(-len(rows) // (BLOCKS_EACH * n_threads()))))
    starts = range(0, max(1, len(rows)), step)

    def work(start: int) -> Vectors:
        return embed.block(store.read(rows[start : start + step]))

    found = embed.each(work, starts)
    return np.concatenate([next(found) for _ in _shown(starts)])


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let torch compute with one thread in this thread, and in those that begin meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def embed_on(
    devices: Sequence[str],
    checkpoint: str | Path,
    store: ImageReader,
    rows: npt.NDArray[np.int64],
    batch_size: int = 128,
) -> Vectors:
    """The same on several devices, by a process for each; on CPUs they share the cores.

    Each takes the next images when it is done with the last, so that none waits for a slower
    one, and their embeddings go to the places of these images.

    Args:
        devices: as torch names them; the same one may come several times.
        checkpoint: a checkpoint's file or its run folder.
        store: where the images lie.
        rows: (n, 2) places in the store.
        batch_size: images read at once, at most.

    Returns:
        The embeddings, (n, d) float32, of the same bits as on one of the devices.

    Raises:
        LostProcessError: a process ended, and cannot say why.
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
            with deaf_children():
                found = pool.map(_embed_block, blocks)
            return np.concatenate([next(found) for _ in _shown(range(len(blocks)))])
        except BrokenProcessPool as error:
            raise LostProcessError(
                f"one of {n_workers} processes that embed images was ended from outside, often "
                "for lack of memory: nothing of the index was written. Try again with fewer, by "
                "trainer.gpus or trainer.num_processes"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(
    waiting: Any, threads: int, checkpoint: str, path: str, reader: str, product: Product | None
) -> None:
    """Make this process a worker for the next device in the queue."""
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # what ``n_threads`` goes by
    _worker.update(
        device=waiting.get(), checkpoint=checkpoint, path=path, reader=reader, product=product
    )


def _embed_block(rows: npt.NDArray[np.int64]) -> Vectors:
    embed, store = _loaded()
    embeddings: Vectors = embed({"pixels": store.read(rows)})["embedding"]
    return embeddings


@cache
def _loaded() -> tuple[Embed, ImageReader]:
    """What a worker works with; not loaded at its start, whose errors no one would hear."""
    embed = Embed(_worker["checkpoint"], _worker["device"])
    store = ImageStore(_worker["path"], _worker["reader"])
    return embed, store if _worker["product"] is None else Framed(store, _worker["product"])


_worker: dict[str, Any] = {}


def _whole(n_images: int) -> int:
    """That many images in whole micro-batches."""
    return max(1, -(-n_images // MICRO_BATCH)) * MICRO_BATCH


def _shown(starts: range) -> Iterator[int]:
    with counting("embedding images", len(starts)) as count:
        for start in starts:
            yield start
            count()
