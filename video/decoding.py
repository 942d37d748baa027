"""The frames of video files and gifs as upright RGB, decoded by PyAV one at a time.

A phone stores its pictures as the sensor saw them, beside a matrix that says how to hold them. Transparent parts of a
gif are white; other opacity is ignored. For colours see `colors.py`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from ..editors import InputError
from .colors import rgb_converter
from .containers import load_av, open_container, reason, scan_times, video_stream
from .timeline import ClipInfo

_SAME_TIME = 1e-3
"""A frame that comes more than so many seconds off its time is another one."""


class Upright(NamedTuple):
    """How a stored picture is brought upright: exchange the axes first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def turn(self, pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height2 width2 3"]:
        """The upright picture."""
        pixels = pixels.transpose(1, 0, 2) if self.transpose else pixels
        pixels = pixels[:, ::-1] if self.flip_x else pixels
        return np.ascontiguousarray(pixels[::-1] if self.flip_y else pixels)


def probe_container(path: Path) -> ClipInfo:
    """What a video file or gif holds; one frame is decoded.

    Raises:
        InputError: if it cannot be read, holds no frames, or holds fewer than it says.
    """
    av = load_av()
    try:
        with open_container(path) as container:
            found = scan_times(container, video_stream(container, path), path)
            is_gif = container.format.name == "gif"
            has_audio = bool(container.streams.audio)
        with open_container(path) as container:
            stream = video_stream(container, path)
            frame = next(container.decode(stream), None)
            aspect = float(stream.sample_aspect_ratio or 1)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"cannot read {path} as a clip ({reason(error)}): is it a video, and complete?") from error
    if frame is None:
        raise InputError(f"0 of {len(found.times)} frames of {path} could be decoded: convert it anew")
    upright = upright_of(frame, path)
    height, width = (frame.width, frame.height) if upright.transpose else (frame.height, frame.width)
    offset = found.times[0]
    return ClipInfo(
        path=path,
        kind="gif" if is_gif else "video",
        height=height,
        width=width,
        times=tuple(time - offset for time in found.times),
        end=found.end - offset,
        has_audio=has_audio,
        offset=offset,
        pixel_aspect=1 / aspect if upright.transpose else aspect,
        is_timed=found.is_timed,
    )


def decode_container(info: ClipInfo, wanted: range) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The wanted frames of a file that `probe_container` described, one at a time.

    Raises:
        InputError: if one of them cannot be decoded.
    """
    av = load_av()
    done, why = 0, "frames are missing or damaged"
    first = upright = to_rgb = None
    try:
        for number, frame in _frames_from(info, wanted[0]):
            if number < wanted[done]:
                continue
            # A frame out of its place means that one before it was lost on the way.
            is_lost = info.is_timed and abs(frame.time - info.offset - info.times[number]) > _SAME_TIME
            if frame.is_corrupt or is_lost or number > wanted[done]:
                break
            if first is None:
                first, upright, to_rgb = _form(frame), upright_of(frame, info.path), rgb_converter(frame)
            if _form(frame) != first or to_rgb is None or upright is None:
                why = f"their size or format changes to {frame.width}x{frame.height} {frame.format.name}"
                break
            yield upright.turn(to_rgb(frame).to_ndarray())
            done += 1
            if done == len(wanted):
                return
    except (av.FFmpegError, OSError) as error:
        why = reason(error)
    raise InputError(
        f"{done} of {len(wanted)} frames of {info.path} could be decoded ({why}): convert it anew, or name a piece "
        "before or after that place"
    )


def upright_of(frame: Any, path: Path) -> Upright:
    """How a decoded frame is brought upright.

    Raises:
        InputError: if it is to be turned by anything but quarters.
    """
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Upright()
    # The file's matrix maps (x, y) to (a x + c y, b x + d y), in 1/65536.
    (a, b), (c, d) = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].tolist()
    if (a == d == 0) == (b == c == 0) or abs(a) != abs(d) or abs(b) != abs(c):
        raise InputError(
            f"{path} is to be shown turned by {frame.rotation} degrees, which is no quarter: turn it upright"
        )
    return Upright(transpose=a == 0, flip_x=a + c < 0, flip_y=b + d < 0)


def _form(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _frames_from(info: ClipInfo, first: int) -> Iterator[tuple[int, Any]]:
    """Number and frame, from a key frame at or before the first one wanted."""
    av = load_av()
    if first and info.is_timed:
        with open_container(info.path) as container, suppress(av.FFmpegError):
            stream = video_stream(container, info.path)
            container.seek(round((info.times[first] + info.offset) / stream.time_base), stream=stream)
            numbered = _numbered(info, container.decode(stream))
            number, frame = next(numbered, (info.frames, None))
            # Some containers have no usable index: then the way there leads through all frames before it.
            if number <= first:
                yield number, frame
                yield from numbered
                return
    with open_container(info.path) as container:
        yield from _numbered(info, container.decode(video_stream(container, info.path)))


def _numbered(info: ClipInfo, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    number = -1
    for frame in frames:
        number = max(number + 1, _number_of(info, frame.time - info.offset) if info.is_timed else 0)
        if number < info.frames:
            yield number, frame


def _number_of(info: ClipInfo, time: float) -> int:
    """Number of the frame at a time; -1 if there is none."""
    number = bisect_left(info.times, time - _SAME_TIME / 2)
    return number if number < info.frames and abs(info.times[number] - time) < _SAME_TIME else -1
