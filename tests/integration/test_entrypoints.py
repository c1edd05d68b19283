"""The three commands as a user types them, on a small shop."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dedup.detection.integrity import inspect_run
from dedup.runtime.run_record import read_run
from dedup.search.index import Index
from tests.conftest import ROOT, SMALL, draw, encoded, python, run, shuffled, write_shop

PLANTED = {"P00": ["P20"], "P20": ["P00"], "P01": ["P21"], "P21": ["P01"], "P02": ["P22"],
           "P22": ["P02"]}  # fmt: skip
REPORTS = ["duplicates.json", "duplicates.csv", "groups.csv", "report.html"]


def test_train_leaves_checkpoints_and_what_tensorboard_shows(trained: Path) -> None:
    latest = trained / "runs" / "train" / "latest"
    assert latest.is_symlink()
    for name in ("best.ckpt", "last.ckpt"):
        torch.load(latest / name, weights_only=True)
    events = EventAccumulator(str(latest), size_guidance={"images": 0}).Reload()
    scalars = events.Tags()["scalars"]
    assert {"train/loss", "val/loss", "val/ssim", "train/images_per_second"} <= set(scalars)
    first, last = events.Scalars("val/loss")
    assert last.value < first.value
    assert events.Tags()["images"] == ["val/reconstructions"]
    metric = json.loads((latest / "run.json").read_text())["metric"]
    assert metric == pytest.approx(min(event.value for event in events.Scalars("val/loss")))


def test_one_warning_where_gpus_are_fewer_than_asked(trained: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    log = (trained / "runs" / "train" / "latest" / "train.log").read_text()
    assert len(re.findall("trainer.gpus=1, but 0", log)) == 1


@pytest.mark.parametrize("command", ["train", "cluster", "detect"])
def test_a_run_lists_what_it_left(trained: Path, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained / "runs" / command / "latest", folder)
    assert inspect_run(folder) == []
    listed = read_run(folder / "run.json")["files"]
    left = {file.name for file in folder.iterdir() if file.is_file()}
    own = re.compile(r"run\.json|.*\.(log|ckpt)|events\..*|hparams\.yaml|projector_.*")
    assert {*listed} == {name for name in left if not own.fullmatch(name)}
    for name in {*listed} | {name for name in left if name.endswith(".ckpt")}:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        assert [damage.file for damage in inspect_run(folder)] == [name]
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)


def test_cluster_accounts_for_every_product(trained: Path) -> None:
    latest = trained / "runs" / "cluster" / "latest"
    index = Index.load(latest)
    assert len(index.images) == 24
    assert (index.images["status"] == "ok").sum() == 23
    assert len(index.vectors) == 20  # equal pixels are embedded once
    before = pd.read_csv(trained / "products.csv", dtype=str, keep_default_na=False)
    after = pd.read_csv(latest / "catalogue.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(after.drop(columns="cluster"), before)
    assert set(after["cluster"][:23]) <= set("0123")
    assert after["cluster"][23] == ""
    failures = pd.read_csv(latest / "failures.csv", dtype=str)
    shown = ["productId", "failure_status", "failure_reason"]
    assert failures[shown].to_numpy().tolist() == [["P23", "failed", "not_found"]]


def test_detect_finds_what_was_planted_and_nothing_else(trained: Path) -> None:
    latest = trained / "runs" / "detect" / "latest"
    assert json.loads((latest / "duplicates.json").read_text()) == PLANTED
    pairs = pd.read_csv(latest / "duplicates.csv", dtype=str)
    assert pairs.columns.tolist()[:10] == [
        "product_id_a", "product_id_b", "distance", "tier", "group_id", "image_a", "image_b",
        "score", "evidence", "relation",
    ]  # fmt: skip
    assert pairs["tier"].tolist() == ["same_bytes", "same_pixels", "same_url"]
    assert pairs["distance"].astype(float).tolist() == [0, 0, 0]
    assert pairs["score"].astype(float).tolist() == [1, 1, 1]
    assert pairs["evidence"].tolist() == ["same bytes", "same pixels", "same address"]
    assert pairs["address_b"].tolist() == ["images/copy.jpg", "images/copy.png", "images/2.jpg"]
    groups = pd.read_csv(latest / "groups.csv", dtype=str)
    assert groups["duplicate_of"].dropna().tolist() == ["P00", "P01", "P02"]
    log = (latest / "detect.log").read_text()
    assert "3 groups, 6 products, 3 can be removed (3 equal, 0 near)\n" in log
    assert "1 product without a readable image" in log
    assert "data:image/" in (latest / "report.html").read_text()


@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_reports_do_not_depend_on_batch_size_or_row_order(trained: Path, batch_size: int) -> None:
    table = shuffled(trained / "products.csv", batch_size, f"shuffled-{batch_size}.csv")
    run("detect", "source=csv", f"source.path={table}", f"data.batch_size={batch_size}",
        f"runs=runs-{batch_size}", "checkpoint=runs/train/latest",
        "store.path=runs/store/pillow", cwd=trained)  # fmt: skip
    for report in REPORTS:
        here = trained / f"runs-{batch_size}" / "detect" / "latest" / report
        assert here.read_bytes() == (trained / "runs/detect/latest" / report).read_bytes(), report


def test_a_server_gives_the_same_report_as_the_files(
    trained: Path, serve: Callable[..., str]
) -> None:
    base = serve(trained)
    rows = [line.split(",") for line in (trained / "products.csv").read_text().splitlines()[1:]]
    web = trained / "web"
    web.mkdir()
    write_shop(web, [(product, f"{base}/{url}") for product, _, url in rows])
    run("detect", "source=csv", "source.path=web/products.csv", "clusterer.n_clusters=4",
        "checkpoint=runs/train/latest", "runs=web/runs", "fetch.allow_networks=[127.0.0.0/8]",
        cwd=trained)  # fmt: skip
    latest = web / "runs" / "detect" / "latest"
    assert json.loads((latest / "duplicates.json").read_text()) == PLANTED
    failures = pd.read_csv(latest / "failures.csv", dtype=str)
    assert failures[["productId", "failure_reason"]].to_numpy().tolist() == [["P23", "http_404"]]


def test_the_latest_index_serves_its_own_source_and_no_other(trained: Path) -> None:
    (trained / "other.csv").write_bytes((trained / "products.csv").read_bytes())
    index = (trained / "runs" / "cluster" / "latest").resolve()
    (trained / "served" / "cluster").mkdir(parents=True)
    (trained / "served" / "cluster" / "latest").symlink_to(index)
    (trained / "served" / "train").symlink_to(trained / "runs" / "train")
    for source, made_anew in (("products.csv", False), ("other.csv", True)):
        run("detect", "source=csv", f"source.path={source}", "clusterer.n_clusters=4",
            "runs=served", cwd=trained)  # fmt: skip
        latest = trained / "served" / "detect" / "latest"
        assert (latest / "vectors.npy").exists() == made_anew
        assert json.loads((latest / "duplicates.json").read_text()) == PLANTED


@pytest.mark.parametrize(("image", "expected"), [("images/1.jpg", ["P01", "P21"]), ("new.png", [])])
def test_a_query_is_answered(trained: Path, image: str, expected: list[str]) -> None:
    (trained / "new.png").write_bytes(encoded(draw(99), "PNG"))
    index = (trained / "runs" / "cluster" / "latest").resolve()
    done = run("detect", f"query={image}", f"index={index}", "runs=asked", cwd=trained)
    answers = json.loads(done.stdout)
    assert [answer["product_id"] for answer in answers] == expected
    assert all(answer["distance"] == 0 for answer in answers)
    assert not (trained / "asked" / "detect" / "latest").exists()  # it holds nothing to go on from


def test_a_threshold_above_zero_finds_the_near_ones(trained: Path) -> None:
    index = (trained / "runs" / "cluster" / "latest").resolve()
    run("detect", f"index={index}", "matcher.threshold=1000", "runs=near", cwd=trained)
    pairs = pd.read_csv(trained / "near/detect/latest/duplicates.csv", dtype=str)
    assert len(pairs) == 23 * 22 / 2  # every two products, in whatever clusters they are
    near = pairs[pairs["tier"] == "near"]["distance"].astype(float)
    assert (near > 0).all()


def test_training_goes_on_from_a_checkpoint(trained: Path) -> None:
    latest = (trained / "runs" / "train" / "latest").resolve()
    run("train", "source=csv", "source.path=products.csv", *SMALL, "epochs=3", "runs=on",
        f"resume={latest}/last.ckpt", cwd=trained)  # fmt: skip
    events = EventAccumulator(str(trained / "on/train/latest")).Reload()
    assert len(events.Scalars("val/loss")) == 1  # the third epoch alone


def test_a_sweep_names_its_best_run_and_makes_it_the_latest(trained: Path) -> None:
    done = run("train", "-m", "source=csv", "source.path=products.csv", *SMALL, "epochs=1",
               "encoder.embedding_dim=4,8", "task.lr=1e-3,1e30", "runs=sweep",
               cwd=trained, code=7)  # fmt: skip
    folders = sorted((trained / "sweep" / "train").glob("2*/*/run.json"))
    assert len(folders) == 2
    assert len(re.findall(r"^failed .*task.lr=1e\+30.*: .*nan", done.stdout, re.MULTILINE)) == 2
    metrics = {file.parent.resolve(): json.loads(file.read_text())["metric"] for file in folders}
    best = min(metrics, key=lambda folder: metrics[folder])
    assert (trained / "sweep" / "train" / "latest").resolve() == best
    assert f"best of 2: {metrics[best]:.6g}"[:14] in done.stdout


@pytest.mark.parametrize(("experiment", "n_runs"), [("sweep_optuna", 3), ("sweep_joblib", 4)])
def test_sweep_plugins(trained: Path, experiment: str, n_runs: int) -> None:
    pytest.importorskip("optuna")
    optuna = experiment == "sweep_optuna"
    more = ["hydra.sweeper.n_trials=3" if optuna else "encoder.embedding_dim=4,8"]
    done = run("train", "-m", f"experiment={experiment}", "source=csv", "source.path=products.csv",
               *SMALL, "epochs=1", *more, f"runs={experiment}", cwd=trained)  # fmt: skip
    assert len(list((trained / experiment / "train").glob("2*/*/run.json"))) == n_runs
    assert f"best of {n_runs}" in done.stdout


BAD = {
    "missing file": ("train", ["source=csv", "source.path=nowhere.csv"], ["nowhere.csv"]),
    "missing column": (
        "train",
        ["source=csv", "source.path=products.csv", "source.url_column=picture"],
        ["picture", "productId", "imageUrlStr", "source.url_column"],
    ),
    "empty file": ("train", ["source=csv", "source.path=empty.csv"], ["empty.csv", "header"]),
    "no rows": ("train", ["source=csv", "source.path=header.csv"], ["header.csv", "0 products"]),
    "no readable image": (
        "train",
        ["source=csv", "source.path=blind.csv"],
        ["not one of 1", "failed:not_found", "failures.csv"],
    ),
    "no path": ("train", ["source=csv"], ["source.path"]),
    "typo": ("train", ["trainer.gpuz=1"], ["trainer.gpuz", "trainer.gpus"]),
    "no such part": ("train", ["encoder=convv"], ["convv", "conv"]),
    "not a number": ("train", ["epochs=abc"], ["epochs=abc", "whole number"]),
    "no clusters": ("cluster", ["clusterer.n_clusters=0"], ["clusterer.n_clusters=0", "1 or more"]),
    "no checkpoint": ("cluster", ["checkpoint=gone.ckpt"], ["gone.ckpt", "train.py"]),
    "no index": ("detect", ["index=gone"], ["gone", "cluster.py"]),
    "another shape": (
        "train",
        ["source=csv", "source.path=products.csv", *SMALL, "encoder.embedding_dim=9",
         "resume=runs/train/latest/last.ckpt"],
        ["embedding_dim 8 -> 9", "last.ckpt"],
    ),
    "too few steps": (
        "train",
        ["source=csv", "source.path=products.csv", *SMALL, "trainer.max_steps=1"],
        ["after 1 steps, before its first validation"],
    ),
    "resume from weights alone": (
        "train",
        ["source=csv", "source.path=products.csv", *SMALL,
         "resume=runs/train/latest/best.ckpt"],
        ["best.ckpt", "resume from last.ckpt"],
    ),
    "resume with other batches": (
        "train",
        ["source=csv", "source.path=products.csv", *SMALL, "data.batch_size=9",
         "resume=runs/train/latest"],
        ["data.batch_size 8 -> 9", "train from scratch"],
    ),
    "resume a sweep": (
        "train", ["-m", "resume=auto", "task.lr=1e-3,3e-4"], ["resume=auto", "leave out -m"],
    ),
    "another checkpoint's index": (
        "detect",
        ["index=runs/cluster/latest", "checkpoint=runs/train/latest/last.ckpt"],
        ["the index was made with", "last.ckpt"],
    ),
    "index and source": (
        "detect",
        ["index=runs/cluster/latest", "source=csv", "source.path=products.csv"],
        ["leave one of them out"],
    ),
    "add what": ("cluster", ["change=add"], ["change=add needs a catalogue", "source.path"]),
    "remove what": ("cluster", ["change=remove"], ["ids="]),
    "remove a stranger": ("cluster", ["change=remove", "ids=[P0]"], ["no product 'P0'", "'P00'"]),
    "ids without brackets": ("cluster", ["change=remove", "ids=P00"], ["'ids=[P00]'"]),
    "no such change": ("cluster", ["change=drop"], ["change=drop", "one of build, add"]),
    "no such rule": ("detect", ["grouping.keep=[larges]"], ["larges", "largest"]),
    "no such column": ("detect", ["detection.block_by=Title"], ["block_by=Title", "title"]),
    "nothing to go on from": ("detect", ["since=gone"], ["gone", "leave since out"]),
    "too many pairs": (
        "detect", ["matcher.threshold=1000", "matcher.max_pairs=9"], ["more than 9 pairs", "lower"],
    ),
    "since and against": (
        "detect", ["since=runs/detect/latest", "against=runs/cluster/latest"],
        ["leave one of them out"],
    ),
    "unreadable query": (
        "detect",
        ["index=runs/cluster/latest", "query=products.csv"],
        ["products.csv", "format"],
    ),
    "several GPUs in a sweep": (
        "train", ["-m", "trainer.gpus=2", "task.lr=1e-3,3e-4"], ["sweep", "trainer.gpus=2"],
    ),
    "forbidden class": ("train", ["task._target_=os.system"], ["os.system", "dedup."]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_one_message_and_exit_code_2(trained: Path, case: str) -> None:
    (trained / "empty.csv").write_text("")
    (trained / "header.csv").write_text("productId,title,imageUrlStr\n")
    (trained / "blind.csv").write_text("productId,title,imageUrlStr\nA,a,none.jpg\n")
    command, overrides, words = BAD[case]
    before = (trained / "runs" / "train" / "latest").resolve()
    done = run(command, *overrides, cwd=trained, code=2)
    for word in words:
        assert word in done.stderr
    assert len(done.stderr.splitlines()) <= 12, done.stderr
    assert (trained / "runs" / "train" / "latest").resolve() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_strict_wish_for_a_gpu_fails_without_one(trained: Path) -> None:
    done = run("train", "source=csv", "source.path=products.csv", *SMALL,
               "trainer.accelerator=gpu", cwd=trained, code=2)  # fmt: skip
    assert "trainer.accelerator=gpu asks for 1 GPU(s) and 0 can be seen" in done.stderr


def test_diverging_training_stops_with_its_own_exit_code(trained: Path) -> None:
    done = run("train", "source=csv", "source.path=products.csv", *SMALL, "task.lr=1e30",
               "runs=diverged", cwd=trained, code=7)  # fmt: skip
    assert "task.lr" in done.stderr
    assert not (trained / "diverged" / "train" / "latest").exists()


@pytest.mark.parametrize("images", ["one", "equal"])
def test_catalogues_with_one_distinct_image(trained: Path, tmp_path: Path, images: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(draw(5), "PNG"))
    rows = [("A", "a.png")] if images == "one" else [(name, "a.png") for name in "ABC"]
    write_shop(tmp_path, rows)
    checkpoint = (trained / "runs" / "train" / "latest").resolve()
    for command in ("cluster", "detect"):
        overrides = ["source=csv", "source.path=products.csv", f"checkpoint={checkpoint}",
                     "clusterer.n_clusters=3"]  # fmt: skip
        done = run(command, *(overrides if command == "cluster" else []), cwd=tmp_path)
        assert command == "detect" or "1 distinct embedding: making 1 cluster" in done.stderr
    found = json.loads((tmp_path / "runs/detect/latest/duplicates.json").read_text())
    assert sorted(found) == ([] if images == "one" else ["A", "B", "C"])


def test_help_answers_without_importing_torch(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "finally:\n"
        "    print('slow imports:', sorted({'torch', 'pandas', 'sklearn'} & sys.modules.keys()))\n"
    )
    done = python("-c", code, cwd=tmp_path, process=True)
    assert done.returncode == 0
    assert "slow imports: []" in done.stdout
    assert "trainer" in done.stdout


def test_the_command_of_the_wheel_runs_the_entry_points(trained: Path) -> None:
    done = python("-m", "dedup", "detect", "index=gone", cwd=trained)
    assert done.returncode == 2
    assert "gone" in done.stderr
    usage = python("-m", "dedup", cwd=trained)
    assert usage.stderr.startswith(
        "usage: dedup {train,cluster,detect,review,calibrate,diff,plan,check}"
    )
