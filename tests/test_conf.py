"""Every config composes, names only what it may, and mirrors the package."""

from itertools import product
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dedup.entrypoint import ALLOWED, ROOT, _keys, _targets, build, explain, plain
from dedup.errors import ConfigError
from dedup.limits import LIMITS

CONF = ROOT / "conf"
ENTRIES = ["train", "cluster", "detect"]
FOLDERS = {"source": "sources", "encoder": "encoders", "task": "tasks", "matcher": "matchers",
           "verifier": "verifiers", "report": "reports", "foreground": "foregrounds"}  # fmt: skip
WITHOUT_CLASS = [("source", "trained"), ("verifier", "none"), ("foreground", "none")]
PARTS = [
    (group.name, file.stem)
    for group in sorted(CONF.iterdir())
    if group.is_dir() and group.name not in ("hydra", "experiment")
    for file in sorted(group.glob("*.yaml"))
]
USED = ("source", "task", "verifier", "foreground")
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))


@pytest.fixture(autouse=True)
def compose_here() -> None:
    """Hydra keeps one global state; start each test without it."""
    GlobalHydra.instance().clear()


def compose(entry: str, *overrides: str) -> dict[str, object]:
    """A composed config as plain values, what only a run can resolve left out."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(entry, overrides=list(overrides))
    for callback in ("best", "last"):
        cfg.callbacks[callback].dirpath = "run"
    if cfg.source is not None and OmegaConf.is_missing(cfg.source, "path"):
        cfg.source.path = "products.csv"
    settings = plain(cfg)
    assert isinstance(settings, dict)
    return settings


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("group", "part"), PARTS)
def test_every_part_composes_in_every_command(entry: str, group: str, part: str) -> None:
    override = f"report=[{part}]" if group == "report" else f"{group}={part}"
    settings = compose(entry, override)
    for target in _targets(settings):
        assert target.startswith(ALLOWED)
        assert hydra.utils.get_object(target) is not None


@pytest.mark.parametrize(
    ("group", "part"), [part for part in PARTS if part[0] in FOLDERS and part not in WITHOUT_CLASS]
)
def test_conf_package_and_tests_mirror_each_other(group: str, part: str) -> None:
    folder = FOLDERS[group]
    assert (ROOT / "src" / "dedup" / folder / f"{part}.py").is_file()
    assert (ROOT / "tests" / folder / f"test_{part}.py").is_file()


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_in_every_command(entry: str, experiment: str) -> None:
    settings = compose(entry, f"experiment={experiment}")
    assert all(target.startswith(ALLOWED) for target in _targets(settings))


def test_the_original_experiment_holds_every_published_figure() -> None:
    settings = OmegaConf.create(compose("detect", "experiment=original"))
    figures = {
        "epochs": 3,
        "data.train_on": 50_000,
        "data.batch_size": 128,
        "encoder.embedding_dim": 256,
        "encoder.extra_relu": False,
        "task._target_": "dedup.tasks.autoencoder.AutoencoderTask",
        "task.weight_decay": 1e-5,
        "clusterer.n_clusters": 200,
        "clusterer.fit_on": 10_000,
        "clusterer.estimator._target_": "sklearn.cluster.KMeans",
        "matcher.threshold": 0,
        "source.choice": "second",
        "source.categories": ["Tops & Tunics>Tops"],
        "store.reader": "skimage",
    }
    assert {key: OmegaConf.select(settings, key) for key in figures} == figures
    notebook = compose("train", "experiment=original_notebook")
    assert OmegaConf.select(OmegaConf.create(notebook), "encoder.extra_relu") is True


def test_every_limit_is_of_a_setting_that_exists() -> None:
    known = set()
    chosen = [f"{group}={part}" for group, part in PARTS if group in USED]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for override, entry in product(chosen, ENTRIES):
            known |= set(_keys(hydra.compose(entry, overrides=[override])))
    assert set(LIMITS) <= known


@pytest.mark.parametrize(
    "target", ["os.system", "pathlib.Path.write_text", "joblib.load", "dedup.failures.log.error",
               "dedup.entrypoint.os.system", "sklearn.cluster.KMeans.__init__.__globals__"],
)  # fmt: skip
def test_a_config_cannot_name_what_it_may_not(target: str) -> None:
    with pytest.raises(ConfigError, match="may"):
        build({"_target_": target})
    with pytest.raises(ConfigError, match="may"):
        build({"_target_": "dedup.clustering.Clusterer", "estimator": {"_target_": target}})


def test_a_wrong_argument_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="colour"):
        build({"_target_": "dedup.matchers.radius.RadiusMatcher", "colour": 1})


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("trainer.gpuz=1", "trainer.gpus"),
        ("epoch=3", "epochs"),
        ("matcher.treshold=0", "matcher.threshold"),
    ],
)
def test_a_typo_names_the_nearest_setting(override: str, near: str) -> None:
    with (
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(hydra.errors.HydraException) as caught,
    ):
        hydra.compose("train", overrides=[override])
    assert f"did you mean {near}" in explain(caught.value, "train", [override])


def test_a_setting_of_another_part_names_the_parts_that_have_it() -> None:
    override = "source.path=products.csv"
    with (
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(hydra.errors.HydraException) as caught,
    ):
        hydra.compose("train", overrides=[override])
    message = explain(caught.value, "train", [override])
    assert "source=csv or source=folder" in message


@pytest.mark.parametrize("entry", ["cluster", "detect"])
def test_a_path_alone_is_a_csv(entry: str) -> None:
    chosen = compose(entry, "source=csv", "source.path=products.csv")
    assert compose(entry, "source.path=products.csv")["source"] == chosen["source"]


def test_the_entry_points_are_thin() -> None:
    for entry in ENTRIES:
        lines = Path(ROOT / f"{entry}.py").read_text().splitlines()
        assert len(lines) <= 40
