"""Video files and gifs as PyAV sees them, not decoded: which stream is the clip, and when its frames are shown.

What a container says it holds is compared with what is in it, so that a truncated file is refused and not used as far
as it goes. MPEG transport streams and raw streams say nothing, so that their end is where the file ends.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..editors import InputError, MissingExtraError

_THREADS = 4
"""Threads of the decoder; each holds frames of its own, so that more of them would cost memory on a large machine."""

_SHORTEST = 1e-3
"""Length in seconds of the last frame where neither it nor its neighbours tell."""


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """When the frames of a container are shown, on its own clock in seconds."""

    times: tuple[float, ...]
    end: float
    is_timed: bool
    """Whether the container names these times; if not, they follow from the order of the frames."""


def load_av() -> ModuleType:
    """PyAV, which brings FFmpeg with it.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", purpose="reading and writing clips", install="pip install av") from error
    return av


def open_container(path: Path) -> Any:
    """The container in a file, to be used in a `with`."""
    return load_av().open(str(path), metadata_errors="replace")


def video_stream(container: Any, path: Path) -> Any:
    """The first stream of moving pictures; the cover of a record is none.

    Raises:
        InputError: if there is none.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = _THREADS
            return stream
    raise InputError(f"expected moving pictures in {path}, found no video stream: give another file")


def reason(error: Exception) -> str:
    """What FFmpeg says, without the name of its function and file."""
    return getattr(error, "strerror", None) or str(error)


def scan_times(container: Any, stream: Any, path: Path) -> FrameTimes:
    """Read all packets for their times.

    Raises:
        InputError: if there are no frames, or fewer than the container says.
    """
    shown: list[tuple[int, int]] = []
    stored, reach = 0, 0.0
    # An avi has times of decoding only; what its packets call the time of showing is guessed in the wrong order.
    has_times = container.format.name != "avi"
    is_timed = has_times
    for packet in _whole_packets(container):
        moment = _moment(packet, has_times=has_times)
        reach = max(reach, float((moment + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        stored += not packet.is_discard
        if _is_shown(packet, stream):
            shown.append((moment, packet.duration or 0))
            is_timed = is_timed and packet.pts is not None
    declared = _declared(container, stream, stored, reach, path)
    if declared > stored:
        raise InputError(
            f"{path} ends too early: {stored} of at least {declared} frames are there; copy it anew, or keep what is "
            "there with `ffmpeg -i FILE -c copy NEW`"
        )
    if not shown:
        raise InputError(f"expected a clip in {path}, found a video stream without frames: give another file")
    shown.sort()
    times = tuple(float(moment * stream.time_base) for moment, _ in shown)
    return FrameTimes(times=times, end=_end(container, stream, times, shown[-1][1]), is_timed=is_timed)


def _end(container: Any, stream: Any, times: tuple[float, ...], duration: int) -> float:
    """When the last frame disappears."""
    names = container.format.name.split(",")
    if "mp4" in names and stream.duration:
        # Durations of its packets are counted in the order of decoding, and do not say how long a frame is shown.
        end = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        if end > times[-1]:
            return end
    # Nor does a transport stream: what is read there is the unit of the encoder's clock.
    named = 0.0 if "mpegts" in names else duration * float(stream.time_base)
    last = named or (times[-1] - times[0]) / max(1, len(times) - 1)
    return times[-1] + (last or _SHORTEST)


def _whole_packets(container: Any) -> Iterator[Any]:
    for packet in container.demux():
        if not packet.is_corrupt and (packet.pts is not None or packet.dts is not None):
            yield packet


def _moment(packet: Any, *, has_times: bool) -> int:
    first, second = (packet.pts, packet.dts) if has_times else (packet.dts, packet.pts)
    return second if first is None else first


def _is_shown(packet: Any, stream: Any) -> bool:
    """Whether a packet makes a frame: an empty one repeats the last frame, and VP8 stores some that are never shown."""
    if not packet.size or packet.is_discard:
        return False
    return stream.codec.canonical_name != "vp8" or bool(memoryview(packet)[0] & 16)


def _declared(container: Any, stream: Any, stored: int, reach: float, path: Path) -> int:
    """How many frames the container says it holds; `stored` where it says nothing, one more where it says only that."""
    names = set(container.format.name.split(","))
    if "mp4" in names:
        # The index, not the header's count: a clip cut in a phone keeps frames that its edit list leaves out.
        return sum(not entry.is_discard for entry in stream.index_entries)
    if "matroska" in names and container.duration:
        # Duration counts all streams, hence `reach` does; the last packets of some do not say how long they last.
        interval = 1 / float(stream.average_rate or 25)
        lacking = container.duration / 1e6 - reach
        return stored + (round(lacking / interval) if lacking > max(2 * interval, 0.1) else 0)
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(-min(16, path.stat().st_size), os.SEEK_END)
        tail = file.read().rstrip(b"\0\r\n ")
    if "avi" in names and int.from_bytes(head[4:], "little") + len(head) > path.stat().st_size:
        return max(stream.frames, stored + 1)
    return stored + ("gif" in names and not tail.endswith(b";"))
