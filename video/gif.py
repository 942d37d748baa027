"""Gifs out: one palette for the whole clip, so that what does not change does not flicker.

A palette needs all frames before the first is written; until then they wait, uncompressed, in a nameless temporary
file. Delays are whole hundredths of a second. Players show shorter ones than two as ten, so that frames which come
faster than 50 a second are left out.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from .containers import load_av
from .timeline import Timeline

_TICK = Fraction(1, 100)
_SHORTEST = 2
"""The shortest delay that players respect, in hundredths of a second."""


class GifSink:
    """Writes the frames of a timeline into a gif."""

    codec = "gif"

    def __init__(self, path: Path, timeline: Timeline, *, loop: int = 0) -> None:
        """Open the waiting room.

        Args:
            path: the file.
            timeline: when the frames are shown.
            loop: how often a player repeats the clip after its first showing; 0 = for ever, -1 = never.
        """
        self._path, self._loop = path, loop
        ticks = [round((time - timeline.times[0]) / _TICK) for time in (*timeline.times, timeline.end)]
        self._ticks: list[int] = []
        self._is_kept: list[bool] = []
        for tick in ticks[:-1]:
            self._is_kept.append(not self._ticks or tick - self._ticks[-1] >= _SHORTEST)
            if self._is_kept[-1]:
                self._ticks.append(tick)
        self._last = max(_SHORTEST, ticks[-1] - self._ticks[-1])
        self._waiting = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by `close`
        self._shape = (0, 0, 3)
        self._written = 0

    @property
    def left_out(self) -> int:
        """How many frames come too fast for a gif."""
        return self._is_kept.count(False)

    def write(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Take the next frame."""
        self._shape = pixels.shape
        if self._is_kept[self._written]:
            self._waiting.write(pixels.tobytes())
        self._written += 1

    def finish(self) -> None:
        """Write the file."""
        av = load_av()
        palette = self._palette()
        height, width, _ = self._shape
        graph = av.filter.Graph()
        frames = self._source(graph)
        colors = graph.add_buffer(width=16, height=16, format=palette.format, time_base=_TICK, name="colors")
        # Ordered dither: that of a pixel does not depend on others, so that an edit leaves the rest of a frame alone.
        mapper, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4"), graph.add("buffersink")
        frames.link_to(mapper, 0, 0)
        colors.link_to(mapper, 0, 1)
        mapper.link_to(sink)
        graph.configure()
        palette.pts = 0
        colors.push(palette)
        colors.push(None)
        options = {"loop": str(self._loop), "final_delay": str(self._last)}
        with av.open(str(self._path), "w", format="gif", options=options) as container:
            stream = container.add_stream("gif", rate=100)
            stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
            stream.codec_context.time_base = _TICK
            for frame in (*self._frames(), None):
                frames.push(frame)
                for mapped in _pull_all(sink):
                    container.mux(stream.encode(mapped))
            container.mux(stream.encode(None))

    def close(self) -> None:
        """Give the waiting room up."""
        self._waiting.close()

    def _palette(self) -> Any:
        """The 255 colours that suit all frames best."""
        graph = load_av().filter.Graph()
        source = self._source(graph)
        maker, sink = graph.add("palettegen", "stats_mode=full:max_colors=255"), graph.add("buffersink")
        source.link_to(maker)
        maker.link_to(sink)
        graph.configure()
        for frame in self._frames():
            source.push(frame)
        source.push(None)
        return sink.pull()

    def _source(self, graph: Any) -> Any:
        height, width, _ = self._shape
        return graph.add_buffer(width=width, height=height, format=load_av().VideoFormat("rgba"), time_base=_TICK)

    def _frames(self) -> Iterator[Any]:
        self._waiting.seek(0)
        for tick in self._ticks:
            data = np.frombuffer(self._waiting.read(int(np.prod(self._shape))), np.uint8).reshape(self._shape)
            frame = load_av().VideoFrame.from_ndarray(data, format="rgb24").reformat(format="rgba")
            frame.pts, frame.time_base = tick, _TICK
            yield frame


def _pull_all(sink: Any) -> Iterator[Any]:
    av = load_av()
    while True:
        try:
            yield sink.pull()
        except (av.BlockingIOError, av.EOFError):
            return
