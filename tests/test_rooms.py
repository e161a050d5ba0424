"""What each room may use: docs/architecture.md says it in two tables, and the imports keep to them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("rrti_sgl", "programs", "db", "migrations", "cli")
DOORS = {"rrti_sgl/__init__.py", "rrti_sgl/frontend.py"}
OPEN_TO_ALL = {"records", "columns", "bounds", "errors", "__version__"}


def table(head: str) -> dict[str, set[str]]:
    """The rows of the architecture page's table whose first column is called so: name -> what it may use."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {head} | what is in it | what it may use |\n")[2].splitlines()
    found = {}
    for row in rows[1:]:
        if not row.startswith("|"):
            break
        name, _, uses = (cell.strip() for cell in row.strip("|").split("|"))
        found[name.strip("`/")] = {used.strip("/") for used in re.findall(r"`([^`]+)`", uses)}
    return found


ROOMS, INNER = table("folder"), table("room")


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a module imports, for types or lazily as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rrti_sgl":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "rrti_sgl")


def top_room(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return part if part in TOP else "rrti_sgl"


MODULES = sorted(str(path.relative_to(ROOT)) for top in TOP for path in (ROOT / top).rglob("*.py"))


def test_the_tables_name_the_rooms_there_are() -> None:
    assert set(ROOMS) == set(TOP)
    assert set(INNER) == {path.parent.name for path in (ROOT / "rrti_sgl").glob("*/__init__.py")}
    assert all(used in ROOMS for uses in ROOMS.values() for used in uses)
    assert all(used in INNER for uses in INNER.values() for used in uses)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in DOORS])
def test_a_module_uses_what_its_room_may_use(module: str) -> None:
    room, inner = module.split("/")[:2]
    for imported in imports(ROOT / module):
        other = top_room(imported)
        assert other == room or other in ROOMS[room], f"{module} imports {imported}"
        if room == other == "rrti_sgl":
            named = imported.split(".")[1]
            assert named in {inner, *OPEN_TO_ALL} | INNER.get(inner, set()), f"{module} imports {imported}"


def test_rooms_stand_on_each_other_without_a_circle() -> None:
    left = dict(INNER)
    while ground := [room for room, uses in left.items() if not uses & left.keys()]:
        for room in ground:
            del left[room]
    assert not left
