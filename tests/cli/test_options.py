"""A setting that is typed as an option is explained; options that go together go through."""

import re

import pytest

from dedup.cli.arguments import explain
from dedup.cli.manual import manual
from dedup.cli.options import check_options
from dedup.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--source.path x.csv", "--source.path is no option: a setting is written NAME=VALUE, "
                                "source.path=x.csv"),
        ("--query=a.jpg", "query=a.jpg"),
        ("--threshold 0.5", "matcher.threshold=0.5"),
        ("--block-by brand", "detection.block_by=brand"),
        ("--keep [largest]", "'grouping.keep=[largest]'"),
        ("-threshold=0", "matcher.threshold=0"),
        ("--encoder --multirun", "encoder=VALUE"),
        ("--indx x", "index=x"),
        ("--multirum", "there is no option --multirum; did you mean --multirun?"),
        ("-m --cfg job", "--multirun and --cfg exclude each other"),
    ],
)  # fmt: skip
def test_what_is_no_option_is_explained(typed: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options("detect", typed.split())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "typed",
    ["-m seed=1,2", "--cfg job --resolve", "--config-dir mine -m", "-cd mine", "--multi seed=1,2",
     "--info=plugins", "-cjob", "--hydra-help", "--config-name=x"],
)  # fmt: skip
def test_options_go_through(typed: str) -> None:
    check_options("detect", typed.split())


def test_the_part_that_was_meant_is_named() -> None:
    error = ValueError("Could not find 'encoder/bundel'")
    assert "did you mean bundled?" in explain(error, "detect", ["encoder=bundel"])
    there = "Available options in 'hydra/launcher':\n\tbasic\n\tjoblib\nConfig search path:\n\tx"
    error = ValueError(f"Could not find 'hydra/launcher/jobli'\n\n{there}")
    assert "basic, joblib; did you mean joblib?" in explain(error, "detect", [])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("matcher.block_by", "did you mean detection.block_by?"),
        ("precision", "did you mean matcher.precision or trainer.precision?"),
        ("choice", "did you mean source.choice?"),
        ("matcher.treshold", "did you mean matcher.threshold?"),
    ],
)
def test_the_setting_of_that_name_is_named(wrong: str, words: str) -> None:
    message = explain(ValueError(f"Could not override '{wrong}'."), "detect", [])
    assert f"there is no setting {wrong}: {words}" in message


def test_a_catalogue_to_train_on_is_chosen_with_its_source() -> None:
    error = ValueError("Could not override 'source.path'.")
    message = explain(error, "train", ["encoder=bundled", "source.path=products.csv"])
    assert "here add source=csv task=contrastive" in message
    assert "detect.py encoder=bundled" in message


@pytest.mark.parametrize("name", ["detect", "train"])
def test_lists_are_shown_as_a_shell_needs_them(name: str) -> None:
    before = re.findall(r"(\S*)\[(?!\.\.\.)", manual(name))
    assert before
    assert [word for word in before if "'" not in word] == []
