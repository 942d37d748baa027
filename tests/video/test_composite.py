"""Edited frames: invariants I1-I3 and I7-I9 of CoDeF, and bytes that do not change."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from maskedit.video.composite import Transfer, edit_frames, mask_and_edit_frames
from maskedit.video.editing import EditedLayer
from maskedit.video.segments import Segment

Make = Callable[..., Segment]
TRANSFERS = get_args(Transfer)


def noise(count: int, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def change(picture: torch.Tensor, *, mask: torch.Tensor | None = None, by: float = 0.25) -> EditedLayer:
    everywhere = torch.ones_like(picture[:, :1])
    mask = everywhere if mask is None else mask
    return EditedLayer(original=picture, edited=picture + by * (mask > 0), mask=mask)


def to_bytes(values: torch.Tensor) -> torch.Tensor:
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def part(*box: int) -> torch.Tensor:
    left, top, right, bottom = box
    mask = torch.zeros(1, 1, 56, 72)
    mask[..., top:bottom, left:right] = 1
    return mask


def test_still_frames_show_the_middle_of_the_edited_picture(make_segment: Make, scene: torch.Tensor) -> None:
    layer = EditedLayer(original=scene, edited=scene.flip(1), mask=torch.ones(1, 1, 56, 72))
    frames = edit_frames(noise(2), (0, 1), [make_segment([scene], [(0, 0)])], [[layer]])
    assert torch.equal(frames, to_bytes(scene.flip(1))[..., 12:-12, 12:-12].expand(2, -1, -1, -1))


def test_without_a_margin_it_is_the_whole_picture(make_segment: Make) -> None:
    picture = torch.rand(1, 3, 32, 48)
    layer = EditedLayer(original=picture, edited=picture.flip(1), mask=torch.ones(1, 1, 32, 48))
    frames = edit_frames(noise(2), (0, 1), [make_segment([picture], [(0, 0)], margin=0.0)], [[layer]])
    assert torch.equal(frames, to_bytes(picture.flip(1)).expand(2, -1, -1, -1))


def test_the_unedited_picture_gives_the_fields_own_frames(make_segment: Make, scene: torch.Tensor) -> None:
    segment = make_segment([scene], [(0, 3, 5)])
    layer = EditedLayer(original=scene, edited=scene, mask=torch.ones(1, 1, 56, 72))
    frames = edit_frames(noise(3), (0, 1, 2), [segment], [[layer]])
    own = segment.fit.reconstruct(torch.arange(3), None)
    assert (frames.float() / 255 - own).abs().max() < 3 / 255
    residual = edit_frames(noise(3), (0, 1, 2), [segment], [[layer]], "residual")
    assert torch.equal(residual, noise(3))


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("size", [(32, 48), (71, 107), (20, 30)])
def test_outside_the_mask_frames_keep_their_bytes(
    make_segment: Make, scene: torch.Tensor, transfer: Transfer, size: tuple[int, int]
) -> None:
    segment = make_segment([scene], [(0, 3)])
    frames = noise(2, *size)
    edited = edit_frames(frames, (0, 1), [segment], [[change(scene, mask=part(22, 18, 34, 30))]], transfer)
    differs = (edited != frames).any(1)
    for number, shift in enumerate((0, 3)):
        # One pixel more than the box, because values between pixels are blended.
        scale = size[0] / 32
        rows = slice(int((18 - 12 - 1) * scale), int((30 - 12 + 1) * scale) + 1)
        columns = slice(int((22 - 12 - shift - 1) * scale), int((34 - 12 - shift + 1) * scale) + 1)
        assert differs[number, rows, columns].float().mean() > 0.5
        differs[number, rows, columns] = False
    assert not differs.any()


def test_replacing_and_adding_agree_where_the_fields_are_exact(make_segment: Make, scene: torch.Tensor) -> None:
    segment = make_segment([scene * 0.5], [(0, 3)])
    frames = to_bytes(segment.fit.reconstruct(torch.arange(2), None))
    layer = change(scene * 0.5, mask=part(20, 18, 34, 30))
    replaced, added = (edit_frames(frames, (0, 1), [segment], [[layer]], each) for each in TRANSFERS)
    assert (replaced.int() - added.int()).abs().max() <= 1
    assert not torch.equal(replaced, frames)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_soft_mask_blends_once(make_segment: Make, scene: torch.Tensor, share: float) -> None:
    # What editors give back: half of a picture brighter by 0.4 and half of the original.
    soft = 0.5 * part(20, 18, 34, 30)
    layer = EditedLayer(original=scene * 0.5, edited=scene * 0.5 + soft * 0.4, mask=soft)
    masks = torch.stack([torch.full((2, 1, 32, 48), each) for each in (share, 1 - share)])
    segment = make_segment([scene * 0.5, scene * 0.5], [(0, 3), (0, 3)], masks=masks)
    still = EditedLayer(original=scene * 0.5, edited=scene * 0.5, mask=torch.zeros(1, 1, 56, 72))
    frames = to_bytes(segment.fit.reconstruct(torch.arange(2), masks))
    for transfer in TRANSFERS:
        done = mask_and_edit_frames(frames, (0, 1), [segment], [[layer, still]], transfer)
        rise = (done.frames.float() - frames.float()) / 255
        # The middle of the box, 12 pixels from the canonical image's corner and 3 to the left in the second frame.
        assert (rise[0, :, 8:16, 10:20] - share * 0.2).abs().max() < 1.5 / 255
        assert (rise[1, :, 8:16, 7:17] - share * 0.2).abs().max() < 1.5 / 255
        assert done.mask.max() == pytest.approx(share * 0.5, abs=1e-6)
        assert torch.equal(done.frames[:, 0:1][done.mask == 0], frames[:, 0:1][done.mask == 0])


def test_a_soft_mask_replaces_only_its_share_of_the_frame(make_segment: Make, scene: torch.Tensor) -> None:
    soft = 0.25 * torch.ones(1, 1, 56, 72)
    layer = EditedLayer(original=scene, edited=0.75 * scene + 0.25 * scene.flip(1), mask=soft)
    done = edit_frames(noise(1), (0,), [make_segment([scene], [(0, 0)])], [[layer]])
    wanted = 0.75 * noise(1).float() / 255 + 0.25 * scene.flip(1)[..., 12:-12, 12:-12]
    assert (done.float() / 255 - wanted).abs().max() < 1 / 255


def test_adding_keeps_detail_that_the_canonical_image_lost(make_segment: Make, scene: torch.Tensor) -> None:
    frames = noise(2) // 2
    segment = make_segment([scene], [(0, 0)])
    added = edit_frames(frames, (0, 1), [segment], [[change(scene, by=0.25)]], "residual")
    assert (added.float() - frames.float() - 0.25 * 255).abs().max() <= 0.5


def test_complementary_masks_of_equal_layers_are_one_layer(make_segment: Make, scene: torch.Tensor) -> None:
    split = torch.rand(1, 2, 1, 32, 48)
    masks = torch.cat([split, 1 - split])
    layer = change(scene)
    one = edit_frames(noise(2), (0, 1), [make_segment([scene], [(0, 3)])], [[layer]])
    pair = make_segment([scene, scene], [(0, 3), (0, 3)], masks=masks)
    two = edit_frames(noise(2), (0, 1), [pair], [[layer, layer]])
    assert (one.int() - two.int()).abs().max() <= 1


def test_it_is_linear_in_the_edit(make_segment: Make, scene: torch.Tensor) -> None:
    segment, frames, mask = make_segment([scene], [(0, 3)]), noise(2), torch.ones(1, 1, 56, 72)
    first, second = torch.rand(1, 3, 56, 72), torch.rand(1, 3, 56, 72)
    a, b, mean = (
        edit_frames(frames, (0, 1), [segment], [[EditedLayer(original=scene, edited=each, mask=mask)]]).float()
        for each in (first, second, (first + second) / 2)
    )
    assert ((a + b) / 2 - mean).abs().max() <= 1


def test_a_field_that_stays_gives_equal_frames(make_segment: Make, scene: torch.Tensor) -> None:
    layer = EditedLayer(original=scene, edited=torch.rand(1, 3, 56, 72), mask=torch.ones(1, 1, 56, 72))
    frames = edit_frames(noise(3), (0, 1, 2), [make_segment([scene], [(2, 2, 2)])], [[layer]])
    assert torch.equal(frames[0], frames[1]) and torch.equal(frames[0], frames[2])


def test_segments_fade_into_each_other(make_segment: Make, scene: torch.Tensor) -> None:
    segments = [make_segment([scene], [(0,) * 4]), make_segment([scene], [(0,) * 4], first=1)]
    layers = [[change(scene, by=0.0)], [change(scene, by=0.4)]]
    frames = noise(5) // 2
    added = edit_frames(frames, range(5), segments, layers, "residual")
    rise = (added.float() - frames.float()).mean((1, 2, 3)) / 255
    assert rise.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=2e-3)


def test_the_segments_of_the_frames_are_enough_and_chunks_do_not_matter(
    make_segment: Make, scene: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = [make_segment([scene], [(0, 1, 2)], first=first) for first in (0, 2, 4)]
    layers = [[change(scene, by=0.1 * number)] for number in range(3)]
    whole = edit_frames(noise(7), range(7), segments, layers)
    assert torch.equal(edit_frames(noise(7)[4:], range(4, 7), segments[1:], layers[1:]), whole[4:])
    monkeypatch.setattr("maskedit.video.composite._PIXELS_AT_ONCE", 1)
    assert torch.equal(edit_frames(noise(7), range(7), segments, layers), whole)


def test_masks_say_how_far_each_pixel_follows(make_segment: Make, scene: torch.Tensor) -> None:
    segments = [make_segment([scene], [(0,) * 3]), make_segment([scene], [(0,) * 3], first=1)]
    layers = [[change(scene, mask=part(22, 18, 34, 30))], [change(scene, mask=torch.zeros(1, 1, 56, 72))]]
    done = mask_and_edit_frames(noise(4), range(4), segments, layers)
    assert done.mask.amax((1, 2, 3)).tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0], abs=1e-6)
    assert (done.mask > 0).sum((1, 2, 3)).tolist() == [144, 144, 144, 0]
    changed = (done.frames != noise(4)).any(1, keepdim=True)
    assert not changed[done.mask == 0].any() and changed[done.mask > 0].float().mean() > 0.9


def test_refusals(make_segment: Make, scene: torch.Tensor) -> None:
    segment, layer = make_segment([scene], [(0, 3)]), change(scene)
    with pytest.raises(ValueError, match="a number for each of 2 frames and edits for each of 1 segments, got 1 and 1"):
        edit_frames(noise(2), (0,), [segment], [[layer]])
    with pytest.raises(ValueError, match="frame 2 belongs to no segment"):
        edit_frames(noise(2), (1, 2), [segment], [[layer]])
