"""What can be said of benchmarks and scripts without running them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")])


def declared(tree: ast.Module) -> set[str]:
    """Attributes of the parsed options: the names given to ``add_argument``, or to ``add``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    adding = [
        call
        for call in calls
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("add_argument", "add")
    ]
    names = [
        argument.value
        for call in adding
        for argument in (*call.args, *(it.value for it in call.keywords if it.arg == "dest"))
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    return {name.lstrip("-").replace("-", "_") for name in names}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_option_that_is_read_can_be_given(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = declared(tree)
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "options"
    }
    assert not known or read <= known
