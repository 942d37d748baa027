"""The folder of a run: where everything lies, what was made with which settings, and who works in it.

RUN/run.json          source, settings, and a fingerprint of every finished part
RUN/frames/           the working frames
RUN/flow/, masks/     motion and layer masks
RUN/fit/, fit.json    the fields of each segment, and their fidelity
RUN/canonical/        the canonical images, and what frames see of them
RUN/edit/             the sheet before and after, the edited canonical images, edit.json
RUN/render/           strip.png, side_by_side.mp4, render.json

A part is finished when its fingerprint, made of all that decides it, stands in run.json; it is written after the
files. Whoever is killed before does that part again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..editors import InputError, SessionError, one_line_on_failure, read_json, write_json

_FORMAT = 1
HINT = "free some space or choose another --run, then run the same command again; everything finished is kept"
"""What to do when the run folder cannot be written."""


def fingerprint(*parts: object) -> str:
    """A short name of values: equal values have equal names.

    Args:
        parts: anything JSON can hold, or that says as text what it is.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def fingerprint_file(path: Path) -> str:
    """A short name of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def describe_source(path: Path) -> dict[str, Any]:
    """What tells one clip from another without reading all of it.

    Args:
        path: a file, or a folder of pictures.

    Raises:
        InputError: if there is none.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise InputError(f"expected a clip at {path}, found no such file or folder")
    files = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else [path]
    states = sorted((each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files)
    return {
        "path": str(path),
        "name": path.name,
        "files": len(files),
        "bytes": sum(size for _, size, _ in states),
        # Each file counts by its name: the order of pictures follows from their names.
        "state": fingerprint(states),
    }


class RunFolder:
    """What a run has on disk."""

    def __init__(self, root: Path) -> None:
        """A run that may not have begun.

        Args:
            root: its folder.

        Raises:
            SessionError: if its run.json is damaged.
            InputError: if the folder holds something else.
        """
        self.root = root
        self._state: dict[str, Any] = {"format": _FORMAT, "stages": {}}
        path = root / "run.json"
        if root.exists() and not root.is_dir():
            raise InputError(f"expected a folder for the run, but {root} is a file: choose another --run")
        if path.is_file():
            self._state = self._read(path)
        # Whoever is killed while run.json is written for the first time leaves half of it.
        elif root.is_dir() and any(each.name not in ("lock", "run.json.partial") for each in root.iterdir()):
            raise InputError(f"{root} holds other things than a run: choose another --run, or an empty folder")

    @property
    def has_begun(self) -> bool:
        """Whether anything is stored."""
        return "source" in self._state

    def value(self, name: str) -> Any:
        """What was stored under a name.

        Raises:
            SessionError: if nothing was.
        """
        if name not in self._state:
            raise SessionError(
                f"{self.root} holds no finished fit: run `maskedit video fit CLIP --run {self.root}` first"
            )
        return self._state[name]

    def holds(self, name: str, value: object) -> bool:
        """Whether a value is stored under a name."""
        return name in self._state and self._state[name] == value

    def store(self, **values: object) -> None:
        """Keep values in run.json."""
        self._state.update(values)
        self._save()

    def is_done(self, stage: str, mark: str) -> bool:
        """Whether a part was finished with the same fingerprint."""
        return self._state["stages"].get(stage) == mark

    def mark_of(self, stage: str) -> str | None:
        """The fingerprint a part was finished with; None = it was not."""
        return self._state["stages"].get(stage)

    def finish(self, stage: str, mark: str) -> None:
        """Note that a part is finished."""
        self._state["stages"][stage] = mark
        self._save()

    def begin(self, stage: str) -> None:
        """Forget that a part was finished, before its files are touched."""
        if self._state["stages"].pop(stage, None) is not None:
            self._save()

    def forget_segments(self, count: int) -> None:
        """Forget the parts of segments that the clip no longer has, and remove their files."""
        for stage in list(self._state["stages"]):
            name, _, number = stage.partition("_")
            if number.isdigit() and int(number) >= count:
                self.begin(stage)
                for kind in (name, "canonical"):
                    for path in self.root.glob(f"{kind}/segment_{int(number):03d}*"):
                        path.unlink(missing_ok=True)

    def segment_path(self, kind: str, segment: int, ending: str) -> Path:
        """A file of a segment."""
        return self.root / kind / f"segment_{segment:03d}{ending}"

    @contextmanager
    def lock(self) -> Generator[None]:
        """Keep every other process out; the lock of one that was killed is gone with it.

        Raises:
            SessionError: if another process works in the folder, or it cannot be written.
        """
        path = self.root / "lock"
        with one_line_on_failure(path, hint=HINT):
            self.root.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise SessionError(
                    f"process {file.read().strip() or 'unknown'} works in {self.root}: wait for it, or choose another "
                    "--run"
                ) from None
            with one_line_on_failure(path, hint=HINT):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
            # Another process may have finished something since this one looked.
            if (self.root / "run.json").is_file():
                self._state = self._read(self.root / "run.json")
            try:
                yield
            finally:
                with suppress(OSError):
                    file.truncate(0)

    def _read(self, path: Path) -> dict[str, Any]:
        state = read_json(path, hint="choose another --run, or remove the folder")
        if (
            not isinstance(state, Mapping)
            or state.get("format") != _FORMAT
            or not isinstance(state.get("stages"), dict)
        ):
            raise SessionError(f"{path} is not of this version of maskedit: choose another --run, or remove the folder")
        return dict(state)

    def _save(self) -> None:
        write_json(self.root / "run.json", self._state, hint=HINT)
