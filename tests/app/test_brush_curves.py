"""Curves are drawn where their losses are, one for each segment and one for what is held out."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import torch

from maskedit.app.brush_curves import draw_curves


def points(text: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(text).iter("polyline")
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.attrib["points"].split())] for line in lines]


def test_a_line_for_each_segment_and_one_for_the_held_out() -> None:
    curve = torch.linspace(1.0, 0.5, 200)[:, None] * torch.tensor([1.0, 2.0])
    text = draw_curves(curve, {200: 0.4, 100: 0.6})
    first, second, held = points(text)
    assert len(first) == len(second) == 50 and len(held) == 2
    assert all(here[1] < later[1] for here, later in pairwise(second)), "it falls"
    assert all(one[1] > two[1] for one, two in zip(first, second, strict=True)), "twice the loss is higher up"
    assert held[0][0] < held[1][0] == second[-1][0]
    words = [each.text for each in ElementTree.fromstring(text).iter("text")]
    assert words[-3:] == ["segment 0 (cleanest)", "segment 1", "held out"]


def test_a_point_is_the_mean_of_its_stretch() -> None:
    jumping, smooth = torch.tensor([0.0, 2.0] * 50)[:, None], torch.ones(100, 1)
    assert points(draw_curves(jumping, {})) == points(draw_curves(smooth, {}))


def test_steps_that_were_not_taken_leave_no_points() -> None:
    curve = torch.full((10, 2), torch.nan)
    curve[:4, 1] = 0.3
    first, second = points(draw_curves(curve, {}))
    assert (len(first), len(second)) == (0, 4)
    assert points(draw_curves(torch.full((1, 1), torch.nan), {})) == [[]]
    assert "nan" not in draw_curves(curve, {})
