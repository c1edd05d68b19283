"""Every config composes, names only what it may, and mirrors the package."""

import inspect
import re
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dedup.cli.arguments import check_choices, explain, keys
from dedup.config.instances import ROOT, build, plain
from dedup.config.limits import LIMITS
from dedup.config.parts import load
from dedup.config.targets import FILES, NESTED, OPTIONAL, PARTIALS, PLACES, check_config
from dedup.errors import ConfigError

CONF = ROOT / "conf"
ENTRIES = ["train", "cluster", "detect"]
ACTIONS = ["calibrate", "diff", "plan"]
"""Entry points that read no catalogue."""
FOLDERS = {
    "encoder": "encoders", "foreground": "foregrounds", "ledger": "review", "matcher": "search",
    "report": "reports",
    "source": "sources", "task": "training/tasks", "verifier": "verification",
}  # fmt: skip
NAMED = {
    ("encoder", "joined"): "ensemble", ("source", "tsv"): "csv", ("source", "woocommerce"): "csv",
    ("verifier", "local"): "geometric",
}  # fmt: skip
"""Parts whose module has another name: people have theirs in scripts, or it reads several."""
WITHOUT_CLASS = [
    ("source", "trained"), ("verifier", "none"), ("foreground", "none"), ("ledger", "none"),
]  # fmt: skip
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
    check_config(compose(entry, override))


def targets(node: Any) -> list[str]:
    """Every ``_target_`` below a node."""
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [name for value in node.values() for name in targets(value)]
    return [name for value in node for name in targets(value)] if isinstance(node, list) else []


def test_every_target_in_a_config_is_in_the_list() -> None:
    listed = {name for names in PLACES.values() for name in names}
    found = set()
    for file in CONF.rglob("*.yaml"):
        found |= set(targets(OmegaConf.to_container(OmegaConf.load(file))))
        known = [line for line in file.read_text().splitlines() if re.match(r"\s*_\w+_:", line)]
        assert all(re.match(r"\s*(_target_|_partial_): ", line) for line in known), file
    assert len(found) > 20
    assert found <= listed


@pytest.mark.parametrize("name", sorted({n for names in PLACES.values() for n in names}))
def test_every_name_in_the_list_is_what_it_says(name: str) -> None:
    found = load(name)
    assert inspect.isclass(found) or inspect.isfunction(found)
    module, _, attribute = name.rpartition(".")
    assert found.__qualname__ == attribute
    own = module.startswith("dedup.")
    assert found.__module__ == module if own else found.__module__.startswith(f"{module}.")


def test_files_name_classes_alone_that_a_config_may_name_there_too() -> None:
    for place, names in FILES.items():
        assert set(names) <= set(PLACES[place])
        assert all(inspect.isclass(load(name)) for name in names)
    inner = set(NESTED.values())
    assert {place for place in PLACES if "." in place} <= inner
    assert set(PARTIALS) <= set(PLACES)


@pytest.mark.parametrize(
    ("group", "part"), [part for part in PARTS if part[0] in FOLDERS and part not in WITHOUT_CLASS]
)
def test_conf_package_and_tests_mirror_each_other(group: str, part: str) -> None:
    folder, module = FOLDERS[group], NAMED.get((group, part), part)
    assert (ROOT / "src" / "dedup" / folder / f"{module}.py").is_file()
    assert (ROOT / "tests" / folder / f"test_{module}.py").is_file()


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_in_every_command(entry: str, experiment: str) -> None:
    check_config(compose(entry, f"experiment={experiment}"))


def test_the_original_experiment_holds_every_published_figure() -> None:
    settings = OmegaConf.create(compose("detect", "experiment=original"))
    figures = {
        "epochs": 3,
        "data.train_on": 50_000,
        "data.batch_size": 128,
        "encoder.embedding_dim": 256,
        "encoder.extra_relu": False,
        "task._target_": "dedup.training.tasks.autoencoder.AutoencoderTask",
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
            known |= set(keys(hydra.compose(entry, overrides=[override])))
        for entry in ("review", *ACTIONS):
            known |= set(keys(hydra.compose(entry)))
    assert set(LIMITS) <= known


ELSEWHERE = [
    "os.system", "pathlib.Path.write_text", "joblib.load", "dedup.store.failures.log.error",
    "dedup.cli.entrypoint.os.system", "dedup.runtime.files.write_text",
    "dedup.runtime.files.os.system", "dedup.store.repair.settle",
    "dedup.store.image_store.ImageStore.ingest",
    "dedup.verification.classifier.CopyClassifier.load",
    "dedup.cli.sweep.SweepSummary.on_multirun_end", "sklearn.cluster.k_means",
    "sklearn.cluster.KMeans.__init__.__globals__", "pytorch_lightning.callbacks.LambdaCallback",
    "pytorch_lightning.callbacks.os.system", "dedup.search.radius", "", "dedup", 3, None, ["x"],
]  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE, ids=str)
def test_a_config_cannot_name_what_it_may_not(target: Any) -> None:
    with pytest.raises(ConfigError, match="may"):
        build({"_target_": target})
    with pytest.raises(ConfigError, match="may"):
        build({"_target_": "dedup.search.clustering.Clusterer", "estimator": {"_target_": target}})


@pytest.mark.parametrize(
    ("place", "node"),
    [
        ("foreground", {"_target_": "dedup.sources.folder.FolderSource", "path": "x"}),
        ("foreground", {"_target_": "dedup.training.trainer.build_trainer"}),
        ("source", {"_target_": "dedup.store.image_store.ImageStore", "path": "x"}),
        ("encoder", {"_target_": "dedup.training.views.Views"}),
        ("clusterer", {"_target_": "sklearn.cluster.KMeans"}),
        ("query", {"_target_": "dedup.training.views.Views"}),
        ("data", {"batch_size": {"_target_": "dedup.training.views.Views"}}),
        ("trainer", {"_target_": "dedup.training.trainer.build_trainer",
                     "plugins": [{"_target_": "dedup.training.checkpoints.Last", "dirpath": "x"}]}),
        ("callbacks", {"best": {"inner": {"_target_": "dedup.training.callbacks.Throughput"}}}),
        ("callbacks", {"_target_": "dedup.training.callbacks.Throughput"}),
    ],
)  # fmt: skip
def test_a_part_stands_in_its_own_place_alone(place: str, node: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"{place}.*may"):
        check_config({place: node})


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_", "_x_"])
def test_special_keys_stand_where_ours_do_alone(key: str) -> None:
    node = {"_target_": "dedup.search.radius.RadiusSearch", key: True}
    with pytest.raises(ConfigError, match=f"has {key}, .*leave it out"):
        build(node)
    estimator = {"_target_": "sklearn.cluster.KMeans", "_partial_": True, "n_init": 1}
    clusterer = build({"_target_": "dedup.search.clustering.Clusterer", "estimator": estimator})
    assert clusterer.estimator(n_clusters=3).n_clusters == 3


def test_arguments_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "c4n4ry")
    node = OmegaConf.create({"_target_": "dedup.sources.folder.FolderSource", "path": "."})
    called = {"_target_": "pathlib.Path.home"}
    assert build(node, pattern=called).pattern is called
    assert build(node, pattern="${oc.env:CANARY}").pattern == "${oc.env:CANARY}"


def test_a_wrong_argument_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="colour"):
        build({"_target_": "dedup.search.radius.RadiusSearch", "colour": 1})


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


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("verifier=null", "verifier=local or none"),
        ("matcher=5", "matcher=radius"),
        ("report=[json,1]", "report=csv or html or json"),
        (
            "source={a: 1}",
            "source=auto or csv or folder or jsonl or magento or merchant or .* or tsv or woo.*",
        ),
    ],
)
def test_a_part_that_is_no_name_says_the_names(override: str, names: str) -> None:
    with pytest.raises(hydra.errors.HydraException, match=f"by its name, {names}$"):
        check_choices(["seed=1", override])


@pytest.mark.parametrize("override", ["runs=null", "runs="])
def test_runs_names_a_folder(override: str) -> None:
    with pytest.raises(hydra.errors.HydraException, match="runs=PATH"):
        check_choices([override])


def test_parts_that_are_named_are_chosen() -> None:
    named = ["report=[json,csv]", "matcher='radius'", "encoder=conv,bundled", "~verifier"]
    check_choices([*named, "matcher.threshold=null", "-m", "runs=2026"])


@pytest.mark.parametrize("place", sorted({*PLACES} - {"hydra.callbacks.*"}))
@pytest.mark.parametrize("node", [None, 5, "a", {}, {"precision": 1}])
def test_where_a_part_must_be_there_is_one(place: str, node: object) -> None:
    group, _, key = place.partition(".")
    settings: dict[str, object] = {group: node}
    if key:
        own = {"_target_": PLACES[group][0]} if group in PLACES else {}
        settings = {group: {**own, key.replace("*", "own"): node}}
    if node is None and place in OPTIONAL:
        check_config(settings)
    else:
        with pytest.raises(ConfigError, match="describes no part"):
            check_config(settings)


def test_a_setting_of_another_part_names_the_parts_that_have_it() -> None:
    override = "source.path=products.csv"
    with (
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(hydra.errors.HydraException) as caught,
    ):
        hydra.compose("train", overrides=[override])
    message = explain(caught.value, "train", [override])
    assert "source=csv or source=folder" in message


@pytest.mark.parametrize("entry", ENTRIES)
def test_one_setting_says_what_is_done_with_formulas_in_every_table(entry: str) -> None:
    places = ("csv.formulas", "store.formulas", "report.csv.formulas")
    for chosen in ("keep", "escape"):
        override = [] if chosen == "keep" else ["csv.formulas=escape"]
        settings = OmegaConf.create(compose(entry, *override))
        assert [OmegaConf.select(settings, place) for place in places] == [chosen] * 3


@pytest.mark.parametrize("entry", ["cluster", "detect"])
def test_a_path_alone_is_a_csv(entry: str) -> None:
    chosen = compose(entry, "source=csv", "source.path=products.csv")
    assert compose(entry, "source.path=products.csv")["source"] == chosen["source"]


def test_the_entry_points_are_thin() -> None:
    for entry in ENTRIES + ACTIONS:
        lines = Path(ROOT / f"{entry}.py").read_text().splitlines()
        assert len(lines) <= 40
