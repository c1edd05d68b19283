"""The Python API, by the examples of its page; and the commands beside it."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ImageOps

import dedup
from dedup.api.arguments import configured
from dedup.cli.commands import find, open_index
from dedup.cli.latest import latest_index
from dedup.config.instances import build, default_config, plain
from dedup.detection.results import SCHEMAS, index_of
from dedup.review.ledger import Choice
from dedup.review.sqlite import SqliteLedger
from dedup.runtime.checksums import checked_text
from dedup.runtime.files import sha256_file
from dedup.runtime.tables import write_table
from dedup.search.manifest import RESULT
from tests.conftest import DAMAGES, ROOT, draw, encoded, write_shop
from tests.support.passed_on import composed

PAGE = ROOT / "docs" / "reference" / "api.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples of the page leave, run from top to bottom in a shop's ``folder``."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "images").mkdir()
    for number in range(1, 11):
        (folder / "images" / f"a{number}.jpg").write_bytes(encoded(draw(number)))
    mirrored = ImageOps.mirror(draw(2))
    (folder / "images" / "a11.jpg").write_bytes(encoded(mirrored))
    (folder / "images" / "a12.jpg").write_bytes((folder / "images" / "a1.jpg").read_bytes())
    write_shop(folder, [(f"A{number}", f"images/a{number}.jpg") for number in range(1, 13)])
    names: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec("\n".join(EXAMPLE.findall(PAGE.read_text("utf-8"))), names)
    return names


@pytest.fixture
def folder(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples were run; the working directory."""
    monkeypatch.chdir(example["folder"])
    return Path(example["folder"])


def test_the_page_names_all_that_is_public() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in dedup.__all__ if name not in text and name != "__version__"] == []
    assert {*dedup.__all__} <= {*dir(dedup)}
    with pytest.raises(AttributeError, match="nothing"):
        dedup.nothing  # noqa: B018


def test_a_result_is_compared_and_planned_as_the_commands_do(
    example: dict[str, Any], folder: Path
) -> None:
    changes, plan, found = example["changes"], example["plan"], example["found"]
    assert changes.counts()["same"] == len(found.pairs) > 0
    assert changes.pairs.empty
    assert [(each.product_id, each.target) for each in plan.retired()] == [("A12", "A1")]
    done = subprocess.run(
        [sys.executable, "-m", "dedup", "plan", "findings=out", "plan.trust=[same_bytes]",
         "plan.url_template=/products/{productId}", "hydra.run.dir=by_command"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("plan.parquet", "retire.csv", "redirects/nginx.map", "undo/restore.csv"):
        assert (folder / "plan" / name).read_bytes() == (folder / "by_command" / name).read_bytes()
    ledger = SqliteLedger("decided.sqlite")
    ledger.append("1", [Choice(("A1", "A2"), "duplicate", "A2")], "ann")
    ledger.close()
    decided = found.plan(decisions="decided.sqlite")
    assert [(each.product_id, each.target) for each in decided.retired()] == [("A1", "A2")]
    with pytest.raises(dedup.ConfigError, match="same_pixels"):
        found.plan(trust=["near"])
    with pytest.raises(dedup.ArtifactError, match="gone"):
        found.diff("gone")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, dedup; print(sorted({'torch', 'hydra', 'pandas', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_default_config_is_that_of_hydra() -> None:
    for command, parts in (("detect", {"encoder": "bundled"}), ("cluster", {"source": "folder"})):
        composed_by_hydra = composed(command, *(f"{k}={v}" for k, v in parts.items()))
        config = default_config(command, **parts)
        for key in config:
            if key not in ("defaults", "trainer"):
                assert config[key] == composed_by_hydra[key], key


def test_what_is_found(example: dict[str, Any]) -> None:
    pairs = example["result"].pairs
    assert {*zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)} >= {("A1", "A12")}
    assert "A1" not in set(example["index"].images["product_id"])
    assert "A1" not in set(example["newer"].groups["product_id"])


def test_the_command_and_the_function_give_the_same_bytes(
    example: dict[str, Any], folder: Path
) -> None:
    run_dir = folder / "runs" / "detect" / "by_command"
    cfg = composed("detect", "encoder=bundled", "source.path=products.csv")
    index, where = open_index(cfg, run_dir)
    index, result, search = find(cfg, index)
    search.save(run_dir)
    result.save(run_dir, where)
    for report in build(cfg.report).values():
        report.write(result, index, run_dir)
    names = {file.name for file in (folder / "out").iterdir()} - {RESULT}
    assert names >= {"duplicates.csv", "duplicates.json", "report.html", "pairs.parquet"}
    for name in sorted(names):
        assert (folder / "out" / name).read_bytes() == (run_dir / name).read_bytes(), name
    assert (folder / "report.html").read_bytes() == (run_dir / "report.html").read_bytes()


def test_groups_are_those_of_the_table_for_people(example: dict[str, Any], folder: Path) -> None:
    written = pd.read_csv(folder / "out" / "groups.csv", dtype={"product_id": str})
    assert len(written)
    assert written["duplicate_of"].notna().any()
    for result in (example["result"], example["again"]):
        groups = result.groups.assign(
            **{
                name: result.groups[name].replace("", np.nan)
                for name in ("duplicate_of", "evidence")
            }
        )
        pd.testing.assert_frame_equal(groups, written, check_dtype=False, check_exact=True)
        assert ((result.groups["duplicate_of"] == "") == result.groups["kept"]).all()


def test_a_result_is_loaded_as_it_was_saved(example: dict[str, Any]) -> None:
    result, again = example["result"], example["again"]
    for name in SCHEMAS:
        left, right = getattr(again, name), getattr(result, name)
        pd.testing.assert_frame_equal(left, right, check_dtype=False)
    assert (again.search, again.calibration) == (result.search, result.calibration)
    assert again._repr_html_() == result._repr_html_()
    assert "data:image/jpeg" in example["html"]
    assert "A12" in example["html"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [RESULT, "groups.parquet"])
def test_a_damaged_result_is_refused(
    example: dict[str, Any], tmp_path: Path, damage: Any, name: str
) -> None:
    super(dedup.DetectionResult, example["result"]).save(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(dedup.CorruptError, match=name):
        dedup.DetectionResult.load(tmp_path)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("pairs", {"score": 2.0}),
        ("pairs", {"tier": "sure"}),
        ("pairs", {"product_id_a": "Z"}),
        ("groups", {"kept": True}),
        ("groups", {"product_id": "A1"}),
    ],
)
def test_a_result_that_cannot_be_is_refused(
    example: dict[str, Any], tmp_path: Path, table: str, change: dict[str, Any]
) -> None:
    super(dedup.DetectionResult, example["result"]).save(tmp_path)
    file = tmp_path / f"{table}.parquet"
    write_table(getattr(example["result"], table).assign(**change), SCHEMAS[table], file)
    manifest = json.loads((tmp_path / RESULT).read_text())
    manifest.pop("sha256")
    manifest["files"][file.name] |= {"size": file.stat().st_size, "sha256": sha256_file(file)}
    (tmp_path / RESULT).write_text(checked_text(manifest))
    with pytest.raises(dedup.CorruptError, match=file.name):
        dedup.DetectionResult.load(tmp_path)


def test_an_index_is_searched_as_it_was_made_for(
    example: dict[str, Any], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = index_of(folder / "out")
    cfg = composed("detect", f"index={made}", f"since={folder / 'out'}")
    with caplog.at_level(logging.INFO, "dedup"):
        _, result, _ = find(cfg, open_index(cfg, folder / "run")[0])
    assert (
        "settings that the index was made for: matcher.threshold=auto, its verifier"
        in caplog.messages
    )
    pd.testing.assert_frame_equal(result.pairs, example["result"].pairs, check_dtype=False)
    cfg = composed("detect", f"index={made}", "matcher.threshold=0.001")
    _, result, search = find(cfg, open_index(cfg, folder / "run")[0])
    assert search.facts.asked == 0.001  # what is said otherwise counts


def test_the_latest_index_is_the_cluster_runs_but_a_query_asks_the_newest(
    example: dict[str, Any], tmp_path: Path
) -> None:
    runs = [("detect", "2026-01-02_00-00-00-0"), ("cluster", "2026-01-01_00-00-00-0")]
    for command, name in runs:
        (tmp_path / command).mkdir()
        example["index"].save(tmp_path / command / name)
        (tmp_path / command / "latest").symlink_to(name)
        assert latest_index(tmp_path).resolve().name == name
    run = tmp_path / "detect" / runs[0][1]
    assert latest_index(tmp_path, newest=True).resolve() == run
    used = tmp_path / "detect" / "2026-01-03_00-00-00-0"
    super(dedup.DetectionResult, example["result"]).save(used, run)
    (used.parent / "latest").unlink()
    (used.parent / "latest").symlink_to(used.name)
    assert latest_index(tmp_path, newest=True).resolve() == run
    assert json.loads((used / RESULT).read_text())["index"] == f"../{run.name}"


@pytest.mark.parametrize("as_frame", [True, False])
def test_a_changed_table_is_read_as_the_index_was(
    folder: Path, tmp_path: Path, as_frame: bool
) -> None:
    rows = [("A", "images/a1.jpg;images/a2.jpg"), ("B", "images/a3.jpg"), ("C", "images/a4.jpg")]

    def table(n: int) -> Any:
        frame = pd.DataFrame(rows[:n], columns=["sku", "photos"])
        if as_frame:
            return frame
        frame.to_csv(folder / "galleries.csv", index=False)
        return folder / "galleries.csv"

    index = dedup.build_index(table(2), folder=tmp_path / "one", id="sku", images="photos",
                              choice="all", progress=False)  # fmt: skip
    larger = dedup.update_index(index, table(3), folder=tmp_path / "two", progress=False)
    assert sorted(larger.images["product_id"]) == ["A", "A", "B", "C"]
    again = dedup.update_index(larger, table(3), folder=tmp_path / "three", progress=False)
    assert sorted(again.images["product_id"]) == ["A", "A", "B", "C"]


def test_match_finds_what_a_loop_finds() -> None:
    vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    exact = vectors.astype(np.float64)
    expected = [
        (a, b, float(np.linalg.norm(exact[a] - exact[b])))
        for a in range(80)
        for b in range(a + 1, 80)
        if np.linalg.norm(exact[a] - exact[b]) <= 2.0
    ]
    pairs = dedup.match(vectors, threshold=2.0)
    assert [*zip(pairs["left"], pairs["right"], strict=True)] == [row[:2] for row in expected]
    np.testing.assert_allclose(pairs["distance"], [row[2] for row in expected], rtol=1e-12)
    assert dedup.match(vectors[:1], threshold=1).empty


def test_wrong_arguments_are_one_kind_of_error(folder: Path) -> None:
    for call in (
        lambda: dedup.find_duplicates("gone.csv"),
        lambda: dedup.find_duplicates(5),  # type: ignore[arg-type]
        lambda: dedup.find_duplicates("products.csv", precision=2),
        lambda: dedup.find_duplicates("products.csv", encoder="gone"),
        lambda: dedup.find_duplicates(pd.DataFrame({"a": ["b"]}), progress=False),
        lambda: dedup.match([1.0], threshold=1),
        lambda: dedup.match([[1.0]], threshold=0),
        lambda: dedup.query("gone", "a.jpg"),
    ):
        with pytest.raises(dedup.DedupError):
            call()


def test_five_lines_in_a_notebook(folder: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = ["import dedup", "dedup.find_duplicates('products.csv', threshold=0)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
    shown = [output.get("data", {}).get("text/html", "") for output in notebook.cells[1].outputs]
    assert any("1 groups, 2 products" in html for html in shown)


@pytest.mark.parametrize(
    ("vectors", "threshold"),
    [
        ([[1.0, 2.0], [3.0]], 0.5), ([["a", "b"]], 0.5), (np.array([[1j, 0]]), 0.5),
        ([[1.0, 2.0]], "auto"), ([[1.0, 2.0]], None), ([[1.0, 2.0]], 10**400),
    ],
)  # fmt: skip
def test_what_is_no_number_is_not_matched(vectors: Any, threshold: Any) -> None:
    with pytest.raises(dedup.ConfigError):
        dedup.match(vectors, threshold)


def test_arguments_are_taken_literally() -> None:
    given = {"matcher.precision": np.float64(0.9), "detection.block_by": "${oc.env:HOME}"}
    settings = plain(configured("bundled", given | {"grouping.keep": np.array(["largest"])}))
    assert settings["matcher"]["precision"] == 0.9
    assert settings["detection"]["block_by"] == "${oc.env:HOME}"
    assert settings["grouping"]["keep"] == ["largest"]


def test_the_id_of_a_product_is_no_image(example: dict[str, Any], folder: Path) -> None:
    with pytest.raises(dedup.ConfigError, match=r"images=A2 is the id of a product.*a2\.jpg"):
        dedup.query(example["index"], "A2")
    for nothing in ("", []):
        with pytest.raises(dedup.ConfigError, match="names no image"):
            dedup.query(example["index"], nothing)
