"""Pieces of a clip keep the times of the source, and survive JSON."""

import json
from pathlib import Path

import pytest

from maskedit.editors import InputError
from maskedit.video.timeline import ClipInfo, Timeline, record_to_timeline, select_frames, timeline_to_record

INFO = ClipInfo(
    path=Path("clip.mp4"), kind="video", height=48, width=64, times=(0.0, 0.1, 0.3, 0.4, 0.9, 1.0), end=1.5, offset=0.2
)


def test_the_whole_clip_is_taken_by_default():
    piece = select_frames(INFO)
    assert piece == Timeline(times=INFO.times, end=1.5, source=INFO)
    assert piece.durations == pytest.approx((0.1, 0.2, 0.1, 0.5, 0.1, 0.5))
    assert (INFO.frames, INFO.fps, len(piece)) == (6, 4.0, 6)


@pytest.mark.parametrize(
    ("options", "numbers", "end"),
    [
        ({"start": 0.1}, [1, 2, 3, 4, 5], 1.5),
        ({"start": 0.11}, [2, 3, 4, 5], 1.5),
        ({"start": 0.1 + 1e-9}, [1, 2, 3, 4, 5], 1.5),
        ({"frames": 3}, [0, 1, 2], 0.4),
        ({"frames": 99}, [0, 1, 2, 3, 4, 5], 1.5),
        ({"stride": 2}, [0, 2, 4], 1.5),
        ({"stride": 2, "frames": 2}, [0, 2], 0.9),
        ({"start": 0.3, "stride": 2, "frames": 2}, [2, 4], 1.5),
    ],
)
def test_a_piece_ends_where_its_next_frame_would_appear(options: dict, numbers: list[int], end: float):
    piece = select_frames(INFO, **options)
    assert list(piece.numbers) == numbers
    assert piece.times == tuple(INFO.times[number] for number in numbers)
    assert piece.end == end


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.01}, r"start must be before 1\.000 s, the last frame of clip\.mp4, got 1\.01"),
        ({"start": -1.0}, "start must be 0 or more seconds, got -1"),
        ({"start": 1.0}, r"at least 2 frames, start=1 s and stride=1 leave 1 of the 6"),
        ({"stride": 6}, "stride=6 leave 1 of the 6"),
        ({"stride": 0}, "stride must be 1 or more, got 0"),
        ({"frames": 1}, "at least 2 frames, got frames=1"),
    ],
)
def test_what_leaves_no_clip_is_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        select_frames(INFO, **options)


def test_steady_frames_are_equally_long():
    made = Timeline.steady(3, 4)
    assert (made.times, made.end, made.source) == ((0, 0.25, 0.5), 0.75, None)
    with pytest.raises(InputError, match="above 0, got 0"):
        Timeline.steady(3, 0)


def test_times_that_fall_are_refused():
    with pytest.raises(ValueError, match="must not fall"):
        Timeline(times=(0.0, 0.2, 0.1), end=0.3)
    with pytest.raises(ValueError, match=r"an end of 0\.1 s"):
        Timeline(times=(0.0, 0.2), end=0.1)
    with pytest.raises(ValueError, match="at least one frame"):
        Timeline(times=(), end=0.1)


@pytest.mark.parametrize("timeline", [select_frames(INFO, start=0.2, stride=3), Timeline.steady(5, 30)])
def test_timelines_survive_json(timeline: Timeline):
    assert record_to_timeline(json.loads(json.dumps(timeline_to_record(timeline)))) == timeline
