"""What a run's folder says of itself: its own files alone, and nothing that was changed since."""

import json
from pathlib import Path

import pytest

from dedup.detection.integrity import inspect_run
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import file_facts
from dedup.runtime.files import write_json, write_text
from dedup.runtime.run_record import read_run, write_run
from dedup.search.origins import trained_on
from tests.support.damaged import small_index, text

CSV = {"_target_": "dedup.sources.csv.CsvSource", "path": "å.csv"}
SETTINGS = {"version": "0", "metric": 0.5, "source": CSV, "files": 7, "sha256": "x"}


def test_a_run_lists_what_this_process_wrote_into_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small_index().save(run)
    (run / "deep").mkdir()
    write_text("written", run / "deep" / "page.html")
    write_text("hidden", run / ".hidden")
    write_text("beside", tmp_path / "beside.txt")
    write_text("gone", run / "gone.txt")
    (run / "gone.txt").unlink()
    (run / "note.txt").write_text("the user's")
    write_run(SETTINGS, run)
    said = read_run(run / "run.json")
    arrays = ["centroids.npy", "images.parquet", "manifest.json", "products.parquet", "vectors.npy"]
    names = sorted([*arrays, "deep/page.html"])
    assert said == {
        **{name: SETTINGS[name] for name in ("version", "metric", "source")},
        "files": {name: file_facts(run / name) for name in names},
    }
    assert [*said["files"]] == names
    assert inspect_run(run) == []
    (run / "note.txt").unlink()
    assert inspect_run(run) == []
    text(run / "deep" / "page.html", "w", "W")
    assert [damage.file for damage in inspect_run(run)] == ["deep/page.html"]


def test_what_an_earlier_version_wrote_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {"version": "0", "source": CSV, "foreground": None}
    write_json(old, tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == old
    assert trained_on(tmp_path / "best.ckpt", tmp_path).settings == CSV
    assert inspect_run(tmp_path) == []
    assert "an earlier version" in caplog.text


def test_a_changed_run_says_nothing(tmp_path: Path) -> None:
    write_run(SETTINGS, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["source"] == SETTINGS["source"]
    text(tmp_path / "run.json", "å.csv", "a.csv")
    file, checkpoint = tmp_path / "run.json", tmp_path / "best.ckpt"
    for read in (lambda: read_run(file), lambda: trained_on(checkpoint, tmp_path)):
        with pytest.raises(CorruptError, match=r"run\.json is not what was written, its SHA"):
            read()
    write_json({"version": "0"}, tmp_path / "run.json")
    with pytest.raises(CorruptError, match=r"run\.json"):
        trained_on(checkpoint, tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ArtifactError, match="is not a finished run"):
        read_run(tmp_path / "run.json")
