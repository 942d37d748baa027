"""Deformation and canonical fields."""

import pytest
import torch
import torch.nn.functional as F

from maskedit.video.fields import (
    DenseCanonical,
    DenseDeformation,
    FieldShape,
    grid_sizes,
    pixel_centres,
)

SHAPE = FieldShape(frames=3, height=20, width=28, margin=6)


def random_deformation(scale: float = 1.0) -> DenseDeformation:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for grid in field.grids:
            grid.copy_(scale * torch.randn(grid.shape, generator=generator))
    return field


def test_pixel_centres_hold_x_before_y() -> None:
    centres = pixel_centres(2, 4)
    assert centres[0, 3].tolist() == pytest.approx([3.5 / 4, 0.25])
    assert centres[1, 0].tolist() == pytest.approx([0.5 / 4, 0.75])


def test_grid_sizes_double_and_keep_cells_square() -> None:
    assert grid_sizes(64, 64, finest_cell=4.0) == ((4, 4), (8, 8), (16, 16))
    assert grid_sizes(32, 64, finest_cell=4.0) == ((2, 4), (4, 8), (8, 16))
    assert grid_sizes(5, 5, finest_cell=4.0) == ((4, 4),)


def test_fresh_dense_deformation_moves_nothing() -> None:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    assert field.on_grid(torch.arange(3), 20, 28).abs().max() == 0


def test_dense_offsets_agree_by_points_and_on_the_grid() -> None:
    field, frames = random_deformation(), torch.tensor([2, 0])
    for height, width in ((20, 28), (7, 9), (41, 60)):
        points = pixel_centres(height, width).reshape(1, -1, 2).expand(2, -1, -1)
        by_points = field(points, frames).unflatten(1, (height, width))
        torch.testing.assert_close(by_points, field.on_grid(frames, height, width), atol=1e-5, rtol=1e-4)


def test_dense_offsets_of_a_frame_do_not_depend_on_the_others() -> None:
    field = random_deformation()
    alone = field.on_grid(torch.tensor([1]), 20, 28)
    assert torch.equal(field.on_grid(torch.tensor([0, 1]), 20, 28)[1:], alone)


def test_deformation_starts_from_smooth_offsets_nearly_exactly() -> None:
    field = DenseDeformation(SHAPE, finest_cell=1.0)
    centres = pixel_centres(20, 28)
    wanted = torch.stack([0.1 * torch.sin(3 * centres[..., 0] + i) for i in range(3)])
    offsets = torch.stack([wanted, 0.5 * wanted], 1)
    field.start_from(offsets, torch.ones(3, 1, 20, 28))
    found = field.on_grid(torch.arange(3), 20, 28).permute(0, 3, 1, 2)
    assert (found - offsets).abs().max() < 2e-3


def test_deformation_starts_from_the_surroundings_where_offsets_are_unknown() -> None:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    offsets = torch.full((3, 2, 20, 28), 0.1)
    trust = torch.ones(3, 1, 20, 28)
    offsets[..., 8:12, 10:14], trust[..., 8:12, 10:14] = 9.0, 0.0
    field.start_from(offsets, trust)
    assert (field.on_grid(torch.arange(3), 20, 28) - 0.1).abs().max() < 0.02


def test_canonical_image_starts_from_a_frame() -> None:
    field = DenseCanonical(SHAPE)
    frame = torch.rand(1, 3, 20, 28)
    field.start_from(frame)
    image = field.image(SHAPE)
    assert image.shape == (1, 3, 32, 40)
    assert torch.equal(image[..., 6:-6, 6:-6], frame)
    assert torch.equal(image[..., 0, 6:-6], frame[..., 0, :])


def test_canonical_colors_at_pixel_centres_are_those_of_the_image() -> None:
    field = DenseCanonical(SHAPE)
    with torch.no_grad():
        for picture in field.pictures:
            picture.uniform_(0, 0.2)
    points = pixel_centres(20, 28).reshape(1, -1, 2)
    colors = field(points).transpose(1, 2).unflatten(2, (20, 28))
    torch.testing.assert_close(colors, field.image(SHAPE)[..., 6:-6, 6:-6], atol=1e-5, rtol=1e-4)


def test_canonical_image_by_points_equals_the_dense_one() -> None:
    field = DenseCanonical(SHAPE)
    field.start_from(torch.rand(1, 3, 20, 28))
    by_points = super(DenseCanonical, field).image(SHAPE)
    torch.testing.assert_close(by_points, field.image(SHAPE), atol=1e-5, rtol=1e-4)


def test_canonical_image_of_another_shape_is_resampled() -> None:
    field = DenseCanonical(SHAPE)
    field.start_from(torch.rand(1, 3, 20, 28))
    double = FieldShape(frames=3, height=40, width=56, margin=12)
    wanted = F.interpolate(field.image(SHAPE), (64, 80), mode="bilinear", align_corners=False)
    torch.testing.assert_close(field.image(double), wanted, atol=1e-4, rtol=1e-3)


def test_gradients_reach_the_frames_asked_for_only() -> None:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    field.on_grid(torch.tensor([1]), 20, 28).sum().backward()
    for grid in field.grids:
        assert grid.grad is not None
        assert grid.grad[1].abs().min() > 0 and grid.grad[[0, 2]].abs().max() == 0
