"""Old names of moved parts, so that configs and files with them still work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
    "dedup.callbacks.DrawnViews": "dedup.training.callbacks.DrawnViews",
    "dedup.callbacks.EmbeddingProjector": "dedup.training.callbacks.EmbeddingProjector",
    "dedup.callbacks.Reconstructions": "dedup.training.callbacks.Reconstructions",
    "dedup.callbacks.Throughput": "dedup.training.callbacks.Throughput",
    "dedup.checkpoint.load_encoder": "dedup.encoders.checkpoint.load_encoder",
    "dedup.checkpointing.Best": "dedup.training.checkpoints.Best",
    "dedup.checkpointing.Last": "dedup.training.checkpoints.Last",
    "dedup.clustering.Clusterer": "dedup.search.clustering.Clusterer",
    "dedup.encoders.joined.Joined": "dedup.encoders.ensemble.Ensemble",
    "dedup.entrypoint.SweepSummary": "dedup.cli.sweep.SweepSummary",
    "dedup.fetch.Fetcher": "dedup.download.client.Fetcher",
    "dedup.framing.Framing": "dedup.foregrounds.masked_store.Framing",
    "dedup.grouping.Grouping": "dedup.detection.grouping.Grouping",
    "dedup.matchers.radius.RadiusMatcher": "dedup.search.radius.RadiusSearch",
    "dedup.matching.Detection": "dedup.detection.detector.Detector",
    "dedup.store.ImageStore": "dedup.store.image_store.ImageStore",
    "dedup.tasks.autoencoder.AutoencoderTask": "dedup.training.tasks.autoencoder.AutoencoderTask",
    "dedup.tasks.contrastive.ContrastiveTask": "dedup.training.tasks.contrastive.ContrastiveTask",
    "dedup.tasks.whitening.WhiteningTask": "dedup.training.tasks.whitening.WhiteningTask",
    "dedup.trainer.build_trainer": "dedup.training.trainer.build_trainer",
    "dedup.verifiers.local.LocalVerifier": "dedup.verification.geometric.GeometricVerifier",
    "dedup.views.Views": "dedup.training.views.Views",
}
"""New dotted names of parts by their old ones."""

KEYS = ("_target_", "class")
"""Keys of a part's name in configs and in checkpoints."""


def renewed(node: Any) -> Any:
    """Replace the old names of parts in plain values; keep everything else."""
    if isinstance(node, list):
        return [renewed(part) for part in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: RENAMED.get(value, value) if key in KEYS and isinstance(value, str) else renewed(value)
        for key, value in node.items()
    }


def old_names(node: Any) -> set[str]:
    """Find the old names of parts in plain values."""
    if isinstance(node, list):
        return {name for part in node for name in old_names(part)}
    if not isinstance(node, Mapping):
        return set()
    named = {node[key] for key in KEYS if isinstance(node.get(key), str)} & RENAMED.keys()
    return named.union(*(old_names(value) for value in node.values()))
