"""Training by reconstruction: the arithmetic of a step, and what a run leaves behind."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing import event_accumulator
from torch import Tensor, nn

from dedup.encoders.checkpoint import load_encoder, read
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import NonFiniteLossError
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.trainer import build_trainer
from tests.conftest import draw, encoded, write_shop


def small_task(**settings: float) -> AutoencoderTask:
    torch.manual_seed(4)
    return AutoencoderTask(ConvAutoencoder(embedding_dim=8, hidden_dim=16), **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CatalogueDataModule:
    """Six products to train on in two batches, and two that are held out."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    shop = write_shop(folder, [(f"P{number}", f"{number}.jpg") for number in range(8)])
    store = ImageStore(folder / "store")
    images = store.ingest(CsvSource(str(shop)).read(), folder)
    data = CatalogueDataModule(store, images, batch_size=3, val_fraction=0.25)
    data.setup()
    return data


@pytest.fixture(scope="module")
def images(data: CatalogueDataModule) -> Tensor:
    """Four of them, (4, 3, 200, 100) uint8."""
    return data.stored_images(data.train_images).__getitems__(range(4))


def fit(
    task: AutoencoderTask,
    data: CatalogueDataModule,
    run: Path,
    *callbacks: pl.Callback,
    epochs: int = 2,
    resume: Path | None = None,
) -> None:
    """Train on the CPU, with the checkpoints that ``conf/callbacks`` asks for."""
    kept: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor="val/loss", save_weights_only=True, **kept)
    trainer = build_trainer(
        run,
        accelerator="cpu",
        callbacks=[best, ModelCheckpoint(filename="last", **kept), *callbacks],
        max_epochs=epochs,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data, ckpt_path=resume)


def mean_squared_error(encoder: nn.Module, images: Tensor) -> float:
    """By numpy in float64, from the network's parts."""
    assert isinstance(encoder, ConvAutoencoder)
    with torch.no_grad():
        redrawn = encoder.decode(*encoder.encode(images.float() / 255)).numpy()
    return float(((redrawn.astype(np.float64) - images.numpy() / 255) ** 2).mean())


class TestStep:
    def test_the_loss_is_the_mean_squared_error(self, images: Tensor) -> None:
        task = small_task()
        expected = mean_squared_error(task.encoder, images)
        assert task.loss(images, "training").item() == pytest.approx(expected, rel=1e-5)

    def test_reconstruct_gives_originals_and_reconstructions(self, images: Tensor) -> None:
        originals, redrawn = small_task().reconstruct(images)
        torch.testing.assert_close(originals, images / 255)
        assert redrawn.shape == originals.shape

    def test_a_step_is_adam_with_the_penalty_in_the_gradient(self, images: Tensor) -> None:
        lr, penalty = 0.01, 0.1
        task = small_task(lr=lr, weight_decay=penalty)
        optimizer = task.configure_optimizers()
        weights = list(task.parameters())
        expected = [weight.detach().double() for weight in weights]
        first = [torch.zeros_like(weight) for weight in expected]
        second = [torch.zeros_like(weight) for weight in expected]

        for step in (1, 2):
            gradients = torch.autograd.grad(task.loss(images, "training"), weights)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            # Kingma & Ba 2015, algorithm 1, with the gradient of the loss plus penalty / 2 |w|^2
            for i, gradient in enumerate(gradients):
                g = gradient.double() + penalty * expected[i]
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g**2
                mean, square = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                expected[i] = expected[i] - lr * mean / (square.sqrt() + 1e-8)
            for weight, should_be in zip(weights, expected, strict=True):
                torch.testing.assert_close(weight.double(), should_be, rtol=0, atol=2e-5)

    def test_a_step_is_torchs_plain_adams(self, images: Tensor) -> None:
        task, plain = (small_task(lr=1e-3, weight_decay=0.1) for _ in range(2))
        optimizers = (
            task.configure_optimizers(),
            torch.optim.Adam(
                plain.parameters(), lr=1e-3, weight_decay=0.1, fused=False, foreach=False
            ),
        )
        gradients = torch.autograd.grad(task.loss(images, "training"), list(task.parameters()))
        for owner, optimizer in zip((task, plain), optimizers, strict=True):
            for weight, gradient in zip(owner.parameters(), gradients, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        for one, other in zip(task.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)

    def test_four_images_are_learnt_by_heart(self, images: Tensor) -> None:
        torch.manual_seed(4)
        encoder = ConvAutoencoder(embedding_dim=8, hidden_dim=16, channels=(2, 4))
        task = AutoencoderTask(encoder, lr=1e-2, weight_decay=0.0)
        optimizer = task.configure_optimizers()
        losses = []
        for _ in range(22):
            loss = task.loss(images, "training")
            gradients = torch.autograd.grad(loss, list(task.parameters()))
            for weight, gradient in zip(task.parameters(), gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.3 * losses[0]


@pytest.fixture(scope="module")
def run(data: CatalogueDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    fit(small_task(lr=2e-3), data, folder)
    return folder


class TestRun:
    def test_the_losses_are_in_the_event_file(self, run: Path) -> None:
        events = event_accumulator.EventAccumulator(str(run)).Reload()
        train, val = events.Scalars("train/loss"), events.Scalars("val/loss")
        assert [event.step for event in train] == [0, 1, 2, 3]
        assert [event.step for event in val] == [1, 3]
        assert all(math.isfinite(event.value) for event in [*train, *val])

    def test_the_first_training_loss_is_that_of_the_first_batch(
        self, run: Path, data: CatalogueDataModule
    ) -> None:
        first = next(iter(data.train_dataloader()))
        logged = (
            event_accumulator.EventAccumulator(str(run)).Reload().Scalars("train/loss")[0].value
        )
        expected = mean_squared_error(small_task().encoder, first)
        assert logged == pytest.approx(expected, rel=1e-4)

    def test_the_last_val_loss_is_that_of_the_last_checkpoint(
        self, run: Path, data: CatalogueDataModule
    ) -> None:
        held_out = torch.cat(list(data.val_dataloader()))
        logged = event_accumulator.EventAccumulator(str(run)).Reload().Scalars("val/loss")[-1].value
        expected = mean_squared_error(load_encoder(run / "last.ckpt"), held_out)
        assert logged == pytest.approx(expected, rel=1e-4)

    def test_the_best_checkpoint_has_the_least_val_loss(
        self, run: Path, data: CatalogueDataModule
    ) -> None:
        held_out = torch.cat(list(data.val_dataloader()))
        logged = event_accumulator.EventAccumulator(str(run)).Reload().Scalars("val/loss")
        found = mean_squared_error(load_encoder(run), held_out)
        assert found == pytest.approx(min(event.value for event in logged), rel=1e-4)

    def test_the_hyperparameters_are_plain_numbers(self, run: Path) -> None:
        expected = {"lr": 2e-3, "weight_decay": 1e-5}
        assert dict(small_task(lr=2e-3).hparams) == expected
        assert read(run / "last.ckpt")["hyper_parameters"] == expected
        assert OmegaConf.to_container(OmegaConf.load(run / "hparams.yaml")) == expected

    def test_both_checkpoints_describe_the_encoder(self, run: Path) -> None:
        last, best = read(run / "last.ckpt"), read(run / "best.ckpt")
        assert last["encoder"] == best["encoder"]
        assert last["encoder"]["class"] == "dedup.encoders.conv.ConvAutoencoder"
        assert len(last["optimizer_states"]) == 1
        assert "optimizer_states" not in best
        assert sorted(path.name for path in run.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    run: Path, data: CatalogueDataModule, tmp_path: Path
) -> None:
    fit(small_task(lr=2e-3), data, tmp_path, epochs=1)
    fit(small_task(lr=2e-3), data, tmp_path, resume=tmp_path / "last.ckpt")
    whole, resumed = read(run / "last.ckpt"), read(tmp_path / "last.ckpt")
    assert resumed["epoch"] == whole["epoch"] == 1
    assert resumed["global_step"] == whole["global_step"] == 4
    for name, weight in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], weight, rtol=0, atol=1e-5)


class Poison(pl.Callback):
    """Spoils a weight in the second epoch: before its first step, or after its last."""

    def __init__(self, value: float, after_step: int) -> None:
        self.value = value
        self.after_step = after_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *batch: Any) -> None:
        if trainer.global_step == self.after_step:
            with torch.no_grad():
                pl_module.encoder.unconv1.bias.fill_(self.value)


class TestDivergence:
    @pytest.mark.parametrize(
        ("value", "after_step", "stage"),
        [(math.nan, 3, "training loss .* at step 3"), (math.inf, 4, "validation loss .*")],
        ids=["nan in training", "inf in validation"],
    )
    def test_it_stops_and_leaves_the_epoch_before(
        self,
        data: CatalogueDataModule,
        tmp_path: Path,
        value: float,
        after_step: int,
        stage: str,
    ) -> None:
        with pytest.raises(NonFiniteLossError, match=rf"{stage} of epoch 1.*last\.ckpt") as caught:
            fit(small_task(lr=2e-3), data, tmp_path, Poison(value, after_step))
        assert caught.value.exit_code == 7
        assert "task.lr (it is 0.002)" in str(caught.value)
        assert str(value) in str(caught.value)
        assert read(tmp_path / "last.ckpt")["epoch"] == 0
        for name in ("last.ckpt", "best.ckpt"):
            weights = load_encoder(tmp_path / name).state_dict().values()
            assert all(weight.isfinite().all() for weight in weights)

    def test_a_network_broken_from_the_start_is_seen_before_training(
        self, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        task = small_task()
        with torch.no_grad():
            next(task.parameters()).fill_(math.nan)
        with pytest.raises(NonFiniteLossError, match="validation loss became nan at step 0"):
            fit(task, data, tmp_path)
        assert not list(tmp_path.glob("*.ckpt"))
