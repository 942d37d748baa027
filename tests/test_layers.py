"""Imports point down only.

    editors/core < editors/parts, editors/metrics < editors/<editor>.py < editors/__init__ (the door)
    the door < plugin, video < bench < configs < app

Imports are read from the syntax tree, so those inside functions and under `TYPE_CHECKING` count as well; only for
circles inside a layer do they not, because they run later or never.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

DOOR = "editors"
RANKS = {
    "editors/core": 0,
    "editors/parts": 1,
    "editors/metrics": 1,
    "editors/embedded": 1,
    "an editor": 2,
    "the door": 3,
    "plugin": 4,
    "video": 4,
    "bench": 5,
    "configs": 6,
    "app": 7,
}
FOLDERS = ("editors", "plugin", "video", "bench", "configs", "app")


def layer_of(module: str) -> str:
    """The layer a dotted module name (without `maskedit.`) belongs to."""
    top, _, rest = module.partition(".")
    if top != DOOR:
        return top
    if not rest:
        return "the door"
    inner = f"{DOOR}/{rest.split('.')[0]}"
    return inner if inner in RANKS else "an editor"


def imported_modules(module: str, is_package: bool, tree: ast.AST, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports; names from outside begin with their own package."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, f"absolute {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, f"absolute {node.module}"
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                deeper = ".".join([*base, alias.name])
                yield node.lineno, deeper if deeper in known else ".".join(base)


def run_on_import(tree: ast.Module) -> ast.Module:
    """The same module without what its import does not run: bodies of functions and of `if TYPE_CHECKING`."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


def violations(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of some source files, given as path and text."""
    modules = {path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources}
    known = set(modules.values())
    found: list[str] = []
    for path, text in sources.items():
        module = modules[path]
        here = layer_of(module)
        is_package = path.endswith("__init__.py")
        for line, target in imported_modules(module, is_package, ast.parse(text), known):
            complaint = _complaint(here, module, target)
            if complaint:
                found.append(f"{path}:{line}: {complaint}")
    return found


def _complaint(here: str, module: str, target: str) -> str | None:
    if target.startswith("absolute "):
        top = target.removeprefix("absolute ").split(".")[0]
        if top in {"maskedit", *FOLDERS}:
            return f"imports {target}: siblings are imported relatively"
        return None
    there = layer_of(target)
    if there not in RANKS:
        return f"imports {target}, which is no folder of the project"
    if here == there:
        return None
    if RANKS[there] >= RANKS[here]:
        direction = "sideways" if RANKS[there] == RANKS[here] else "upward"
        return f"{here} imports {direction} from {there} ({target})"
    if not module.startswith(DOOR) and target.startswith(f"{DOOR}."):
        return f"{here} reaches behind the editors' door ({target}): import it from ..editors"
    return None


def cycles(sources: Mapping[str, str]) -> list[str]:
    """Modules whose import imports them again; the order of layers leaves this open inside a layer."""
    modules = {path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources}
    known = set(modules.values())
    edges = {
        modules[path]: {
            target
            for _, target in imported_modules(
                modules[path], path.endswith("__init__.py"), run_on_import(ast.parse(text)), known
            )
            if target in known and target != modules[path]
        }
        for path, text in sources.items()
    }
    found: list[str] = []
    for start, direct in edges.items():
        seen, todo = set(), list(direct)
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo.extend(edges[module])
        if start in seen:
            found.append(start)
    return found


def read_sources(root: Path) -> dict[str, str]:
    """Every source file of the project, by path relative to its root."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }


def test_imports_of_the_project_point_down(repository: Path) -> None:
    sources = read_sources(repository)
    assert len(sources) > len(FOLDERS)
    assert not violations(sources)


def test_no_module_imports_itself_through_others(repository: Path) -> None:
    assert not cycles(read_sources(repository))


LEGAL = {
    "editors/__init__.py": "from .foi import Foi as Foi\nfrom .core.types import Image as Image",
    "editors/core/__init__.py": "",
    "editors/core/types.py": "import torch",
    "editors/core/schedule.py": "from .types import Latents",
    "editors/parts/masks.py": "from ..core.types import Mask",
    "editors/metrics/psnr.py": "from ..core import types",
    "editors/foi.py": "from .core.types import Image\nfrom .parts.masks import union",
    "editors/smartedit/model.py": "from ..core.types import Image\nfrom ..parts.masks import union",
    "plugin/__init__.py": "",
    "plugin/update.py": "from ..editors import Foi\nfrom .session import Session",
    "plugin/session.py": "import json",
    "video/fit.py": "from ..editors import Image",
    "bench/blocks/pairs.py": "from ...editors import Image\nfrom ...plugin import update",
    "configs/bear.py": "from ..bench.blocks.pairs import Pairs\nfrom .. import editors",
    "app/cli.py": "from ..configs.bear import bear\nfrom ..video.fit import fit",
}


def test_legal_imports_pass() -> None:
    assert not violations(LEGAL)
    assert not cycles(LEGAL)


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("editors/core/schedule.py", "from ..parts.masks import union", "upward from editors/parts"),
        ("editors/core/schedule.py", "from ..parts import masks", "upward from editors/parts"),
        ("editors/core/schedule.py", "from .. import Image", "upward from the door"),
        ("editors/parts/masks.py", "from ..metrics.psnr import psnr", "sideways from editors/metrics"),
        ("editors/parts/masks.py", "from ..foi import Foi", "upward from an editor"),
        ("editors/foi.py", "from . import Image", "upward from the door"),
        ("editors/foi.py", "def f():\n    from ..plugin.session import Session", "upward from plugin"),
        ("plugin/session.py", "from ..video.fit import fit", "sideways from video"),
        ("video/fit.py", "from .. import plugin", "sideways from plugin"),
        ("plugin/session.py", "from ..bench.blocks.pairs import Pairs", "upward from bench"),
        ("bench/blocks/pairs.py", "from ...configs.bear import bear", "upward from configs"),
        ("configs/bear.py", "from ..app.cli import main", "upward from app"),
        ("plugin/session.py", "from ..editors.core.types import Image", "behind the editors' door"),
        ("video/fit.py", "from ..editors.core import types", "behind the editors' door"),
        ("video/fit.py", "from ..editors import foi", "behind the editors' door"),
        ("app/cli.py", "from ..editors.foi import Foi", "behind the editors' door"),
        ("app/cli.py", "from maskedit.editors import Foi", "siblings are imported relatively"),
        ("app/cli.py", "import maskedit.video.fit", "siblings are imported relatively"),
        ("app/cli.py", "import editors", "siblings are imported relatively"),
        ("app/cli.py", "from ..tests import conftest", "no folder of the project"),
    ],
)
def test_illegal_imports_are_found(path: str, line: str, expected: str) -> None:
    (found,) = violations({**LEGAL, path: line})
    assert path in found
    assert expected in found


def test_cycles_are_found() -> None:
    looped = {**LEGAL, "plugin/session.py": "class C:\n    from .update import update"}
    assert cycles(looped) == ["plugin.update", "plugin.session"]


@pytest.mark.parametrize("guard", ["def f():", "if TYPE_CHECKING:", "if typing.TYPE_CHECKING:"])
def test_imports_that_run_later_make_no_cycle(guard: str) -> None:
    assert not cycles({**LEGAL, "plugin/session.py": f"{guard}\n    from .update import update"})
