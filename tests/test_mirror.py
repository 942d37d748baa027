"""Tests mirror the source file for file: `editors/core/types.py` is proved by `tests/editors/core/test_types.py`."""

from pathlib import Path

FOLDERS = ("editors", "plugin", "video", "bench", "configs", "app")


def proof_of(source: Path) -> Path:
    """Where the tests of a source file belong, both relative to their roots."""
    return source.parent / f"test_{source.name}"


def mirror_of(root: Path) -> tuple[list[str], list[str]]:
    """Tests that are missing, and tests whose source is missing."""
    wanted = {
        proof_of(path.relative_to(root))
        for folder in FOLDERS
        for path in (root / folder).rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
    }
    present = {
        path.relative_to(root / "tests") for folder in FOLDERS for path in (root / "tests" / folder).rglob("test_*.py")
    }
    return sorted(p.as_posix() for p in wanted - present), sorted(p.as_posix() for p in present - wanted)


def test_every_source_file_has_its_tests(repository: Path) -> None:
    missing, _ = mirror_of(repository)
    assert not missing


def test_every_test_file_has_its_source(repository: Path) -> None:
    _, orphans = mirror_of(repository)
    assert not orphans


def test_both_kinds_of_gap_are_found(tmp_path: Path) -> None:
    for name in ("video/fit.py", "video/__init__.py", "video/edit.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tests/video").mkdir(parents=True)
    (tmp_path / "tests/video/test_fit.py").touch()
    (tmp_path / "tests/video/test_render.py").touch()
    (tmp_path / "tests/test_layers.py").touch()
    assert mirror_of(tmp_path) == (["video/test_edit.py"], ["video/test_render.py"])
