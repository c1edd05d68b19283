"""Arrays computed from a store's images: kept, confirmed, and computed again where damaged."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dedup.errors import ArtifactError
from dedup.schemas import Image8
from dedup.store.derived_arrays import Array, ArrayDerivation, DerivedArrays
from dedup.store.image_store import ImageStore
from dedup.store.shards import Shards, described
from tests.store.test_shards import loaded

MEANS = ArrayDerivation("means", 1, {"over": "pixels"}, np.float64, (3,))


def mean(image: Image8) -> Array:
    return np.asarray(image.mean(axis=(0, 1)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    shards = Shards(tmp_path, described("pillow"))
    for number in range(3):
        shards.write(number, loaded([2 * number, None, 2 * number + 1]))
    return tmp_path


def means(store: Path, derivation: ArrayDerivation = MEANS) -> npt.NDArray[np.float64]:
    return ImageStore(store).derive(derivation, mean, ["/5", "/0", "/3", "/0"], "taking means")


def test_values_are_kept_for_each_version_and_settings(store: Path) -> None:
    values = means(store)
    images = ImageStore(store).details(["/5", "/0", "/3", "/0"])
    assert np.array_equal(values, [mean(image) for image in images])
    files = sorted(store.glob("*.means-*.npy"))
    assert [file.name for file in files] == [f"shard-{n:05}.{MEANS.ending}" for n in range(3)]
    times = [file.stat().st_mtime_ns for file in files]
    assert np.array_equal(means(store), values)
    assert [file.stat().st_mtime_ns for file in files] == times
    for other in (
        ArrayDerivation("means", 2, MEANS.settings, np.float64, (3,)),
        ArrayDerivation("means", 1, {"over": "edges"}, np.float64, (3,)),
    ):
        assert np.array_equal(means(store, other), values)
    assert len(list(store.glob("*.means-*.npy"))) == 9
    assert [file.stat().st_mtime_ns for file in files] == times


def test_an_array_is_of_its_own_previews_and_whole(store: Path) -> None:
    values, arrays = means(store), DerivedArrays(Shards(store))
    files = [store / f"shard-{n:05}.{MEANS.ending}" for n in range(3)]
    shutil.copy(files[0], files[1])  # of another shard
    data = bytearray(files[2].read_bytes())
    data[140] ^= 1
    files[2].write_bytes(data)
    assert arrays.missing(MEANS, range(3)) == [1, 2]
    assert np.array_equal(means(store), values)
    assert DerivedArrays(Shards(store)).missing(MEANS, range(3)) == []


def test_impossible_values_are_computed_again(store: Path) -> None:
    values, size = means(store), MEANS.shape
    lower = ArrayDerivation("means", 1, MEANS.settings, np.float64, size, lambda a: a.max() < 0)
    assert DerivedArrays(Shards(store)).missing(lower, range(3)) == [0, 1, 2]
    assert np.array_equal(means(store, lower), values)


def test_a_missing_image_is_an_error(store: Path) -> None:
    with pytest.raises(ArtifactError, match="lacks an image"):
        ImageStore(store).derive(MEANS, mean, ["/0", "/nowhere"], "taking means")
