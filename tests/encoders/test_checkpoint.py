"""Checkpoints: what is saved comes back, and what nobody saved does no harm."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dedup.encoders.checkpoint import build, check_resumable, describe, load_encoder, read
from dedup.encoders.cnn import Cnn
from dedup.encoders.conv import ConvAutoencoder
from dedup.encoders.ensemble import Ensemble
from dedup.errors import ArtifactError, CorruptError


@pytest.fixture
def encoder() -> ConvAutoencoder:
    """A network of 52 kB."""
    torch.manual_seed(3)
    return ConvAutoencoder(embedding_dim=4, hidden_dim=2, channels=(2, 2), extra_relu=True)


def content(encoder: nn.Module, /, **changes: Any) -> dict[str, Any]:
    """A checkpoint's content as Lightning and the task write it."""
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    whole = {"epoch": 1, "encoder": describe(encoder), "state_dict": weights}
    return whole | {"optimizer_states": [{}]} | changes


def write(folder: Path, value: Any) -> Path:
    path = folder / "best.ckpt"
    torch.save(value, path)
    return path


def random_images(n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 200, 100), dtype=torch.uint8, generator=generator)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestRoundTrip:
    def test_a_description_is_plain_and_complete(self, encoder: ConvAutoencoder) -> None:
        assert describe(encoder) == {
            "class": "dedup.encoders.conv.ConvAutoencoder",
            "embedding_dim": 4,
            "hidden_dim": 2,
            "channels": [2, 2],
            "extra_relu": True,
            "unit": False,
        }

    def test_encoders_of_an_encoder_are_described_in_their_turn(
        self, encoder: ConvAutoencoder
    ) -> None:
        inner = Ensemble([Cnn(3, (4, 8)), encoder], (2, 1))
        outer = Ensemble([encoder, inner])
        description = describe(outer)
        assert description["encoders"] == [describe(encoder), describe(inner)]
        assert json.loads(json.dumps(description)) == description
        again = build(description)
        assert describe(again) == description
        again.load_state_dict(outer.state_dict())
        torch.testing.assert_close(again.eval()(random_images()), outer.eval()(random_images()))

    def test_what_is_built_is_what_was_described(self, encoder: ConvAutoencoder) -> None:
        description = describe(encoder)
        again = build(description)
        assert isinstance(again, ConvAutoencoder)
        assert describe(again) == description == describe(encoder)
        assert not same_weights(again, encoder)

    def test_a_loaded_encoder_gives_the_same_embeddings(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        path = write(tmp_path, content(encoder))
        for name in (path, str(path), tmp_path):
            loaded = load_encoder(name)
            assert not loaded.training
            assert same_weights(loaded, encoder)
            torch.testing.assert_close(loaded(random_images()), encoder(random_images()))

    def test_settings_of_a_later_version_take_their_defaults(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        description = describe(encoder)
        del description["unit"]
        path = write(tmp_path, content(encoder, encoder=description))
        assert describe(load_encoder(path)) == describe(encoder)
        check_resumable(path, encoder)

    def test_weights_outlive_the_file(self, encoder: ConvAutoencoder, tmp_path: Path) -> None:
        path = write(tmp_path, content(encoder))
        loaded = load_encoder(path)
        path.write_bytes(b"another run's")
        assert same_weights(loaded, encoder)

    def test_other_weights_of_the_task_are_passed_over(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        weights = content(encoder)["state_dict"] | {"head.weight": torch.ones(3)}
        path = write(tmp_path, content(encoder, state_dict=weights))
        assert same_weights(load_encoder(path), encoder)

    def test_reading_gives_everything(self, encoder: ConvAutoencoder, tmp_path: Path) -> None:
        assert read(write(tmp_path, content(encoder)))["epoch"] == 1


class TestMissing:
    @pytest.mark.parametrize("name", ["absent.ckpt", "no/such/folder", "."])
    def test_no_checkpoint_is_said(self, tmp_path: Path, name: str) -> None:
        for use in (read, load_encoder):
            with pytest.raises(ArtifactError, match="no checkpoint at"):
                use(tmp_path / name)


class TestBrokenBytes:
    @pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
    def test_cut_short(self, encoder: ConvAutoencoder, tmp_path: Path, share: float) -> None:
        path = write(tmp_path, content(encoder))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(CorruptError, match=r"best\.ckpt is not a checkpoint that can be read"):
            load_encoder(path)

    @pytest.mark.parametrize("n", [1, 100, 100_000])
    def test_random_bytes(self, tmp_path: Path, n: int) -> None:
        path = tmp_path / "best.ckpt"
        path.write_bytes(np.random.default_rng(n).bytes(n))
        with pytest.raises(CorruptError):
            load_encoder(path)

    def test_one_flipped_bit_is_found_or_changes_nothing(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        path = write(tmp_path, content(encoder))
        whole = path.read_bytes()
        drawn = np.random.default_rng(0)
        everywhere = drawn.integers(0, len(whole), 150)
        ends = np.concatenate([drawn.integers(0, 2600, 75), -drawn.integers(1, 2600, 75)])
        for place in np.concatenate([everywhere, ends]):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(drawn.integers(8))
            path.write_bytes(damaged)
            try:
                loaded = load_encoder(path)
            except CorruptError:
                continue
            assert same_weights(loaded, encoder), f"byte {place}"

    def test_a_flipped_bit_of_a_weight_is_found(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        path = write(tmp_path, content(encoder))
        whole = bytearray(path.read_bytes())
        weight = encoder.unhidden.weight.detach().numpy().tobytes()
        whole[whole.index(weight) + 1000] ^= 1
        path.write_bytes(whole)
        with pytest.raises(CorruptError, match=r"CRC-32 of .* does not match"):
            load_encoder(path)

    def test_sums_that_fit_bytes_that_do_not(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        # Made with care: the archive is whole, and the table of contents in it is not.
        path = write(tmp_path, content(encoder))
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        table = next(name for name in parts if name.endswith("data.pkl"))
        refused = 0
        for place in range(2, len(parts[table]), 9):
            damaged = bytearray(parts[table])
            damaged[place] = ord(".")  # pickle's "stop"
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in (parts | {table: bytes(damaged)}).items():
                    archive.writestr(name, data)
            try:
                load_encoder(path)
            except ArtifactError:
                refused += 1
        assert refused > 100

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_weights_that_are_not_finite(
        self, encoder: ConvAutoencoder, tmp_path: Path, value: float
    ) -> None:
        with torch.no_grad():
            encoder.conv1.weight[1, 2, 3, 4] = value
        with pytest.raises(CorruptError, match="not finite: train again"):
            load_encoder(write(tmp_path, content(encoder)))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def pickled(value: Any) -> bytes:
    return pickle.dumps(value)


def legacy(value: Any) -> bytes:
    """As torch saved before 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def current(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class TestPickledObjects:
    def test_the_bomb_works(self, tmp_path: Path) -> None:
        pickle.loads(pickled(Bomb(tmp_path / "ran")))
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize("save", [pickled, legacy, current])
    @pytest.mark.parametrize("use", [read, load_encoder])
    def test_no_code_runs(
        self, encoder: ConvAutoencoder, tmp_path: Path, save: Any, use: Any
    ) -> None:
        path = tmp_path / "best.ckpt"
        bomb = Bomb(tmp_path / "ran")
        for value in (
            bomb,
            content(encoder, callbacks={"x": bomb}),
            content(encoder) | {"y": bomb},
        ):
            path.write_bytes(save(value))
            with pytest.raises(CorruptError, match="not a checkpoint that can be read"):
                use(path)
        assert not (tmp_path / "ran").exists()

    def test_a_pickled_network_is_not_loaded(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        with pytest.raises(CorruptError):
            load_encoder(write(tmp_path, encoder))


class TestForeign:
    @pytest.mark.parametrize("change", ["encoder", "state_dict"])
    def test_another_programs_checkpoint(
        self, encoder: ConvAutoencoder, tmp_path: Path, change: str
    ) -> None:
        whole = content(encoder)
        del whole[change]
        with pytest.raises(ArtifactError, match=r"not written by python train\.py") as caught:
            load_encoder(write(tmp_path, whole))
        assert not isinstance(caught.value, CorruptError)

    @pytest.mark.parametrize(
        "value",
        [[1, 2], torch.ones(3), {"encoder": "conv", "state_dict": {}},
         {"encoder": {"class": "x"}, "state_dict": [1]}],
        ids=["list", "tensor", "encoder is a word", "weights are a list"],
    )  # fmt: skip
    def test_what_is_no_checkpoint_at_all(self, tmp_path: Path, value: Any) -> None:
        with pytest.raises(ArtifactError, match=r"not written by python train\.py"):
            load_encoder(write(tmp_path, value))

    @pytest.mark.parametrize(
        "name",
        ["torch.nn.Linear", "os.system", "dedup.training.tasks.autoencoder.AutoencoderTask",
         "dedup.encodersx.Net", "dedup.encoders", "Linear", "", "__main__.x"],
    )  # fmt: skip
    def test_a_class_from_elsewhere(
        self, encoder: ConvAutoencoder, tmp_path: Path, name: str
    ) -> None:
        description = describe(encoder) | {"class": name}
        with pytest.raises(ArtifactError, match=r"may name dedup\.encoders"):
            load_encoder(write(tmp_path, content(encoder, encoder=description)))

    @pytest.mark.parametrize(
        "change",
        [{"class": "dedup.encoders.conv.nn"}, {"class": "dedup.encoders.conv.torch"},
         {"class": "dedup.encoders.conv.Sequence"}, {"class": "dedup.encoders.conv.KERNEL"},
         {"class": "dedup.encoders.conv.Absent"}, {"class": "dedup.encoders.absent.Net"},
         {"class": "dedup.encoders..conv.Net"}, {"depth": 3}, {"channels": [2]},
         {"channels": [2, 2, 2]}, {"channels": None}, {"hidden_dim": -1}, {"hidden_dim": "2"}],
        ids=str,
    )  # fmt: skip
    def test_an_encoder_that_is_not_there(
        self, encoder: ConvAutoencoder, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        description = describe(encoder) | change
        with pytest.raises(ArtifactError, match="cannot be built here"):
            load_encoder(write(tmp_path, content(encoder, encoder=description)))

    @pytest.mark.parametrize(
        "change",
        [{"encoders": [{"class": "os.system"}]}, {"encoders": [{"class": "dedup.encoders.x.X"}]},
         {"encoders": []}, {"encoders": ["x"]}, {"encoders": 3}, {"encoders": [[]]},
         {"weights": [1, 2]}, {"weights": [-1]}, {"weights": "x"}],
        ids=str,
    )  # fmt: skip
    def test_parts_that_are_not_encoders(
        self, encoder: ConvAutoencoder, change: dict[str, Any]
    ) -> None:
        description = describe(Ensemble([encoder]))
        with pytest.raises(ArtifactError, match="cannot be built here"):
            build(description | change)

    def test_parts_without_end(self, encoder: ConvAutoencoder) -> None:
        description = describe(Ensemble([encoder]))
        description["encoders"] = [description]
        with pytest.raises(ArtifactError, match="cannot be built here"):
            build(description)

    def test_a_function_is_no_encoder(self) -> None:
        with pytest.raises(ArtifactError, match="cannot be built here"):
            build({"class": "dedup.encoders.bundled.bundled", "weights": "bundled"})

    @pytest.mark.parametrize("name", ["Tensor", "nn.Identity", "ConvAutoencoder.__init__"])
    def test_what_an_encoders_module_imports_or_holds(self, name: str) -> None:
        with pytest.raises(ArtifactError, match="cannot be built here"):
            build({"class": f"dedup.encoders.conv.{name}"})

    @pytest.mark.parametrize("change", [{"embedding_dim": 5}, {"channels": [2, 3]}], ids=str)
    def test_weights_of_another_shape_than_described(
        self, encoder: ConvAutoencoder, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        description = describe(encoder) | change
        with pytest.raises(ArtifactError, match="does not fit the encoder that it describes"):
            load_encoder(write(tmp_path, content(encoder, encoder=description)))

    @pytest.mark.parametrize(
        "change", [{"encoder.conv1.bias": 3}, {"encoder.extra": torch.ones(1)}, {1: 2}], ids=str
    )
    def test_weights_too_many_or_no_weights(
        self, encoder: ConvAutoencoder, tmp_path: Path, change: dict[Any, Any]
    ) -> None:
        weights = content(encoder)["state_dict"]
        del weights["encoder.conv1.bias"]
        with pytest.raises(ArtifactError, match="does not fit"):
            load_encoder(write(tmp_path, content(encoder, state_dict=weights | change)))


class TestResuming:
    def test_the_same_settings_go_on(self, encoder: ConvAutoencoder, tmp_path: Path) -> None:
        check_resumable(write(tmp_path, content(encoder)), build(describe(encoder)))

    def test_each_difference_is_named(self, encoder: ConvAutoencoder, tmp_path: Path) -> None:
        path = write(tmp_path, content(encoder))
        other = ConvAutoencoder(embedding_dim=8, hidden_dim=2, channels=(2, 3), extra_relu=True)
        with pytest.raises(ArtifactError) as caught:
            check_resumable(path, other)
        message = str(caught.value)
        assert "(embedding_dim 4 -> 8, channels [2, 2] -> [2, 3])" in message
        assert "resume with the settings" in message
        assert "hidden_dim" not in message

    def test_a_setting_of_another_version_is_a_difference(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        path = write(tmp_path, content(encoder, encoder=describe(encoder) | {"depth": 3}))
        with pytest.raises(ArtifactError, match="depth 3 -> None"):
            check_resumable(path, encoder)

    def test_weights_alone_are_refused_with_a_hint(
        self, encoder: ConvAutoencoder, tmp_path: Path
    ) -> None:
        whole = content(encoder)
        del whole["optimizer_states"]
        path = write(tmp_path, whole)
        load_encoder(path)
        with pytest.raises(ArtifactError, match=r"resume from last\.ckpt"):
            check_resumable(path, encoder)

    def test_a_broken_checkpoint_is_broken_here_too(self, tmp_path: Path) -> None:
        (tmp_path / "last.ckpt").write_bytes(b"")
        with pytest.raises(CorruptError):
            check_resumable(tmp_path / "last.ckpt", nn.Identity())
