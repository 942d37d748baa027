"""What a clip is, and when its frames are shown.

Times are seconds after the first frame of the source, whatever time the container gives that one; frames may be of
unequal length. `Timeline` is the piece of a clip that is worked on: it goes with the frames from reading to writing, so
that the result is shown as long as the source was, beside the same piece of its sound.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..editors import InputError

ClipKind = Literal["video", "gif", "folder"]

_SAME_TIME = 1e-6
"""Two times, in seconds, that differ by less are one."""


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What a file or folder of pictures holds, as it is shown: turned upright, first frame at time 0."""

    path: Path
    kind: ClipKind
    height: int
    width: int
    times: tuple[float, ...]
    """When each frame appears, in seconds; the first is 0."""
    end: float
    """When the last frame disappears, in seconds."""
    has_audio: bool = False
    offset: float = 0.0
    """The container's own time of the first frame, in seconds: sound is counted from there."""
    pixel_aspect: float = 1.0
    """Width of a pixel over its height; other than 1 in old formats of television."""
    is_timed: bool = True
    """Whether the container names the time of every frame; if not, times follow from the frame rate."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def fps(self) -> float:
        """Mean number of frames a second."""
        return self.frames / self.end


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Which frames of a clip are meant, and when they are shown."""

    times: tuple[float, ...]
    """When each frame appears, in seconds after the first frame of the source."""
    end: float
    """When the last frame disappears, on the same clock."""
    source: ClipInfo | None = None
    """The clip that the frames were taken from; its sound belongs to them. None = frames that were made."""
    first: int = 0
    """Number of the first frame in the source."""
    stride: int = 1
    """Every how manyeth frame of the source is taken."""

    def __post_init__(self) -> None:
        """Raise ValueError for a timeline that cannot be shown."""
        if not self.times:
            raise ValueError("times must name at least one frame, got none")
        steps = (*self.times, self.end)
        if any(later < earlier for earlier, later in pairwise(steps)):
            raise ValueError(f"times must not fall and end must follow them, got an end of {self.end:g} s")

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def steady(cls, frames: int, fps: float | int) -> "Timeline":
        """Frames that were made, `fps` a second.

        Args:
            frames: how many, at least 1.
            fps: frames a second, above 0.

        Raises:
            InputError: if fps is not above 0.
        """
        if not fps > 0:
            raise InputError(f"frames a second must be above 0, got {fps}: 12 or 25 are common")
        return cls(times=tuple(number / fps for number in range(frames)), end=frames / fps)

    @property
    def numbers(self) -> range:
        """Numbers of the frames in the source."""
        return range(self.first, self.first + self.stride * len(self.times), self.stride)

    @property
    def durations(self) -> tuple[float, ...]:
        """How long each frame is shown, in seconds."""
        return tuple(b - a for a, b in zip(self.times, (*self.times[1:], self.end), strict=True))


def select_frames(info: ClipInfo, *, start: float | int = 0.0, frames: int | None = None, stride: int = 1) -> Timeline:
    """The piece of a clip that begins at a time.

    Args:
        info: the clip.
        start: seconds after its first frame; the piece begins with the first frame shown from there on.
        frames: at most this many frames, 2 or more; None = all up to the end.
        stride: take every stride-th frame, 1 or more.

    Raises:
        InputError: if an argument is out of range or fewer than two frames are left.
    """
    if stride < 1:
        raise InputError(f"stride must be 1 or more, got {stride}")
    if frames is not None and frames < 2:
        raise InputError(f"a clip needs at least 2 frames, got frames={frames}: ask for more, or edit a picture")
    if start < 0:
        raise InputError(f"start must be 0 or more seconds, got {start:g}")
    first = bisect_left(info.times, start - _SAME_TIME)
    if first == info.frames:
        raise InputError(f"start must be before {info.times[-1]:.3f} s, the last frame of {info.path}, got {start:g}")
    numbers = range(first, info.frames, stride)[:frames]
    if len(numbers) < 2:
        raise InputError(
            f"a clip needs at least 2 frames, start={start:g} s and stride={stride} leave 1 of the {info.frames} in "
            f"{info.path}: begin earlier or lower the stride"
        )
    after = numbers[-1] + stride
    return Timeline(
        times=tuple(info.times[number] for number in numbers),
        end=info.times[after] if after < info.frames else info.end,
        source=info,
        first=first,
        stride=stride,
    )


def timeline_to_record(timeline: Timeline) -> dict[str, Any]:
    """A timeline as plain values that JSON can hold."""
    record = asdict(timeline)
    if timeline.source is not None:
        record["source"]["path"] = str(timeline.source.path)
    return record


def record_to_timeline(record: Mapping[str, Any]) -> Timeline:
    """The timeline of `timeline_to_record`."""
    source = record["source"]
    if source is not None:
        source = ClipInfo(**{**source, "path": Path(source["path"]), "times": tuple(source["times"])})
    return Timeline(**{**record, "times": tuple(record["times"]), "source": source})
