"""Every example runs, and prints what it promises."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from dedup.config import targets
from dedup.errors import ConfigError
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example as a module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.param)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", ["quickstart"], indirect=True)
def test_quickstart(example: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(n_products=20)
    assert "report: report.html" in capsys.readouterr().out
    assert (folder / "out" / "groups.csv").is_file()


@pytest.mark.parametrize("example", ["custom_encoder"], indirect=True)
def test_custom_encoder(
    example: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in (targets.FILES, targets.PLACES):
        monkeypatch.setitem(names, "encoder", names["encoder"])  # as before for the next test
    example.main(n_products=20)
    assert "group_id" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="place='encoders' is no place"):
        targets.allow(example.ColourGrid, "encoders")


@pytest.mark.parametrize("example", ["match_vectors"], indirect=True)
def test_match_vectors(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(n_vectors=500)
    assert "20 pairs, 20 planted" in capsys.readouterr().out


def test_every_example_is_short_and_has_a_test() -> None:
    here = Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'["{path.stem}"]' in here
        assert len(path.read_text("utf-8").splitlines()) <= 40
