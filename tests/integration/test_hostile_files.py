"""Indexes and runs that somebody passed on: refused by name, and nothing is called."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from dedup.cli.commands import answer, change_index, find, make_index, open_index
from dedup.errors import ArtifactError, DedupError
from dedup.schemas import COMPARED, NEAR
from dedup.search.state import SearchFacts, SearchState
from tests.conftest import run
from tests.support.passed_on import CANARY, Person, forged, forged_run, make_person, untouched

SECRET = "${oc.env:CANARY}"
Change = Callable[[dict[str, Any], Person], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return make_person(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def person(made: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """The person, with what was passed on as it was, and a secret in the environment."""
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.chdir(made.folder)
    honest = (made.passed / "index" / "manifest.json").read_bytes()
    yield made
    (made.passed / "index" / "manifest.json").write_bytes(honest)
    (made.passed / "run" / "run.json").unlink(missing_ok=True)
    assert made.precious.read_text() == "years of work"


def query(person: Person) -> set[str]:
    """The products that show the first image."""
    cfg = person.config("query", query=str(person.folder / "images" / "0.jpg"))
    return {row["product_id"] for row in json.loads(answer(cfg, open_index(cfg, person.out)[0]))}


def look(person: Person) -> set[str]:
    """The products of all pairs."""
    cfg = person.config("look")
    _, findings, _ = find(cfg, open_index(cfg, person.out)[0])
    return {*findings.pairs["product_id_a"], *findings.pairs["product_id_b"]}


def remove(person: Person) -> set[str]:
    """The products that are left."""
    return set(change_index(person.config("remove"), person.out).images["product_id"])


def add(person: Person) -> set[str]:
    """All products afterwards."""
    table = {"source.path": str(person.folder / "products.csv")}
    return set(change_index(person.config("add", **table), person.out).images["product_id"])


COMMANDS = [query, look, remove, add]


def write(person: Person) -> dict[str, Any]:
    """What overwrites a file where it is built: an existing file's name becomes a path first."""
    path = {"_target_": "dedup.encoders.paths.checkpoint_file", "path": str(person.precious)}
    return {"_target_": "dedup.runtime.files.write_text", "text": "gone", "path": path}


def part(change: Any) -> Change:
    """The foreground is described otherwise."""
    return lambda said, person: said["foreground"].update(
        part=change(person) if callable(change) else change
    )


def setting(**settings: Any) -> Change:
    """The foreground has other settings, or more."""
    return lambda said, _: said["foreground"]["part"].update(settings)


def framing(**settings: Any) -> Change:
    return lambda said, _: said["foreground"]["framing"].update(settings)


def says(**entries: Any) -> Change:
    """The manifest says something else, which may depend on the person."""
    return lambda said, person: said.update(
        {name: value(person) if callable(value) else value for name, value in entries.items()}
    )


def named(target: Any, **settings: Any) -> Change:
    return part({"_target_": target, **settings})


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"_target_": "dedup.foregrounds.lab_otsu.LabOtsu"}
    for _ in range(levels):
        inner = {"_target_": "dedup.foregrounds.skin_aware.SkinAware", "person": inner}
    return inner


GRABCUT, ONNX = "dedup.foregrounds.grabcut.GrabCut", "dedup.foregrounds.onnx.Onnx"

MANIFESTS: dict[str, Change] = {
    "writes a file": part(write),
    "runs a command": named("os.system", command="touch home/precious.txt"),
    "runs a command by an alias": named("dedup.runtime.files.os.system", command="true"),
    "writes by pathlib": named("pathlib.Path.write_text", self="x", data="gone"),
    "moves a link": named("dedup.cli.entrypoint.point_latest", run_dir="x", latest="y"),
    "sweeps a folder": named(
        "dedup.encoders.archive.remove_partial_files", folder=".", suffix=".ckpt"
    ),
    "builds anything": named("dedup.cli.entrypoint.build", node={}),
    "trains": named("dedup.training.trainer.build_trainer", run_dir="x"),
    "another place's class": named("dedup.sources.sample.SampleSource", folder="x"),
    "a store": named("dedup.store.image_store.ImageStore", path="x"),
    "another name of a class": named("dedup.foregrounds.skin_aware.GrabCut"),
    "a module's module": named("dedup.foregrounds.onnx.importlib.import_module", name="os"),
    "a method": named(f"{GRABCUT}.__call__", image=[]),
    "no name": named(None),
    "a name that is none": named({"_target_": "os.system"}),
    "a secret for a name": named(SECRET),
    "inside another": lambda said, person: said["foreground"]["part"].update(person=write(person)),
    "in a setting": lambda said, person: said["foreground"]["part"].update(head=write(person)),
    "in a list": lambda said, person: said["foreground"]["part"].update(person=[write(person)]),
    "in the framing": lambda said, person: said["foreground"].update(framing=write(person)),
    "in the framing's setting": lambda said, person: said["foreground"]["framing"].update(
        margin=write(person)
    ),
    "in the digest": lambda said, person: said["foreground"].update(digest=write(person)),
    "positional arguments": setting(_args_=["x"]),
    "called later": setting(_partial_=True),
    "built otherwise": setting(_recursive_=True, _convert_="none"),
    "a secret": named(ONNX, model=SECRET),
    "a secret in a key": setting(**{SECRET: 1}),
    "a secret in a list": named(ONNX, product=[SECRET]),
    "an unknown setting": setting(depth=3),
    "a text for a number": setting(head="0.13"),
    "a truth for a number": setting(head=True),
    "out of range": named(GRABCUT, iterations=10**9),
    "out of range inside": lambda said, _: said["foreground"]["part"]["person"].update(side=10**6),
    "out of memory": named(ONNX, size=[10**6, 10**6]),
    "not a number": setting(reach=math.nan),
    "endless": setting(reach=math.inf),
    "a number of 4,000 digits": setting(reach=10**4000),
    "levels without end": part(nested(200)),
    "a list": part([]),
    "a text": part("grabcut"),
    "nothing": says(foreground=None),
    "a foreground of text": says(foreground="grabcut"),
    "an unknown aspect": framing(aspect="\x1b[2J"),
    "a huge margin": framing(margin=1e300),
    "no digest": lambda said, _: said["foreground"].pop("digest"),
    "a store to build": says(store=write),
    "a store of a secret": says(store=f"{SECRET}/store"),
    "a store that is none": says(store=lambda person: str(person.home)),
    "a store that is a file": says(store=lambda person: str(person.precious)),
    "a store that is a number": says(store=1),
    "a store without an end": says(store="x" * 5000),
    "a store with NUL": says(store="store\0"),
    "a store of half a letter": says(store="store\ud800"),
    "a reader to build": says(reader=write),
    "a reader that is none": says(reader="os.system"),
    "another reader than the store's": says(reader="skimage"),
    "a checkpoint to build": says(checkpoint=write),
    "a checkpoint of a secret": says(checkpoint=SECRET),
    "a digest to build": says(checkpoint_sha256=write),
    "a recipe to build": says(recipe=write),
    "a recipe of text": says(recipe="radius"),
    "no verifier in the recipe": lambda said, _: said["recipe"].pop("verifier"),
    "a matcher that writes a file": lambda said, person: said["recipe"].update(
        matcher=write(person)
    ),
    "a verifier that runs a command": lambda said, _: said["recipe"].update(
        verifier={"_target_": "os.system", "command": "true"}
    ),
    "a threshold of a secret": lambda said, _: said["recipe"]["matcher"].update(threshold=SECRET),
    "a threshold below 0": lambda said, _: said["recipe"]["matcher"].update(threshold=-1.0),
    "pairs without a limit": lambda said, _: said["recipe"]["matcher"].update(max_pairs=2**40),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", MANIFESTS)
def test_a_forged_manifest_is_refused(
    person: Person, case: str, command: Callable[[Person], set[str]],
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    forged(person.passed / "index", lambda said: MANIFESTS[case](said, person))
    with untouched(person), pytest.raises(DedupError) as caught:
        command(person)
    message = str(caught.value)
    assert str(person.passed / "index" / "manifest.json") in message
    assert message.isprintable()
    assert len(message) < 1500
    assert CANARY not in "".join([message, caplog.text, *capfd.readouterr()])


def test_an_honest_one_is_not(person: Person) -> None:
    products = {f"P{number:02}" for number in range(24)}
    assert query(person) >= {"P00", "P20"}
    assert look(person) >= {"P00", "P01", "P02", "P20", "P21", "P22"}
    assert remove(person) == products - {"P00"}
    assert add(person) == products


LATER: dict[str, Change] = {
    "another version": lambda said, _: said["foreground"].update(digest="0" * 64),
    "another model": lambda said, person: said["foreground"].update(
        part={"_target_": ONNX, "model": str(person.precious)}
    ),
    "another model with a digest": lambda said, person: said["foreground"].update(
        part={"_target_": ONNX, "model": str(person.precious), "sha256": "0" * 64}
    ),
    "no model": lambda said, person: said["foreground"].update(
        part={"_target_": ONNX, "model": str(person.home)}
    ),
}


@pytest.mark.parametrize("command", [query, remove])
@pytest.mark.parametrize("case", LATER)
def test_what_a_foreground_needs_is_compared_before_it_is_used(
    person: Person, case: str, command: Callable[[Person], set[str]]
) -> None:
    forged(person.passed / "index", lambda said: LATER[case](said, person))
    with untouched(person), pytest.raises(ArtifactError) as caught:
        command(person)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("checkpoint", ["precious.txt", "."])
def test_a_checkpoint_is_compared_before_it_is_read(person: Person, checkpoint: str) -> None:
    at = str(person.home / checkpoint)
    forged(person.passed / "index", lambda said: said.update(checkpoint=at))
    with untouched(person), pytest.raises(ArtifactError, match=r"is another|no checkpoint"):
        query(person)


@pytest.mark.parametrize("place", ["gone", "empty", "../home"])
def test_nothing_is_added_to_what_is_no_store(person: Person, place: str) -> None:
    at = person.folder / place
    if place == "empty":
        at.mkdir(exist_ok=True)
    forged(person.passed / "index", lambda said: said.update(store=str(at)))
    with untouched(person), pytest.raises(ArtifactError, match=r"manifest\.json: store") as caught:
        add(person)
    assert str(at) in str(caught.value)


FACTS = {
    "asked": 0.1, "threshold": 0.1, "looked": True, "lossless": True, "pictures": 0,
    "comparisons": 0, "share": 0.0, "near_pairs": 0, "missed": 0.0, "missed_share": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("digest", [{"_target_": "os.system", "command": "true"}, SECRET, 3])
def test_a_forged_search_and_calibration_call_nothing(
    person: Person, digest: Any, caplog: pytest.LogCaptureFixture
) -> None:
    since, cfg = person.passed / "since", person.config("look")
    since.mkdir(exist_ok=True)
    near, compared = (pd.DataFrame(columns=schema.names) for schema in (NEAR, COMPARED))
    SearchState(near, compared, SearchFacts.from_dict({**FACTS, "checkpoint_sha256": digest})).save(
        since
    )
    (since / "calibration.json").write_text(json.dumps(write(person) | {"threshold": SECRET}))
    cfg.since = str(since)
    with untouched(person), pytest.raises(DedupError, match=r"since|search\.json") as caught:
        find(cfg, open_index(cfg, person.out)[0])
    assert CANARY not in str(caught.value) + caplog.text


CSV, FOLDER = "dedup.sources.csv.CsvSource", "dedup.sources.folder.FolderSource"
SAMPLE = "dedup.sources.sample.SampleSource"
TABLE = {"_target_": CSV, "path": "products.csv"}

RUNS: dict[str, Any] = {
    "writes a file": write,
    "runs a command": {"_target_": "os.system", "command": "true"},
    "draws": {"_target_": "dedup.sources.sample.draw_catalogue", "folder": "drawn"},
    "another place's class": {"_target_": GRABCUT},
    "a secret path": {"_target_": CSV, "path": SECRET},
    "a secret column": {**TABLE, "id_column": SECRET},
    "a secret in a list": {**TABLE, "categories": ["a", SECRET]},
    "a path to build": lambda person: {"_target_": CSV, "path": write(person)},
    "a folder to build": lambda person: {"_target_": SAMPLE, "folder": write(person)},
    "a path of no type": {"_target_": CSV, "path": 3},
    "no path": {"_target_": CSV},
    "half a letter": {"_target_": CSV, "path": "\ud800"},
    "NUL": {"_target_": CSV, "path": "a\0b"},
    "an endless path": {"_target_": CSV, "path": "x" * 5000},
    "an unknown setting": {**TABLE, "delimiter": ";"},
    "a choice that is none": {**TABLE, "choice": "all of them"},
    "rows that are none": {**TABLE, "rows": [0.5]},
    "positional arguments": {**TABLE, "_args_": ["x"]},
    "the whole disk": {**TABLE, "images_dir": "/"},
    "the folder above": {**TABLE, "images_dir": ".."},
    "the home": lambda person: {**TABLE, "images_dir": str(person.home)},
    "paths told to a host": {**TABLE, "base_url": "https://shop.test/"},
    "a base that is none": {**TABLE, "base_url": 5},
    "a dialect that is none": {**TABLE, "dialect": [1]},
    "the environment": {"_target_": CSV, "path": "/proc/self/environ"},
    "all images": {"_target_": FOLDER, "path": "/"},
    "images of the person": lambda person: {"_target_": FOLDER, "path": str(person.home)},
    "a drawn home": lambda person: {"_target_": SAMPLE, "folder": str(person.home)},
    "drawn elsewhere": {"_target_": SAMPLE, "folder": "runs/sample/../../drawn"},
    "drawn without end": {"_target_": SAMPLE, "n_products": 10**9},
    "drawn by a text": {"_target_": SAMPLE, "seed": "../../x"},
    "a list": [TABLE],
    "a text": CSV,
    "nothing": None,
}


@pytest.mark.parametrize("case", RUNS)
def test_a_forged_run_is_refused(
    person: Person, case: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    said = RUNS[case]
    source = said(person) if callable(said) else said
    file = forged_run(person.passed / "run", {"source": source, "foreground": None})
    with untouched(person), pytest.raises(ArtifactError) as caught:
        make_index(person.config("cluster"), person.out)
    message = str(caught.value)
    assert str(file) in message
    assert "source=" in message
    assert message.isprintable()
    assert CANARY not in "".join([message, caplog.text, *capfd.readouterr()])


def drawn(person: Person) -> dict[str, Any]:
    """A sample that was drawn elsewhere before: nothing is written."""
    place = person.folder / "drawn" / "20-0"
    if not place.is_dir():
        shutil.copytree(person.folder / "images", place / "images")
        shutil.copy(person.folder / "products.csv", place / "products.csv")
    return {"_target_": SAMPLE, "folder": str(place.parent), "n_products": 20}


@pytest.mark.parametrize(
    "source",
    [TABLE, {**TABLE, "images_dir": "."}, {**TABLE, "images_dir": "images/.."}, drawn],
    ids=["table", "its folder", "below it", "drawn before"],
)
def test_an_honest_run_is_not(person: Person, source: Any) -> None:
    said = source(person) if callable(source) else source
    forged_run(person.passed / "run", {"source": said, "foreground": None})
    index = make_index(person.config("cluster"), person.out)
    assert len(index.vectors) == 20
    assert index.manifest["source"] == said


def test_a_run_of_ones_own_may_name_images_elsewhere(person: Person) -> None:
    run_dir = person.folder / "runs" / "train" / "now"
    if not run_dir.is_dir():
        shutil.copytree(person.passed / "run", run_dir)
    cfg = person.config("cluster", checkpoint=str(run_dir / "net.safetensors"))
    table = shutil.copy(person.folder / "products.csv", run_dir)
    elsewhere = {"_target_": CSV, "path": str(table), "images_dir": str(person.folder)}
    for said in (elsewhere, {"_target_": FOLDER, "path": "images"}):
        forged_run(run_dir, {"source": said, "foreground": None})
        assert make_index(cfg, person.out).manifest["source"] == said


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("detect", ["index={index}", "query={image}"]),
        ("detect", ["index={index}", "verifier=local"]),
        ("cluster", ["index={index}", "change=remove", "ids=[P00]"]),
    ],
)
def test_a_command_ends_with_a_sentence_and_the_file_is_whole(
    person: Person, command: str, words: list[str]
) -> None:
    index, out = person.passed / "index", person.out
    forged(index, lambda said: MANIFESTS["writes a file"](said, person))
    image = person.folder / "images" / "0.jpg"
    typed = [word.format(index=index, image=image) for word in words]
    with untouched(person):
        done = run(command, *typed, f"hydra.run.dir={out}", cwd=person.folder, code=2)
    assert f"{index}/manifest.json: foreground.part._target_ names" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert CANARY not in done.stdout + done.stderr
