"""Commands without room, memory or rights say so in one sentence, as the user sees it."""

import os
import resource
from pathlib import Path

import pytest

from tests.store.test_repair import make_store
from tests.support.limits import ended, without_root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with a store in ``runs/store/pillow``."""
    (tmp_path / "a.jpg").write_bytes(b"no image")
    (tmp_path / "runs" / "store").mkdir(parents=True)
    make_store(tmp_path / "runs" / "store" / "pillow", [str(tmp_path / "a.jpg")])
    return tmp_path


class TestAsTheUserSeesIt:
    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "taken").touch()
        code, said = ended(tmp_path, "detect", "runs=taken")
        assert (code, len(said)) == (2, 1), said
        assert "taken/detect" in said[0]
        assert "a file has its name or a parent's" in said[0]

    def test_a_folder_that_may_not_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").mkdir(mode=0o500)
        code, said = ended(tmp_path, "detect", "runs=theirs", first=without_root)
        if os.geteuid() == 0 and (tmp_path / "theirs" / "detect").exists():
            pytest.skip("root cannot do without its rights here")
        assert (code, len(said)) == (2, 1), said
        assert said[0].startswith("Cannot use theirs/detect: permission denied. Name folders")

    @pytest.mark.parametrize(("n_bytes", "named"), [(0, ""), (12_000, "verify.json")])
    def test_no_room(self, store: Path, n_bytes: int, named: str) -> None:
        """12,000 bytes are enough for what Hydra writes, and the log, of this folder."""
        if named:
            for number in range(200):
                (store / "runs/store/pillow" / f".shard-00000.parquet.{number:090x}.part").touch()
        first = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))  # noqa: E731
        code, said = ended(store, "check", first=first)
        assert (code, len(said)) == (6, 1), said
        assert ": the file exceeds the size limit. Raise the limit" in said[0]
        assert str(Path("runs/verify")) in said[0]
        assert named in said[0]
        assert not list((store / "runs" / "verify").glob("latest"))
        assert not list((store / "runs" / "verify").rglob(".*.part"))

    def test_nowhere_to_print_to(self, store: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("has no /dev/full")
        with Path("/dev/full").open("w") as full:
            code, said = ended(store, "check", stdout=full)
        assert (code, len(said)) == (6, 1), said
        assert "Cannot write stdout: the disk is full" in said[0]

    def test_too_little_memory_to_begin(self, store: Path) -> None:
        narrow = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))  # noqa: E731
        code, said = ended(store, "detect", first=narrow)
        assert (code, len(said)) == (6, 1), said
        assert ": there is not enough memory" in said[0]
        assert code == ended(store, "check", first=narrow)[0]
