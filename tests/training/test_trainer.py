"""``trainer.gpus`` as a table, and a trainer that trains."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ConfigError
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.devices import embedding_devices
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.trainer import (
    Gpus,
    build_trainer,
    check_launched,
    choose_devices,
    choose_strategy,
    visible_gpus,
)

CPU = ("cpu", 1)
REFUSED = None
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
TABLE: list[tuple[Gpus, str, int, Any, bool]] = [
    # gpus, accelerator, visible, what Lightning gets, whether a warning says that it is less
    ("auto", "auto", 0, CPU, False),
    ("auto", "auto", 1, ("gpu", 1), False),
    ("auto", "auto", 4, ("gpu", 1), False),
    (0, "auto", 0, CPU, False),
    (0, "auto", 1, CPU, False),
    (0, "auto", 4, CPU, False),
    (1, "auto", 0, CPU, True),
    (1, "auto", 1, ("gpu", 1), False),
    (1, "auto", 4, ("gpu", 1), False),
    (2, "auto", 0, CPU, True),
    (2, "auto", 1, ("gpu", 1), True),
    (2, "auto", 4, ("gpu", 2), False),
    (-1, "auto", 0, CPU, False),
    (-1, "auto", 1, ("gpu", 1), False),
    (-1, "auto", 4, ("gpu", 4), False),
    ([0, 2], "auto", 0, CPU, True),
    ([0, 2], "auto", 1, ("gpu", [0]), True),
    ([0, 2], "auto", 4, ("gpu", [0, 2]), False),
    ([3], "auto", 1, CPU, True),
    ([3], "auto", 4, ("gpu", [3]), False),
    ("auto", "gpu", 0, REFUSED, False),
    ("auto", "gpu", 1, ("gpu", 1), False),
    ("auto", "gpu", 4, ("gpu", 1), False),
    (0, "gpu", 0, REFUSED, False),
    (0, "gpu", 1, REFUSED, False),
    (0, "gpu", 4, REFUSED, False),
    (1, "gpu", 0, REFUSED, False),
    (1, "gpu", 4, ("gpu", 1), False),
    (2, "gpu", 1, REFUSED, False),
    (2, "gpu", 4, ("gpu", 2), False),
    (-1, "gpu", 0, REFUSED, False),
    (-1, "gpu", 1, ("gpu", 1), False),
    (-1, "gpu", 4, ("gpu", 4), False),
    ([0, 2], "gpu", 0, REFUSED, False),
    ([0, 2], "gpu", 1, REFUSED, False),
    ([0, 2], "gpu", 4, ("gpu", [0, 2]), False),
]


@pytest.mark.parametrize(("gpus", "accelerator", "visible", "expected", "warned"), TABLE)
def test_what_is_asked_and_what_is_there(
    caplog: pytest.LogCaptureFixture,
    gpus: Gpus,
    accelerator: str,
    visible: int,
    expected: tuple[str, int | list[int]] | None,
    warned: bool,
) -> None:
    with caplog.at_level(logging.DEBUG, "dedup"):
        if expected is REFUSED:
            with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu"):
                choose_devices(gpus, accelerator, visible)
        else:
            assert choose_devices(gpus, accelerator, visible) == expected
    assert len(caplog.records) == int(warned)


@pytest.mark.parametrize("gpus", ["auto", 0, 1, 2, -1, [0], [0, 2]])
@pytest.mark.parametrize("visible", [0, 1, 4])
def test_the_cpu_is_always_there(
    caplog: pytest.LogCaptureFixture, gpus: Gpus, visible: int
) -> None:
    assert choose_devices(gpus, "cpu", visible) == CPU
    assert not caplog.records


def test_the_warning_says_what_was_asked_and_what_it_trains_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    choose_devices(8, "auto", 0)
    choose_devices([0, 7], "auto", 2)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "trainer.gpus=8, but 0 GPU(s) can be seen: training on the CPU"
    assert second == "trainer.gpus=[0, 7], but 2 GPU(s) can be seen: training on 1 GPU(s)"
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"dedup"}


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"asks for 2 GPU\(s\) and 1 can be seen: leave trainer"):
        choose_devices(2, "gpu", 1)


@pytest.mark.parametrize("num_processes", [1, 2, 5])
@pytest.mark.parametrize(("gpus", "accelerator", "visible", "expected"), [row[:4] for row in TABLE])
def test_processes_share_the_cpu_where_it_is_the_cpu(
    gpus: Gpus, accelerator: str, visible: int, expected: Any, num_processes: int
) -> None:
    if expected is not REFUSED:
        expected = ("cpu", num_processes) if expected == CPU else expected
        assert choose_devices(gpus, accelerator, visible, num_processes) == expected
    assert choose_devices(gpus, "cpu", visible, num_processes) == ("cpu", num_processes)


@pytest.mark.parametrize(
    ("strategy", "n_processes", "expected"),
    [("auto", 1, "auto"), ("auto", 2, "ddp"), ("ddp", 1, "ddp"), ("fsdp", 2, "fsdp")],
)
def test_several_processes_train_by_ddp(strategy: str, n_processes: int, expected: str) -> None:
    assert choose_strategy(strategy, n_processes) == expected


def test_several_processes_share_the_images_themselves(tmp_path: Path) -> None:
    trainer = build_trainer(tmp_path, num_processes=2, num_nodes=3, **QUIET)
    assert type(trainer.strategy).__name__ == "DDPStrategy"
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (2, 3, 6)
    one = build_trainer(tmp_path, **QUIET)
    assert type(one.strategy).__name__ == "SingleDeviceStrategy"


@pytest.mark.parametrize("launched", [0, 6])
def test_as_many_processes_as_were_started(launched: int) -> None:
    check_launched("gpu", 3, 2, launched)


@pytest.mark.parametrize(
    ("kind", "asked"), [("gpu", "trainer.gpus=3"), ("cpu", "trainer.num_processes=3")]
)
@pytest.mark.parametrize("launched", [1, 3, 5, 7])
def test_another_number_than_was_started_is_refused(kind: str, asked: str, launched: int) -> None:
    with pytest.raises(ConfigError, match=rf"started {launched} processes, .*{asked} .*ask for 6"):
        check_launched(kind, 3, 2, launched)


def test_what_embeds_on_the_cpu() -> None:
    assert embedding_devices("auto", "cpu", 1) == ["cpu"]
    assert embedding_devices(-1, "cpu", 3) == ["cpu"] * 3


@pytest.fixture
def data(catalogue: Catalogue, tmp_path: Path) -> CatalogueDataModule:
    store = ImageStore(tmp_path / "store")
    images = store.ingest(catalogue, tmp_path)
    return CatalogueDataModule(store, images, batch_size=4, train_on=6)


def test_it_trains(data: CatalogueDataModule, tmp_path: Path) -> None:
    seen: list[int] = []

    class Count(pl.Callback):
        def on_train_batch_end(self, *hook: Any) -> None:
            seen.append(hook[-1])

    torch.manual_seed(0)
    task = AutoencoderTask(ConvAutoencoder(embedding_dim=8, hidden_dim=16))
    before = [weight.detach().clone() for weight in task.parameters()]
    run = tmp_path / "run"
    trainer = build_trainer(run, callbacks=[Count()], max_epochs=2, log_every_n_steps=1, **QUIET)
    trainer.fit(task, data)

    assert trainer.global_step == 4
    assert seen == [0, 1, 0, 1]
    assert math.isfinite(trainer.callback_metrics["val/loss"])
    assert not any(
        torch.equal(old, new) for old, new in zip(before, task.parameters(), strict=True)
    )
    assert len(list(run.glob("events.out.tfevents.*"))) == 1


def test_further_settings_are_lightnings(tmp_path: Path) -> None:
    trainer = build_trainer(
        str(tmp_path), max_epochs=7, accumulate_grad_batches=3, precision="bf16-mixed", **QUIET
    )
    assert trainer.max_epochs == 7
    assert trainer.accumulate_grad_batches == 3
    assert trainer.precision == "bf16-mixed"
    assert Path(str(trainer.log_dir)) == tmp_path
    assert Path(trainer.default_root_dir) == tmp_path


@pytest.mark.parametrize(
    "setting",
    [{"max_epoch": 3}, {"precision": "33"}, {"strategy": "absent"}, {"max_epochs": -5},
     {"profiler": "absent"}, {"limit_val_batches": 2.5}, {"max_time": "soon"}, {"num_nodes": 0}],
    ids=str,
)  # fmt: skip
def test_a_setting_that_lightning_refuses_is_a_wrong_setting(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"^trainer: "):
        build_trainer(tmp_path, **QUIET, **setting)


@pytest.mark.skipif(visible_gpus() > 0, reason="a GPU can be seen")
class TestWithoutGpu:
    def test_images_are_embedded_on_the_cpu(self, caplog: pytest.LogCaptureFixture) -> None:
        assert embedding_devices("auto", "auto", 2) == ["cpu", "cpu"]
        assert not caplog.records
        assert embedding_devices(4, "auto", 1) == ["cpu"]
        (record,) = caplog.records
        assert "trainer.gpus=4, but 0 GPU(s) can be seen: embedding on the CPU" in record.message
        with pytest.raises(ConfigError, match="0 can be seen"):
            embedding_devices(1, "gpu", 1)

    @pytest.mark.parametrize("gpus", ["auto", 1, -1, [0]])
    def test_a_gpu_strictly_asked_for_is_refused(self, tmp_path: Path, gpus: Gpus) -> None:
        with pytest.raises(ConfigError, match="0 can be seen"):
            build_trainer(tmp_path, gpus=gpus, accelerator="gpu")

    def test_gpus_asked_for_at_most_train_on_the_cpu(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        trainer = build_trainer(tmp_path, gpus=4, enable_progress_bar=False)
        assert trainer.strategy.root_device.type == "cpu"
        assert trainer.num_devices == 1
        assert [r.getMessage() for r in caplog.records if r.name == "dedup"] == [
            "trainer.gpus=4, but 0 GPU(s) can be seen: training on the CPU"
        ]


@pytest.mark.skipif(visible_gpus() == 0, reason="no GPU can be seen")
@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_one_gpu_is_taken_where_there_is_one(tmp_path: Path, accelerator: str) -> None:
    trainer = build_trainer(tmp_path, accelerator=accelerator, enable_progress_bar=False)
    assert trainer.strategy.root_device.type in ("cuda", "mps")
    assert trainer.num_devices == 1


def test_lightnings_advertisements_are_left_out_and_its_messages_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        build_trainer(tmp_path, **QUIET)
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    assert len([found for found in rank_zero.filters if "NoTips" in type(found).__name__]) == 1
    caplog.clear()
    with caplog.at_level(logging.INFO, rank_zero.name):
        rank_zero.info("Tip: buy this")
        rank_zero.info("Loading `train_dataloader` to estimate number of stepping batches.")
        rank_zero.info("GPU available: False")
    assert [r.getMessage() for r in caplog.records if r.name == rank_zero.name] == [
        "GPU available: False"
    ]
