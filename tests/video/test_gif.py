"""Gifs show each frame for as long as the source, in one palette that does not flicker."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from maskedit.video.gif import GifSink
from maskedit.video.timeline import Timeline


def write(path: Path, frames: list[np.ndarray], timeline: Timeline, **options: int) -> GifSink:
    sink = GifSink(path, timeline, **options)
    try:
        for pixels in frames:
            sink.write(pixels)
        sink.finish()
    finally:
        sink.close()
    return sink


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """Frames and their delays in milliseconds, by Pillow."""
    with Image.open(path) as picture:
        pages = [(np.array(page.convert("RGB")), page.info["duration"]) for page in ImageSequence.Iterator(picture)]
    return np.stack([pixels for pixels, _ in pages]), [delay for _, delay in pages]


def test_frames_keep_their_lengths(tmp_path: Path, moving: Callable[..., np.ndarray]):
    frames = [moving(number, 33, 47) for number in range(4)]
    sink = write(tmp_path / "a.gif", frames, Timeline(times=(3.0, 3.12, 3.2, 3.9), end=4.15))
    found, delays = read(tmp_path / "a.gif")
    assert delays == [120, 80, 700, 250]
    assert sink.left_out == 0
    assert np.abs(found.astype(int) - frames).mean() < 8


def test_lengths_add_up_where_they_are_no_whole_hundredths(tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.gif", [moving(number) for number in range(30)], Timeline.steady(30, 30))
    _, delays = read(tmp_path / "a.gif")
    assert set(delays) == {30, 40}
    assert sum(delays) == 1000


def test_frames_that_players_would_slow_down_are_left_out(tmp_path: Path, moving: Callable[..., np.ndarray]):
    frames = [moving(number) for number in range(60)]
    sink = write(tmp_path / "a.gif", frames, Timeline.steady(60, 100))
    found, delays = read(tmp_path / "a.gif")
    assert (len(found), sink.left_out, set(delays)) == (30, 30, {20})
    errors = [np.abs(found[1].astype(int) - pixels).mean() for pixels in frames[:5]]
    assert np.argmin(errors) == 2


def test_frames_without_change_stay(tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.gif", [moving(0)] * 3 + [moving(5)], Timeline.steady(4, 10))
    found, delays = read(tmp_path / "a.gif")
    assert sum(delays) == 400
    assert np.abs(found[-1].astype(int) - moving(5)).mean() < 8


def test_what_does_not_change_does_not_flicker(tmp_path: Path, moving: Callable[..., np.ndarray]):
    frames = [moving(0).copy() for _ in range(6)]
    for number, pixels in enumerate(frames):
        pixels[10:20, 4 * number : 4 * number + 10] = (250, 20 * number, 10)
    write(tmp_path / "a.gif", frames, Timeline.steady(6, 10))
    found, _ = read(tmp_path / "a.gif")
    assert np.array_equal(found[:, 24:], np.broadcast_to(found[:1, 24:], found[:, 24:].shape))
    assert not np.array_equal(found[0, :24], found[1, :24])


@pytest.mark.parametrize(("loop", "expected"), [(0, 0), (3, 3), (-1, None)])
def test_players_are_told_how_often(loop: int, expected: int | None, tmp_path: Path, moving: Callable[..., np.ndarray]):
    write(tmp_path / "a.gif", [moving(0), moving(5)], Timeline.steady(2, 10), loop=loop)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.info.get("loop") == expected


def test_nothing_lies_about_while_frames_wait(tmp_path: Path, moving: Callable[..., np.ndarray]):
    sink = GifSink(tmp_path / "a.gif", Timeline.steady(2, 10))
    sink.write(moving(0))
    assert not list(tmp_path.iterdir())
    sink.close()
