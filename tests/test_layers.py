"""Imports point down only; torch, Hydra and the network stay where the design puts them."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "dedup"
LAYERS = {
    0: ["artifacts", "errors", "files", "limits", "parallel", "edits", "places",
        "allocation", "sealing", "interrupts", "ranks", "rounding", "allowed", "recorded",
        "visible", "invocation", "seals", "claims", "checks", "confirming", "runs", "shortages",
        "runlog"],
    1: ["sources", "guard", "hosts", "fetch", "decode", "decoding", "shards", "ingest", "failures",
        "progress", "store", "inspection", "mending", "encoders", "checkpoint", "clustering",
        "sketch", "cells", "matchers", "grouping", "sharing", "reports", "metrics", "keypoints",
        "words", "alignment", "agreement", "judge", "verifiers", "calibration", "truth", "dealing",
        "devices", "foregrounds", "framing", "auditing",
        "colours", "relations"],
    2: ["tasks", "callbacks", "trainer", "datamodule", "embedding", "views", "verifying",
        "restarting", "checkpointing", "resuming", "launching"],
    3: ["indexing", "changing", "querying", "comparing", "matching", "relisting",
        "preview", "origins"],
    4: ["stages", "entrypoint", "arguments", "manual", "preflight", "sweep", "outcome", "verify",
        "__main__"],
}  # fmt: skip
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}
NEIGHBOURS = {  # within a layer, in this direction alone
    ("rounding", "parallel"), ("files", "visible"),
    ("artifacts", "invocation"), ("claims", "invocation"),
    ("artifacts", "errors"), ("artifacts", "files"), ("files", "errors"), ("limits", "errors"),
    ("allowed", "errors"), ("recorded", "allowed"), ("recorded", "errors"),
    ("recorded", "limits"), ("recorded", "shortages"),
    ("seals", "errors"), ("seals", "files"), ("claims", "errors"),
    ("claims", "seals"), ("checks", "claims"), ("checks", "parallel"), ("confirming", "errors"),
    ("confirming", "files"), ("confirming", "parallel"), ("confirming", "seals"),
    ("artifacts", "checks"), ("artifacts", "claims"), ("artifacts", "confirming"),
    ("artifacts", "seals"), ("runs", "files"), ("runs", "seals"), ("auditing", "inspection"),
    ("shortages", "errors"), ("shortages", "parallel"), ("files", "shortages"),
    ("runlog", "shortages"),
    ("sealing", "errors"), ("sealing", "files"), ("trainer", "checkpointing"),
    ("resuming", "launching"),
    ("datamodule", "restarting"), ("checkpointing", "restarting"), ("resuming", "checkpointing"),
    ("edits", "errors"), ("places", "errors"), ("fetch", "guard"), ("fetch", "hosts"),
    ("decoding", "decode"), ("ingest", "decoding"), ("ingest", "fetch"), ("ingest", "shards"),
    ("progress", "ingest"), ("inspection", "shards"), ("mending", "inspection"),
    ("inspection", "decode"),
    ("mending", "shards"), ("mending", "decode"), ("store", "decode"), ("store", "fetch"),
    ("store", "shards"), ("store", "ingest"), ("store", "failures"), ("store", "progress"),
    ("store", "mending"), ("verify", "entrypoint"),
    ("store", "words"), ("shards", "decode"), ("words", "keypoints"), ("alignment", "keypoints"),
    ("agreement", "alignment"), ("agreement", "keypoints"), ("judge", "agreement"),
    ("judge", "alignment"), ("verifiers", "agreement"), ("verifiers", "alignment"),
    ("verifiers", "judge"), ("verifiers", "colours"), ("verifiers", "relations"),
    ("colours", "agreement"), ("colours", "alignment"), ("colours", "keypoints"),
    ("relations", "agreement"), ("relations", "alignment"), ("verifiers", "matchers"),
    ("calibration", "metrics"),
    ("truth", "metrics"),
    ("encoders", "checkpoint"), ("datamodule", "views"), ("tasks", "views"), ("callbacks", "views"),
    ("callbacks", "datamodule"), ("callbacks", "tasks"), ("changing", "indexing"),
    ("cells", "sketch"), ("matchers", "cells"), ("matchers", "sketch"),
    ("querying", "indexing"), ("querying", "matching"),
    ("querying", "comparing"), ("matching", "comparing"), ("relisting", "comparing"),
    ("store", "keypoints"), ("shards", "words"), ("shards", "keypoints"),
    ("framing", "foregrounds"),
    ("framing", "decode"), ("framing", "progress"), ("framing", "shards"), ("framing", "store"),
    ("stages", "entrypoint"), ("__main__", "manual"), ("entrypoint", "arguments"),
    ("entrypoint", "manual"), ("entrypoint", "preflight"), ("entrypoint", "sweep"),
    ("entrypoint", "outcome"), ("manual", "arguments"), ("preflight", "manual"),
    ("sweep", "outcome"), ("sources", "fetch"),
}  # fmt: skip
TORCH = {
    "dealing", "encoders", "checkpoint", "tasks", "callbacks", "trainer", "datamodule", "embedding",
    "views", "restarting", "checkpointing", "resuming", "devices", "launching",
}  # fmt: skip
HOME = {
    "torch": TORCH | {"indexing", "changing", "querying", "relisting", "preview"},
    "pytorch_lightning": TORCH,
    "hydra": {"entrypoint", "arguments", "sweep"},
    "omegaconf": {"entrypoint", "arguments", "manual", "sweep", "stages", "verify"},
    "aiohttp": {"fetch", "guard"},
    "urllib": {"fetch", "guard", "sources"},
    "http": set(),
    "socket": {"fetch", "guard"},
    "sklearn": set(),
}
FILES = sorted(path for path in SRC.rglob("*.py") if path.name != "__init__.py")


def part(path: Path) -> str:
    """The first name below ``dedup``."""
    return path.relative_to(SRC).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    here = part(path)
    for module in imports(path):
        if module.startswith("dedup."):
            there = module.split(".")[1]
            down = LAYER[there] < LAYER[here] or there == here or (here, there) in NEIGHBOURS
            assert down, f"{here} (layer {LAYER[here]}) imports {there} (layer {LAYER[there]})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_libraries_stay_home(path: Path) -> None:
    here = part(path)
    for module in imports(path):
        homes = HOME.get(module.split(".")[0])
        assert homes is None or here in homes, f"{here} imports {module}"


def test_every_module_has_a_layer() -> None:
    assert {part(path) for path in FILES} == set(LAYER)
