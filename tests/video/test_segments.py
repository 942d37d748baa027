"""Long clips in segments."""

from itertools import pairwise

import pytest

from maskedit.video.segments import SegmentConfig, cut, weights_at


@pytest.mark.parametrize("overlap", [0, 1, 4, 5])
@pytest.mark.parametrize("length", [10, 11])
def test_segments_cover_the_clip_alike_and_overlap(length: int, overlap: int) -> None:
    for frames in (*range(2, 64), 1999):
        segments = cut(frames, SegmentConfig(length=length, overlap=overlap))
        assert segments[0].start == 0 and segments[-1].stop == frames
        assert len({rows.stop - rows.start for rows in segments}) == 1
        assert 2 <= segments[0].stop - segments[0].start <= length
        for one, two in pairwise(segments):
            assert one.start < two.start and one.stop - two.start >= overlap
        assert (len(segments) == 1) == (frames <= length)


def test_a_known_cut() -> None:
    assert cut(250, SegmentConfig()) == (slice(0, 89), slice(80, 169), slice(161, 250))


def test_weights_fade_evenly_and_add_up_to_one() -> None:
    weights = [weights_at(frame, (slice(0, 5), slice(2, 8))) for frame in range(8)]
    assert weights[1] == ((0, 1.0),) and weights[5] == ((1, 1.0),)
    faded = [dict(weights[frame]) for frame in (2, 3, 4)]
    assert [each[1] for each in faded] == pytest.approx([0.25, 0.5, 0.75])
    assert [sum(each.values()) for each in faded] == pytest.approx([1, 1, 1])


def test_frames_of_three_segments_add_up_too() -> None:
    segments = (slice(0, 8), slice(2, 10), slice(4, 12))
    for frame in range(12):
        each = weights_at(frame, segments)
        assert sum(share for _, share in each) == pytest.approx(1), frame
        assert all(share > 0 for _, share in each)


def test_only_segments_that_hold_the_frame_are_needed() -> None:
    segments = cut(250, SegmentConfig())
    for frame in (83, 120, 165):
        whole = weights_at(frame, segments)
        held = [rows for rows in segments if rows.start <= frame < rows.stop]
        assert [share for _, share in weights_at(frame, held)] == [share for _, share in whole]


def test_a_frame_of_no_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 5 belongs to no segment"):
        weights_at(5, (slice(0, 5),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"overlap": -1}, "overlap must be from 0"),
        ({"length": 10, "overlap": 6}, "half the length, 5, got 6"),
    ],
)
def test_ranges(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentConfig(**options)
