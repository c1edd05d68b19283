"""Limits of the settings, checked before any work and without importing torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dedup.errors import ConfigError
from dedup.runtime.durations import is_duration
from dedup.runtime.nearest import meant

Check = Callable[[Any], bool]
"""Predicate of an allowed value. A limit is such a check and a description for messages."""


_ONE_OF = "one of "


def _whole(low: int, high: float = math.inf) -> tuple[Check, str]:
    expected = (
        f"a whole number, {low} or more" if high == math.inf else f"a whole number, {low}-{high}"
    )
    return lambda value: type(value) is int and low <= value <= high, expected


def _number(low: float, high: float = math.inf, *, open_ends: bool = False) -> tuple[Check, str]:
    sign = "more than" if open_ends else "at least"
    below = "" if high == math.inf else f" and {'less than' if open_ends else 'at most'} {high:g}"

    def check(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        is_inside = low < value < high if open_ends else low <= value <= high
        return is_inside and math.isfinite(value)

    return check, f"a number {sign} {low:g}{below}"


def _choice(*names: str) -> tuple[Check, str]:
    return lambda value: value in names, _ONE_OF + ", ".join(names)


def _some(*names: str, may_be_empty: bool = False) -> tuple[Check, str]:
    def check(value: Any) -> bool:
        some = isinstance(value, list) and all(one in names for one in value)
        return some and (bool(value) or may_be_empty)

    return check, f"a list of some of {', '.join(names)}, such as [{','.join(names[:2])}]"


def _list(length: int, limit: tuple[Check, str]) -> tuple[Check, str]:
    check, expected = limit

    def check_all(value: Any) -> bool:
        return isinstance(value, list) and len(value) == length and all(map(check, value))

    return check_all, f"a list of {length}, each {expected}"


def _or_null(limit: tuple[Check, str]) -> tuple[Check, str]:
    check, expected = limit
    return lambda value: value is None or check(value), f"{expected}, or null"


def _or_auto(limit: tuple[Check, str]) -> tuple[Check, str]:
    check, expected = limit
    return lambda value: value == "auto" or check(value), f"{expected}, or auto"


def _gpus(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(gpu) is int and gpu >= 0 for gpu in value)
    return value == "auto" or (type(value) is int and value >= -1)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


LIMITS: dict[str, tuple[Check, str]] = {
    "epochs": _whole(1),
    "seed": _whole(0, 2**32 - 1),
    "store.reader": _choice("pillow", "scaled", "skimage"),
    "store.workers": _or_null(_whole(1, 1024)),
    "store.decode_timeout": _number(0, 3600, open_ends=True),
    "store.decode_memory": _whole(2**27),
    "store.shard_rows": _whole(1, 65_536),
    "store.max_age": _or_null((is_duration, "a number of days, or an age such as 7d or 12h")),
    "store.refresh": (lambda value: isinstance(value, bool), "true or false"),
    "fetch.connections": _whole(1, 4096),
    "fetch.per_host": _whole(1, 4096),
    "fetch.connect_timeout": _number(0, 3600, open_ends=True),
    "fetch.idle_timeout": _number(0, 3600, open_ends=True),
    "fetch.timeout": _number(0, 3600, open_ends=True),
    "fetch.max_bytes": _whole(1, 2**31),
    "fetch.attempts": _whole(1, 100),
    "fetch.max_wait": _number(0, 3600),
    "fetch.schemes": _some("http", "https", "file", "s3", "gs", "az", "abfs", "abfss", "hf"),
    "csv.formulas": _choice("keep", "escape"),
    "store.formulas": _choice("keep", "escape"),
    "data.batch_size": _whole(1),
    "data.val_fraction": _number(0, 1, open_ends=True),
    "data.train_on": _or_null(_whole(1)),
    "data.num_workers": _whole(0, 256),
    "data.shuffle_window": _whole(1),
    "source.choice": (  # auto is for source=auto alone, and no other source takes it
        lambda value: value in ("first", "second", "all", "auto"),
        _ONE_OF + "first, second, all",
    ),
    "source.continue_rows": (
        lambda value: isinstance(value, bool) or value == "auto",
        "true, false or auto",
    ),
    "source.n_products": _whole(1, 100_000),
    "source.seed": _whole(0),
    "encoder.embedding_dim": _whole(1),
    "encoder.hidden_dim": _whole(1),
    "task.lr": _number(0, open_ends=True),
    "task.weight_decay": _number(0),
    "task.temperature": _number(0, open_ends=True),
    "task.koleo": _number(0),
    "task.warmup": _whole(0),
    "trainer.gpus": (_gpus, "auto, -1 for all, how many at most, or a list like '[0,2]'"),
    "trainer.num_processes": _whole(1, 1024),
    "trainer.num_nodes": _whole(1, 65_536),
    "trainer.accelerator": _choice("auto", "cpu", "gpu"),
    "trainer.max_steps": _whole(-1),
    "callbacks.last.every_minutes": _or_null(_number(0)),
    "callbacks.last.every_n_steps": _or_null(_whole(1)),
    "clusterer.n_clusters": _or_null(_whole(1)),
    "clusterer.fit_on": _or_null(_whole(1)),
    "matcher.threshold": _or_auto(_number(0)),
    "matcher.variants": _choice("separate", "merge", "ignore"),
    "matcher.precision": _number(0, 1, open_ends=True),
    "precision": _or_null(_number(0, 1, open_ends=True)),
    "work.audit": _whole(0, 100_000),
    "work.ask": _choice("usual", "calibration"),
    "verifier.min_score": _or_auto(_number(0, 1)),
    "verifier.word_candidates": _number(0, 10_000, open_ends=True),
    "verifier.near_candidates": _number(0, 10_000, open_ends=True),
    "verifier.third_look": _choice("none", "xfeat"),
    "matcher.max_pairs": _whole(1),
    "role": _choice("reviewer", "lead"),
    "server.port": _whole(0, 65_535),
    "preview": _or_null(_whole(1, 2000)),
    "framing.margin": _number(0, 1),
    "framing.ground": _whole(0, 255),
    "framing.aspect": _choice("stretch", "keep"),
    "foreground.side": _whole(16, 320),
    "foreground.iterations": _whole(1, 20),
    "foreground.width": _number(0, 2, open_ends=True),
    "foreground.height": _number(0, 2, open_ends=True),
    "foreground.core": _number(0, 1),
    "foreground.border": _number(0, 0.25),
    "foreground.head": _number(0, 1, open_ends=True),
    "foreground.least_skin": _number(0, 1),
    "foreground.reach": _number(0, 10, open_ends=True),
    "foreground.most_skin": _number(0, 1),
    "foreground.least_area": _number(0, 1),
    "foreground.most_area": _number(0, 1),
    "foreground.most_border": _number(0, 1),
    "foreground.size": _list(2, _whole(1, 4096)),
    "foreground.mean": _list(3, _number(-1000, 1000)),
    "foreground.std": _list(3, _number(0, 1000, open_ends=True)),
    "foreground.colours": _choice("rgb", "bgr"),
    "foreground.layout": _choice("nchw", "nhwc"),
    "foreground.scores": _choice("probability", "logit", "any"),
    "change": _choice("build", "add", "update", "remove"),
    "detection.estimate_recall": (lambda value: isinstance(value, bool), "true or false"),
    "detection.max_products": _or_auto(_whole(1)),
    "detection.min_contrast": _number(0),
    "grouping.linkage": _choice("kept", "single"),
    "health.profile": _choice("google_2027", "google_best", "any"),
    "health.min_side": _or_null(_whole(1)),
    "health.max_megapixels": _or_null(_number(0, open_ends=True)),
    "health.max_megabytes": _or_null(_number(0, open_ends=True)),
    "health.max_aspect": _number(1),
    "health.min_sharpness": _number(0),
    "health.min_light": _number(0, 255),
    "health.min_product_light": _number(0, 255),
    "health.max_clipped": _number(0, 1),
    "health.min_range": _number(0, 255),
    "health.max_blockiness": _number(0),
    "health.min_quality": _number(0, 100),
    "report.html.max_groups": _whole(0),
    "plan.trust": _some("same_url", "same_bytes", "same_pixels", may_be_empty=True),
    "plan.redirects": _some(
        "shopify", "woocommerce", "magento", "nginx", "apache", may_be_empty=True
    ),
    "plan.store_ids": (_whole_numbers, "a list of whole numbers, 0 or more"),
    "fail_on": _some("new", "gone", "changed", "reopened", may_be_empty=True),
}
"""Limit of each setting by its dotted key."""

TEXTS = (
    "detection.block_by",
    "export",
    "findings",
    "import",
    "invite",
    "ledger.address",
    "ledger.path",
    "prefix",
    "reviewer",
    "server.address",
    "server.host",
    "server.sso_header",
    "server.trusted_proxy",
    "source.base_url",
    "source.category_column",
    "source.encoding",
    "source.folder",
    "source.id_column",
    "source.images_dir",
    "source.path",
    "source.pattern",
    "source.title_column",
    "store.path",
    "against",
    "checkpoint",
    "index",
    "resume",
    "run",
    "since",
    "truth",
    "old",
    "new",
    "before",
    "by",
    "calibration",
    "decisions",
    "findings",
    "plan.decisions",
    "plan.url_column",
    "plan.url_template",
)
"""Settings that must be texts: parsed as a number, a name is lost (1_0 becomes 10)."""
MAY_BE_NULL = (
    *("against", "checkpoint", "index", "resume", "run", "since", "truth", "detection.block_by"),
    *("before", "by", "calibration", "decisions", "old", "plan.applied", "plan.decisions"),
    *("plan.url_column", "plan.url_template"),
    *("source.base_url", "source.category_column", "source.image_column", "source.images_dir"),
    *("source.path", "source.title_column", "export", "import", "invite", "reviewer"),
    *("server.address", "server.sso_header", "server.trusted_proxy"),
)
"""Settings of ``TEXTS`` that may be left empty."""
TEXT_LISTS = (
    "source.dialect",
    "source.image_column",
    "source.url_column",
    "plan.applied",
    "plan.columns",
)
"""Settings that must be a text, or a list of texts."""
SECTIONS = ("csv", "data", "server", "work")
"""Sections of settings that are no parts."""


def check_limits(settings: Mapping[str, Any]) -> None:
    """Check every setting that has a limit, must be a text, or must be a section.

    Args:
        settings: a composed config as plain nested dictionaries; absent settings are not checked.

    Raises:
        ConfigError: settings are wrong; the message has a line for each.
    """
    wrong = _wrong(settings) + _wrong_texts(settings) + _not_finite(settings, "")
    wrong += [
        f"{key}={settings[key]}: expected its settings, as in {key}.NAME=VALUE"
        for key in SECTIONS
        if not isinstance(settings.get(key, {}), Mapping)
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))


def wrong_in(place: str, settings: Mapping[str, Any]) -> list[str]:
    """Describe one part's settings, such as ``foreground``'s, that exceed a limit, a line each."""
    return _wrong({place: settings})


def _wrong(settings: Mapping[str, Any]) -> list[str]:
    wrong = []
    for key, (check, expected) in LIMITS.items():
        value = _at(settings, key)
        if value is not _ABSENT and not check(value):
            names = expected.removeprefix(_ONE_OF)
            hint = meant(str(value), names.split(", ")) if names != expected else ""
            wrong.append(f"{key}={value}: expected {expected}{hint}")
    return wrong


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = value.get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _wrong_texts(settings: Mapping[str, Any]) -> list[str]:
    """Describe the settings that must be texts and are not, a line each."""
    wrong = []
    for key in (*TEXTS, *TEXT_LISTS):
        value = _at(settings, key)
        if key in TEXT_LISTS and isinstance(value, list) and value:
            wrong += [
                f'{key}={value}: expected texts, such as \'{key}=["A","B"]\''
                for one in value
                if not isinstance(one, str)
            ][:1]
            continue
        if value is _ABSENT or isinstance(value, str) or (value is None and key in MAY_BE_NULL):
            continue
        how = f"{key}=./{value}" if type(value) in (int, float) else f"{key}=NAME"
        wrong.append(f"{key}={value}: expected a text, such as {how} or '{key}=\"{value}\"'")
    return wrong


def _not_finite(value: Any, key: str) -> list[str]:
    """Describe the infinite numbers, which JSON and so ``run.json`` cannot hold, a line each."""
    if isinstance(value, Mapping):
        parts = [(f"{key}.{name}".strip("."), inner) for name, inner in value.items()]
    elif isinstance(value, list):
        parts = [(f"{key}.{number}", inner) for number, inner in enumerate(value)]
    else:
        is_wrong = isinstance(value, float) and not math.isfinite(value)
        return [f"{key}={value}: expected a finite number"] if is_wrong else []
    return [line for name, inner in parts for line in _not_finite(inner, name)]


_ABSENT = object()
