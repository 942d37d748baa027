"""Canonical images in one picture."""

import pytest
import torch

from maskedit.video.sheet import lay_out

SIZES = ((20, 30), (25, 10), (20, 30), (7, 9), (31, 3))


def pictures(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand((1, 3, *size), generator=generator) for size in SIZES[:count]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_taking_apart_undoes_laying_out(count: int) -> None:
    laid = pictures(count)
    sheet = lay_out(laid)
    for one, other in zip(laid, sheet.apart(sheet.image), strict=True):
        assert torch.equal(one, other)
    masks = [picture[:, :1] for picture in laid]
    for one, other in zip(masks, sheet.apart(sheet.join(masks)), strict=True):
        assert torch.equal(one, other)


def test_one_picture_is_the_sheet() -> None:
    (only,) = pictures(1)
    assert torch.equal(lay_out([only]).image, only)


def test_pictures_keep_their_distance_and_fill_a_square() -> None:
    sheet = lay_out([torch.zeros(1, 3, 10, 10)] * 4, gutter=6)
    assert sheet.image.shape == (1, 3, 26, 26)
    assert [(rows.start, columns.start) for rows, columns in sheet.places] == [(0, 0), (0, 16), (16, 0), (16, 16)]


def test_wide_pictures_are_stacked() -> None:
    assert lay_out([torch.zeros(1, 3, 10, 40)] * 2, gutter=2).image.shape == (1, 3, 22, 40)


def test_what_lies_between_is_as_neutral_as_the_pictures() -> None:
    sheet = lay_out([torch.full((1, 3, 12, 12), 0.6), torch.full((1, 3, 8, 8), 0.4)])
    covered = sheet.join([torch.ones(1, 1, 12, 12), torch.ones(1, 1, 8, 8)]) > 0
    between = sheet.image[(~covered).expand_as(sheet.image)]
    assert len(between) and between.min() >= 0.39 and between.max() <= 0.61


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected something as large as the sheet, 30x20, got 29x20"):
        lay_out(pictures(1)).apart(torch.zeros(1, 1, 20, 29))
