"""The link ``latest``: made whole, whatever other processes do."""

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from dedup.cli.entrypoint import point_latest
from dedup.runtime.files import write_json
from dedup.runtime.shortages import explain_shortage


def runs_of(folder: Path, number: int) -> list[Path]:
    """Ten runs that are whole."""
    runs = [folder / f"{number}-{turn}" for turn in range(10)]
    for run in runs:
        run.mkdir()
        write_json({"run": run.name}, run / "run.json")
    return runs


def point_often(folder: Path, runs: list[Path]) -> None:
    """Point ``latest`` at one run after the other, 200 times."""
    for turn in range(200):
        point_latest(runs[turn % len(runs)], folder / "latest")


class TestLatest:
    def test_processes_that_end_at_once(self, tmp_path: Path) -> None:
        context = get_context("fork")
        theirs = [runs_of(tmp_path, number) for number in range(3)]
        point_latest(theirs[0][0], tmp_path / "latest")
        processes = [context.Process(target=point_often, args=(tmp_path, runs)) for runs in theirs]
        for process in processes:
            process.start()
        looks = 0
        while any(process.is_alive() for process in processes) or not looks:
            assert (tmp_path / "latest" / "run.json").is_file()
            looks += 1
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert not list(tmp_path.glob(".*"))
        assert (tmp_path / "latest").readlink() in {Path(run[-1].name) for run in theirs}

    def test_where_it_cannot_be_made_nothing_is_left(self, tmp_path: Path) -> None:
        run = runs_of(tmp_path, 0)[0]
        (tmp_path / "latest" / "mine").mkdir(parents=True)
        with pytest.raises(OSError, match="latest") as caught:
            point_latest(run, tmp_path / "latest")
        assert str(explain_shortage(caught.value, "")).startswith(
            f"Cannot write the file {tmp_path / 'latest'}: a folder has its name"
        )
        assert not list(tmp_path.glob(".*"))
        assert (tmp_path / "latest" / "mine").is_dir()

    def test_what_a_killed_process_left_is_swept(self, tmp_path: Path) -> None:
        run = runs_of(tmp_path, 0)[0]
        for name in (".latest-4711", ".latest.0123abcd.part", ".latest.now.part"):
            (tmp_path / name).symlink_to("elsewhere")
        for name in (".latest-4711", ".latest.0123abcd.part"):
            os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
        point_latest(run, tmp_path / "latest")
        assert [left.name for left in tmp_path.glob(".*")] == [".latest.now.part"]
