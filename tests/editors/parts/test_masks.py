"""Masks from attention maps (FoI's invariants I8 and I9) and between resolutions."""

import itertools

import pytest
import torch

from maskedit.editors import InputError
from maskedit.editors.parts.masks import (
    cell_size,
    composite,
    dilate_mask,
    feather_mask,
    grid_to_mask,
    keyword_map,
    mask_to_grid,
    normalise_map,
    outside_change,
    sharpen_map,
    threshold_map,
    union,
)

SIZES = [(16, 16), (64, 64), (64, 43), (43, 64), (17, 5), (5, 3), (1, 9)]


def random_map(*size: int, seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.rand((batch, 1, *(size or (16, 16))), generator=torch.Generator().manual_seed(seed))


def random_mask(*size: int, share: float = 0.3, seed: int = 0) -> torch.Tensor:
    return (random_map(*size, seed=seed) < share).float()


def halved(size: int, times: int) -> int:
    for _ in range(times):
        size = -(-size // 2)
    return size


def test_a_keyword_s_map_is_the_mean_of_its_columns() -> None:
    probs = torch.rand(2, 12, 7)
    found = keyword_map(probs, (2, 5), 3, 4)
    assert found.shape == (2, 1, 3, 4)
    torch.testing.assert_close(found[1, 0, 2, 3], (probs[1, 11, 2] + probs[1, 11, 5]) / 2)


def test_normalising_reaches_both_ends_for_each_picture() -> None:
    attention = random_map() * torch.tensor([1e-4, 50.0]).view(2, 1, 1, 1) + 3e-4
    normal = normalise_map(attention)
    assert normal.amin((1, 2, 3)).tolist() == [0, 0]
    assert normal.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("level", [0.0, 1 / 77, 1.0])
@pytest.mark.parametrize("blur", [True, False])
@pytest.mark.parametrize("squarings", [0, 1, 3])
def test_a_constant_map_has_no_mask(level: float, blur: bool, squarings: int) -> None:
    attention = sharpen_map(torch.full((1, 1, 16, 16), level), squarings=squarings, blur=blur)
    assert torch.equal(attention, torch.zeros(1, 1, 16, 16))
    assert threshold_map(attention, 0.55).sum() == 0


def test_a_map_that_is_constant_up_to_rounding_has_no_mask() -> None:
    attention = torch.full((1, 1, 16, 16), 1 / 77)
    attention[0, 0, 3, 3] = attention[0, 0, 3, 3].nextafter(torch.tensor(1.0))
    assert sharpen_map(attention, squarings=3, blur=False).sum() == 0


def test_a_faint_peak_is_one() -> None:
    attention = torch.full((1, 1, 16, 16), 1 / 77)
    attention[0, 0, 3, 3] *= 1.001
    assert sharpen_map(attention, squarings=3, blur=False).sum() == 1


def test_i8_closed_form() -> None:
    """After gamma >= 1 rounds the map is norm(A^2)^(2^(gamma - 1))."""
    attention = random_map()
    for squarings in (1, 2, 3, 4):
        expected = normalise_map(attention**2) ** (2 ** (squarings - 1))
        torch.testing.assert_close(
            sharpen_map(attention, squarings=squarings, blur=False), expected, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("threshold", [0.4, 0.55, 0.7, 1.0])
def test_i8_the_peak_is_always_inside(threshold: float) -> None:
    attention = random_map(seed=3)
    mask = threshold_map(sharpen_map(attention, squarings=3, blur=False), threshold)
    assert mask.flatten(1).gather(1, attention.flatten(1).argmax(1, keepdim=True)).tolist() == [[1], [1]]


def test_i8_more_squarings_and_larger_thresholds_give_subsets() -> None:
    attention = random_map(seed=4)
    masks = [threshold_map(sharpen_map(attention, squarings=g), 0.55) for g in (1, 2, 3, 4)]
    assert all((smaller <= larger).all() for larger, smaller in itertools.pairwise(masks))
    by_threshold = [threshold_map(sharpen_map(attention, squarings=1), t) for t in (0.2, 0.55, 0.7, 0.9)]
    assert all((smaller <= larger).all() for larger, smaller in itertools.pairwise(by_threshold))
    assert by_threshold[0].sum() > by_threshold[-1].sum()


def test_i8_permuting_pixels_permutes_the_mask() -> None:
    attention, order = random_map(), torch.randperm(256, generator=torch.Generator().manual_seed(0))

    def shuffled(image: torch.Tensor) -> torch.Tensor:
        return image.flatten(2)[..., order].view_as(image)

    mask = threshold_map(sharpen_map(attention, squarings=3, blur=False), 0.55)
    again = threshold_map(sharpen_map(shuffled(attention), squarings=3, blur=False), 0.55)
    assert torch.equal(again, shuffled(mask))


def test_each_picture_may_have_its_own_threshold() -> None:
    attention = normalise_map(random_map())
    both = threshold_map(attention, torch.tensor([0.4, 0.7]))
    assert torch.equal(both[:1], threshold_map(attention[:1], 0.4))
    assert torch.equal(both[1:], threshold_map(attention[1:], 0.7))


def test_the_blur_is_a_3x3_gaussian_of_half_a_pixel() -> None:
    attention = torch.zeros(1, 1, 5, 5)
    attention[..., 2, 2] = 1
    side = torch.exp(torch.tensor(-2.0))
    kernel = torch.tensor([side, 1, side]) / (1 + 2 * side)
    blurred = kernel[:, None] * kernel[None]
    expected = torch.zeros(1, 1, 5, 5)
    expected[0, 0, 1:4, 1:4] = blurred / blurred.max()
    torch.testing.assert_close(sharpen_map(attention, squarings=0), expected)


def test_maps_of_one_row_are_not_blurred() -> None:
    assert sharpen_map(torch.rand(1, 1, 1, 8), squarings=1).max() == 1


def test_i9_the_union_is_the_largest() -> None:
    masks = [random_mask(seed=seed) for seed in range(3)]
    together = union(masks)
    assert torch.equal(together, torch.stack(masks).amax(0))
    assert together.sum() <= sum(mask.sum() for mask in masks)


def test_i9_growing_keeps_the_share_exactly() -> None:
    grid = random_mask(16, 16)
    grown = mask_to_grid(grid, 64, 64)
    assert torch.equal(grown.mean((1, 2, 3)), grid.mean((1, 2, 3)))
    assert torch.equal(grown, torch.nn.functional.interpolate(grid, scale_factor=4.0, mode="nearest"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_there_and_back_changes_nothing(size: tuple[int, int], times: int) -> None:
    coarse = (halved(size[0], times), halved(size[1], times))
    grid = random_mask(*coarse)
    fine = mask_to_grid(grid, *size)
    assert fine.shape[-2:] == size
    assert torch.equal(mask_to_grid(fine, *coarse), grid)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_full_stays_full_and_empty_stays_empty(size: tuple[int, int], times: int) -> None:
    coarse = (halved(size[0], times), halved(size[1], times))
    assert mask_to_grid(torch.ones(1, 1, *size), *coarse).min() == 1
    assert mask_to_grid(torch.zeros(1, 1, *size), *coarse).max() == 0


def test_each_cell_stands_for_its_own_square_at_odd_sizes() -> None:
    grid = torch.zeros(1, 1, 11, 16)
    grid[..., 3, 5] = 1
    fine = mask_to_grid(grid, 43, 64)
    assert fine.sum() == 16
    assert fine[..., 12:16, 20:24].min() == 1


def test_shrinking_keeps_cells_that_are_inside_by_more_than_half() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :, :5] = 1
    assert mask_to_grid(mask, 2, 2)[0, 0].tolist() == [[1, 0], [1, 0]]
    mask[..., :, :7] = 1
    assert mask_to_grid(mask, 2, 2).min() == 1


def test_small_regions_survive_shrinking() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 0, 0] = 1
    mask[..., 40:43, 5:60] = 1
    small = mask_to_grid(mask, 8, 8)
    assert small[0, 0, 0, 0] == 1
    assert small[0, 0, 5].tolist() == [1] * 8
    assert small.sum() == 9


def test_sizes_that_do_not_divide_are_taken_too() -> None:
    mask = torch.zeros(1, 1, 30, 30)
    mask[..., :15, :] = 1
    assert mask_to_grid(mask, 10, 10)[0, 0, :, 0].tolist() == [1] * 5 + [0] * 5
    assert mask_to_grid(mask_to_grid(mask, 10, 10), 35, 35).shape == (1, 1, 35, 35)


@pytest.mark.parametrize(
    ("fine", "coarse", "expected"),
    [
        ((64, 64), (16, 16), 4),
        ((43, 64), (11, 16), 4),
        ((5, 5), (2, 2), 4),
        ((64, 64), (64, 64), 1),
        ((30, 30), (10, 10), None),
    ],
)
def test_cell_sizes(fine: tuple[int, int], coarse: tuple[int, int], expected: int | None) -> None:
    assert cell_size(*fine, *coarse) == expected


@pytest.mark.parametrize(("height", "width"), [(512, 512), (344, 512), (64, 44)])
def test_a_mask_at_picture_size_covers_its_cells_and_no_cell_beyond_the_next(height: int, width: int) -> None:
    cell = 32 if height > 64 else 16
    rows, columns = -(-height // cell), -(-width // cell)
    grid = torch.zeros(1, 1, rows, columns)
    grid[..., 1:3, 1] = 1
    mask = grid_to_mask(grid, height, width)
    assert mask.shape == (1, 1, height, width)
    quarter = cell // 4
    assert mask[..., cell + quarter : 3 * cell - quarter, cell : 2 * cell].min() == 1
    assert mask[..., : cell // 2, :].max() == 0
    assert mask[..., :, 2 * cell + cell // 2 :].max() == 0
    assert ((mask > 0) & (mask < 1)).any()


@pytest.mark.parametrize(("latents", "stride"), [((64, 64), 4), ((43, 64), 4), ((16, 16), 4), ((16, 9), 2)])
def test_a_found_mask_that_is_given_back_selects_the_same_map_cells(latents: tuple[int, int], stride: int) -> None:
    """So that masks found once may be stored and used again."""
    factor = 8
    rows, columns = -(-latents[0] // stride), -(-latents[1] // stride)
    grid = torch.zeros(1, 1, rows, columns)
    grid[..., 0:2, 1:3] = 1
    mask = grid_to_mask(grid, latents[0] * factor, latents[1] * factor)
    again = mask_to_grid(mask, *latents)
    assert torch.equal(mask_to_grid(again, rows, columns), grid)


def test_dilation_grows_by_pixels_and_shrinks_back() -> None:
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 8:12, 8:12] = 1
    grown = dilate_mask(mask, 3)
    assert grown.sum() == 100
    assert torch.equal(dilate_mask(grown, -3), mask)
    assert dilate_mask(mask, 0) is mask


def test_the_border_of_the_picture_is_no_edge() -> None:
    assert dilate_mask(torch.ones(1, 1, 9, 9), -3).min() == 1
    torch.testing.assert_close(feather_mask(torch.ones(1, 1, 9, 9), 3), torch.ones(1, 1, 9, 9))


def test_feathering_stays_inside() -> None:
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:30, 10:30] = 1
    soft = feather_mask(mask, 4)
    assert (soft[mask == 0] == 0).all()
    assert soft[..., 20, 20] == pytest.approx(1)
    row = soft[0, 0, 20, 9:21].tolist()
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(row))
    assert 0 < row[2] < 1
    assert feather_mask(mask, 0) is mask


def test_feathering_wider_than_the_picture_is_refused() -> None:
    with pytest.raises(InputError, match="12x9 pixels cannot be feathered over 9: lower mask_feather"):
        feather_mask(torch.ones(1, 1, 9, 12), 9)


def test_compositing_is_exact_at_both_ends() -> None:
    inside, outside = random_map(8, 8).expand(2, 3, 8, 8), random_map(8, 8, seed=1).expand(2, 3, 8, 8)
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., 4:] = 1
    mask[..., 3] = 0.25
    mixed = composite(inside, outside, mask)
    assert torch.equal(mixed[..., :3], outside[..., :3])
    assert torch.equal(mixed[..., 4:], inside[..., 4:])
    torch.testing.assert_close(mixed[..., 3], 0.25 * inside[..., 3] + 0.75 * outside[..., 3])


def test_broken_pixels_of_the_model_stay_inside() -> None:
    broken, outside = torch.full((1, 3, 4, 4), float("nan")), torch.rand(1, 3, 4, 4)
    assert torch.equal(composite(broken, outside, torch.zeros(1, 1, 4, 4)), outside)


def test_change_outside_is_measured_there_alone() -> None:
    reference = torch.rand(2, 3, 8, 8)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, ..., :4] = 1
    mask[1] = 1
    image = reference + 0.5
    assert outside_change(image, reference, mask).tolist() == pytest.approx([0.5, 0.0])
    image[0, ..., 4:] = reference[0, ..., 4:]
    assert outside_change(image, reference, mask).tolist() == [0.0, 0.0]
