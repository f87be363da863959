"""Claims about the shape of the house."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "gptjax"
FLOORS = [
    {"types"},
    {"fields"},
    {"choices"},
    {"config"},
    {"data", "attention"},
    {"models"},
    {"objectives"},
    {"infer", "train"},
    {"evals"},
    {"trained", "counted"},
    {"interop"},
    {"report"},
    {"judging"},
    {"launch"},
    {"plan"},
    {"arguments"},
    {"ablate"},
    {"verbs"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Rooms that a file imports at run time; what stands under TYPE_CHECKING does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gptjax":
            rooms = [room_of(node.module)] if "." in node.module else [alias.name for alias in node.names]
            found |= set(rooms)
        elif isinstance(node, ast.Import):
            found |= {room_of(alias.name) for alias in node.names if alias.name.startswith("gptjax.")}
    return found & LEVEL.keys()


FILES = sorted(p for p in HOUSE.rglob("*.py") if p.name != "__init__.py" or p.parent != HOUSE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_point_one_way(path):
    room = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    for other in imports(path) - {room}:
        assert LEVEL[other] < LEVEL[room], f"{path}: {room} must not import {other}"


def test_every_room_has_a_floor():
    rooms = {p.relative_to(HOUSE).parts[0].removesuffix(".py") for p in FILES}
    assert rooms - {"__pycache__"} == set(LEVEL)


def test_only_models_import_flax():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if "import flax" in text or "from flax" in text:
            assert path.relative_to(HOUSE).parts[0] == "models", path
