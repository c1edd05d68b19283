"""Every limit refuses what it should, and says what it expected."""

import math

import pytest

from dedup.config.limits import LIMITS, MAY_BE_NULL, SECTIONS, TEXTS, check_limits
from dedup.errors import ConfigError


def nested(key: str, value: object) -> dict[str, object]:
    """``a.b`` and 1 to ``{"a": {"b": 1}}``."""
    for name in reversed(key.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("key", LIMITS)
@pytest.mark.parametrize("value", ["nonsense", -5, math.nan, math.inf, [], {}, True])
def test_nonsense_is_refused(key: str, value: object) -> None:
    if value is True and LIMITS[key][1].startswith("true"):
        value = "yes"
    if value == [] and LIMITS[key][1].startswith("a list of"):  # may be empty
        value = ["nonsense"]
    with pytest.raises(ConfigError, match=rf"{key}=.*expected"):
        check_limits(nested(key, value))


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("epochs", [1, 500], [0, 1.5, "3", None]),
        ("data.val_fraction", [0.1, 0.999], [0, 1, 0.0, 1.0]),
        ("data.train_on", [None, 1], [0]),
        ("task.lr", [1e-3, 1], [0, 0.0, "1e-3"]),
        ("trainer.gpus", ["auto", 0, 1, -1, [0, 2]], ["all", -2, 1.0, [-1], ["0"], None]),
        ("trainer.num_processes", [1, 2, 1024], [0, -1, 1025, "auto", None]),
        ("trainer.num_nodes", [1, 2], [0, -1, "auto"]),
        ("trainer.accelerator", ["auto", "cpu", "gpu"], ["tpu", None]),
        ("callbacks.last.every_minutes", [None, 0, 0.5, 60], [-1, "5", "auto"]),
        ("callbacks.last.every_n_steps", [None, 1], [0, 1.5]),
        ("clusterer.n_clusters", [1, 200], [0]),
        ("matcher.threshold", [0, 0.5, "auto"], [-0.1, None, "Auto", True]),
        ("matcher.precision", [0.5, 0.999], [0, 1, 1.0, None, "auto"]),
        ("verifier.min_score", [0, 0.5, 1, "auto"], [-0.1, 1.1, None]),
        ("verifier.third_look", ["none", "xfeat"], ["sift", None, True]),
        ("verifier.word_candidates", [0.5, 8], [0, -1, None, "auto"]),
        ("foreground.size", [[1, 4096]], [[0, 1], [320], [320, 320, 3], [320, 5000], [1, 2.5]]),
        ("foreground.mean", [[0, 0.5, -1]], [[0, 0], [0, 0, math.nan], [0, 0, "0"]]),
        ("foreground.std", [[0.1, 1, 2]], [[0, 1, 1], [1, 1, math.inf], [1, 1, 10**400]]),
        ("fail_on", [[], ["new", "gone"]], ["new", ["same"], None]),
        ("plan.trust", [[], ["same_url", "same_pixels"]], [["near"], "same_url", None]),
        ("plan.store_ids", [[0], [1, 2]], [["1"], [-1], 1, None]),
        ("source.choice", ["first", "second", "all"], ["third"]),
    ],
)
def test_borders(key: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        check_limits(nested(key, value))
    for value in bad:
        with pytest.raises(ConfigError, match=key):
            check_limits(nested(key, value))


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("value", [5, 1.5, True, [], {}, ["a"]])
def test_a_text_is_a_text(key: str, value: object) -> None:
    check_limits(nested(key, "5"))
    with pytest.raises(ConfigError, match=rf"{key}=.*expected a text"):
        check_limits(nested(key, value))


@pytest.mark.parametrize("key", TEXTS)
def test_some_texts_may_be_left_out(key: str) -> None:
    if key in MAY_BE_NULL:
        check_limits(nested(key, None))
    else:
        with pytest.raises(ConfigError, match=rf"{key}=None: expected a text"):
            check_limits(nested(key, None))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_setting_at_all_is_without_end(value: float) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.own\.0\.patience="):
        check_limits({"callbacks": {"own": [{"patience": value}]}})


@pytest.mark.parametrize("key", SECTIONS)
def test_a_section_holds_settings(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=None: expected its settings"):
        check_limits({key: None})


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_limits({"epochs": 0, "clusterer": {"n_clusters": 0}, "task": None})
    assert len(str(caught.value).splitlines()) == 2
