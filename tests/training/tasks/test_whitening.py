"""Fitting a whitening: from what, when, and what a run leaves behind."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional

from dedup.encoders.checkpoint import read
from dedup.errors import ConfigError
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.whitening import WhiteningTask
from dedup.training.trainer import best_score, build_trainer
from dedup.training.views import Views
from tests.conftest import draw, encoded, write_shop
from tests.support.training import Copies, differences, train


class Means(nn.Module):
    """Mean colours of 4 x 2 fields, and their principal components at unit variance."""

    def __init__(self) -> None:
        super().__init__()
        self.center: Tensor
        self.axes: Tensor
        self.register_buffer("center", torch.zeros(24))
        self.register_buffer("axes", torch.eye(24))
        self.fitted: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(images.float(), (4, 2)).flatten(1)

    def fit_whitening(self, features: Tensor) -> None:
        self.fitted.append(features)
        values, vectors = torch.linalg.eigh(torch.cov(features.T) + torch.eye(24))
        self.center.copy_(features.mean(dim=0))
        self.axes.copy_(vectors / values.sqrt())

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize((self.features(images) - self.center) @ self.axes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CatalogueDataModule:
    """Thirty products to train on in four batches, ten that are held out."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(40):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    shop = write_shop(folder, [(f"P{number}", f"{number}.jpg") for number in range(40)])
    store = ImageStore(folder / "store")
    images = store.ingest(CsvSource(str(shop)).read(), folder)
    views = Views(training=False, strength=0.5)
    return CatalogueDataModule(store, images, views, batch_size=8, val_fraction=0.25)


class Measures(pl.Callback):
    """Notes ``val/uap`` at each validation."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seen.append(float(trainer.callback_metrics["val/uap"]))


def fit(data: CatalogueDataModule, run: Path, **settings: Any) -> tuple[Means, list[float], float]:
    encoder, measures = Means(), Measures()
    kept: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    best = ModelCheckpoint(
        filename="best", monitor="val/uap", mode="max", save_weights_only=True, **kept
    )
    trainer = build_trainer(
        run,
        accelerator="cpu",
        callbacks=[best, ModelCheckpoint(filename="last", **kept), measures],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(WhiteningTask(encoder), data)
    return encoder, measures.seen, best_score(trainer)


def test_one_pass_over_the_training_images_fits_it(
    data: CatalogueDataModule, tmp_path: Path
) -> None:
    encoder, seen, best = fit(data, tmp_path, max_epochs=3)
    images = data.stored_images(data.train_images)
    (fitted,) = encoder.fitted
    everything = encoder.features(images.__getitems__(range(30)))
    torch.testing.assert_close(
        fitted[fitted.sum(dim=1).argsort()], everything[everything.sum(dim=1).argsort()]
    )
    assert best == pytest.approx(seen[0])
    assert len(seen) == 1


def test_what_is_measured_and_saved_is_whitened(data: CatalogueDataModule, tmp_path: Path) -> None:
    encoder, (score,), _ = fit(data, tmp_path / "run", max_epochs=1)
    trainer = build_trainer(tmp_path, accelerator="cpu", enable_progress_bar=False)
    (before,) = trainer.validate(WhiteningTask(Means()), data, verbose=False)
    (after,) = trainer.validate(WhiteningTask(encoder), data, verbose=False)
    assert score == pytest.approx(after["val/uap"])
    assert score != pytest.approx(before["val/uap"])
    for name in ("best.ckpt", "last.ckpt"):
        saved = read(tmp_path / "run" / name)
        torch.testing.assert_close(saved["state_dict"]["encoder.axes"], encoder.axes)
        assert saved["encoder"]["class"].endswith("Means")


def test_a_pass_that_was_stopped_goes_on(data: CatalogueDataModule, tmp_path: Path) -> None:
    run, copies = tmp_path / "run", tmp_path / "copies"
    uap = ("val/uap", "max")
    train(run, data, Copies(run, copies), task=WhiteningTask(Means()), objective=uap)
    assert len(list(copies.iterdir())) == 6  # before each step, the validation and the end
    for number in range(6):
        again, encoder = tmp_path / f"{number}", Means()
        resume = copies / f"{number}" / "last.ckpt"
        train(again, data, task=WhiteningTask(encoder), objective=uap, resume=resume, max_epochs=1)
        assert not differences(again, run, "best.ckpt")
        assert not differences(again, run, "last.ckpt")
        assert len(encoder.fitted) == (number < 4)


def test_an_encoder_without_whitening_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has nothing to whiten"):
        WhiteningTask(nn.Linear(2, 2))


def test_several_processes_are_refused(tmp_path: Path) -> None:
    task = WhiteningTask(Means())
    task.trainer = build_trainer(
        tmp_path, accelerator="cpu", num_processes=2, enable_progress_bar=False
    )
    with pytest.raises(ConfigError, match="train it in one process"):
        task.setup("fit")
