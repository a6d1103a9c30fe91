"""Who may import whom, and how large a file may grow. The table is that of docs/layout.md.

Every import counts: at the top, inside a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

SOURCES = Path(__file__).parent.parent / "src" / "vivace"
NATIVE = Path(__file__).parent.parent / "native"

# package -> what of vivace it may import, besides itself; a dotted name is that module alone.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "hardware": {"core"},
    "formats": {"core"},
    "text": {"core", "formats"},
    "backends": {"core", "hardware", "formats"},
    "distributed": {"core", "hardware", "formats"},
    "models": {"core", "formats", "backends", "distributed"},
    "cache": {"core", "hardware", "formats", "backends"},
    "scheduler": {"core", "cache.blocks", "cache.prefix"},
    "decoding": {"core", "text", "backends"},
}
_BELOW_ENGINE = set(MAY_IMPORT)
MAY_IMPORT |= {
    "engine": _BELOW_ENGINE,
    "evaluate": {"core", "formats", "text", "models", "backends", "engine"},
    "optimize": _BELOW_ENGINE - {"scheduler", "cache", "decoding"} | {"engine", "evaluate"},
    "tune": _BELOW_ENGINE | {"engine", "evaluate", "optimize"},
    "serve": {"core", "hardware", "text", "engine"},
    "bench": {"core", "hardware", "text", "scheduler", "cache", "engine"},
}
MAY_IMPORT |= {
    "cli": {*MAY_IMPORT, "__init__"},  # the composition root
    "__init__": {"core", "engine"},  # the public names: LLM, AsyncLLM, SamplingParams
    "__main__": {"cli"},
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6


def modules(root: Path) -> dict[str, Path]:
    """Every module under a package folder: "cache.blocks", "cache" for its __init__. A native
    module counts by its .pyi file."""
    found = {}
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyi")]):
        parts = path.relative_to(root).with_suffix("").parts
        package_init = len(parts) > 1 and parts[-1] == "__init__"
        found[".".join(parts[:-1] if package_init else parts)] = path
    return found


def imported(name: str, path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module) for each module of the package that `path` imports, however deep."""
    package = (
        "vivace." + name if path.name == "__init__.py" else "vivace." + name.rpartition(".")[0]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        for target in _targets(node, package.strip(".")):
            if target == "vivace" or target.startswith("vivace."):
                yield node.lineno, _module_of(target, known)


def _targets(node: ast.AST, package: str) -> list[str]:
    """Dotted names that an import statement may load; `from a import b` may load a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    return [f"{base}.{alias.name}" for alias in node.names]


def _module_of(target: str, known: set[str]) -> str:
    """The longest part of a dotted name that is a module."""
    inner = target.removeprefix("vivace").strip(".")
    while inner and inner not in known:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def allowed(importer: str, target: str) -> bool:
    package = importer.split(".")[0]
    return any(
        target == right or target.startswith(right + ".")
        for right in MAY_IMPORT.get(package, set()) | {package}
    )


def forbidden_imports(root: Path) -> list[str]:
    found = modules(root)
    return [
        f"{path.relative_to(root)}:{line} imports {target}"
        for name, path in found.items()
        for line, target in imported(name, path, set(found))
        if not allowed(name, target)
    ]


def import_cycle(root: Path) -> list[str]:
    """One cycle of modules, or an empty list."""
    found = modules(root)
    graph = {
        name: {target for _, target in imported(name, path, set(found)) if target != name}
        for name, path in found.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def oversized(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            found.append(f"{path.relative_to(root)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{path.relative_to(root)}:{node.lineno} {node.name}"
                found += [f"{where}: {excess}" for excess in _excesses(node)]
    return found


def _excesses(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    parameters = len([name for name in names if name not in ("self", "cls")])
    found = [f"{lines} lines"] if lines > MAX_FUNCTION_LINES else []
    return found + ([f"{parameters} parameters"] if parameters > MAX_PARAMETERS else [])


def test_every_package_has_a_row() -> None:
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    assert packages | {"__init__", "__main__"} == set(MAY_IMPORT)


def test_imports_follow_the_table() -> None:
    assert forbidden_imports(SOURCES) == []


def test_no_import_cycles() -> None:
    assert import_cycle(SOURCES) == []


def test_files_and_functions_stay_small() -> None:
    assert oversized(SOURCES) == []


def test_native_files_stay_small() -> None:
    files = [*NATIVE.glob("*.cpp"), *NATIVE.glob("*.hpp")]
    assert files
    lines = {path.name: path.read_text().count("\n") for path in files}
    assert {name: n for name, n in lines.items() if n > MAX_FILE_LINES} == {}


def test_optimize_and_serving_never_meet() -> None:
    serving = {"serve", "scheduler", "cache", "decoding"}
    assert not MAY_IMPORT["optimize"] & serving
    assert not any("optimize" in MAY_IMPORT[package] for package in serving | {"engine"})


@pytest.mark.parametrize(
    ("importer", "statement", "target"),
    [
        ("core/a.py", "import vivace.engine", "engine"),
        ("serve/a.py", "from vivace.optimize import recipe", "optimize.recipe"),
        ("serve/a.py", "from vivace import optimize", "optimize"),
        ("optimize/recipe.py", "def f():\n    import vivace.serve", "serve"),
        ("optimize/recipe.py", "def f():\n    from ..cache import pool", "cache.pool"),
        ("scheduler/a.py", "from vivace.cache.pool import Pool", "cache.pool"),
        ("text/a.py", "if TYPE_CHECKING:\n    from vivace.models import spec", "models"),
        ("engine/a.py", "from vivace import LLM", "__init__"),
    ],
)
def test_the_check_sees_a_forbidden_import(
    tmp_path: Path, importer: str, statement: str, target: str
) -> None:
    _write_tree(tmp_path, {importer: statement})
    assert [found.split(" imports ")[1] for found in forbidden_imports(tmp_path)] == [target]


def test_the_check_allows_what_the_table_allows(tmp_path: Path) -> None:
    allowed_import = "from vivace.cache.blocks import X\nfrom vivace.core import request\n"
    _write_tree(tmp_path, {"scheduler/a.py": allowed_import, "cli/a.py": "from vivace import LLM"})
    assert forbidden_imports(tmp_path) == []


def test_the_check_sees_a_cycle(tmp_path: Path) -> None:
    lazy = "def f():\n    from vivace.core import a"
    _write_tree(tmp_path, {"core/a.py": "from . import b", "core/b.py": lazy})
    assert set(import_cycle(tmp_path)) == {"core.a", "core.b"}


def test_the_check_sees_what_is_too_long(tmp_path: Path) -> None:
    function = "def long():\n" + "    pass\n" * MAX_FUNCTION_LINES
    method = "class C:\n    def wide(self, a, b, c, *, d, e, f, g): ...\n"
    lines = "x = 1\n" * (MAX_FILE_LINES + 1)
    _write_tree(tmp_path, {"core/a.py": function, "core/b.py": lines, "core/c.py": method})
    assert oversized(tmp_path) == [
        f"core/a.py:1 long: {MAX_FUNCTION_LINES + 1} lines",
        f"core/b.py: {MAX_FILE_LINES + 1} lines",
        "core/c.py:2 wide: 7 parameters",
    ]


def _write_tree(root: Path, files: dict[str, str]) -> None:
    packages = (
        "core",
        "cache",
        "engine",
        "optimize",
        "scheduler",
        "serve",
        "text",
        "models",
        "cli",
    )
    for package in packages:
        (root / package).mkdir(exist_ok=True)
        (root / package / "__init__.py").touch()
    (root / "__init__.py").touch()
    for module in ("cache/blocks.py", "cache/pool.py", "core/request.py", "optimize/recipe.py"):
        (root / module).touch()
    for path, text in files.items():
        (root / path).write_text(text)
