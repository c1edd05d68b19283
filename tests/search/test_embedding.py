"""Images to embeddings, beside the network called by hand."""

import logging
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from dedup.encoders.checkpoint import describe
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ArtifactError, CorruptError, LostProcessError
from dedup.schemas import IMAGE_SHAPE
from dedup.search.embedding import MICRO_BATCH, Embed, embed_on, embed_stored
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore
from tests.conftest import cut


@pytest.fixture
def encoder() -> ConvAutoencoder:
    torch.manual_seed(2)
    return ConvAutoencoder(embedding_dim=8, hidden_dim=16)


@pytest.fixture
def checkpoint(encoder: ConvAutoencoder, tmp_path: Path) -> Path:
    """A run's folder with the encoder in ``best.ckpt``."""
    folder = tmp_path / "run"
    folder.mkdir()
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"encoder": describe(encoder), "state_dict": weights}, folder / "best.ckpt")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store", shard_rows=8)


@pytest.fixture
def rows(store: ImageStore, catalogue: Catalogue, tmp_path: Path) -> npt.NDArray[np.int64]:
    """Places of the shop's images in three shards."""
    images = store.ingest(catalogue, tmp_path)
    distinct: pd.DataFrame = images[images["status"] == "ok"].drop_duplicates("sha256_pixels")
    return store.rows(distinct["url"].tolist())


def noise(n: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, *IMAGE_SHAPE), dtype=np.uint8)


def by_hand(encoder: ConvAutoencoder, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """One image after the other through the network."""
    with torch.no_grad():
        each = [encoder.encode(torch.tensor(p[None] / 255).float())[0] for p in pixels]
    found: npt.NDArray[np.float32] = torch.cat(each).numpy()
    return found


def test_a_column_is_added_and_the_others_are_kept(
    checkpoint: Path, encoder: ConvAutoencoder
) -> None:
    batch = {"pixels": noise(3), "product_id": np.array(["a", "b", "c"]), "n": np.arange(3)}
    result = Embed(checkpoint, device="cpu")(batch)
    assert list(result) == ["pixels", "product_id", "n", "embedding"]
    for name, column in batch.items():
        assert result[name] is column
    assert "embedding" not in batch
    assert result["embedding"].shape == (3, 8)
    assert result["embedding"].dtype == np.float32
    np.testing.assert_allclose(result["embedding"], by_hand(encoder, batch["pixels"]), atol=1e-5)


def test_read_only_pixels_are_taken_and_left_as_they_are(checkpoint: Path) -> None:
    # Ray hands out read-only columns, and so does a memory-mapped file.
    pixels = noise(2)
    before = pixels.copy()
    pixels.flags.writeable = False
    embed = Embed(checkpoint, device="cpu")
    first = embed({"pixels": pixels})["embedding"]
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_allclose(first, embed({"pixels": before})["embedding"], atol=1e-5)


def test_a_checkpoint_is_named_by_its_folder_or_its_file(checkpoint: Path) -> None:
    pixels = {"pixels": noise(2)}
    folder, file = Embed(checkpoint, "cpu"), Embed(str(checkpoint / "best.ckpt"), "cpu")
    np.testing.assert_allclose(folder(pixels)["embedding"], file(pixels)["embedding"], atol=1e-5)


def test_without_a_gpu_it_computes_on_the_cpu(checkpoint: Path) -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    embed = Embed(checkpoint)
    assert embed.device == expected
    assert {weight.device.type for weight in embed.encoder.parameters()} == {expected}
    assert not embed.encoder.training


def test_without_a_checkpoint_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no checkpoint"):
        Embed(tmp_path / "absent.ckpt")


def test_stored_images_keep_their_order_whatever_the_batch(
    checkpoint: Path, encoder: ConvAutoencoder, store: ImageStore, rows: npt.NDArray[np.int64]
) -> None:
    embed = Embed(checkpoint, device="cpu")
    expected = by_hand(encoder, store.read(rows))
    for batch_size in (1, 7, 128):
        found = embed_stored(embed, store, rows, batch_size)
        assert found.dtype == np.float32
        assert found.shape == (20, 8)
        assert np.linalg.norm(found - expected, axis=1).max() < 1e-4
    # Images differ by far more than batches do, so a wrong order would show.
    gaps = np.linalg.norm(expected[:, None] - expected[None], axis=2)
    assert gaps[~np.eye(20, dtype=bool)].min() > 1e-2


def test_places_in_any_order_and_more_than_once(
    checkpoint: Path, encoder: ConvAutoencoder, store: ImageStore, rows: npt.NDArray[np.int64]
) -> None:
    asked = rows[[19, 0, 7, 7, 3]]
    found = embed_stored(Embed(checkpoint, device="cpu"), store, asked, batch_size=2)
    np.testing.assert_allclose(found, by_hand(encoder, store.read(asked)), atol=1e-4)


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is put back afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("torch_threads", [1, 4])
@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 128])
@pytest.mark.usefixtures("threads")
def test_the_bits_depend_on_the_image_alone(
    checkpoint: Path,
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    batch_size: int,
    n_workers: int,
    torch_threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embed = Embed(checkpoint, device="cpu")
    alone = np.concatenate([embed({"pixels": store.read(rows[[n]])})["embedding"] for n in (0, 17)])
    torch.set_num_threads(torch_threads)
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_workers))
    order = np.random.default_rng(batch_size).permutation(len(rows))
    found = np.empty((len(rows), 8), np.float32)
    found[order] = embed_stored(embed, store, rows[order], batch_size)
    assert found[[0, 17]].tobytes() == alone.tobytes()
    assert found.tobytes() == embed_stored(embed, store, rows).tobytes()
    assert found.tobytes() == embed({"pixels": store.read(rows)})["embedding"].tobytes()
    assert torch.get_num_threads() == torch_threads  # training may use them all


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_workers_compute_side_by_side_with_one_thread_each(
    checkpoint: Path, n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_workers))
    embed, seen = Embed(checkpoint, device="cpu"), []
    everyone = threading.Barrier(n_workers)

    def look(job: int) -> npt.NDArray[np.float32]:
        everyone.wait(timeout=60)  # breaks unless so many are at work at once
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return embed.block(noise(1))

    assert len(list(embed.each(look, range(2 * n_workers)))) == 2 * n_workers
    assert len({worker for worker, _ in seen}) == n_workers
    assert {n for _, n in seen} == {1}


@pytest.mark.parametrize("n", [1, MICRO_BATCH - 1, MICRO_BATCH, MICRO_BATCH + 1, 3 * MICRO_BATCH])
def test_a_batch_of_any_size_has_a_row_for_each_image(checkpoint: Path, n: int) -> None:
    embed = Embed(checkpoint, device="cpu")
    pixels = noise(n)
    found = embed({"pixels": pixels})["embedding"]
    assert found.shape == (n, 8)
    assert found[-1].tobytes() == embed({"pixels": pixels[-1:]})["embedding"].tobytes()


def test_no_images_have_no_embeddings_of_the_right_length(
    checkpoint: Path, store: ImageStore
) -> None:
    embed = Embed(checkpoint, device="cpu")
    assert embed({"pixels": noise(0)})["embedding"].shape == (0, 8)
    assert embed_stored(embed, store, np.empty((0, 2), np.int64)).shape == (0, 8)


@pytest.mark.parametrize(("n", "n_devices"), [(0, 5), (1, 5), (16, 5), (20, 2)])
def test_as_many_processes_as_there_is_work(
    checkpoint: Path,
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    n: int,
    n_devices: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        expected = embed_stored(Embed(checkpoint, "cpu"), store, rows[:n])
        found = embed_on(["cpu"] * n_devices, checkpoint, store, rows[:n], 7)
    assert found.tobytes() == expected.tobytes()
    said = [line for line in caplog.messages if line.startswith("embedding images: ")]
    assert len(said) == 2
    for line in said:  # the bar counts images, not blocks
        assert line.startswith(f"embedding images: {n} in ")
        assert line.endswith(" images/s")


def test_an_error_in_a_process_is_that_of_the_run(
    checkpoint: Path, store: ImageStore, rows: npt.NDArray[np.int64]
) -> None:
    cut(checkpoint / "best.ckpt")
    with pytest.raises(CorruptError, match="not a checkpoint that can be read"):
        embed_on(["cpu", "cpu"], checkpoint, store, rows)


def test_a_process_that_is_killed_ends_it(
    checkpoint: Path, store: ImageStore, rows: npt.NDArray[np.int64]
) -> None:
    killer = threading.Thread(target=kill_a_child)
    killer.start()
    with pytest.raises(LostProcessError, match="ended from outside"):
        embed_on(["cpu", "cpu"], checkpoint, store, np.tile(rows, (2000, 1)))
    killer.join()


def kill_a_child() -> None:
    """Kill the first process that this one spawns, once there is one, for a minute at most."""
    for _ in range(600):
        for child in mp.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            return
        time.sleep(0.1)
