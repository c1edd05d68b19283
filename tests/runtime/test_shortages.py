"""A lack of room, memory, rights or files is said in one sentence, and never taken for damage."""

import errno
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hydra._internal.callbacks import Callbacks
from omegaconf import OmegaConf

from dedup.cli.entrypoint import one_message
from dedup.cli.sweep import SweepSummary
from dedup.config.instances import build
from dedup.encoders.checkpoint import read
from dedup.errors import ArtifactError, ConfigError, CorruptError, StalledError
from dedup.runtime.files import atomically, locked, read_array, write_array
from dedup.runtime.run_log import RunLog, incomplete
from dedup.runtime.shortages import LACKS, NO_ROOM, explain_shortage, is_shortage
from dedup.runtime.tables import read_table, write_table
from dedup.store.image_store import ImageStore
from dedup.store.integrity import verify
from tests.search.test_index import random_index, small_search
from tests.store.test_repair import make_store
from tests.support.limits import limited, no_more_files


class TestWhatIsSaid:
    @pytest.mark.parametrize("number", [*LACKS])
    def test_the_file_and_what_to_do(self, number: int) -> None:
        found = explain_shortage(OSError(number, os.strerror(number), "runs/near.parquet"), "runs")
        rights = number in (errno.EACCES, errno.EPERM, errno.EROFS)
        assert isinstance(found, ArtifactError if rights else StalledError)
        assert found.exit_code == (2 if rights else 6)
        assert str(found).startswith("Cannot ")
        named = "runs" if number == errno.ENOMEM else "runs/near.parquet"
        assert f" {named}: " in str(found)
        assert NO_ROOM.get(number, "") in str(found)
        assert ". " in str(found)
        assert "\n" not in str(found)

    def test_a_file_without_a_name_is_in_the_folder(self) -> None:
        found = explain_shortage(
            OSError(errno.ENOSPC, "No space left on device"), Path("runs/detect")
        )
        assert str(found).startswith("Cannot write runs/detect: the disk is full. Free")

    @pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EISDIR])
    def test_what_was_taken_away(self, number: int) -> None:
        error = OSError(number, os.strerror(number), "store/shard-00000.npy")
        found = explain_shortage(error, "runs")
        assert isinstance(found, ArtifactError)
        assert str(found).startswith("Cannot ")
        assert " store/shard-00000.npy" in str(found)
        assert not is_shortage(error)

    def test_what_a_library_made_of_it(self) -> None:
        error = ValueError("Unable to configure handler 'file'")
        error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "runs/detect.log")
        assert str(explain_shortage(error, "runs")).startswith("Cannot write runs/detect.log: ")

    @pytest.mark.parametrize(
        "error", [ValueError("wrong"), OSError("encoder error"), CorruptError("out of memory")]
    )
    def test_all_else_is_something_else(self, error: Exception) -> None:
        assert explain_shortage(error, "runs") is None
        assert not is_shortage(error)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda: np.empty(2**50, np.uint8),
            lambda: torch.empty(2**50, dtype=torch.uint8),
            lambda: pa.allocate_buffer(2**50),
        ],
        ids=["numpy", "torch", "arrow"],
    )
    def test_a_lack_of_memory(self, ask: Callable[[], object]) -> None:
        with pytest.raises(Exception, match=r"(?i)memory|allocate|size") as caught:
            ask()
        found = explain_shortage(caught.value, Path("runs/detect/now"))
        assert isinstance(found, StalledError)
        assert str(found).startswith("Cannot finish runs/detect/now: there is not enough memory")

    @pytest.mark.parametrize(
        "words",
        [
            "libtorch_cpu.so: failed to map segment from shared object",
            "unable to mmap 2363322 bytes from file <best.ckpt>: Cannot allocate memory (12)",
            "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9",
            "Unknown error: Failed to launch worker thread: Resource temporarily unavailable",
            "can't start new thread",
            "could not create a primitive",
            "std::bad_alloc",
        ],
    )
    def test_and_the_words_of_those_that_have_no_error_for_it(self, words: str) -> None:
        found = explain_shortage(RuntimeError(words), "runs/detect/now")
        assert isinstance(found, StalledError)
        assert f"there is not enough memory ({words})" in str(found)

    def test_no_file_of_ours_asks_for_so_much(self) -> None:
        assert is_shortage(MemoryError("malloc of size 1073741824 failed"))
        assert not is_shortage(MemoryError("malloc of size 4611686018427387904 failed"))


READING = """
import resource, sys
from pathlib import Path
from dedup.encoders.checkpoint import load_encoder, read
from dedup.runtime.files import read_array
from dedup.runtime.shortages import explain_shortage
from dedup.runtime.tables import read_table
READERS = [read_table, read_array, read, load_encoder]
read_table(Path(sys.argv[1]).with_name("small.parquet"))  # with what it imports
for reader, file in zip(READERS, sys.argv[1:] + sys.argv[-1:], strict=True):
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + 2**22, resource.RLIM_INFINITY))
    try:
        reader(Path(file))
        said = "it was read"
    except Exception as error:
        said = f"{type(error).__name__}: {explain_shortage(error, file)}"
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(said.splitlines()[0])
"""


class TestReaders:
    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures by /proc")
    def test_too_little_memory_is_no_damage(self, tmp_path: Path) -> None:
        table = pd.DataFrame({"a": ["x" * 1000] * 2**16})
        write_table(table, None, tmp_path / "a.parquet")
        write_table(table[:9], None, tmp_path / "small.parquet")
        write_array(np.zeros(2**23, np.uint8), tmp_path / "a.npy")
        weights = {"state_dict": {"encoder.a": torch.zeros(2**22)}, "encoder": {"class": "none"}}
        torch.save(weights, tmp_path / "a.ckpt")
        files = [str(tmp_path / name) for name in ("a.parquet", "a.npy", "a.ckpt")]
        done = subprocess.run(
            [sys.executable, "-c", READING, *files], capture_output=True, text=True, timeout=120,
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # reserves nothing ahead
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 4
        for line, file in zip(lines, [*files, files[-1]], strict=True):
            kind, _, said = line.partition(": ")
            assert kind not in ("CorruptError", "ArtifactError"), line
            assert said.startswith(f"Cannot finish {file}: there is not enough memory"), line

    def test_too_many_open_files_are_no_damage(self, tmp_path: Path) -> None:
        write_table(pd.DataFrame({"a": ["1"]}), None, tmp_path / "a.parquet")
        write_array(np.zeros(8), tmp_path / "a.npy")
        torch.save({"state_dict": {}, "encoder": {}}, tmp_path / "a.ckpt")
        for reader, name in ((read_table, "a.parquet"), (read_array, "a.npy"), (read, "a.ckpt")):
            reader(tmp_path / name)  # with what it imports
            with no_more_files(), pytest.raises(OSError, match="Too many open files") as caught:
                reader(tmp_path / name)
            found = explain_shortage(caught.value, tmp_path)
            assert isinstance(found, StalledError)
            assert f"Cannot open {tmp_path / name}: " in str(found)
            assert "ulimit -n" in str(found)
            reader(tmp_path / name)

    def test_nor_are_they_to_verify(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"no image")
        make_store(tmp_path / "store", [str(tmp_path / "a.jpg")])
        verify(tmp_path / "store")
        with no_more_files(), pytest.raises(OSError, match="Too many open files"):
            verify(tmp_path / "store")
        assert verify(tmp_path / "store") == []

    def test_nor_is_a_lock_refused_for_good(self, tmp_path: Path) -> None:
        with no_more_files(), pytest.raises(StalledError, match="ulimit -n"), locked(tmp_path):
            pass


class TestWriters:
    @pytest.mark.parametrize("n_bytes", [0, 200, 1500, 4000])
    def test_an_index_and_a_search_are_whole_or_not_there(
        self, tmp_path: Path, n_bytes: int
    ) -> None:
        index, search = random_index(1, 300), small_search()
        for save in (index.save, search.save):
            try:
                with limited(resource.RLIMIT_FSIZE, n_bytes):
                    save(tmp_path)
            except OSError as error:
                found = explain_shortage(error, tmp_path)
                assert isinstance(found, StalledError)
                assert "the file exceeds the size limit" in str(found)
                named = Path(str(found).removeprefix("Cannot write ").partition(": ")[0])
                assert named.parent == tmp_path
                assert named.suffix in (".parquet", ".npy", ".json")
                assert not named.exists()
            else:
                assert save != index.save
        assert not list(tmp_path.glob(".*"))
        assert not (tmp_path / "manifest.json").exists()

    def test_the_first_error_is_the_one_that_is_told(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()

        def write(part: Path) -> None:
            folder.rmdir()
            part.write_text("where?")

        with pytest.raises(FileNotFoundError) as caught:
            atomically(folder / "a.txt", write)
        assert str(explain_shortage(caught.value, "")).startswith(
            f"Cannot find {folder / 'a.txt'}. "
        )


class TestTheLog:
    def test_a_full_disk_costs_the_log_alone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler = RunLog(tmp_path / "detect.log")
        logger = logging.getLogger("a log without room")
        logger.addHandler(handler)
        logging.getLogger().addHandler(handler)
        try:
            logger.warning("this fits")
            with limited(resource.RLIMIT_FSIZE, 30):
                for _ in range(3):
                    logger.warning("this does not fit any more")
            logger.warning("nor is this written")
            assert f"Cannot write {tmp_path / 'detect.log'}: " in incomplete()
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()
        assert incomplete() == ""
        assert (tmp_path / "detect.log").read_text().startswith("this fits\n")
        assert capsys.readouterr().err == ""


class TestTheCommand:
    def test_a_constructor_that_lacks_memory_is_no_wrong_setting(self, tmp_path: Path) -> None:
        asked = {"_target_": "dedup.encoders.conv.ConvAutoencoder", "embedding_dim": 2**40}
        with pytest.raises(RuntimeError, match="memory"):
            build(asked)
        with pytest.raises(ConfigError, match="embeding"):
            build({**asked, "embedding_dim": 2, "embeding": 1})

    def test_a_sweep_that_cannot_be_summed_up_does_not_end_well(self, tmp_path: Path) -> None:
        sweep = tmp_path / "train" / "today"
        (sweep / "0").mkdir(parents=True)
        (sweep / "0" / "run.json").write_text("half of it")
        callbacks = Callbacks()
        callbacks.callbacks = [SweepSummary()]
        with pytest.raises(SystemExit) as ended:
            callbacks.on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
        assert ended.value.code == 4

    def test_other_errors_stay_what_they_are(self) -> None:
        with pytest.raises(ZeroDivisionError), one_message("runs"):
            raise ZeroDivisionError


def test_a_store_that_is_gone_is_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ImageStore(tmp_path / "gone")
    assert store.thumbnails(["a.jpg"]) == {}
    store.thumbnails(["b.jpg"])
    assert [record.message for record in caplog.records] == [
        f"no images are shown: the store {tmp_path / 'gone'} is gone"
    ]
