"""Clips out: mp4, gif or a folder of pictures, one frame at a time.

Everything is written beside its place, under a name with a dot, and moved there at the end: whoever kills the program
finds the old file or none. Frames are shown when the source showed them; see `mp4.py` for odd sides and sound, `gif.py`
for colours and delays.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from ..editors import InputError
from .containers import load_av, open_container, reason
from .gif import GifSink
from .mp4 import Mp4Sink, Preset
from .picture_folders import PictureSink, holds_only_frames
from .timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    """How clips are written."""

    crf: int = 16
    """Quality of an mp4 as x264's constant rate factor: 0 is best, 18 looks like the source, 51 is worst."""
    preset: Preset = "medium"
    """How long x264 may search: slower makes smaller files of the same quality."""
    sound: bool = True
    """Carry over the sound of the source, cut to the same piece."""
    loop: int = 0
    """How often players repeat a gif after its first showing; 0 = for ever, -1 = never."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must be between 0 and 51, got {self.crf}")
        if not -1 <= self.loop <= 65535:
            raise ValueError(f"loop must be between -1 and 65535, got {self.loop}")


@dataclass(frozen=True, kw_only=True)
class WrittenClip:
    """What `ClipWriter` wrote."""

    path: Path
    frames: int
    codec: str
    """The video codec, or "png"."""
    sound: Literal["copied", "encoded", "left out"]
    warnings: tuple[str, ...] = ()
    """One line for each thing that is not as in the source."""


@runtime_checkable
class _Sink(Protocol):
    @property
    def codec(self) -> str: ...
    def write(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class ClipWriter:
    """Writes the frames of a timeline, in order; leaving the `with` block puts the file in its place.

        with ClipWriter(path, clip.timeline) as writer:
            for frame in frames:
                writer.write(frame)
        print(writer.result.warnings)

    An exception inside the block leaves what was there before.
    """

    def __init__(self, path: str | os.PathLike[str], timeline: Timeline, *, config: WriteConfig | None = None) -> None:
        """Open the file beside its place.

        Args:
            path: ends in .mp4 or .gif; a name without an ending is a folder of pictures, new, empty or of an earlier
                writer. It may be the source itself.
            timeline: when the frames are shown, and whose sound belongs to them.
            config: quality and sound; None = the defaults.

        Raises:
            InputError: if the ending is another one or nothing can be written there.
        """
        self._path, self._timeline, self._config = Path(path), timeline, config or WriteConfig()
        self._shape: tuple[int, ...] | None = None
        self._written = 0
        self._result: WrittenClip | None = None
        self._warnings: list[str] = []
        suffix = self._path.suffix.lower()
        if suffix not in {".mp4", ".gif", ""}:
            raise InputError(f"expected a name ending in .mp4 or .gif, or that of a folder, got {self._path.name}")
        self._partial = self._path.with_name(f".{self._path.stem}.partial{suffix}")
        with self._told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove(self._partial)
            self._sink = self._open(suffix)

    @property
    def result(self) -> WrittenClip:
        """What was written; only after the block.

        Raises:
            InputError: if the block was not left yet, or by an exception.
        """
        if self._result is None:
            raise InputError(f"{self._path} is not written yet: leave the block of its writer first")
        return self._result

    def write(self, frame: UInt8[np.ndarray, "height width 3"] | UInt8[Tensor, "3 height width"]) -> None:
        """Write the next frame.

        Args:
            frame: RGB, 0 to 255; all frames are of one size.

        Raises:
            InputError: if it is of another size, or one more than the timeline has.
        """
        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy() if isinstance(frame, Tensor) else frame)
        if self._written == len(self._timeline):
            raise InputError(f"{self._path} is to have {len(self._timeline)} frames, got one more")
        if self._shape not in (None, pixels.shape):
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (pixels.shape, self._shape) if shape]
            raise InputError(f"frames must be of one size, got {sizes[0]} after {sizes[1]} pixels")
        if self._shape is None and isinstance(self._sink, Mp4Sink) and (pixels.shape[0] % 2 or pixels.shape[1] % 2):
            self._warnings.append("an mp4 has even sides: the last row or column of each frame is there twice")
        self._shape = pixels.shape
        with self._told():
            self._sink.write(pixels)
        self._written += 1

    def __enter__(self) -> "ClipWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the file in its place, or take it away again after an exception.

        Raises:
            InputError: if frames are lacking or the file cannot be written.
        """
        try:
            if kind is None:
                if self._written != len(self._timeline):
                    raise InputError(f"{self._path} is to have {len(self._timeline)} frames, got {self._written}")
                with self._told():
                    self._sink.finish()
                    self._sink.close()
                    _replace(self._partial, self._path)
                self._result = self._describe()
        finally:
            # After another error, closing an encoder may fail once more; the first error is the one to tell.
            with suppress(load_av().FFmpegError, OSError):
                self._sink.close()
            with suppress(OSError):
                _remove(self._partial)

    def _open(self, suffix: str) -> _Sink:
        if suffix == ".mp4":
            with_sound = self._config.sound and self._sound_is_wanted()
            options = {"crf": self._config.crf, "preset": self._config.preset, "with_sound": with_sound}
            return Mp4Sink(self._partial, self._timeline, **options)
        source = self._timeline.source
        if self._config.sound and source is not None and source.has_audio:
            self._warnings.append("sound is left out: only an mp4 holds it")
        if suffix == ".gif":
            sink = GifSink(self._partial, self._timeline, loop=self._config.loop)
            if sink.left_out:
                self._warnings.append(f"{sink.left_out} frames are left out: a gif shows at most 50 a second")
            return sink
        if self._path.exists() and not holds_only_frames(self._path):
            raise InputError(f"{self._path} holds other things than frames: name a new or empty folder")
        return PictureSink(self._partial, self._timeline)

    def _sound_is_wanted(self) -> bool:
        source = self._timeline.source
        if source is None or not source.has_audio:
            self._warnings.append("sound is left out: the source has none")
        elif self._timeline.stride != 1:
            self._warnings.append(f"sound is left out: only one of {self._timeline.stride} frames was taken")
        elif not _can_be_opened(source.path):
            self._warnings.append(f"sound is left out: {source.path} cannot be opened")
        else:
            return True
        return False

    def _describe(self) -> WrittenClip:
        sound = "left out"
        if isinstance(self._sink, Mp4Sink) and self._sink.sound is not None:
            sound = "copied" if self._sink.sound.is_copied else "encoded"
        if self._sink.codec == "mpeg4":
            self._warnings.append("written as MPEG-4 part 2, which browsers do not show: this FFmpeg has no libx264")
        return WrittenClip(
            path=self._path,
            frames=self._written - (self._sink.left_out if isinstance(self._sink, GifSink) else 0),
            codec=self._sink.codec,
            sound=sound,
            warnings=tuple(self._warnings),
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of files and encoders into one line."""
        try:
            yield
        except (load_av().FFmpegError, OSError) as error:
            raise InputError(f"cannot write {self._path} ({reason(error)}): choose another output") from error


def write_clip(
    path: str | os.PathLike[str],
    frames: UInt8[Tensor, "frame 3 height width"] | Iterable[UInt8[np.ndarray, "height width 3"]],
    timeline: Timeline,
    *,
    config: WriteConfig | None = None,
) -> WrittenClip:
    """Write all frames at once; arguments and errors are those of `ClipWriter`."""
    with ClipWriter(path, timeline, config=config) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.result


def _can_be_opened(path: Path) -> bool:
    try:
        with open_container(path):
            return True
    except (load_av().FFmpegError, OSError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Move a finished file or folder to its place; a folder cannot take the place of another in one move."""
    if path.is_dir() and partial.is_dir():
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        path.rename(old)
        partial.rename(path)
        _remove(old)
    else:
        partial.replace(path)
