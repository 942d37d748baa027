"""Frames from a canonical image."""

import pytest
import torch
import torch.nn.functional as F

from maskedit.video.fields import FieldShape
from maskedit.video.render import canonical_places, compose, render_frames, sample_pixels

SHAPE = FieldShape(frames=2, height=18, width=26, margin=5)
FLAT = FieldShape(frames=2, height=18, width=26, margin=0)


def still(height: int, width: int, frames: int = 2) -> torch.Tensor:
    return torch.zeros(frames, height, width, 2)


def test_no_deformation_returns_the_canonical_image_exactly() -> None:
    canonical = torch.rand(1, 3, 18, 26)
    frames = render_frames(canonical, still(18, 26), FLAT)
    assert torch.equal(frames, canonical.expand(2, -1, -1, -1))


def test_no_deformation_of_a_larger_canonical_image_is_its_middle() -> None:
    canonical = torch.rand(1, 3, 28, 36)
    frames = render_frames(canonical, still(18, 26), SHAPE)
    assert torch.equal(frames[0], canonical[0, :, 5:-5, 5:-5])


def test_whole_pixels_of_offset_shift_the_picture() -> None:
    canonical = torch.rand(1, 3, 28, 36)
    offsets = still(18, 26) + torch.tensor([3 / 26, -2 / 18])
    frames = render_frames(canonical, offsets, SHAPE)
    torch.testing.assert_close(frames[0], canonical[0, :, 3:21, 8:34], atol=1e-4, rtol=1e-3)


def test_offsets_that_do_not_change_give_frames_equal_bit_for_bit() -> None:
    offsets = (0.1 * torch.rand(1, 18, 26, 2)).expand(2, -1, -1, -1)
    first, second = render_frames(torch.rand(1, 3, 28, 36), offsets, SHAPE)
    assert torch.equal(first, second)


def test_rendering_is_linear_in_the_canonical_image() -> None:
    a, b = torch.rand(1, 3, 28, 36), torch.rand(1, 3, 28, 36)
    offsets = 0.2 * torch.rand(2, 18, 26, 2) - 0.1
    mean = (render_frames(a, offsets, SHAPE) + render_frames(b, offsets, SHAPE)) / 2
    torch.testing.assert_close(render_frames((a + b) / 2, offsets, SHAPE), mean, atol=1e-6, rtol=1e-5)


def test_samples_agree_with_grid_sample() -> None:
    values = torch.rand(2, 4, 9, 13)
    places = torch.rand(2, 6, 7, 2) * torch.tensor([15.0, 11.0]) - 1
    grid = (places + 0.5) / torch.tensor([13.0, 9.0]) * 2 - 1
    wanted = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(sample_pixels(values, places), wanted, atol=1e-5, rtol=1e-4)


def test_frames_of_another_resolution_show_the_same() -> None:
    ramp = torch.linspace(0, 1, 26).view(1, 1, 1, 26).expand(1, 3, 18, 26)
    double = render_frames(ramp, still(36, 52), FLAT)
    wanted = F.interpolate(ramp, (36, 52), mode="bilinear", align_corners=False)
    torch.testing.assert_close(double[:1], wanted, atol=1e-5, rtol=1e-4)
    assert canonical_places(still(9, 13), FLAT)[0, 0, 0].tolist() == [0.5, 0.5]


def test_complementary_masks_of_equal_layers_give_that_layer() -> None:
    layer = torch.rand(2, 3, 8, 8)
    mask = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(compose([layer, layer], [mask, 1 - mask]), layer, atol=1e-6, rtol=1e-5)


def test_a_canonical_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="36x28"):
        render_frames(torch.rand(1, 3, 18, 26), still(18, 26), SHAPE)
