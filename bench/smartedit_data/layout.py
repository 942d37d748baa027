"""Finding the parts of a downloaded set, and one line for what is not laid out as expected."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...editors import InputError, MaskeditError, read_json

COCO_2014 = tuple(
    f"{above}{name}"
    for above in ("", "../")
    for name in ("images/mscoco/images/train2014", "images/train2014", "coco/train2014", "train2014", "images")
)
"""Where the photos of COCO's train2014 lie, seen from a set that refers to them."""
COCO_2017 = tuple(
    f"{above}{name}"
    for above in ("", "../")
    for name in ("images/train2017", "coco/train2017", "coco/images/train2017", "train2017")
)
"""Where the photos of COCO's train2017 lie, seen from a set that refers to them."""


def find_folder(root: Path, names: Sequence[str], what: str, *, holding: str = "*") -> Path:
    """The first of some folders that is there.

    Args:
        root: where the names start.
        names: in the order in which they are tried.
        what: is looked for, for the message.
        holding: a file of this pattern must lie in it.

    Raises:
        InputError: if none is there.
    """
    for name in names:
        folder = root / name
        if folder.is_dir() and next(folder.glob(holding), None) is not None:
            return folder
    raise InputError(f"no {what} for {root}: expected it in one of {', '.join(names)}")


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of some files that is there.

    Args:
        root: where the names start.
        names: in the order in which they are tried.
        what: is looked for, for the message.

    Raises:
        InputError: if none is there.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    raise InputError(f"no {what} for {root}: expected one of {', '.join(names)}")


def read_annotations(path: Path) -> Any:
    """What a JSON file of a set holds.

    Raises:
        InputError: if it is missing or broken.
    """
    return read_json(path, hint="download it again", error=InputError)


def read_text(path: Path) -> str:
    """A text file of a set; old ones may be in the encoding of Windows.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): download it again") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


@contextmanager
def laid_out(path: Path, expected: str) -> Generator[None]:
    """Turn what a record lacks into one line.

    Args:
        path: the file that is being read.
        expected: what it should hold.

    Raises:
        InputError: in place of the errors that records of another form cause.
    """
    try:
        yield
    except MaskeditError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not of the form its set has ({found}): expected {expected}") from error
