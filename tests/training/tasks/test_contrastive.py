"""Training by recognition: the arithmetic of the loss, and what a run learns and leaves behind."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from tensorboard.backend.event_processing import event_accumulator
from torch import Tensor, nn
from torch.nn import functional

from dedup.encoders.checkpoint import load_encoder, read
from dedup.encoders.cnn import Cnn
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ConfigError, NonFiniteLossError
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.contrastive import ContrastiveTask, freeze_unused, info_nce, koleo
from dedup.training.trainer import best_score, build_trainer
from dedup.training.views import ViewBatch, Views
from tests.conftest import draw, encoded, write_shop

N_PRODUCTS = 30


def unit(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, 5, generator=generator, dtype=torch.double))


LABELS = torch.tensor([0, 1, 1, 3, 4, 1])
WEAK, STRONG, VARIANTS = unit(6), unit(6, 1), unit(2, 2)
VIEWS = torch.cat([WEAK, STRONG])


def opponents(anchor: int, labels: Tensor) -> list[Tensor]:
    """What a view is to stay away from, one by one."""
    views = [view for view, label in zip(VIEWS, labels.repeat(2), strict=True)
             if label != labels[anchor % 6]]  # fmt: skip
    return [*views, *VARIANTS]


class TestLoss:
    def test_info_nce_is_that_of_the_formula(self) -> None:
        losses = []
        for anchor, view in enumerate(VIEWS):
            right = math.exp(view @ VIEWS[(anchor + 6) % 12] / 0.07)
            wrong = sum(math.exp(view @ other / 0.07) for other in opponents(anchor, LABELS))
            losses.append(-math.log(right / (right + wrong)))
        found = info_nce(VIEWS, VARIANTS, LABELS, 0.07).item()
        assert found == pytest.approx(sum(losses) / 12, rel=1e-9)

    def test_koleo_is_that_of_the_formula(self) -> None:
        logs = [
            math.log(min(math.dist(view, other) for other in opponents(anchor, LABELS)))
            for anchor, view in enumerate(VIEWS)
        ]
        assert koleo(VIEWS, VARIANTS, LABELS).item() == pytest.approx(-sum(logs) / 12, rel=1e-9)

    def test_products_that_share_a_image_are_not_pushed_apart(self) -> None:
        views = VIEWS.clone().requires_grad_()
        labels = torch.tensor([0, 0, 2, 3, 4, 5])
        similar = views[0] @ views[1]
        # With all else turned away from both, only each other would be left to flee from.
        loss = info_nce(views[[0, 1, 0, 1]], VARIANTS[:0], labels[:2], 0.07)
        assert loss.item() == pytest.approx(0, abs=1e-9)
        assert koleo(views[[0, 1, 0, 1]], VARIANTS[:0], labels[:2]).item() == 0
        assert similar.item() < 1

    def test_a_variant_is_a_negative_of_its_own_image(self) -> None:
        labels = torch.arange(6)
        alone = info_nce(VIEWS, VARIANTS[:0], labels, 0.07)
        assert info_nce(VIEWS, WEAK, labels, 0.07) > alone + 1

    def test_equal_embeddings_have_a_finite_loss_and_gradient(self) -> None:
        views = torch.ones(8, 4).div(2).requires_grad_()
        labels = torch.arange(4)
        loss = info_nce(views, views[:0], labels, 0.07) + koleo(views, views[:0], labels)
        loss.backward()
        assert views.grad is not None
        assert loss.isfinite()
        assert views.grad.isfinite().all()

    def test_one_anchor_alone_has_nothing_to_learn(self) -> None:
        assert info_nce(VIEWS[:2], VARIANTS[:0], LABELS[:1], 0.07).item() == 0
        assert koleo(VIEWS[:2], VARIANTS[:0], LABELS[:1]).item() == 0

    def test_the_task_adds_the_two(self) -> None:
        task = ContrastiveTask(small(), temperature=0.2, koleo=3.0)
        expected = info_nce(VIEWS, VARIANTS, LABELS, 0.2) + 3 * koleo(VIEWS, VARIANTS, LABELS)
        found = task.loss(WEAK, STRONG, VARIANTS, LABELS).item()
        assert found == pytest.approx(expected.item())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network is slower on several, tenfold where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(seed: int = 3) -> Cnn:
    torch.manual_seed(seed)
    return Cnn(embedding_dim=16, widths=(8, 16))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CatalogueDataModule:
    """Twenty products to train on in two batches, ten that are held out."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(N_PRODUCTS):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    shop = write_shop(folder, [(f"P{number}", f"{number}.jpg") for number in range(N_PRODUCTS)])
    store = ImageStore(folder / "store")
    images = store.ingest(CsvSource(str(shop)).read(), folder)
    views = Views(strength=0.4, hue_variants=0.5)
    return CatalogueDataModule(store, images, views, batch_size=10, val_fraction=1 / 3)


def fit(
    task: ContrastiveTask,
    data: CatalogueDataModule,
    run: Path,
    *callbacks: pl.Callback,
    resume: Path | None = None,
    **settings: Any,
) -> pl.Trainer:
    """Train on the CPU, with the checkpoints that ``conf`` asks for."""
    kept: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    best = ModelCheckpoint(
        filename="best", monitor="val/uap", mode="max", save_weights_only=True, **kept
    )
    trainer = build_trainer(
        run,
        accelerator="cpu",
        callbacks=[best, ModelCheckpoint(filename="last", **kept), *callbacks],
        **{
            "max_epochs": 4,
            "log_every_n_steps": 1,
            "gradient_clip_val": 1.0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        },
    )
    trainer.fit(task, data, ckpt_path=resume)
    return trainer


class Rates(pl.Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *batch: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


class Stop(pl.Callback):
    """Ends a run after its second epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


@pytest.fixture(scope="module")
def rates() -> Rates:
    return Rates()


@pytest.fixture(scope="module")
def run(data: CatalogueDataModule, tmp_path_factory: pytest.TempPathFactory, rates: Rates) -> Path:
    """The folder of four epochs."""
    folder = tmp_path_factory.mktemp("run")
    trainer = fit(ContrastiveTask(small(), lr=3e-3, warmup=4), data, folder, rates)
    logged = scalars(folder, "val/uap")
    assert best_score(trainer) == pytest.approx(max(logged), abs=1e-6)
    return folder


def scalars(run: Path, name: str) -> list[float]:
    events = event_accumulator.EventAccumulator(str(run)).Reload().Scalars(name)
    return [event.value for event in events]


def measured(encoder: nn.Module, data: CatalogueDataModule, folder: Path) -> float:
    """``val/uap`` of an encoder, by a validation of its own."""
    trainer = build_trainer(folder, accelerator="cpu", enable_progress_bar=False)
    (found,) = trainer.validate(ContrastiveTask(encoder), data, verbose=False)
    return float(found["val/uap"])


class TestRun:
    def test_it_learns(self, run: Path, data: CatalogueDataModule, tmp_path: Path) -> None:
        losses, uaps = scalars(run, "train/loss"), scalars(run, "val/uap")
        assert len(losses) == 8
        assert len(uaps) == len(scalars(run, "val/loss")) == 4
        assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
        assert uaps[-1] > measured(small(), data, tmp_path) + 0.1
        assert uaps[-1] > 0.5  # by chance it would be 0.1: one pair of ten is true, or fewer

    def test_the_best_checkpoint_has_the_highest_uap(
        self, run: Path, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        assert measured(load_encoder(run), data, tmp_path) == pytest.approx(
            max(scalars(run, "val/uap")), abs=1e-6
        )

    def test_the_hyperparameters_are_plain_numbers(self, run: Path) -> None:
        assert read(run / "last.ckpt")["hyper_parameters"] == {
            "lr": 3e-3, "weight_decay": 1e-4, "temperature": 0.07, "koleo": 1.0, "warmup": 4,
        }  # fmt: skip

    def test_the_learning_rate_rises_and_falls(self, run: Path, rates: Rates) -> None:
        assert run.exists()
        shares = [rate / 3e-3 for rate in rates.seen]
        assert len(shares) == 8
        assert shares[0] == pytest.approx(1 / 1.8)  # warmed up after a tenth of eight steps
        assert shares[1] == pytest.approx(0.5 * (1 + math.cos(math.pi / 8)))
        assert all(a > b for a, b in pairwise(shares[1:]))
        assert shares[-1] < 0.05

    def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
        self, run: Path, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        fit(ContrastiveTask(small(), lr=3e-3, warmup=4), data, tmp_path, Stop())
        assert read(tmp_path / "last.ckpt")["global_step"] == 4
        again = ContrastiveTask(small(9), lr=3e-3, warmup=4)
        fit(again, data, tmp_path, resume=tmp_path / "last.ckpt")
        whole, resumed = read(run / "last.ckpt"), read(tmp_path / "last.ckpt")
        assert resumed["global_step"] == whole["global_step"] == 8
        for name, weight in whole["state_dict"].items():
            torch.testing.assert_close(resumed["state_dict"][name], weight, rtol=1e-4, atol=1e-5)


class TestTask:
    def test_its_embeddings_have_unit_length(self, data: CatalogueDataModule) -> None:
        torch.manual_seed(0)
        encoder = ConvAutoencoder(embedding_dim=8, hidden_dim=16)
        task = ContrastiveTask(encoder)
        data.setup()
        batch = next(iter(data.train_dataloader()))
        assert isinstance(batch, ViewBatch)
        for part in task.embed(batch):
            torch.testing.assert_close(part.norm(dim=1), torch.ones(len(part)))
        assert encoder.unit

    def test_the_weights_that_decode_are_let_be(
        self, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        torch.manual_seed(0)
        encoder = ConvAutoencoder(embedding_dim=8, hidden_dim=16)
        before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
        fit(ContrastiveTask(encoder), data, tmp_path, max_epochs=1)
        changed = {name for name, weight in encoder.state_dict().items()
                   if not torch.equal(weight, before[name])}  # fmt: skip
        assert changed == {name for name in before if not name.startswith("un")}

    def test_an_encoder_without_unit_embeddings_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"Linear has no setting unit"):
            ContrastiveTask(nn.Linear(2, 2))

    @pytest.mark.parametrize("stage", ["training", "validation"])
    def test_a_loss_that_is_no_number_ends_the_run(
        self, data: CatalogueDataModule, tmp_path: Path, stage: str
    ) -> None:
        task = ContrastiveTask(small())
        with torch.no_grad():
            task.encoder.get_parameter("embedding.bias").fill_(math.nan)
        checks = 0 if stage == "training" else 2
        with pytest.raises(NonFiniteLossError, match=f"the {stage} loss became nan at step 0"):
            fit(task, data, tmp_path, num_sanity_val_steps=checks)
        assert not list(tmp_path.glob("*.ckpt"))


class TestSchedule:
    def test_it_follows_the_clock_where_time_ends_the_run(
        self, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        task = ContrastiveTask(small(), warmup=1)
        timer = Timer(duration={"hours": 1})
        fit(task, data, tmp_path, timer, max_epochs=1, limit_train_batches=1)
        assert 0.99 < task.rate(10, 10_000) < 1
        timer._duration = timer.time_elapsed() * 2  # half of it is over
        assert task.rate(10, 10_000) == pytest.approx(0.5, abs=0.01)

    def test_a_run_without_an_end_keeps_its_rate(
        self, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        task = ContrastiveTask(small(), warmup=50)
        fit(task, data, tmp_path, max_epochs=1, limit_train_batches=1)
        assert task.rate(10, math.inf) == pytest.approx(11 / 51)
        assert task.rate(10**6, math.inf) == 1


@pytest.mark.parametrize("training", [True, False])
def test_what_embeddings_do_not_depend_on_is_frozen(training: bool) -> None:
    encoder = ConvAutoencoder(embedding_dim=8, hidden_dim=16).train(training)
    freeze_unused(encoder)
    images = torch.zeros((2, 3, 200, 100), dtype=torch.uint8)
    encoder(images).sum().backward()
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained == {n for n, weight in encoder.named_parameters() if weight.grad is not None}
    assert 0 < len(trained) < len(list(encoder.parameters()))
    assert encoder.training == training


def test_an_encoder_that_uses_all_it_has_is_left_as_it_is() -> None:
    encoder = small()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    freeze_unused(encoder)
    assert all(weight.requires_grad for weight in encoder.parameters())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    freeze_unused(encoder.requires_grad_(False))
    assert not any(weight.requires_grad for weight in encoder.parameters())
