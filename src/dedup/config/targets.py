"""Allowed classes and factories, by exact name, for each place of a config or a file.

To add a part of your own, add one line here, in its place. A file may come from a stranger, so
files may name classes only, see ``dedup.config.parts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dedup.errors import ConfigError

SOURCES = (
    "dedup.sources.auto.AutoSource",
    "dedup.sources.csv.CsvSource",
    "dedup.sources.folder.FolderSource",
    "dedup.sources.jsonl.JsonlSource",
    "dedup.sources.parquet.ParquetSource",
    "dedup.sources.magento.MagentoSource",
    "dedup.sources.merchant.MerchantSource",
    "dedup.sources.sample.SampleSource",
    "dedup.sources.shopify.ShopifySource",
)
FOREGROUNDS = (
    "dedup.foregrounds.grabcut.GrabCut",
    "dedup.foregrounds.lab_otsu.LabOtsu",
    "dedup.foregrounds.onnx.Onnx",
    "dedup.foregrounds.skin_aware.SkinAware",
)
ENCODERS = (
    "dedup.encoders.cnn.Cnn",
    "dedup.encoders.conv.ConvAutoencoder",
    "dedup.encoders.efficientnet_lite0.EfficientnetLite0",
    "dedup.encoders.ensemble.Ensemble",
)
FRAMINGS = ("dedup.foregrounds.masked_store.Framing",)
MATCHERS = ("dedup.search.radius.RadiusSearch",)
VERIFIERS = ("dedup.verification.geometric.GeometricVerifier",)

FILES: dict[str, tuple[str, ...]] = {
    "encoder": ENCODERS,
    "foreground": FOREGROUNDS,
    "framing": FRAMINGS,
    "matcher": MATCHERS,
    "source": SOURCES,
    "verifier": VERIFIERS,
}
"""Classes that a checkpoint, an index's manifest and a run's ``run.json`` may name, by place."""

PLACES: dict[str, tuple[str, ...]] = {
    "source": SOURCES,
    "encoder": (
        *ENCODERS,
        "dedup.encoders.bundled.bundled",
        "dedup.encoders.checkpoint.load_encoder",
    ),
    "task": (
        "dedup.training.tasks.autoencoder.AutoencoderTask",
        "dedup.training.tasks.contrastive.ContrastiveTask",
        "dedup.training.tasks.whitening.WhiteningTask",
    ),
    "views": ("dedup.training.views.Views",),
    "store": ("dedup.store.image_store.ImageStore",),
    "fetch": ("dedup.download.client.Fetcher",),
    "foreground": FOREGROUNDS,
    "framing": FRAMINGS,
    "clusterer": ("dedup.search.clustering.Clusterer",),
    "clusterer.estimator": (
        "sklearn.cluster.BisectingKMeans",
        "sklearn.cluster.KMeans",
        "sklearn.cluster.MiniBatchKMeans",
    ),
    "matcher": MATCHERS,
    "verifier": VERIFIERS,
    "detection": ("dedup.detection.detector.Detector",),
    "grouping": ("dedup.detection.grouping.Grouping",),
    "health": ("dedup.detection.health.HealthRules",),
    "plan": ("dedup.actions.plan.Planner",),
    "ledger": ("dedup.review.postgres.PostgresLedger", "dedup.review.sqlite.SqliteLedger"),
    "report.*": (
        "dedup.reports.csv.CsvReport",
        "dedup.reports.html.HtmlReport",
        "dedup.reports.json.JsonReport",
    ),
    "trainer": ("dedup.training.trainer.build_trainer",),
    "callbacks.*": (
        "dedup.training.callbacks.DrawnViews",
        "dedup.training.callbacks.EmbeddingProjector",
        "dedup.training.callbacks.Reconstructions",
        "dedup.training.callbacks.Throughput",
        "dedup.training.checkpoints.Best",
        "dedup.training.checkpoints.Last",
        "pytorch_lightning.callbacks.BackboneFinetuning",
        "pytorch_lightning.callbacks.BatchSizeFinder",
        "pytorch_lightning.callbacks.DeviceStatsMonitor",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.callbacks.EMAWeightAveraging",
        "pytorch_lightning.callbacks.GradientAccumulationScheduler",
        "pytorch_lightning.callbacks.LearningRateFinder",
        "pytorch_lightning.callbacks.LearningRateMonitor",
        "pytorch_lightning.callbacks.ModelCheckpoint",
        "pytorch_lightning.callbacks.ModelPruning",
        "pytorch_lightning.callbacks.ModelSummary",
        "pytorch_lightning.callbacks.OnExceptionCheckpoint",
        "pytorch_lightning.callbacks.RichModelSummary",
        "pytorch_lightning.callbacks.RichProgressBar",
        "pytorch_lightning.callbacks.SpikeDetection",
        "pytorch_lightning.callbacks.StochasticWeightAveraging",
        "pytorch_lightning.callbacks.ThroughputMonitor",
        "pytorch_lightning.callbacks.Timer",
        "pytorch_lightning.callbacks.TQDMProgressBar",
        "pytorch_lightning.callbacks.WeightAveraging",
    ),
    "hydra.callbacks.*": ("dedup.cli.sweep.SweepSummary",),
}
"""Classes and factories that a config may name, by place; ``*`` stands for any name."""

NESTED: Mapping[tuple[str, str], str] = {
    ("callbacks", "*"): "callbacks.*",
    ("clusterer", "estimator"): "clusterer.estimator",
    ("encoder", "encoders"): "encoder",
    ("foreground", "person"): "foreground",
    ("hydra", "callbacks"): "hydra.callbacks",
    ("hydra.callbacks", "*"): "hydra.callbacks.*",
    ("report", "*"): "report.*",
}
"""Place of a part inside of another part, by the outer place and the key."""

OPTIONAL = ("callbacks.*", "foreground", "health", "ledger", "report.*", "verifier", "views")
"""Places that may be null."""

TARGET, PARTIAL = "_target_", "_partial_"
PARTIALS = ("clusterer.estimator",)
"""Places of parts that are called later, with ``_partial_: true``."""

PLUGINS = r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+"
"""Pattern of the names of Hydra's launchers and sweepers."""
SAMPLERS, _SAMPLER = r"optuna\.samplers\.\w+Sampler", "hydra.sweeper.sampler"
"""Pattern of the names of the samplers of the sweeper Optuna, and their place."""

ADVICE = "A part of your own needs a line in dedup/config/targets.py"


def allow(kind: type, place: str = "encoder") -> None:
    """Let configs and files name one more class, such as an encoder of one's own.

    It holds for this process: a program that loads such an index or checkpoint calls it first.

    Args:
        kind: a class at the top of a module.
        place: where it may stand, one of ``PLACES``.

    Raises:
        ConfigError: there is no such place.
    """
    if place not in PLACES:
        raise ConfigError(f"place={place!r} is no place of a part: take one of {', '.join(PLACES)}")
    name = f"{kind.__module__}.{kind.__qualname__}"
    for names in (PLACES, FILES):
        if name not in names.get(place, (name,)):
            names[place] = (*names[place], name)


def is_special(key: str) -> bool:
    """Tell whether a key is special to Hydra, like ``_target_``, and no argument."""
    return key.startswith("_") and key.endswith("_")


def within(place: str, key: str) -> str:
    """Find the place of a part below a key of another; "" if nothing is built there."""
    return NESTED.get((place, key), NESTED.get((place, "*"), ""))


def check_config(settings: Mapping[str, Any]) -> None:
    """Check every ``_target_`` of a composed config in plain values.

    Raises:
        ConfigError: a target is not allowed in its place, or is missing where a part must be.
    """
    for key, node in settings.items():
        _check(node, str(key), str(key))


def check_hydra(settings: Mapping[str, Any]) -> None:
    """Check every ``_target_`` of a config's node ``hydra``, in plain values.

    Callbacks are listed in ``PLACES``. Launchers and sweepers are Hydra's plugins, whose classes
    Hydra checks; a sweeper may have one of Optuna's samplers. Nothing else is built.

    Raises:
        ConfigError: another target is named.
    """
    for key, node in settings.items():
        if key == "callbacks":
            _check(node, "hydra.callbacks", "hydra.callbacks")
        else:
            _check_plugin(node, key in ("launcher", "sweeper"), f"hydra.{key}")


def _check_plugin(node: Any, is_plugin: bool, at: str) -> None:
    inside = node if isinstance(node, Mapping) else {}
    if TARGET in inside:
        name = inside[TARGET]
        is_sampler = f"{at}.".startswith(f"{_SAMPLER}.")
        pattern = SAMPLERS if is_sampler else PLUGINS if is_plugin else ""
        if not isinstance(name, str) or not re.fullmatch(pattern, name):
            there = {
                SAMPLERS: "choose one of optuna.samplers",
                PLUGINS: "choose a plugin, as in hydra/launcher=joblib or hydra/sweeper=optuna",
                "": "nothing is built there",
            }[pattern]
            raise ConfigError(f"{at}.{TARGET}={name} is not what a config may name: {there}")
    parts = node if isinstance(node, list) else inside.values()
    names = range(len(node)) if isinstance(node, list) else inside
    for key, part in zip(names, parts, strict=True):
        _check_plugin(part, False, f"{at}.{key}")


def check_node(node: Any) -> None:
    """Check a node whose place is unknown, by the places that its own part may have.

    Raises:
        ConfigError: a target is not allowed, or not in its place.
    """
    if isinstance(node, list):
        for part in node:
            check_node(part)
    elif isinstance(node, Mapping) and TARGET not in node:
        for part in node.values():
            check_node(part)
    elif isinstance(node, Mapping):
        places = [place for place, names in PLACES.items() if node[TARGET] in names]
        _check(node, places[0] if places else "", "")


def _check(node: Any, place: str, at: str) -> None:
    if isinstance(node, list):
        for number, part in enumerate(node):
            _check(part, place, f"{at}.{number}")
        return
    inside = node if isinstance(node, Mapping) else {}
    if TARGET in inside:
        _check_named(inside, place, at)
    for key, part in inside.items():
        _check(part, within(place, str(key)), f"{at}.{key}".strip("."))
    is_left_out = node is None and place in OPTIONAL
    if place in PLACES and TARGET not in inside and not is_left_out:
        raise ConfigError(
            f"{at} describes no part, as it has no {TARGET}: leave out its settings, or choose one "
            f"of {', '.join(PLACES[place])}"
        )


def _check_named(node: Mapping[Any, Any], place: str, at: str) -> None:
    """Check the target of one part, and its special keys."""
    name, possible = node[TARGET], PLACES.get(place, ())
    key = f"{at}.{TARGET}".strip(".")
    if name not in possible:
        there = f"choose one of {', '.join(possible)}" if possible else "nothing is built there"
        raise ConfigError(f"{key}={name} is not what a config may name: {there}. {ADVICE}")
    special = {key for key in map(str, node) if is_special(key)} - {TARGET}
    if wrong := special - ({PARTIAL} if place in PARTIALS else set()):
        raise ConfigError(
            f"{key}={name} has {', '.join(sorted(wrong))}, which a config may not have there: "
            "leave it out"
        )
