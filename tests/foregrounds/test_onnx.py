"""Models in files, made here: brightness as a salient object, colours as classes."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds.onnx import Onnx
from tests.support.drawn_scenes import agreement, garment

onnx = pytest.importorskip("onnx", reason="extra onnx")
pytest.importorskip("onnxruntime", reason="extra onnx")

SIZE = [48, 32]
PLAIN: dict[str, Any] = {
    "size": SIZE, "mean": [0, 0, 0], "std": [1, 1, 1], "range_to_max": False,
    "scores": "probability",
}  # fmt: skip


def model(path: Path, *operations: tuple[str, dict[str, Any]], layout: str = "nchw") -> Path:
    """Write a model: its input goes through some operations, one after the other."""
    shape = [1, 3, *SIZE] if layout == "nchw" else [1, *SIZE, 3]
    names = ["in", *(f"t{at}" for at in range(len(operations) - 1)), "out"]
    nodes = [
        onnx.helper.make_node(kind, [names[at]], [names[at + 1]], **settings)
        for at, (kind, settings) in enumerate(operations)
    ]
    last = operations[-1][0]
    kind = onnx.TensorProto.INT64 if last == "ArgMax" else onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("out", kind, None)],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def mean(path: Path, layout: str = "nchw") -> Path:
    """A model that gives the mean of the channels."""
    return model(path, ("ReduceMean", {"axes": [1 if layout == "nchw" else 3]}), layout=layout)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_salient_output_is_the_mask(tmp_path: Path, layout: str) -> None:
    image, truth = garment(0)
    image[:] = 20
    image[truth] = 240
    find = Onnx(model=str(mean(tmp_path / "m.onnx", layout)), layout=layout, **PLAIN)
    mask = find(image)
    assert agreement(mask, truth) > 0.9
    assert mask is not None
    assert abs(int(mask[120, 80]) - 240) <= 1
    assert abs(int(mask[0, 0]) - 20) <= 1


def test_numbers_of_any_range_are_stretched(tmp_path: Path) -> None:
    image, truth = garment(0)
    image[:] = 90
    image[truth] = 110
    file = str(mean(tmp_path / "m.onnx"))
    assert Onnx(model=file, **PLAIN)(image) is None  # all below a half
    assert agreement(Onnx(model=file, **{**PLAIN, "scores": "any"})(image), truth) > 0.9


@pytest.mark.parametrize("operation", [("Identity", {}), ("ArgMax", {"axis": 1})])
def test_some_classes_are_the_product(tmp_path: Path, operation: tuple[str, Any]) -> None:
    image, truth = garment(0)
    image[:] = (0, 200, 0)
    image[truth] = (230, 0, 0)
    image[:100][truth[:100]] = (0, 0, 230)
    file = str(model(tmp_path / "m.onnx", operation))
    sharp = {**PLAIN, "std": [0.05, 0.05, 0.05]}  # a softmax near one class
    assert agreement(Onnx(model=file, product=[0, 2], **sharp)(image), truth) > 0.9
    upper = truth.copy()
    upper[100:] = False
    assert agreement(Onnx(model=file, product=[2], **sharp)(image), upper) > 0.8
    swapped = Onnx(model=file, product=[0], colours="bgr", **sharp)(image)
    assert agreement(swapped, upper) > 0.8


def test_settings_that_do_not_fit_the_model_are_named(tmp_path: Path) -> None:
    image, _ = garment(0)
    file = str(mean(tmp_path / "m.onnx"))
    for settings, said in (
        ({"size": [16, 16]}, "foreground.size"),
        ({"layout": "nhwc"}, "foreground.layout"),
        ({"output": 3}, "use one of out"),
        ({"output": "masks"}, "use one of out"),
        ({"product": [0, 1]}, "foreground.product"),
    ):
        with pytest.raises(ConfigError, match=said):
            Onnx(model=file, **{**PLAIN, **settings})(image)
    colours = str(model(tmp_path / "c.onnx", ("Identity", {})))
    with pytest.raises(ConfigError, match="one channel"):
        Onnx(model=colours, **PLAIN)(image)


def test_a_file_that_is_no_model_or_another_is_refused(tmp_path: Path) -> None:
    image, _ = garment(0)
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="no ONNX model"):
        Onnx(model=str(junk), **PLAIN)(image)
    with pytest.raises(ArtifactError, match="no file"):
        Onnx(model=str(tmp_path / "absent.onnx"), **PLAIN)(image)
    file = mean(tmp_path / "m.onnx")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert Onnx(model=str(file), sha256=digest, **PLAIN).identity["sha256"] == digest
    with pytest.raises(ArtifactError, match="another model"):
        Onnx(model=str(file), sha256="0" * 64, **PLAIN)(image)


def test_the_same_model_elsewhere_is_the_same(tmp_path: Path) -> None:
    here, there = mean(tmp_path / "a.onnx"), mean(tmp_path / "b.onnx")
    assert Onnx(model=str(here)).identity == Onnx(model=str(there)).identity
    other = model(tmp_path / "c.onnx", ("Identity", {}))
    assert Onnx(model=str(here)).identity != Onnx(model=str(other)).identity


def test_an_open_model_can_be_sent_to_another_process(tmp_path: Path) -> None:
    image, truth = garment(0)
    image[:] = 20
    image[truth] = 240
    find = Onnx(model=str(mean(tmp_path / "m.onnx")), **PLAIN)
    mask, again = find(image), pickle.loads(pickle.dumps(find))(image)
    assert mask is not None
    assert np.array_equal(mask, again)


def test_the_model_of_the_extra_finds_a_garment() -> None:
    pytest.importorskip("rembg", reason="extra onnx")
    image, truth = garment(1)
    assert agreement(Onnx()(image), truth) > 0.8
