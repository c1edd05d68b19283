"""Edits of light, sharpness and file format.

No edit here shifts hues (grey and sepia drop them), so colour variants of a product stay distinct.
"""

import io
import math

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from dedup.augmentations.overlay import RgbImage, draw_parameter

_LEVELS = np.arange(256, dtype=np.float32)
_LARGEST_WEBP = 16383  # pixels a side


def _u8(values: npt.NDArray[np.floating]) -> RgbImage:
    return np.asarray(np.clip(values + 0.5, 0, 255), dtype=np.uint8)


def _sign(rng: Generator) -> int:
    return int(rng.choice([-1, 1]))


def _unit(image: RgbImage) -> float:
    """Compute the side of a square of the image's area, in pixels."""
    return math.sqrt(image.shape[0] * image.shape[1])


def _by_channel(image: RgbImage, table: npt.NDArray[np.floating]) -> RgbImage:
    """Map every channel by a table of 256 values."""
    return np.asarray(cv2.LUT(image, _u8(table)), dtype=np.uint8)


def _by_value(image: RgbImage, table: npt.NDArray[np.floating]) -> RgbImage:
    """Map the largest channel by a table, and the others in proportion, so that the hue stays."""
    red, green, blue = cv2.split(image)
    value = cv2.max(cv2.max(red, green), blue)
    gain = cv2.LUT(value, (np.clip(table, 0, 255) / np.maximum(_LEVELS, 1)).astype(np.float32))
    return _lit(image, np.asarray(gain, dtype=np.float32))


def _lit(image: RgbImage, light: npt.NDArray[np.float32]) -> RgbImage:
    """Multiply every pixel by its (h, w) light."""
    lights = cv2.merge([light, light, light])
    return np.asarray(cv2.multiply(image, lights, dtype=cv2.CV_8U), dtype=np.uint8)


def brightness(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Lighten or darken by up to half."""
    factor = math.exp(_sign(rng) * draw_parameter(strength, rng, 0.05, 0.65))
    lit = _LEVELS * factor
    soft = 255 * (1 - (1 - _LEVELS / 255) ** factor)
    return _by_value(image, soft if factor > 1 else lit)


def contrast(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Multiply the contrast by 0.55 to 1.7, about the mean."""
    factor = math.exp(rng.choice([-0.6, 0.53]) * draw_parameter(strength, rng, 0.07, 1.0))
    middle = float(image.mean())
    table = (_LEVELS - middle) * np.float32(factor) + np.float32(middle)
    # Strong contrast by channel would turn orange to red.
    return _by_channel(image, table) if factor < 1 else _by_value(image, table)


def gamma(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Apply a gamma of 0.5 to 2."""
    power = math.exp(_sign(rng) * draw_parameter(strength, rng, 0.05, 0.7))
    return _by_value(image, 255 * (_LEVELS / 255) ** np.float32(power))


def saturation(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Multiply the saturation by 0.3 to 1.8, in CIE Lab."""
    factor = math.exp(rng.choice([-1.2, 0.59]) * draw_parameter(strength, rng, 0.07, 1.0))
    scaled = 128 + (_LEVELS - 128) * np.float32(factor)
    table = _u8(np.stack([_LEVELS, scaled, scaled], axis=1))[None]
    lab = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), table)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), dtype=np.uint8)


def white_balance(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Shift the white balance a little: multiply channels by 0.95 to 1.05."""
    warm = _sign(rng) * draw_parameter(strength, rng, 0.01, 0.05)
    gains = np.array([1 + warm, 1 + rng.uniform(-0.3, 0.3) * abs(warm), 1 - warm])
    return np.asarray(cv2.LUT(image, _tables(gains)), dtype=np.uint8)


def _tables(gains: npt.NDArray[np.float64]) -> RgbImage:
    """Make a (1, 256, 3) table of a gain for each channel."""
    return _u8(_LEVELS[:, None] * gains / max(1.0, gains.max()) ** 0.5)[None]


def curve(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Apply a monotone tone curve through five points, each moved up or down."""
    amount = draw_parameter(strength, rng, 0.02, 0.16)
    points = np.linspace(0, 1, 5) + np.array([0, *rng.uniform(-amount, amount, 3), 0])
    steps = np.maximum.accumulate(np.clip(points, 0, 1)) * 255
    table = np.interp(_LEVELS, np.linspace(0, 255, 5), steps).astype(np.float32)
    return _by_value(image, table)


def vignette(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Darken towards the edges, or light unevenly from one side."""
    depth = draw_parameter(strength, rng, 0.08, 0.6)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.shape[:2])
    if rng.random() < 0.6:
        x, y = rng.uniform(-0.2, 0.2, 2)
        shade = ((rows - y) ** 2)[:, None] + (columns - x) ** 2
        light = 1 - depth * np.minimum(1, shade / 2)
    else:
        across = rng.uniform(-1, 1)
        light = 1 - depth * (1 + across * columns + (1 - abs(across)) * rows[:, None]) / 2
    return _lit(image, light.astype(np.float32))


def haze(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Wash out towards white, all over or as a glare from one side."""
    amount = draw_parameter(strength, rng, 0.05, 0.42)
    if rng.random() < 0.5:
        veil = 255 * amount * rng.uniform(0.8, 1.0)
        return _by_channel(image, _LEVELS * np.float32(1 - amount) + np.float32(veil))
    ramp = np.linspace(0, 1.2 * amount, image.shape[1], dtype=np.float32)[:: _sign(rng)]
    veils = np.ascontiguousarray(np.broadcast_to(ramp, image.shape[:2]))
    white = np.full_like(image, 255)
    return np.asarray(cv2.blendLinear(white, image, veils, 1 - veils), dtype=np.uint8)


def fade(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Lift blacks and dull whites, as an app's filter does."""
    low, high = draw_parameter(strength, rng, 5, 60), 255 - draw_parameter(strength, rng, 0, 40)
    return _by_channel(image, np.float32(low) + _LEVELS * np.float32((high - low) / 255))


def gray(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Desaturate towards grey; completely at strength 1."""
    return _mixed(image, np.full((3, 3), [0.299, 0.587, 0.114]), strength)


def sepia(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Tint towards sepia."""
    rows = np.array([[0.299, 0.587, 0.114]]) * np.array([[1.08], [0.95], [0.76]])
    return _mixed(image, rows, 0.2 + 0.8 * strength)


def _mixed(image: RgbImage, matrix: npt.NDArray[np.float64], amount: float) -> RgbImage:
    """Blend the image with its channels mixed by a 3 x 3 matrix."""
    mix = (1 - amount) * np.eye(3) + amount * matrix
    return np.asarray(cv2.transform(image, mix), dtype=np.uint8)


def posterize(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Reduce to a few levels of light, 40 down to 4."""
    levels = max(4, round(40 * 0.1 ** draw_parameter(strength, rng, 0, 1)))
    table = np.round(_LEVELS * ((levels - 1) / 255)) * np.float32(255 / (levels - 1))
    return _by_value(image, table.astype(np.float32))


def palette(pixels: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Reduce to a few of the image's own colours, 128 down to 8, as in a GIF, perhaps dithered."""
    colours = max(8, round(128 * 0.0625 ** draw_parameter(strength, rng, 0, 1)))
    image = Image.fromarray(pixels)
    small = image.resize((min(64, image.width), min(64, image.height)), Image.Resampling.NEAREST)
    own = small.quantize(colours, Image.Quantize.MEDIANCUT)
    dither = Image.Dither.FLOYDSTEINBERG if rng.random() < 0.5 else Image.Dither.NONE
    return np.array(image.quantize(palette=own, dither=dither).convert("RGB"))


def sharpen(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Sharpen with an unsharp mask that leaves halos."""
    amount = draw_parameter(strength, rng, 0.2, 2.5)
    soft = cv2.GaussianBlur(image, (0, 0), 0.004 * _unit(image) * rng.uniform(0.6, 2) + 0.3)
    return np.asarray(cv2.addWeighted(image, 1 + amount, soft, -amount, 0), dtype=np.uint8)


def blur(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Blur with a box, a Gaussian or a median filter."""
    reach = _unit(image) * draw_parameter(strength, rng, 0.0015, 0.014)
    side = 2 * max(1, round(1.2 * reach)) + 1
    kind = rng.integers(3)
    if kind == 0:
        soft = cv2.blur(image, (side, side))
    elif kind == 1:
        soft = cv2.GaussianBlur(image, (0, 0), max(0.4, reach))
    else:
        soft = cv2.medianBlur(image, side)
    return np.asarray(soft, dtype=np.uint8)


def motion_blur(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Blur along a line of up to 5 % of the side, as a shaken camera does."""
    length = max(3, round(_unit(image) * draw_parameter(strength, rng, 0.005, 0.05)))
    angle, middle = rng.uniform(0, math.pi), length // 2
    step = round(middle * math.cos(angle)), round(middle * math.sin(angle))
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), dtype=np.float32)
    start, end = (middle - step[0], middle - step[1]), (middle + step[0], middle + step[1])
    cv2.line(kernel, start, end, (1.0,))
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), dtype=np.uint8)


def noise(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add a sensor's noise, in colour or in light alone, fine or in grains."""
    sigma = np.float32(draw_parameter(strength, rng, 3, 40))
    height, width = image.shape[:2]
    coarse = int(rng.choice([1, 1, 2]))
    shape = (1 + height // coarse, 1 + width // coarse, int(rng.choice([1, 3])))
    grains = rng.standard_normal(shape, dtype=np.float32) * sigma
    if coarse > 1:
        grains = grains.repeat(coarse, axis=0).repeat(coarse, axis=1)
    grains = np.broadcast_to(grains, (*grains.shape[:2], 3))[:height, :width]
    grained = cv2.add(image, np.ascontiguousarray(grains), dtype=cv2.CV_8U)
    return np.asarray(grained, dtype=np.uint8)


def speckle(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add noise in proportion to the light."""
    sigma = np.float32(draw_parameter(strength, rng, 0.02, 0.3))
    return _lit(image, 1 + sigma * rng.standard_normal(image.shape[:2], dtype=np.float32))


def specks(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add single pixels of white and black: salt-and-pepper noise."""
    share = draw_parameter(strength, rng, 0.002, 0.06)
    dust = rng.random(image.shape[:2], dtype=np.float32)
    speckled = image.copy()
    speckled[dust < share / 2] = 0
    speckled[dust > 1 - share / 2] = 255
    return speckled


def recompress(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Save again as JPEG or WebP, at quality 90 down to 8, sometimes twice."""
    quality = round(draw_parameter(strength, rng, 90, 6))
    if rng.random() < 0.2 and max(image.shape) <= _LARGEST_WEBP:
        return _webp(image, quality)
    if rng.random() < 0.2:
        image = _jpeg(image, min(95, quality + int(rng.integers(5, 40))), rng)
    return _jpeg(image, quality, rng)


def _webp(image: RgbImage, quality: int) -> RgbImage:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=0)
    return np.array(Image.open(buffer).convert("RGB"))


def _jpeg(image: RgbImage, quality: int, rng: Generator) -> RgbImage:
    subsampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    if rng.random() < 0.3:
        subsampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
