"""The sound that belongs to a piece of a clip, carried over into an mp4.

Streams that an mp4 may hold are copied as they are, cut at their packets; an edit list hides what a first packet holds
before the piece, so that sound and picture stay together. Others are decoded, cut at the sample and encoded as AAC.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..editors import InputError
from .containers import load_av, open_container
from .timeline import Timeline

_COPIED = {"aac", "ac3", "alac", "eac3", "mp3", "opus"}
"""Codecs that players expect in an mp4."""
_USUAL = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What channels are where a stream only counts them, as plain samples often do; encoders must know."""


class Sound:
    """All sound streams of a clip's source, cut to the piece and counted from its beginning."""

    def __init__(self, timeline: Timeline, output: Any) -> None:
        """Add the streams to an output container, before anything is written into it.

        Raises:
            InputError: if the timeline has no source.
        """
        info = timeline.source
        if info is None:
            raise InputError("expected the sound of a clip, got frames that were made: leave sound out")
        self._container = open_container(info.path)
        self._begin = info.offset + timeline.times[0]
        self._end = info.offset + timeline.end
        self._ways: dict[int, tuple[Any, bool]] = {}
        for stream in self._container.streams.audio:
            copied = stream.codec.canonical_name in _COPIED
            if copied:
                target = output.add_stream_from_template(stream)
            else:
                target = output.add_stream("aac", rate=stream.codec_context.sample_rate)
                target.codec_context.layout = _layout_of(stream.codec_context.layout)
            self._ways[stream.index] = target, copied
        self._packets = self._cut()
        self._next = next(self._packets, None)

    @property
    def is_copied(self) -> bool:
        """Whether no stream is encoded anew."""
        return all(copied for _, copied in self._ways.values())

    def until(self, time: float) -> Iterator[Any]:
        """Packets, not taken so far, that begin before a time in seconds after the beginning of the piece."""
        while self._next is not None:
            packet = self._next
            if packet.pts is not None and packet.pts * packet.time_base >= time:
                return
            yield packet
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source; what was not taken is lost."""
        self._container.close()

    def _cut(self) -> Iterator[Any]:
        streams = list(self._container.streams.audio)
        for packet in self._container.demux(streams):
            target, copied = self._ways[packet.stream.index]
            if not copied:
                for frame in packet.decode():
                    for piece in self._cut_samples(frame):
                        yield from target.encode(piece)
            elif packet.pts is not None:
                begin, length = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
                # One packet more than is heard: a decoder needs it to begin without a gap.
                if begin + 2 * length > self._begin and begin < self._end:
                    ticks = round(self._begin / packet.time_base)
                    packet.pts -= ticks
                    packet.dts = packet.pts if packet.dts is None else packet.dts - ticks
                    packet.stream = target
                    yield packet
        for target, copied in self._ways.values():
            if not copied:
                yield from target.encode(None)

    def _cut_samples(self, frame: Any) -> Iterator[Any]:
        """The part of a decoded frame that belongs to the piece."""
        av, layout = load_av(), _layout_of(frame.layout)
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=frame.rate)
        for plain in resampler.resample(frame):
            first = round((frame.time - self._begin) * frame.rate)
            low, high = max(0, -first), min(plain.samples, round((self._end - self._begin) * frame.rate) - first)
            if low < high:
                samples = np.ascontiguousarray(plain.to_ndarray()[:, low:high])
                piece = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                piece.rate, piece.pts, piece.time_base = frame.rate, first + low, Fraction(1, frame.rate)
                yield piece


def _layout_of(layout: Any) -> str:
    """The name of a layout of channels; the usual one of so many where it has none."""
    name = str(layout.name)
    return _USUAL.get(int(layout.nb_channels), name) if name.endswith("channels") else name
