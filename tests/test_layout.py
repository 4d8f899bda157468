"""Import rule of the package: the table in docs/architecture.md, and no circles between modules or packages."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "emotalking"


def layers() -> list[str]:
    """Packages in the order of docs/architecture.md; each may import those above it."""
    section = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Packages")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: set[str], *, inside: bool) -> set[str]:
    """Modules of the package that a module imports; ``inside``: also within functions and for type checking alone."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    if not inside:
        for node in ast.walk(tree):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                skipped |= {id(inner) for inner in ast.walk(node)}
    targets: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            targets |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return targets & known


def package(module: str) -> str:
    """Top-level package or root module that ``module`` belongs to."""
    return module.split(".")[1] if "." in module else "emotalking"


def test_table_names_every_package() -> None:
    here = {package(name) for name in modules()} - {"emotalking", "__main__"}
    assert sorted(layers()) == sorted(here)


@pytest.mark.parametrize("name", sorted({package(name) for name in modules()} - {"emotalking", "__main__"}))
def test_package_imports_only_those_above_it(name: str) -> None:
    known, order = modules(), layers()
    allowed = {*order[: order.index(name) + 1], "emotalking"}
    wrong = [
        f"{module} imports {target}"
        for module, path in known.items()
        if package(module) == name
        for target in imported(path, set(known), inside=True)
        if package(target) not in allowed
    ]
    assert not wrong


def test_no_circle_between_modules() -> None:
    known = modules()
    graph = {name: imported(path, set(known), inside=False) - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_circle_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from emotalking.io import files\n\n\ndef f():\n    import emotalking.train.run\n")
    known = {"emotalking.io.files", "emotalking.train.run"}
    assert imported(tmp_path / "a.py", known, inside=False) == {"emotalking.io.files"}
    assert imported(tmp_path / "a.py", known, inside=True) == known
