"""Files written so that a kill at any moment leaves either the old one or the new one, and never half of it."""

import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.torch import save
from torch import Tensor

from .errors import MaskeditError, SessionError


@contextmanager
def one_line_on_failure(path: Path, *, hint: str, error: type[MaskeditError] = SessionError) -> Generator[None]:
    """Turn a failure of the disk into one line that says what to do.

    Args:
        path: what is being written.
        hint: what the user can do, e.g. `choose another --output`.
        error: what is raised.
    """
    try:
        yield
    except OSError as failure:
        raise error(f"cannot write {path} ({failure.strerror or failure}): {hint}") from failure


def write_atomic(
    path: Path, write: Callable[[BinaryIO], object], *, hint: str, error: type[MaskeditError] = SessionError
) -> None:
    """Write a file beside its place, flush it to the disk, and put it there in one move.

    Args:
        path: its place; folders above it are made.
        write: writes the content into the open file.
        hint: what the user can do where the disk refuses.
        error: what is raised then.
    """
    partial = path.with_name(f"{path.name}.partial")
    with one_line_on_failure(path, hint=hint, error=error):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            # A full disk must not stay full because of a file that nobody can read.
            if partial.is_file():
                partial.unlink()
            raise


def write_json(
    path: Path, content: object, *, hint: str, error: type[MaskeditError] = SessionError, indent: int = 1
) -> None:
    """Write JSON that people can read; what JSON does not know is written as text.

    Args:
        path: its place; folders above it are made.
        content: what to write.
        hint: what the user can do where the disk refuses.
        error: what is raised then.
        indent: spaces before each level.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, default=str)
    write_atomic(path, lambda file: file.write(text.encode()), hint=hint, error=error)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    hint: str,
    metadata: Mapping[str, str] | None = None,
    error: type[MaskeditError] = SessionError,
) -> None:
    """Write tensors as safetensors.

    Args:
        path: its place; folders above it are made.
        tensors: on any device, of any layout in memory.
        hint: what the user can do where the disk refuses.
        metadata: texts beside them. Several are written in no fixed order, so equal files need a single one.
        error: what is raised then.
    """
    content = save({name: each.contiguous() for name, each in tensors.items()}, metadata=dict(metadata or {}) or None)
    write_atomic(path, lambda file: file.write(content), hint=hint, error=error)


def read_json(path: Path, *, hint: str, error: type[MaskeditError] = SessionError) -> Any:
    """Read JSON.

    Args:
        path: the file.
        hint: what the user can do where it is missing or damaged.
        error: what is raised then.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        detail = failure.strerror if isinstance(failure, OSError) else failure
        raise error(f"cannot read {path} ({detail}): {hint}") from failure
