"""Frames on disk, for clips too long for memory: `frames.npy`, of which a segment reads only its rows.

FOLDER/frames.npy    frame 3 height width, 8 bits, at the working size
FOLDER/frames.json   their timeline and source; written last, so that it stands for a complete folder
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..editors import InputError, one_line_on_failure, read_json, write_json
from .frames import TimedFrame, frames_of, probe_clip
from .timeline import ClipInfo, Timeline, record_to_timeline, select_frames, timeline_to_record

_ARRAY, _RECORD = "frames.npy", "frames.json"
_HINT = "choose another folder, or make room"


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """Some frames on disk, and when they are shown."""

    folder: Path
    timeline: Timeline
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.timeline)

    @property
    def times(self) -> tuple[float, ...]:
        """When each frame appears, in seconds after the first frame of the source."""
        return self.timeline.times

    @property
    def info(self) -> ClipInfo | None:
        """What the frames were taken from; None = they were made."""
        return self.timeline.source

    def rows(self, which: slice | int = slice(None)) -> UInt8[Tensor, "frame 3 height width"]:
        """Read some frames into memory; no others are.

        Args:
            which: a slice of frames, or the number of one.

        Raises:
            InputError: if the file has gone, or the number is none of a frame.
        """
        if isinstance(which, int):
            if not -len(self) <= which < len(self):
                raise InputError(f"frame must be between 0 and {len(self) - 1}, got {which}")
            which = slice(which % len(self), which % len(self) + 1)
        try:
            # The map is closed again with the array, so that its pages do not count as memory of this process.
            return torch.from_numpy(np.array(np.load(self.folder / _ARRAY, mmap_mode="r")[which]))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read frames in {self.folder / _ARRAY} ({error}): store them anew") from error


def store_frames(
    path: str | os.PathLike[str] | ClipInfo,
    folder: Path,
    *,
    size: int | None = 512,
    start: float | int = 0.0,
    frames: int | None = None,
    stride: int = 1,
    fps: float | int | None = None,
) -> StoredClip:
    """Decode a piece of a clip into a folder; only one frame at a time is in memory.

    Args:
        path: a video, gif or folder of pictures, or what `probe_clip` said of it.
        folder: where to write; frames that were stored there are replaced.
        size: longest side in pixels, 16 or more; None = as they are.
        start: seconds after the first frame, 0 or more.
        frames: at most this many, 2 or more; None = all up to the end.
        stride: every stride-th frame, 1 or more.
        fps: frames a second of a folder of pictures, see `probe_clip`.

    Raises:
        InputError: as `iterate_frames`, or if the folder cannot be written.
    """
    info = path if isinstance(path, ClipInfo) else probe_clip(path, fps=fps)
    timeline = select_frames(info, start=start, frames=frames, stride=stride)
    return store_array(frames_of(timeline, size=size), timeline, folder)


def store_array(frames: Iterable[TimedFrame], timeline: Timeline, folder: Path) -> StoredClip:
    """Write frames, in the order of a timeline, into a folder.

    Args:
        frames: as many as the timeline has; they may be made one by one.
        timeline: when they are shown.
        folder: where to write; frames that were stored there are replaced.

    Raises:
        InputError: if the folder cannot be written, or the frames are not of one size.
    """
    partial = folder / f"{_ARRAY}.partial"
    try:
        with one_line_on_failure(folder, hint=_HINT, error=InputError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _RECORD).unlink(missing_ok=True)
            height, width = _write_array(partial, frames, len(timeline))
            partial.replace(folder / _ARRAY)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    values = {"height": height, "width": width, "timeline": timeline_to_record(timeline)}
    write_json(folder / _RECORD, values, hint=_HINT, error=InputError)
    return StoredClip(folder=folder, timeline=timeline, height=height, width=width)


def move_stored(folder: Path, source: Path) -> None:
    """Note where the source of stored frames lies now.

    Raises:
        InputError: if the folder holds no frames, or cannot be written.
    """
    values = read_json(folder / _RECORD, hint="store the frames of the clip anew", error=InputError)
    if values["timeline"]["source"] is not None:
        values["timeline"]["source"]["path"] = str(source)
        write_json(folder / _RECORD, values, hint=_HINT, error=InputError)


def _write_array(path: Path, frames: Iterable[TimedFrame], count: int) -> tuple[int, int]:
    """Write a numpy file frame by frame, and return height and width."""
    shape = (0, 0)
    with path.open("wb") as file:
        # Plain writing instead of a map: mapped pages would count as memory until the system writes them back.
        for number, frame in zip(range(count), frames, strict=True):
            size = (frame.pixels.shape[0], frame.pixels.shape[1])
            if number == 0:
                shape = size
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if size != shape:
                raise InputError(f"frames must be of one size, got {size[1]}x{size[0]} after {shape[1]}x{shape[0]}")
            file.write(frame.pixels.transpose(2, 0, 1).tobytes())
    return shape


def open_stored(folder: Path) -> StoredClip:
    """The frames that `store_frames` wrote.

    Raises:
        InputError: if the folder holds none, or not all of them.
    """
    values = read_json(folder / _RECORD, hint="store the frames of the clip anew", error=InputError)
    try:
        clip = StoredClip(
            folder=folder,
            timeline=record_to_timeline(values["timeline"]),
            height=values["height"],
            width=values["width"],
        )
        shape = np.load(folder / _ARRAY, mmap_mode="r").shape
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read the stored frames in {folder} ({error}): store them anew") from error
    if shape != (len(clip), 3, clip.height, clip.width):
        raise InputError(f"expected {len(clip)} frames in {folder / _ARRAY}, its shape is {shape}: store them anew")
    return clip
