"""Mp4s out: H.264 that ordinary players show, each frame at its own time, beside the sound of the source.

H.264 stores colour at half the size, and this format counts in pairs of pixels: a frame with an odd side gets one more
row or column, which repeats its edge. Its crop counts in pairs as well, and players ignore the container's, so that the
file is one pixel larger than the clip. The colour matrix is the one players assume for the size, and is named as well.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from ..editors import InputError
from .colors import Converter, matrix_of_size, yuv_converter
from .containers import load_av
from .sound import Sound
from .timeline import Timeline

_TICK = Fraction(1, 60000)
"""Unit of time; all common frame rates are whole multiples or nearly so, and each encoder takes it."""

_MATRIX_NUMBERS = {"bt709": 1, "smpte170m": 6}
_BT709 = 1
_LIMITED_RANGE = 1
_THREADS = 4
"""A fixed number: the encoder's result depends on it, and is to be the same on every machine."""

Preset = Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"]


class Mp4Sink:
    """Writes the frames of a timeline into an mp4."""

    def __init__(self, path: Path, timeline: Timeline, *, crf: int, preset: Preset, with_sound: bool) -> None:
        """Open the container.

        Args:
            path: the file.
            timeline: when the frames are shown.
            crf: x264's constant rate factor, 0 (best) to 51.
            preset: x264's exchange of time for size.
            with_sound: carry over the sound of the timeline's source.

        Raises:
            InputError: if this FFmpeg has no suitable encoder.
        """
        self.codec, options = _choose_encoder(crf, preset)
        times = [round((time - timeline.times[0]) / _TICK) for time in (*timeline.times, timeline.end)]
        # Frames shown at one and the same time follow each other by one tick.
        for place in range(1, len(times)):
            times[place] = max(times[place], times[place - 1] + 1)
        self._times = times
        self._lasts = dict(zip(times, np.diff(times).tolist(), strict=False))
        self._written = 0
        self._to_yuv: Converter | None = None
        self._container = load_av().open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(len(timeline) / (times[-1] * float(_TICK))).limit_denominator(1001)
        self._stream = self._container.add_stream(self.codec, rate=rate, options=options)
        context = self._stream.codec_context
        context.time_base, context.thread_count, self._stream.time_base = _TICK, _THREADS, _TICK
        if timeline.source is not None:
            context.sample_aspect_ratio = Fraction(timeline.source.pixel_aspect).limit_denominator(1000)
        self.sound = Sound(timeline, self._container) if with_sound else None

    def write(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Encode the next frame."""
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if not self._written:
            self._describe(*pixels.shape[:2])
        frame = load_av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = self._times[self._written], _TICK
        if self._to_yuv is None:
            self._to_yuv = yuv_converter(frame)
        self._written += 1
        self._mux(self._stream.encode(self._to_yuv(frame)))

    def finish(self) -> None:
        """Write what is still being encoded, the rest of the sound, and the index."""
        self._mux(self._stream.encode(None))
        if self.sound is not None:
            for packet in self.sound.until(float("inf")):
                self._container.mux(packet)
        self._container.close()

    def close(self) -> None:
        """Close all files, finished or not."""
        if self.sound is not None:
            self.sound.close()
        self._container.close()

    def _describe(self, height: int, width: int) -> None:
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.colorspace, context.color_range = _MATRIX_NUMBERS[matrix_of_size(height, width)], _LIMITED_RANGE
        context.color_primaries = context.color_trc = _BT709

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            # Encoders leave the duration out, and the last frame would be shown for as long as the one before it.
            packet.duration = self._lasts[round(packet.pts * packet.time_base / _TICK)]
            if self.sound is not None:
                for earlier in self.sound.until(float(packet.dts * packet.time_base)):
                    self._container.mux(earlier)
            self._container.mux(packet)


def _choose_encoder(crf: int, preset: Preset) -> tuple[str, dict[str, str]]:
    """Name and options of the best encoder this FFmpeg has.

    Raises:
        InputError: if there is none.
    """
    present = load_av().codec.codecs_available
    if "libx264" in present:
        # With frames stored out of order, an mp4 cannot say how long the last one is shown.
        return "libx264", {"crf": str(crf), "preset": preset, "bf": "0"}
    if "mpeg4" in present:
        # The older codec's scale runs from 1 to 31, in units of FF_QP2LAMBDA.
        return "mpeg4", {"flags": "+qscale", "global_quality": str(118 * max(1, round(crf * 31 / 51)))}
    raise InputError(
        "expected an encoder for mp4 in FFmpeg, found neither libx264 nor mpeg4: `pip install --force-reinstall av`, "
        "or write a gif or a folder of pictures"
    )
