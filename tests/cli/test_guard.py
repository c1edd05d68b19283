"""What Hydra builds itself is checked before it builds it; its plugins go on working."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dedup.cli.arguments import composed
from dedup.cli.guard import guarded
from dedup.config.targets import check_hydra
from dedup.errors import ConfigError
from tests.conftest import ROOT, python

PRINT = {"_target_": "builtins.print"}


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"mine": PRINT}},
        {"callbacks": {"sweep": {"_target_": "dedup.cli.sweep.SweepSummary", "more": PRINT}}},
        {"launcher": PRINT},
        {"sweeper": PRINT},
        {"launcher": {"_target_": "hydra_plugins.x.Launcher", "more": [PRINT]}},
        {"sweeper": {"_target_": "hydra_plugins.x.Sweeper", "sampler": PRINT}},
        {"sweeper": {"sampler": {"_target_": "optuna.samplers.os.system"}}},
        {"help": {"deep": [{"er": PRINT}]}},
    ],
    ids=str,
)
def test_another_target_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not what a config may name"):
        check_hydra(node)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
@pytest.mark.parametrize("sweeper", ["basic", "optuna"])
def test_plugins_are_let_through(launcher: str, sweeper: str) -> None:
    for one in (launcher, sweeper):
        if one != "basic":
            kind = "launcher" if one == launcher else "sweeper"
            pytest.importorskip(f"hydra_plugins.hydra_{one}_{kind}")
    more = ["experiment=sweep_optuna"] if sweeper == "optuna" else []
    cfg = composed("train", [*more, f"hydra/launcher={launcher}"], hydra_too=True)
    check_hydra(OmegaConf.to_container(cfg.hydra, resolve=False))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "typed",
    ["+hydra.callbacks.mine={_target_: pathlib.Path.touch, self: made}",
     "+hydra.callbacks.mine=${mine} +mine={_target_: builtins.print}"],
    ids=["named", "resolved"],
)  # fmt: skip
def test_nothing_is_built_before_the_check(tmp_path: Path, typed: str) -> None:
    words = [f"+{word}" for word in typed.removeprefix("+").split(" +")]
    done = python(str(ROOT / "detect.py"), *words, cwd=tmp_path)
    assert done.returncode == ConfigError.exit_code
    assert "hydra.callbacks.mine._target_" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_check_ends_with_its_context() -> None:
    with guarded(), pytest.raises(ConfigError):
        composed_with("+hydra.callbacks.mine._target_=builtins.print")
    composed_with("+hydra.callbacks.mine._target_=builtins.print")


def composed_with(override: str) -> Any:
    """Compose the config of ``detect`` with an override, as Hydra does for a command."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose("detect", overrides=[override], return_hydra_config=True)
