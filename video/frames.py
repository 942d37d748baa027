"""Clips in: videos, gifs and folders of pictures, read one frame at a time at the working size.

A clip is `frame 3 height width`, RGB, 8 bits. Shrinking averages areas; nothing is ever enlarged. Frames keep the times
at which the source shows them, see `timeline.py`; `StoredClip` (`stored.py`) is for clips that are too long for memory.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..editors import InputError
from .decoding import decode_container, probe_container
from .picture_folders import probe_folder, read_folder
from .timeline import ClipInfo, Timeline, select_frames

MIN_SIZE = 16
"""The smallest working size, in pixels."""


class TimedFrame(NamedTuple):
    """One frame, and when it appears in seconds after the first frame of its source."""

    time: float
    pixels: UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Some frames in memory, and when they are shown."""

    frames: UInt8[Tensor, "frame 3 height width"]
    timeline: Timeline
    info: ClipInfo

    @property
    def times(self) -> tuple[float, ...]:
        """When each frame appears, in seconds after the first frame of the source."""
        return self.timeline.times

    @property
    def source(self) -> Path:
        """The file or folder."""
        return self.info.path


def probe_clip(path: str | os.PathLike[str], *, fps: float | int | None = None) -> ClipInfo:
    """What a video, gif or folder of pictures holds. At most one frame is decoded.

    Args:
        path: the file or folder.
        fps: frames a second of a folder, above 0; None = as its `times.json` says, or 12. Only for folders.

    Returns:
        Size as it is shown, times of all frames, whether there is sound.

    Raises:
        InputError: if there is no such file, it cannot be read, is truncated, or holds fewer than two frames.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"expected a clip at {place}, found no such file or folder")
    if place.is_dir():
        info = probe_folder(place, fps=fps)
    elif fps is not None:
        raise InputError(f"fps is for folders of pictures, {place} names the times of its frames itself: leave fps out")
    elif place.stat().st_size == 0:
        raise InputError(f"expected a clip at {place}, found an empty file: fetch it anew")
    else:
        info = probe_container(place)
    if info.frames < 2:
        raise InputError(f"a clip needs at least 2 frames, {place} holds 1: edit it as a picture")
    return info


def iterate_frames(
    path: str | os.PathLike[str] | ClipInfo,
    *,
    size: int | None = None,
    start: float | int = 0.0,
    frames: int | None = None,
    stride: int = 1,
    fps: float | int | None = None,
) -> Iterator[TimedFrame]:
    """Read a piece of a clip; only one frame at a time is in memory. Arguments are checked at the call.

    Args:
        path: a video, gif or folder of pictures, or what `probe_clip` said of it.
        size: longest side in pixels, 16 or more; larger frames are shrunk to it. None = as they are.
        start: seconds after the first frame, 0 or more.
        frames: at most this many, 2 or more; None = all up to the end.
        stride: every stride-th frame, 1 or more.
        fps: frames a second of a folder, see `probe_clip`.

    Raises:
        InputError: as `probe_clip`; if an argument is out of range; while reading, if a frame cannot be decoded.
    """
    info = path if isinstance(path, ClipInfo) else probe_clip(path, fps=fps)
    return frames_of(select_frames(info, start=start, frames=frames, stride=stride), size=size)


def frames_of(timeline: Timeline, *, size: int | None = None) -> Iterator[TimedFrame]:
    """Read the frames that a timeline names, one at a time.

    Args:
        timeline: a piece of a clip, as `select_frames` gives it.
        size: longest side in pixels, 16 or more; None = as they are.

    Raises:
        InputError: if the timeline has no source or size is out of range; while reading, if a frame cannot be decoded.
    """
    info = timeline.source
    if info is None:
        raise InputError("expected frames of a clip, got a timeline without a source: give the frames themselves")
    height, width = working_size(info.height, info.width, size)
    pixels = (read_folder if info.kind == "folder" else decode_container)(info, timeline.numbers)
    return (TimedFrame(t, shrink(p, height, width)) for t, p in zip(timeline.times, pixels, strict=True))


def read_clip(
    path: str | os.PathLike[str] | ClipInfo,
    *,
    size: int | None,
    start: float | int = 0.0,
    frames: int | None = None,
    stride: int = 1,
    fps: float | int | None = None,
) -> Clip:
    """Read a piece of a clip into memory; arguments and errors are those of `iterate_frames`."""
    info = path if isinstance(path, ClipInfo) else probe_clip(path, fps=fps)
    timeline = select_frames(info, start=start, frames=frames, stride=stride)
    held = torch.empty(len(timeline), 3, *working_size(info.height, info.width, size), dtype=torch.uint8)
    for place, frame in zip(held, frames_of(timeline, size=size), strict=True):
        place.copy_(torch.from_numpy(frame.pixels).permute(2, 0, 1))
    return Clip(frames=held, timeline=timeline, info=info)


def working_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width with the longer side at most `size`; both in pixels.

    Raises:
        InputError: if size is below 16.
    """
    if size is not None and size < MIN_SIZE:
        raise InputError(f"size must be at least {MIN_SIZE} pixels, got {size}: 512 is common")
    if size is None or max(height, width) <= size:
        return height, width
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(
    pixels: UInt8[np.ndarray, "height width 3"], height: int, width: int
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """A smaller picture whose pixels are the means of the areas they cover; the same size is returned untouched."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import cv2

    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
