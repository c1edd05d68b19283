"""What a sweep names as its best run, and what it asks Optuna for."""

import re
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dedup.cli.sweep import SweepSummary, keep_failure
from dedup.config.instances import ROOT
from dedup.errors import NonFiniteLossError, StalledError, StoppedError
from dedup.runtime.files import write_json
from tests.conftest import python

LOSS = {"monitor": "val/loss", "mode": "min"}
UAP = {"monitor": "val/uap", "mode": "max"}


def swept(folder: Path, *runs: tuple[float | None, dict[str, str]]) -> Path:
    """The folder of a sweep whose runs are over, and the summary written."""
    sweep = folder / "train" / "today"
    for number, (metric, objective) in enumerate(runs):
        (sweep / str(number) / ".hydra").mkdir(parents=True)
        write_json({"metric": metric, "objective": objective}, sweep / str(number) / "run.json")
        changes = OmegaConf.create([f"task.lr={number}"])
        OmegaConf.save(changes, sweep / str(number) / ".hydra" / "overrides.yaml")
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    return sweep


def test_the_summary_shows_what_was_typed_and_resolves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "a secret")
    sweep = swept(tmp_path, (0.5, LOSS))
    file = sweep / "0" / ".hydra" / "overrides.yaml"
    file.write_text("- store.path=${oc.env:CANARY}\n- epochs=1\n")
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    told = capsys.readouterr().out
    assert "store.path=${oc.env:CANARY} epochs=1" in told
    assert "a secret" not in told


@pytest.mark.parametrize(("objective", "best"), [(LOSS, 1), (UAP, 2)], ids=["least", "most"])
def test_the_objective_says_which_run_is_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], objective: dict[str, str], best: int
) -> None:
    sweep = swept(tmp_path, (0.5, objective), (0.25, objective), (0.75, objective))
    assert (tmp_path / "train" / "latest").resolve() == (sweep / str(best)).resolve()
    *table, last = capsys.readouterr().out.splitlines()
    assert last == f"best of 3: {table[0]}"
    assert f"task.lr={best}" in last
    metrics = [float(line.split()[0]) for line in table]
    assert metrics == sorted(metrics, reverse=objective is UAP)


def test_different_measures_have_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(tmp_path, (0.5, LOSS), (0.25, UAP))
    assert "no best run" in capsys.readouterr().out
    assert not (tmp_path / "train" / "latest").exists()


def test_runs_without_a_score_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(tmp_path, (None, LOSS))
    assert not capsys.readouterr().out


def test_a_run_that_failed_is_named_and_the_others_are_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "train" / "today" / "2"
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(["task.lr=1e38"]), folder / ".hydra" / "overrides.yaml")
    with keep_failure(folder):
        raise NonFiniteLossError("the loss became nan: lower task.lr")
    with pytest.raises(SystemExit) as ended:
        swept(tmp_path, (0.5, LOSS), (0.25, LOSS))
    assert ended.value.code == NonFiniteLossError.exit_code
    told = capsys.readouterr()
    assert re.search(r"failed +\S+/2  task.lr=1e38: the loss became nan: lower task.lr\n", told.out)
    assert "best of 2: 0.25" in told.out
    assert (tmp_path / "train" / "latest").resolve() == folder.with_name("1").resolve()


def test_what_the_user_stops_ends_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), keep_failure(tmp_path):
        raise StoppedError("stopped", 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "direction", "monitor"),
    [("autoencoder", "minimize", "val/loss"), ("contrastive", "maximize", "val/uap"),
     ("whitening", "maximize", "val/uap")],
)  # fmt: skip
def test_the_task_decides_what_optuna_and_the_best_checkpoint_go_by(
    task: str, direction: str, monitor: str
) -> None:
    pytest.importorskip("optuna")
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg: Any = hydra.compose(
            "train", ["experiment=sweep_optuna", f"task={task}"], return_hydra_config=True
        )
    assert cfg.hydra.sweeper.direction == direction
    assert cfg.callbacks.best.monitor == monitor
    assert f"{cfg.callbacks.best.mode}imize" == direction


KILLED = """
import os, signal, time
from dedup.cli.entrypoint import entrypoint

@entrypoint("train")
def main(cfg, run_dir):
    if cfg.seed == 2:
        while not (run_dir.parent / "0" / "run.json").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

main()
"""


def test_a_worker_that_is_killed_costs_one_sentence_and_no_finished_run(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "killed.py").write_text(KILLED)
    done = python("killed.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
                  "seed=1,2", cwd=tmp_path)  # fmt: skip
    assert done.returncode == StalledError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert "1 finished run kept in" in done.stderr
    assert re.search(r"done .*/0  seed=1\nfailed .*/1  seed=2: no result", done.stdout)
