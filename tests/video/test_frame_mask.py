"""A mask painted on one frame, in the canonical images."""

from collections.abc import Callable

import pytest
import torch

from maskedit.editors import InputError
from maskedit.video.frame_mask import FrameMask, carry_mask
from maskedit.video.segments import Segment


def box(left: int, top: int, right: int, bottom: int, scale: int = 1) -> torch.Tensor:
    mask = torch.zeros(1, 1, 32 * scale, 48 * scale)
    mask[..., top * scale : bottom * scale, left * scale : right * scale] = 1
    return mask


def whole(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, 56, 72)
    mask[..., top:bottom, left:right] = 1
    return mask


def test_it_follows_the_offsets_of_its_frame(make_segment: Callable[..., Segment], scene: torch.Tensor) -> None:
    segment = make_segment([scene], [(0, 4, 8)])
    ((carried,),) = carry_mask(FrameMask(frame=1, mask=box(10, 6, 20, 16)), [segment])
    # The canonical image exceeds the frame by 12 pixels, and frame 1 lies 4 to the right.
    assert torch.equal(carried, whole(26, 18, 36, 28))


def test_soft_and_larger_masks_are_taken(make_segment: Callable[..., Segment], scene: torch.Tensor) -> None:
    segment = make_segment([scene], [(0, 4)])
    ((carried,),) = carry_mask(FrameMask(frame=0, mask=0.5 * box(10, 6, 20, 16, scale=3)), [segment])
    assert carried[..., 19:27, 23:31].unique().tolist() == pytest.approx([0.5])
    assert carried[..., :16, :].max() == 0 and carried.max() <= 0.5 + 1e-6


def test_other_segments_are_reached_through_shared_frames(
    make_segment: Callable[..., Segment], scene: torch.Tensor
) -> None:
    # The same slide, counted from another frame in each segment.
    segments = [
        make_segment([scene], [(0, 2, 4)]),
        make_segment([scene], [(-2, 0, 2)], first=2),
        make_segment([scene], [(0, 2, 4)], first=4),
    ]
    for frame, left in ((0, 22), (5, 24), (3, 22)):
        carried = carry_mask(FrameMask(frame=frame, mask=box(left - 12, 6, left, 16)), segments)
        assert all(each[0].sum() == 120 for each in carried)
        where = [int(each[0][0, 0].any(0).nonzero()[0]) for each in carried]
        # What neighbours share lies at frame 2 (4 and -2 to the right) and at frame 4 (2 and 0).
        assert where[0] - where[1] == 6 and where[1] - where[2] == 2


def test_every_segment_that_shows_the_painted_frame_takes_the_mask_from_it(
    make_segment: Callable[..., Segment], scene: torch.Tensor
) -> None:
    # Both hold the frames 1 to 4; by frame 3, the middle of these, what was painted on frame 1 has left to the left.
    segments = [make_segment([scene], [(0, 0, 12, 12, 12)]), make_segment([scene], [(0, 12, 12, 12, 12)], first=1)]
    first, second = carry_mask(FrameMask(frame=1, mask=box(0, 6, 10, 16)), segments)
    assert torch.equal(first[0], whole(12, 18, 22, 28)) and torch.equal(second[0], whole(12, 18, 22, 28))


def test_each_layer_gets_what_belongs_to_it(make_segment: Callable[..., Segment], scene: torch.Tensor) -> None:
    masks = torch.zeros(2, 2, 1, 32, 48)
    masks[0, ..., :24], masks[1, ..., 24:] = 1, 1
    segment = make_segment([scene, scene], [(0, 0), (0, 0)], masks=masks)
    ((left, right),) = carry_mask(FrameMask(frame=0, mask=box(20, 6, 30, 16)), [segment])
    assert torch.equal(left, whole(32, 18, 36, 28)) and torch.equal(right, whole(36, 18, 42, 28))


def test_refusals(make_segment: Callable[..., Segment], scene: torch.Tensor) -> None:
    segments = [make_segment([scene], [(0, 2)]), make_segment([scene], [(0, 2)], first=2)]
    with pytest.raises(InputError, match="a frame from 0 to 3, got frame 4"):
        carry_mask(FrameMask(frame=4, mask=box(0, 0, 9, 9)), segments)
    with pytest.raises(InputError, match="black everywhere"):
        carry_mask(FrameMask(frame=0, mask=torch.zeros(1, 1, 32, 48)), segments)
    with pytest.raises(InputError, match="an overlap of at least 1 frame"):
        carry_mask(FrameMask(frame=0, mask=box(0, 0, 9, 9)), segments)
