"""A room imports lower rooms only; torch, Hydra and the network stay where the design puts them."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "dedup"
FLOORS = [  # docs/architecture.md draws them
    {"errors"},
    {"schemas", "assets"},
    {"runtime"},
    {"config"},
    {"download"},
    {"sources", "augmentations"},
    {"store", "encoders", "verification"},
    {"foregrounds"},
    {"search"},
    {"training", "review"},
    {"detection"},
    {"reports"},
    {"actions"},
    {"pipeline"},
    {"api", "cli"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
HOMES = {  # of libraries: rooms, or modules where the room as a whole does without
    "torch": {"encoders", "training", "search.embedding", "search.build", "search.update",
              "detection.query", "detection.recall", "reports.foreground_preview",
              "verification.lighterglue", "verification.third_look", "verification.xfeat",
              "runtime.torch_threads"},
    "pytorch_lightning": {"training"},
    "hydra": {"cli"},
    "omegaconf": {"config", "api", "cli"},
    "aiohttp": {"download"},
    "pyarrow.fs": {"download"},
    "urllib": {"download", "sources", "actions.addresses"},
    "http": set(),
    "socket": {"download", "review.server"},
    "sqlite3": {"review.database", "review.schema"},
    "psycopg": {"review.postgres"},
    "starlette": {"review"},
    "uvicorn": {"review"},
    "sklearn": set(),
}  # fmt: skip
FILES = sorted(SRC.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name below ``dedup``; "" for the package itself."""
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports, below ``dedup``."""
    known = {module(file) for file in FILES}
    found = set()
    for name in imports(path):
        below = name.removeprefix("dedup.")
        if below != name:
            found.add(below if below in known else below.rpartition(".")[0])
    return found - {""}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_rooms_import_lower_rooms(path: Path) -> None:
    here = module(path).split(".")[0]
    for name in imported(path):
        there = name.split(".")[0]
        floor = FLOOR[here] if here else len(FLOORS)
        is_lower = FLOOR[there] < floor or there == here
        assert is_lower, f"{here} (floor {floor}) imports {name} (floor {FLOOR[there]})"


def test_no_module_is_imported_in_a_circle() -> None:
    below = {module(path): imported(path) - {module(path)} for path in FILES}
    while leaves := {name for name, names in below.items() if not names & set(below)}:
        below = {name: names for name, names in below.items() if name not in leaves}
    assert not below


@pytest.mark.parametrize("path", FILES, ids=module)
def test_libraries_stay_at_home(path: Path) -> None:
    here = module(path)
    for name in imports(path):
        first, _, rest = name.partition(".")
        homes = HOMES.get(first, HOMES.get(f"{first}.{rest.split('.')[0]}"))
        assert homes is None or {here, here.split(".")[0]} & homes, f"{here} imports {name}"


def test_every_room_has_a_floor() -> None:
    assert {module(path).split(".")[0] for path in FILES} - {""} == set(FLOOR)
    assert len({path.relative_to(SRC).parts[0] for path in FILES}) <= 23  # and py.typed
