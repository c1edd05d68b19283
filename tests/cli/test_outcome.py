"""The end of a command: what it says that it wrote, and what it proposes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dedup.cli.commands import settings_to_continue
from dedup.cli.outcome import written
from dedup.runtime.checksums import write_checked
from dedup.schemas import COMPARED, INDEX_IMAGES, NEAR
from dedup.search.index import Index
from dedup.search.state import SearchState
from tests.support.searches import search_facts


def test_every_file_of_a_report_is_named_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "detect.log").write_text("before")
    (tmp_path / "b.csv").write_text("of an earlier run in the same folder")

    def write(folder: Path) -> Path:
        with (folder / "detect.log").open("a") as log:
            log.write("and meanwhile")
        for name in ("z.csv", "b.csv", "a.csv"):
            (folder / f"{name}.part").write_text(name)
            (folder / f"{name}.part").replace(folder / name)
        (folder / "z").mkdir(exist_ok=True)
        return folder / "z.csv"

    expected = [tmp_path / name for name in ("z.csv", "a.csv", "b.csv")]
    assert written(write, tmp_path) == expected
    assert written(write, tmp_path) == expected
    assert written(lambda folder: folder.parent / "elsewhere", tmp_path) == [
        tmp_path.parent / "elsewhere"
    ]


MATCHER = {"_target_": "dedup.search.radius.RadiusSearch", "threshold": "auto"}
LOCAL = {"_target_": "dedup.verification.geometric.GeometricVerifier"}


def index_of(recipe: dict[str, Any] | None) -> Index:
    """An index without images, made with the encoder of ``FACTS``."""
    empty = np.zeros((0, 2), np.float32)
    manifest = {"checkpoint_sha256": "0" * 64} | ({"recipe": recipe} if recipe else {})
    images = pd.DataFrame(columns=INDEX_IMAGES.names)
    return Index(images, empty, empty, pd.DataFrame(), manifest)


@pytest.mark.parametrize(
    ("recipe", "change", "words"),
    [
        ((MATCHER, LOCAL), {}, []),
        ((MATCHER, LOCAL), {"block_by": "my brand"}, ["detection.block_by=my brand"]),
        ((MATCHER, LOCAL), {"asked": 0.4, "threshold": 0.4}, ["matcher.threshold=0.4"]),
        ((MATCHER, LOCAL), {"asked": 0.4, "threshold": 0.4, "looked": False, "words": None},
         ["matcher.threshold=0.4", "verifier=none"]),
        (None, {}, ["matcher.threshold=auto"]),
        (None, {"asked": 0.4, "threshold": 0.4}, ["matcher.threshold=0.4", "verifier=local"]),
        (None, {"asked": 0.0, "threshold": 0.0, "looked": False, "words": None}, []),
        ((MATCHER, LOCAL), {"against": True}, None),
        ((MATCHER, LOCAL), {"lossless": False}, None),
        (({**MATCHER, "lossless": False}, LOCAL), {}, None),
        ((MATCHER, LOCAL), {"checkpoint_sha256": "1" * 64}, None),
    ],
)  # fmt: skip
def test_a_changed_index_is_searched_from_where_the_latest_search_ended(
    tmp_path: Path, recipe: Any, change: dict[str, Any], words: list[str] | None
) -> None:
    cfg = OmegaConf.create({"runs": str(tmp_path)})
    index = index_of(recipe and {"matcher": recipe[0], "verifier": recipe[1]})
    assert settings_to_continue(cfg, index) == []
    latest = tmp_path / "detect" / "latest"
    latest.mkdir(parents=True)
    none = search_facts(pictures=0, comparisons=0, near_pairs=0)
    near, compared = (pd.DataFrame(columns=schema.names) for schema in (NEAR, COMPARED))
    SearchState(near, compared, dataclasses.replace(none, **change)).save(latest)
    expected = [] if words is None else [f"since={latest}", *words]
    assert settings_to_continue(cfg, index) == expected
    (latest / "search.json").write_text("{}")
    assert settings_to_continue(cfg, index) == []


@pytest.mark.parametrize(
    ("keep", "columns", "words"),
    [
        (["most_images", "cleanest", "largest"], [], []),
        (["highest:stock", "most_images"], [], ["grouping.keep=[highest:stock,most_images]"]),
        (["lowest:Preis, netto"], "brand",
         ['grouping.keep=["lowest:Preis, netto"]', "report.csv.columns=brand"]),
        (None, ['a "b"', "Größe"], ['report.csv.columns=["a \\"b\\"","Größe"]']),
    ],
)  # fmt: skip
def test_the_next_search_keeps_the_same_products_and_columns(
    tmp_path: Path, keep: Any, columns: Any, words: list[str]
) -> None:
    index = index_of({"matcher": MATCHER, "verifier": LOCAL})
    latest = tmp_path / "detect" / "latest"
    latest.mkdir(parents=True)
    none = search_facts(pictures=0, comparisons=0, near_pairs=0)
    near, compared = (pd.DataFrame(columns=schema.names) for schema in (NEAR, COMPARED))
    SearchState(near, compared, none).save(latest)
    run = {"grouping": {"keep": keep}, "report": {"csv": {"columns": columns}}}
    write_checked(run, {}, latest / "run.json")
    found = settings_to_continue(OmegaConf.create({"runs": str(tmp_path)}), index)
    assert found == [f"since={latest}", *words]
    for word in words:  # Hydra reads the same values
        value = OverridesParser.create().parse_override(word).value()
        assert value == (keep if word.startswith("grouping") else columns)
    (latest / "run.json").write_text("{}")
    damaged = settings_to_continue(OmegaConf.create({"runs": str(tmp_path)}), index)
    assert damaged == [f"since={latest}"]
