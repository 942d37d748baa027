"""Sound stays beside its picture: a beep of the source is heard at the same time of the piece, copied or encoded."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from maskedit.editors import InputError
from maskedit.video.frames import probe_clip
from maskedit.video.sound import Sound
from maskedit.video.timeline import Timeline, select_frames
from maskedit.video.writing import ClipWriter


def beeps(path: Path) -> tuple[list[float], float, float]:
    """When beeps begin, and when the sound begins and ends, in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    wave = np.abs(np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float))
    rate, start = frames[0].rate, float(frames[0].time or 0)
    loud = np.convolve(wave > 0.25 * wave.max(), np.ones(rate // 100), "same") > 0
    begins = np.flatnonzero(np.diff(loud.astype(int)) == 1) / rate + start
    return begins.tolist(), start, start + len(wave) / rate


def carry(source: Path, output: Path, **piece: float | int) -> tuple[str, float]:
    """Write a piece of a clip with its sound, and return how it was carried and how long it can be heard."""
    timeline = select_frames(probe_clip(source), **piece)
    with ClipWriter(output, timeline) as writer:
        for _ in timeline.times:
            writer.write(np.zeros((48, 64, 3), np.uint8))
    return writer.result.sound, min(timeline.end, 4.0) - timeline.times[0]


@pytest.fixture(scope="module")
def make_talking(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Callable[..., Path]:
    """Makes clips, with four seconds of sound, that beep at 1, 2 and 3 seconds."""

    def make(name: str, sound: str, rate: int, codec: str = "libx264") -> Path:
        path = tmp_path_factory.mktemp("talking") / name
        return path if path.exists() else make_video(path, frames=49, sound=sound, rate=rate, codec=codec)

    return make


@pytest.mark.parametrize(
    ("name", "codec", "rate", "way"),
    [
        ("a.mp4", "aac", 44100, "copied"),
        ("a.mkv", "libopus", 48000, "copied"),
        ("a.mkv", "libmp3lame", 32000, "copied"),
        ("a.mkv", "flac", 44100, "encoded"),
        ("a.mov", "pcm_s16le", 22050, "encoded"),
        # Such a file counts its channels and does not say where they are.
        ("b.mkv", "pcm_s16le", 32000, "encoded"),
    ],
)
@pytest.mark.parametrize(
    ("piece", "expected"),
    [({}, [1, 2, 3]), ({"start": 1.5, "frames": 20}, [0.5, 1.5]), ({"start": 0.75}, [0.25, 1.25, 2.25])],
)
def test_beeps_are_heard_where_they_belong(
    name: str,
    codec: str,
    rate: int,
    way: str,
    piece: dict,
    expected: list[float],
    make_talking: Callable[..., Path],
    tmp_path: Path,
):
    source = make_talking(name, codec, rate)
    found, length = carry(source, tmp_path / "out.mp4", **piece)
    times, start, end = beeps(tmp_path / "out.mp4")
    assert found == way
    # Encoders spread the beginning of a sound over a few milliseconds.
    np.testing.assert_allclose(times, expected, atol=0.012)
    assert abs(start) < 0.03
    assert end == pytest.approx(length, abs=0.06)


def test_all_streams_are_carried(tmp_path: Path, make_talking: Callable[..., Path]):
    source = tmp_path / "two.mkv"
    with av.open(str(make_talking("a.mkv", "flac", 44100))) as one, av.open(str(source), "w") as two:
        targets = {s.index: two.add_stream_from_template(s) for s in one.streams}
        extra = two.add_stream("aac", rate=44100, layout="mono")
        for packet in one.demux():
            if packet.dts is not None or packet.pts is not None:
                packet.stream = targets[packet.stream.index]
                two.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        two.mux(extra.encode(frame))
        two.mux(extra.encode(None))
    assert carry(source, tmp_path / "out.mp4")[0] == "encoded"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.codec.canonical_name for stream in container.streams.audio] == ["aac", "aac"]


def test_packets_come_in_time_and_once(tmp_path: Path, make_talking: Callable[..., Path]):
    timeline = select_frames(probe_clip(make_talking("a.mp4", "aac", 44100)))
    with av.open(str(tmp_path / "out.mp4"), "w") as output:
        sound = Sound(timeline, output)
        assert sound.is_copied
        early = [float(packet.pts * packet.time_base) for packet in sound.until(1.0)]
        assert max(early) < 1 <= max(early) + 0.05
        late = [float(packet.pts * packet.time_base) for packet in sound.until(float("inf"))]
        assert early + late == sorted({*early, *late})
        assert not list(sound.until(float("inf")))
        sound.close()


def test_frames_that_were_made_have_no_sound(tmp_path: Path):
    with av.open(str(tmp_path / "out.mp4"), "w") as output, pytest.raises(InputError, match="leave sound out"):
        Sound(Timeline.steady(3, 12), output)
