"""``resume=auto``: which run goes on, and the command as a scheduler repeats it."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dedup.encoders.checkpoint import read
from dedup.training.checkpoints import BEST, LAST, RESUMED
from dedup.training.resume import checkpoint_to_resume, newest_unfinished
from tests.conftest import ROOT, SMALL, make_shop, python
from tests.support.training import encoder, scalars


class TestAuto:
    @staticmethod
    def leave(runs: Path, name: str, *files: str, after: str = "") -> None:
        (runs / name).mkdir()
        for file in files:
            (runs / name / file).touch()
        if after:
            resumed = {"checkpoint": str((runs / after / LAST).resolve())}
            (runs / name / RESUMED).write_text(json.dumps(resumed))

    def test_the_newest_that_did_not_finish(self, tmp_path: Path) -> None:
        assert newest_unfinished(tmp_path / "nowhere") is None
        assert newest_unfinished(tmp_path) is None
        self.leave(tmp_path, "1", LAST)
        self.leave(tmp_path, "2", LAST)
        self.leave(tmp_path, "3", LAST, "run.json")
        self.leave(tmp_path, "4", BEST)
        (tmp_path / "latest").symlink_to(tmp_path / "1")
        assert newest_unfinished(tmp_path) == tmp_path / "2"

    def test_one_that_another_went_on_from_waits_no_more(self, tmp_path: Path) -> None:
        self.leave(tmp_path, "1", LAST)
        self.leave(tmp_path, "2", after="1")  # it did not come so far as to take it over
        assert newest_unfinished(tmp_path) == tmp_path / "1"
        self.leave(tmp_path, "3", LAST, after="1")
        assert newest_unfinished(tmp_path) == tmp_path / "3"
        (tmp_path / "3" / "run.json").touch()
        assert newest_unfinished(tmp_path) is None

    def test_none_is_a_new_start(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "dedup"):
            assert checkpoint_to_resume("auto", tmp_path, encoder()) is None
        (record,) = caplog.records
        assert "starting a new one" in record.getMessage()
        assert checkpoint_to_resume(None, tmp_path, encoder()) is None


def test_the_command_is_stopped_and_goes_on(tmp_path: Path) -> None:
    make_shop(tmp_path)
    command = [sys.executable, str(ROOT / "train.py"), "source=csv", "source.path=products.csv",
               *SMALL, "epochs=99", "resume=auto", "trainer.enable_progress_bar=false"]  # fmt: skip
    stopped = tmp_path / "runs" / "train"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(stopped.glob("*/last.ckpt")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    (folder,) = stopped.iterdir()
    assert f"stopped by Ctrl-C: training is saved. Go on with resume={folder}" in said
    assert "starting a new one" in said
    assert "Traceback" not in said
    epoch = read(folder / LAST)["loops"]["fit_loop"]["epoch_progress"]["current"]["started"]
    done = python(*command[1:], f"epochs={epoch + 1}", cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(f"resume=auto: going on from .*{folder.name}", done.stderr)) == 1
    assert not (folder / "run.json").exists()
    latest = stopped / "latest"
    losses = [step for step, _ in scalars(folder, latest.resolve())["val/loss"]]
    assert losses == list(range(2, 3 * (epoch + 1), 3))
