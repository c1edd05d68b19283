"""Arrays computed from a store's images: kept, confirmed, and computed again where damaged."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dedup.errors import ArtifactError
from dedup.schemas import Image8
from dedup.store.derived_arrays import Array, ArrayDerivation, DerivedArrays
from dedup.store.image_store import ImageStore
from dedup.store.shards import Shards, described
from tests.conftest import ROOT
from tests.store.test_shards import loaded
from tests.support.limits import without_root

MEANS = ArrayDerivation("means", 1, {"over": "pixels"}, np.float64, (3,))


def mean(image: Image8) -> Array:
    return np.asarray(image.mean(axis=(0, 1)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    shards = Shards(folder, described("pillow"))
    for number in range(3):
        shards.write(number, loaded([2 * number, None, 2 * number + 1]))
    return folder


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


READ_ONLY = """
import logging, sys
from pathlib import Path
from tests.store.test_derived import keep
from tests.store.test_derived_arrays import means
logging.basicConfig(format="%(message)s", stream=sys.stdout)
folder = Path(sys.argv[1])
for turn in range(2):
    print(means(folder).tobytes().hex())
    keep(folder / ("verdicts", "recall")[turn], range(2))
"""


def test_a_store_that_is_only_read_is_warned_of_once(store: Path, tmp_path: Path) -> None:
    """The values are the same, and nothing is left in the store or the temporary folder."""
    values, before = means(store), sorted(file.name for file in store.iterdir())
    for file in store.glob(f"*.{MEANS.ending}"):
        file.unlink()
        before.remove(file.name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store.chmod(0o500)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(store)], capture_output=True, text=True, timeout=120,
        cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}, preexec_fn=without_root,
    )  # fmt: skip
    store.chmod(0o700)
    assert done.returncode == 0, done.stderr
    if list(store.glob(f"*.{MEANS.ending}")):
        pytest.skip("root cannot do without its rights here")
    *said, first, second = sorted(done.stdout.splitlines(), key=lambda line: line.isalnum())
    assert first == second == values.tobytes().hex()
    (warning,) = said
    assert warning.startswith(f"cannot keep results in the store {store}: ")
    assert "make the store writable" in warning
    assert sorted(file.name for file in store.iterdir()) == before
    assert not list(scratch.iterdir())


def test_the_bar_counts_images(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        means(store)
    assert "taking means: 6 in 0:00:00, " in caplog.text
    assert caplog.messages[-1].endswith(" images/s")
