"""Names of files as people have them go through the command line as they are typed."""

import gzip
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dedup.cli.arguments import explain, prepared
from dedup.errors import ConfigError

NAMES = [
    *("products (1)", "größe", "産品", "a=b", "a,b", "list#1", "[final]", "cats & dogs", "it's"),
    *("Export 2024-05", "50% off", "{x}", 'say "x"', "a\\b", "2024", "null", "~tilde", "$HOME"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def values(*arguments: str) -> list[object]:
    """The values that Hydra reads of what was prepared for it."""
    parser = OverridesParser.create()
    return [parser.parse_override(one).value() for one in prepared("detect", arguments)]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_named_as_it_is_called(folder: Path, name: str) -> None:
    for file in (f"{name}.csv", f"{folder}/{name}.csv"):
        Path(file).touch()
        assert values(f"source.path={file}") == [file]
        if not name.startswith("~"):
            assert values(file) == ["csv", file]
            assert values("source=csv", file) == ["csv", file]
    once = prepared("detect", [f"source.path={name}.csv"])
    assert prepared("detect", once) == once


@pytest.mark.parametrize(
    ("file", "data", "source"),
    [
        ("a.parquet", b"", "parquet"),
        ("a.tsv", b"PAR1", "parquet"),
        ("a.json", b'[{"productId": 1}]', "jsonl"),
        ("a.csv.gz", gzip.compress(b'{"productId": 1}', mtime=0), "jsonl"),
        ("a.gz", gzip.compress(b"id,image", mtime=0), "csv"),
        ("a.zip", b"", "csv"),
    ],
)
def test_the_source_of_a_bare_table_is_found_out(file: str, data: bytes, source: str) -> None:
    Path(file).write_bytes(data)
    assert values(file) == [source, file]
    assert values("source=csv", file) == ["csv", file]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("query=https://h/a.jpg?x=1&y=2", "https://h/a.jpg?x=1&y=2"),
        ("query=https://h/a,b.jpg?x=1", "https://h/a,b.jpg?x=1"),
        ("query=[a.jpg,größe (1).jpg]", ["a.jpg", "größe (1).jpg"]),
        ("source.title_column=Name (EN), short", "Name (EN), short"),
        (
            "source.url_column=[image_link,additional_image_link]",
            ["image_link", "additional_image_link"],
        ),
        ("source.url_column=[Image Src,Variant Image]", ["Image Src", "Variant Image"]),
        ("source.dialect=[semicolon,header:3]", ["semicolon", "header:3"]),
        ("source.dialect=;", ";"),
        ("source.path=${oc.env:HOME}/x (1).csv", "${oc.env:HOME}/x (1).csv"),
        ("source.path='größe.csv'", "größe.csv"),
        ("task.lr=1e-3", 1e-3),
        ("index=null", None),
    ],
)
def test_values_are_what_was_typed(typed: str, value: object) -> None:
    assert values(typed) == [value]


def test_home_is_expanded(folder: Path) -> None:
    assert values("source.path=~/my shop (1).csv") == [f"{folder}/my shop (1).csv"]


def test_sweeps_lists_and_options_stay_as_they_are(folder: Path) -> None:
    typed = [
        "-m",
        "--config-dir",
        "mine",
        "source.path=a.csv,b.csv",
        "task.lr=1e-3,3e-4",
        "~report",
    ]
    assert prepared("train", typed) == typed
    assert prepared("train", ["-m", "source.path=größe.csv,b.csv"])[1] == (
        "source.path='größe.csv',b.csv"
    )


def test_an_option_may_stand_between_settings() -> None:
    typed = ["seed=1", "-m", "epochs=2", "--config-dir", "mine", "runs=a"]
    assert prepared("train", typed) == [
        "-m",
        "--config-dir",
        "mine",
        "seed=1",
        "epochs=2",
        "runs=a",
    ]


@pytest.mark.parametrize("typed", [["seed=1", "--info"], ["-i", "seed=1"]])
def test_info_takes_no_setting_for_its_value(typed: list[str]) -> None:
    assert prepared("train", typed) == ["--info=all", "seed=1"]
    assert prepared("train", ["--info", "plugins", "a=1"]) == ["--info", "plugins", "a=1"]


def test_a_folder_is_a_catalogue_too(folder: Path) -> None:
    (folder / "my images").mkdir()
    assert values("my images") == ["folder", "my images"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.jpg"], "did you mean query=photo.jpg?"),
        (["my photo.jpg"], "did you mean 'query=my photo.jpg'?"),
        (["shop"], "did you mean source.path=shop?"),
        (["a.csv", "source.path=b.csv"], "a.csv and source.path=b.csv name several catalogues"),
        (["task.lr=a(b"], """write 'task.lr="a(b"'"""),
    ],
)
def test_what_is_no_setting_is_explained(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared("detect", arguments)
    assert words in str(caught.value)


def test_several_values_without_a_sweep_are_explained() -> None:
    error = ValueError("Ambiguous value for argument 'query=a.jpg,b.jpg'\n1. To use it as a list")
    message = explain(error, "detect", [])
    assert "'query=[a.jpg,b.jpg]'" in message
    assert """'query="a.jpg,b.jpg"'""" in message


@pytest.mark.parametrize("name", ["${oc.env:HOME}.csv", "a\\${b}.csv", "${x}"])
def test_nothing_in_the_name_of_a_file_or_an_address_is_resolved(folder: Path, name: str) -> None:
    (folder / name).touch()
    for argument in (f"source.path={name}", f"query=http://example.invalid/{name}"):
        typed = argument.partition("=")[2]
        config = OmegaConf.create({"it": values(argument)[0]})
        assert config["it"] == typed
