"""What an index names is found beside it where its folder was moved, and nowhere else."""

import dataclasses
from pathlib import Path

import pytest

from dedup.errors import ArtifactError
from dedup.runtime.run_record import write_run
from dedup.search.origins import load_index, table_settings, trained_on
from dedup.sources.jsonl import JsonlSource
from dedup.sources.parquet import ParquetSource
from dedup.sources.tables import TableSource
from tests.conftest import draw, encoded
from tests.search.test_index import random_index
from tests.store.test_repair import make_store

THERE = {"store": "store/pillow", "checkpoint": "train/today/best.ckpt"}


def put(runs: Path) -> None:
    """Put a store and a checkpoint into a folder of runs."""
    runs.mkdir(parents=True, exist_ok=True)
    (runs.parent / "a.png").write_bytes(encoded(draw(1), "PNG"))
    (runs / "store").mkdir()
    make_store(runs / THERE["store"], [str(runs.parent / "a.png")])
    (runs / "train" / "today").mkdir(parents=True)
    (runs / THERE["checkpoint"]).write_bytes(b"weights")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A moved folder of runs that holds an index alone; its names say where it was."""
    index, runs = random_index(1), tmp_path / "moved" / "runs"
    was = {name: str(tmp_path / "before" / "runs" / place) for name, place in THERE.items()}
    index = dataclasses.replace(index, manifest={**index.manifest, **was})
    index.save(runs / "cluster" / "today")
    return runs


def found(runs: Path) -> dict[str, str]:
    manifest = load_index(runs / "cluster" / "today").manifest
    return {name: manifest[name] for name in THERE}


@pytest.mark.parametrize("is_linked", [False, True], ids=["as_it_is", "by_a_link_to_all"])
def test_a_moved_folder_holds_what_its_index_names(runs: Path, is_linked: bool) -> None:
    put(runs)
    expected = {name: str(runs / place) for name, place in THERE.items()}
    if is_linked:  # the operator's own link to the folder
        (runs.parents[1] / "link").symlink_to(runs)
        assert found(runs.parents[1] / "link") == expected
    assert found(runs) == expected


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("n_up", [0, 1], ids=["itself", "its_folder"])
def test_no_link_leads_out_of_it(
    runs: Path, name: str, n_up: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "private" / "runs")
    place = Path(THERE[name])
    link = [place, *place.parents][n_up]
    (runs / link).parent.mkdir(parents=True, exist_ok=True)
    (runs / link).symlink_to(tmp_path / "private" / "runs" / link)
    assert (runs / place).exists()
    assert found(runs) == {
        name: str(tmp_path / "before" / "runs" / place) for name, place in THERE.items()
    }
    (warning,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert f"{runs / place} is not used instead" in warning


def test_a_link_inside_of_it_is_followed(runs: Path) -> None:
    put(runs)
    (runs / "store").rename(runs / "images")
    (runs / "store").symlink_to(runs / "images")
    assert found(runs) == {name: str(runs / place) for name, place in THERE.items()}


@pytest.mark.parametrize("kind", [JsonlSource, ParquetSource])
def test_how_a_table_was_read_is_remembered(kind: type[TableSource]) -> None:
    given = {"id_column": "sku", "url_column": ["a", "b"], "choice": "all", "base_url": "http://h/"}
    source = vars(kind(path="shop", **given))  # type: ignore[arg-type]
    read = table_settings({"source": {"_target_": "a part", **source}})
    assert read.items() >= given.items()
    assert "path" not in read
    assert "images_dir" not in read


@pytest.mark.parametrize("target", ["jsonl.JsonlSource", "parquet.ParquetSource"])
def test_the_table_of_a_stranger_names_images_beside_it_alone(tmp_path: Path, target: str) -> None:
    run = tmp_path / "theirs" / "run"
    run.mkdir(parents=True)
    (run / "images").mkdir()
    checkpoint = run / "best.ckpt"
    source = {"_target_": f"dedup.sources.{target}", "path": str(run / "table")}
    for folder, is_refused in ((run / "images", False), (tmp_path, True)):
        write_run({"version": "0", "source": {**source, "images_dir": str(folder)}}, run)
        if is_refused:
            with pytest.raises(ArtifactError, match=r"source\.images_dir names"):
                trained_on(checkpoint, tmp_path / "runs")
        else:
            assert vars(trained_on(checkpoint, tmp_path / "runs").source)["path"] == source["path"]
