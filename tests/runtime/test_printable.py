"""What terminals and pages would obey is seen instead, and all other text is left alone."""

import json
import logging
import logging.config
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dedup.config.instances import ROOT
from dedup.runtime.printable import Formatter, visible, visible_json, visible_lines, visible_page

TURNING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
ACTING = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp", "Cs") or code in TURNING
]
"""Controls, line and paragraph separators, half surrogates, and what turns text round."""
TEXT = st.text(st.sampled_from([*map(chr, range(0xA0)), *map(chr, TURNING)])) | st.text()
SHOWN = {
    "\x1b": r"\x1b", "\x9b": r"\x9b", "\n": r"\n", "\r": r"\r", "\0": r"\x00", "\x7f": r"\x7f",
    "\u2028": r"\u2028", "\u202e": r"\u202e", "\udce9": r"\udce9",
}  # fmt: skip


@pytest.mark.parametrize("character", SHOWN)
def test_what_acts_is_shown_as_its_escape(character: str) -> None:
    assert visible(f"a{character}b") == f"a{SHOWN[character]}b"
    lines = f"a{character}b" if character == "\n" else f"a{SHOWN[character]}b"
    assert visible_lines(f"a{character}b") == lines


def test_every_character_that_acts_is_found_and_no_other() -> None:
    for character in ACTING:
        assert (visible(character) == character) == (character == "\t")
        for shown in (visible_lines, visible_json, visible_page):
            assert (shown(character) == character) == (character in "\t\n")
    acting = {*ACTING}
    others = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code) not in acting)
    for shown in (visible, visible_lines, visible_json, visible_page):
        assert shown(others) == others


@given(st.recursive(TEXT | st.integers(), lambda it: st.lists(it) | st.dictionaries(TEXT, it)))
def test_json_has_the_same_value(value: object) -> None:
    text = visible_json(json.dumps(value, indent=1, ensure_ascii=False))
    assert json.loads(text) == value
    assert not {*text} & {*ACTING} - {"\n"}


@given(TEXT)
def test_pages_show_images(text: str) -> None:
    shown = visible_page(text)
    assert len(shown) == len(text)
    for one, seen in zip(text, shown, strict=True):
        if one != seen:
            name = "DELETE" if one == "\x7f" else ""
            assert seen == "\ufffd" or unicodedata.name(seen).startswith(f"SYMBOL FOR {name}")
            assert (seen == "\ufffd") == (one > "\x7f")


def line_of(message: str, *arguments: object) -> str:
    record = logging.LogRecord("dedup", logging.INFO, "", 0, message, arguments, None)
    before = dict(record.__dict__)
    line = Formatter("%(levelname)s %(message)s").format(record)
    assert {key: record.__dict__[key] for key in before} == before
    return line


FORGED = "x\n12:00:00 ERROR \x1b[2J"


@pytest.mark.parametrize(
    ("message", "arguments", "line"),
    [
        ("%s is shown by %d products", (FORGED, 5),
         r"INFO x\n12:00:00 ERROR \x1b[2J is shown by 5 products"),
        ("see %s", (Path("a\nb"),), r"INFO see a\nb"),
        ("failed: %s", (ValueError("a\nb"),), r"INFO failed: a\nb"),
        ("%s=%.4g %r", ("a", 0.5, "\x1b"), r"INFO a=0.5 '\\x1b'"),
        ("from %s", ({"path": "\n\x1b"},), r"INFO from {'path': '\n\x1b'}"),
        ("from %(a)s", ({"a": FORGED},), "INFO from x\n    12:00:00 ERROR \\x1b[2J"),
        ("100 %", (), "INFO 100 %"),
        ("why:\n       2  failed", (), "INFO why:\n           2  failed"),
        (f"the image {FORGED}", (), "INFO the image x\n    12:00:00 ERROR \\x1b[2J"),
        ("a\n\nb\r\nc", (), "INFO a\n\n    b\\r\n    c"),
    ],
)  # fmt: skip
def test_lines_of_a_log(message: str, arguments: tuple[object, ...], line: str) -> None:
    assert line_of(message, *arguments) == line


def test_a_traceback_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("dedup").exception("stopped")
    lines = Formatter("%(levelname)s %(message)s").format(caplog.records[-1]).splitlines()
    assert lines[0] == "ERROR stopped"
    assert {line[:4] for line in lines[1:]} == {"    "}


@pytest.mark.parametrize("name", ["dedup", "follower"])
def test_all_that_is_logged_goes_through_it(name: str) -> None:
    config = OmegaConf.load(ROOT / "conf" / "hydra" / "job_logging" / f"{name}.yaml")
    (formatter,) = config.formatters.values()
    assert formatter["class"] == f"{Formatter.__module__}.{Formatter.__qualname__}"
    assert {handler.formatter for handler in config.handlers.values()} == {*config.formatters}
    assert not re.search("[^\x00-\x7f]", formatter.format)
