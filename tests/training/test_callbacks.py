"""What TensorBoard shows after a run of two epochs."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from tensorboard.backend.event_processing import event_accumulator
from torch import Tensor

from dedup.encoders.cnn import Cnn
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ConfigError
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.callbacks import (
    SPRITE,
    DrawnViews,
    EmbeddingProjector,
    Reconstructions,
    Throughput,
    thumbnails,
)
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.tasks.contrastive import ContrastiveTask
from dedup.training.trainer import build_trainer
from dedup.training.views import ViewBatch, Views
from tests.conftest import draw, encoded, write_shop


@dataclass
class Run:
    """A run that is over."""

    folder: Path
    task: AutoencoderTask
    data: CatalogueDataModule
    seconds: float

    @property
    def events(self) -> Any:
        """Everything in the event file."""
        everything = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0}
        return event_accumulator.EventAccumulator(str(self.folder), everything).Reload()

    def held_out(self) -> Tensor:
        """The held-out images, (n, 3, 200, 100) uint8."""
        images = self.data.stored_images(self.data.val_images)
        return images.__getitems__(range(len(images)))

    def reconstructed(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Held-out originals and their reconstructions between 0 and 1."""
        with torch.no_grad():
            pairs = self.task.reconstruct(self.held_out())
        originals, redrawn = (part.clamp(0, 1).double().numpy() for part in pairs)
        return originals, redrawn


def train(folder: Path, val_fraction: float, max_epochs: int, n_images: int = 4) -> Run:
    """Train on drawn products whose ids hold a tab and a line end."""
    for number in range(10):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    shop = write_shop(folder, [(f"P{number}", f"{number}.jpg") for number in range(10)])
    store = ImageStore(folder / "store")
    images = store.ingest(CsvSource(str(shop)).read(), folder)
    images["product_id"] += "\tof two\nlines"
    data = CatalogueDataModule(store, images, batch_size=3, val_fraction=val_fraction)
    torch.manual_seed(6)
    task = AutoencoderTask(ConvAutoencoder(embedding_dim=8, hidden_dim=16))
    run = folder / "run"
    trainer = build_trainer(
        run,
        accelerator="cpu",
        callbacks=[Throughput(), Reconstructions(n_images), EmbeddingProjector()],
        max_epochs=max_epochs,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(task, data)
    return Run(run, task, data, time.perf_counter() - start)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of six products in two batches; four are held out, in two batches."""
    return train(tmp_path_factory.mktemp("run"), val_fraction=0.4, max_epochs=2)


def structural_similarity(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Wang et al. 2004, equation 13, for one channel in windows of 7 x 7 pixels."""
    n = 7 * 7
    mean_a, mean_b = uniform_filter(a, 7), uniform_filter(b, 7)
    var_a = (uniform_filter(a * a, 7) - mean_a**2) * n / (n - 1)
    var_b = (uniform_filter(b * b, 7) - mean_b**2) * n / (n - 1)
    cov = (uniform_filter(a * b, 7) - mean_a * mean_b) * n / (n - 1)
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((above / below)[3:-3, 3:-3].mean())


def projector_files(run: Run) -> Path:
    """The folder of the embedding written at the end."""
    return next(run.folder.glob("*/products"))


class TestScalars:
    def test_all_are_logged(self, run: Run) -> None:
        steps = {
            "train/loss": [0, 1, 2, 3],
            "train/images_per_second": [0, 1, 2, 3],
            "val/loss": [1, 3],
            "val/ssim": [1, 3],
        }
        events = run.events
        found = {name: [event.step for event in events.Scalars(name)] for name in steps}
        assert found == steps

    def test_the_speed_fits_the_clock(self, run: Run) -> None:
        speeds = [event.value for event in run.events.Scalars("train/images_per_second")]
        assert all(speed > 0 for speed in speeds)
        assert sum(3 / speed for speed in speeds) < run.seconds

    def test_the_similarity_is_that_of_the_formula(self, run: Run) -> None:
        expected = np.mean(
            [
                structural_similarity(a[channel], b[channel])
                for a, b in zip(*run.reconstructed(), strict=True)
                for channel in range(3)
            ]
        )
        logged = run.events.Scalars("val/ssim")[-1].value
        assert logged == pytest.approx(expected, abs=1e-4)


class TestReconstructions:
    def test_originals_stand_above_their_reconstructions(self, run: Run) -> None:
        images = run.events.Images("val/reconstructions")
        assert [image.step for image in images] == [2, 4]
        assert {(image.width, image.height) for image in images} == {(4 * 100, 2 * 200)}

        shown = np.asarray(Image.open(io.BytesIO(images[-1].encoded_image_string))) / 255
        for column, pair in enumerate(zip(*run.reconstructed(), strict=True)):
            for row, pixels in enumerate(pair):
                place = shown[200 * row :, 100 * column :][:200, :100]
                np.testing.assert_allclose(place, pixels.transpose(1, 2, 0), atol=2 / 255)

    @pytest.mark.parametrize("n_images", [0, -1])
    def test_none_cannot_be_drawn(self, n_images: int) -> None:
        with pytest.raises(ConfigError, match=r"callbacks\.reconstructions\.n_images"):
            Reconstructions(n_images)


class TestProjector:
    def test_the_points_are_the_embeddings(self, run: Run) -> None:
        points = np.loadtxt(projector_files(run) / "tensors.tsv", delimiter="\t")
        with torch.inference_mode():
            expected = run.task.encoder(run.held_out()).numpy()
        assert points.shape == (4, 8)
        np.testing.assert_allclose(points, expected, atol=1e-4)

    def test_each_point_has_one_line_whatever_its_id(self, run: Run) -> None:
        text = (projector_files(run) / "metadata.tsv").read_text()
        header, *rows = [line.split("\t") for line in text.splitlines()]
        assert header == ["product_id", "url"]
        shown = run.data.val_images
        assert [row[0] for row in rows] == [" ".join(x.split()) for x in shown["product_id"]]
        assert [row[1] for row in rows] == shown["url"].tolist()

    def test_the_sprite_has_a_thumbnail_for_each(self, run: Run) -> None:
        with Image.open(projector_files(run) / "sprite.png") as sprite:
            pixels = np.asarray(sprite.convert("RGB")) / 255
        assert pixels.shape == (2 * SPRITE, 2 * SPRITE, 3)
        for number, thumbnail in enumerate(thumbnails(run.held_out())):
            top, left = number // 2 * SPRITE, number % 2 * SPRITE
            place = pixels[top : top + SPRITE, left : left + SPRITE]
            np.testing.assert_allclose(place, thumbnail.permute(1, 2, 0), atol=1 / 255)

    def test_tensorboard_is_told_where_they_lie(self, run: Run) -> None:
        config = (run.folder / "projector_config.pbtxt").read_text()
        for name in ("tensors.tsv", "metadata.tsv", "sprite.png"):
            assert f"00004/products/{name}" in config
        assert config.count(f"single_image_dim: {SPRITE}") == 2

    @pytest.mark.parametrize("n_images", [5001, 10**6, 0, -1])
    def test_more_than_tensorboard_shows_or_none(self, n_images: int) -> None:
        with pytest.raises(ConfigError, match=rf"n_images={n_images}: .* 1 to 5000"):
            EmbeddingProjector(n_images)

    @pytest.mark.parametrize("n_images", [1, 5000])
    def test_what_tensorboard_shows(self, n_images: int) -> None:
        assert EmbeddingProjector(n_images).n_images == n_images


class TestOneHeldOutImage:
    @pytest.fixture
    def lone(self, tmp_path: Path) -> Run:
        return train(tmp_path, val_fraction=0.01, max_epochs=1, n_images=8)

    def test_it_is_shown_and_measured(self, lone: Run) -> None:
        (image,) = lone.events.Images("val/reconstructions")
        assert (image.width, image.height) == (100, 400)
        assert -1 <= lone.events.Scalars("val/ssim")[0].value <= 1
        files = projector_files(lone)
        assert np.loadtxt(files / "tensors.tsv", delimiter="\t").shape == (8,)
        assert len((files / "metadata.tsv").read_text().splitlines()) == 2
        with Image.open(files / "sprite.png") as sprite:
            assert sprite.size == (SPRITE, SPRITE)


@pytest.fixture(scope="module")
def batches() -> list[ViewBatch]:
    """The first batch of each epoch."""
    return []


@pytest.fixture(scope="module")
def view_events(run: Run, tmp_path_factory: pytest.TempPathFactory, batches: Any) -> Any:
    """What a run of a task that learns by views shows, with every callback of ``conf``."""

    class First(pl.Callback):
        def on_train_batch_start(self, *hook: Any) -> None:
            if hook[-1] == 0:
                batches.append(hook[-2])

    views = Views(hue_variants=0.5)
    data = CatalogueDataModule(run.data.store, run.data.images, views, 6, val_fraction=0.4)
    folder = tmp_path_factory.mktemp("views")
    trainer = build_trainer(
        folder,
        accelerator="cpu",
        callbacks=[
            Throughput(),
            Reconstructions(),
            DrawnViews(4),
            EmbeddingProjector(),
            First(),
        ],
        max_epochs=2,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ContrastiveTask(Cnn(embedding_dim=8, widths=(8,))), data)
    assert (folder / "00002" / "products" / "tensors.tsv").exists()
    everything = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0}
    return event_accumulator.EventAccumulator(str(folder), everything).Reload()


class TestViews:
    def test_there_are_views_in_place_of_reconstructions(self, view_events: Any) -> None:
        assert view_events.Tags()["images"] == ["train/views"]
        assert "val/ssim" not in view_events.Tags()["scalars"]
        assert [image.step for image in view_events.Images("train/views")] == [0, 1]

    def test_weak_stands_above_strong_above_variant(
        self, view_events: Any, batches: list[ViewBatch]
    ) -> None:
        for image, batch in zip(view_events.Images("train/views"), batches, strict=True):
            assert (image.width, image.height) == (4 * 100, 3 * 200)
            shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
            anchors = batch.variant_of.tolist()[:4]
            anchors += [place for place in range(6) if place not in batch.variant_of]
            white = torch.full((3, 200, 100), 255)
            for column, anchor in enumerate(anchors[:4]):
                variant = batch.variants[column] if column < len(batch.variants) else white
                for row, part in enumerate([batch.weak[anchor], batch.strong[anchor], variant]):
                    place = shown[200 * row :, 100 * column :][:200, :100]
                    np.testing.assert_array_equal(place, part.permute(1, 2, 0))

    def test_anchors_are_counted(self, view_events: Any) -> None:
        assert len(view_events.Scalars("train/images_per_second")) == 2

    def test_none_cannot_be_drawn(self) -> None:
        with pytest.raises(ConfigError, match=r"callbacks\.views\.n_images"):
            DrawnViews(0)


class TestThumbnails:
    def test_they_are_squares_with_white_margins(self) -> None:
        found = thumbnails(torch.zeros(5, 3, 200, 100, dtype=torch.uint8))
        assert found.shape == (5, 3, SPRITE, SPRITE)
        margin = (SPRITE - SPRITE * 3 // 4) // 2
        assert found[..., :margin].eq(1).all()
        assert found[..., -margin:].eq(1).all()
        assert found[..., margin:-margin].eq(0).all()

    def test_each_pixel_is_the_mean_of_the_area_it_stands_for(self) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (1, 3, 200, 100), dtype=torch.uint8, generator=generator)
        found = thumbnails(image)[0, :, :, 6:-6]
        for row in range(SPRITE):
            for column in range(36):
                rows = slice(row * 200 // 48, -(-(row + 1) * 200 // 48))
                columns = slice(column * 100 // 36, -(-(column + 1) * 100 // 36))
                area = image[0, :, rows, columns].double().mean(dim=(1, 2)) / 255
                torch.testing.assert_close(found[:, row, column].double(), area)


class Sleeper(pl.LightningModule):
    """Takes its time for the first batch of an epoch, and longer for held-out images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            time.sleep(0.3)
        return self.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if batch_idx == 0:
            time.sleep(1.5)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_speed_is_that_of_each_step_alone(run: Run, tmp_path: Path) -> None:
    trainer = build_trainer(
        tmp_path,
        accelerator="cpu",
        callbacks=[Throughput()],
        max_epochs=2,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Sleeper(), run.data)
    events = (
        event_accumulator.EventAccumulator(str(tmp_path))
        .Reload()
        .Scalars("train/images_per_second")
    )
    slow, _, slow_again, _ = (event.value for event in events)
    assert max(slow, slow_again) < 3 / 0.3  # the step's own time counts
    assert slow_again > 3 / 1.5  # validation's does not
