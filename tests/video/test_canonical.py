"""What of a canonical image the frames see."""

import torch

from maskedit.video.canonical import CanonicalImage, canonical_image, fill_unseen, find_seen
from maskedit.video.fields import DenseCanonical, DenseDeformation, FieldShape

SHAPE = FieldShape(frames=3, height=16, width=24, margin=8)


def shifted(pixels: tuple[int, ...]) -> DenseDeformation:
    """Frames so many pixels to the right in the canonical image."""
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    shift = torch.tensor([float(p) for p in pixels]) / SHAPE.width
    offsets = torch.zeros(3, 2, 16, 24)
    offsets[:, 0] = shift.view(3, 1, 1)
    field.start_from(offsets, torch.ones(3, 1, 16, 24))
    return field


def test_still_frames_see_the_middle() -> None:
    seen = find_seen(DenseDeformation(SHAPE, finest_cell=4.0), SHAPE)
    wanted = torch.zeros(1, 1, 32, 40, dtype=torch.bool)
    wanted[..., 8:-8, 8:-8] = True
    assert torch.equal(seen, wanted)


def test_moving_frames_see_the_union_and_the_box_holds_it() -> None:
    seen = find_seen(shifted((0, 3, 6)), SHAPE)
    assert seen[0, 0, 8:-8, 8:-2].all() and seen.sum() == 16 * 30
    assert CanonicalImage(image=torch.zeros(1, 3, 32, 40), seen=seen).box == (slice(8, 24), slice(8, 38))


def test_only_the_pixels_of_a_layer_count() -> None:
    mask = torch.zeros(3, 1, 16, 24)
    mask[:, :, 4:12, 6:18] = 1
    seen = find_seen(DenseDeformation(SHAPE, finest_cell=4.0), SHAPE, mask)
    assert seen[0, 0, 12:20, 14:26].all() and seen.sum() == 8 * 12


def test_an_enlarging_deformation_leaves_no_holes() -> None:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    xs = (torch.arange(24) + 0.5) / 24 - 0.5
    offsets = torch.zeros(3, 2, 16, 24)
    offsets[:, 0] = 0.5 * xs
    field.start_from(offsets, torch.ones(3, 1, 16, 24))
    seen = find_seen(field, SHAPE)
    inside = seen[0, 0, 8:-8, 6:-6]
    assert inside.all()


def test_unseen_places_take_the_colors_around_and_seen_ones_stay() -> None:
    image = torch.rand(1, 3, 32, 40)
    seen = torch.zeros(1, 1, 32, 40, dtype=torch.bool)
    seen[..., 8:-8, 8:-8] = True
    image = torch.where(seen, 0.7 + 0.01 * image, image)
    filled = fill_unseen(image, seen)
    assert torch.equal(filled[..., 8:-8, 8:-8], image[..., 8:-8, 8:-8])
    assert filled.min() >= 0.69 and filled.max() <= 0.72


def test_nothing_changes_where_everything_or_nothing_is_seen() -> None:
    image = torch.rand(1, 3, 9, 7)
    for value in (True, False):
        assert torch.equal(fill_unseen(image, torch.full((1, 1, 9, 7), value)), image)


def test_canonical_image_is_marked_and_filled() -> None:
    field = DenseCanonical(SHAPE)
    frame = 0.5 * torch.rand(1, 3, 16, 24)
    field.start_from(frame)
    with torch.no_grad():
        field.pictures[-1][..., :4, :] = 1.0
    found = canonical_image(field.image(SHAPE), DenseDeformation(SHAPE, finest_cell=4.0), SHAPE)
    assert torch.equal(found.image[..., 8:-8, 8:-8], frame)
    assert found.image.max() <= 0.5 and found.seen.sum() == 16 * 24


def test_canonical_image_of_a_layer_is_larger_than_its_mask() -> None:
    mask = torch.zeros(3, 1, 16, 24)
    mask[:, :, 4:12, 6:18] = 1
    found = canonical_image(torch.rand(1, 3, 32, 40), DenseDeformation(SHAPE, finest_cell=4.0), SHAPE, mask)
    assert found.box == (slice(12, 20), slice(14, 26))
