"""Edits of the blocks world given exactly: what they change, what they leave alone, and what the truth is made of."""

import math

import pytest
import torch

from maskedit.bench.brush_edits import EDITS, SHRUNK, BrushEdit, RenderedPairs, render_edit
from maskedit.editors import InputError
from maskedit.editors.parts.masks import dilate_mask

LOCAL = [edit for edit in EDITS.values() if edit.scope == "local"]
GLOBAL = [edit for edit in EDITS.values() if edit.scope == "global"]


def rendered(edit: BrushEdit, count: int = 3) -> RenderedPairs:
    return render_edit(edit, "validation", count, height=48)


def test_there_are_four_of_each_scope() -> None:
    assert (len(GLOBAL), len(LOCAL)) == (4, 4)
    assert all((edit.shape is None) == (edit.scope == "global") for edit in EDITS.values())
    assert all(name == edit.name for name, edit in EDITS.items())


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_every_pair_shows_the_edit(edit: BrushEdit) -> None:
    pairs = rendered(edit)
    assert pairs.before.shape == pairs.after.shape == (3, 3, 48, 48)
    assert 0 <= float(pairs.after.min()) <= float(pairs.after.max()) <= 1
    errors = (pairs.after - pairs.before).pow(2).mean((1, 2, 3))
    assert float(errors.min()) > 10 ** (-33 / 10)
    assert len(pairs.captions) == 3


@pytest.mark.parametrize("edit", LOCAL, ids=[edit.name for edit in LOCAL])
def test_local_edits_leave_the_rest_alone(edit: BrushEdit) -> None:
    """Pictures that are painted keep every other pixel; those that are rendered anew change the shadows beside."""
    pairs = rendered(edit)
    moves = edit.name in ("domes", "shrink")
    region = dilate_mask(pairs.region.float(), 12 if moves else 0) > 0
    outside = ~region.expand_as(pairs.before)
    assert bool(pairs.region.any((1, 2, 3)).all())
    assert 0.1 < float(outside.float().mean()) < 1
    difference = (pairs.after - pairs.before).abs()[outside]
    assert float(difference.max()) < (0.02 if moves else 1e-7)
    inside = (pairs.after - pairs.before).abs()[pairs.region.expand_as(pairs.before)]
    assert float(inside.mean()) > 0.04


@pytest.mark.parametrize("edit", GLOBAL, ids=[edit.name for edit in GLOBAL])
def test_global_edits_are_about_the_whole_picture(edit: BrushEdit) -> None:
    assert bool(rendered(edit, 1).region.all())


def test_more_pairs_begin_with_the_same_ones() -> None:
    few, many = rendered(EDITS["stripes"], 1), rendered(EDITS["stripes"], 2)
    assert torch.equal(few.before, many.before[:1])
    assert torch.equal(few.after, many.after[:1])
    assert not torch.equal(many.before[0], many.before[1])


def test_splits_share_no_picture() -> None:
    own, other = (render_edit(EDITS["faded"], split, 1, height=32).before for split in ("validation", "test"))
    assert not torch.equal(own, other)


def test_a_faded_print_is_grey_and_keeps_the_order_of_its_greys() -> None:
    pairs = rendered(EDITS["faded"])
    assert torch.allclose(pairs.after, pairs.after[:, :1].expand_as(pairs.after))
    grey = (pairs.before * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    torch.testing.assert_close(pairs.after[:, 0], 0.36 + 0.58 * grey)


def test_a_palette_that_is_swapped_six_times_is_the_same_for_colours() -> None:
    from maskedit.bench.blocks import Block, OrbitCamera, Scene

    names = ("red", "yellow", "green", "cyan", "blue", "purple")
    blocks = tuple(Block(shape="cube", color=name, size="small", x=0.0, y=0.0) for name in (*names, "white"))
    scene, camera = Scene(blocks=blocks), OrbitCamera(azimuth=0.0, elevation=0.5)
    seen = [scene]
    for _ in range(6):
        seen.append(EDITS["palette"].scene(seen[-1], camera))
    assert [block.color for block in seen[1].blocks] == [*names[1:], "red", "black"]
    assert seen[-1] == scene


def test_shrinking_is_by_the_factor_and_of_cylinders_alone() -> None:
    from maskedit.bench.blocks import Block, OrbitCamera, Scene

    made = {shape: Block(shape=shape, color="red", size="large", x=0.0, y=0.0) for shape in ("cylinder", "cube")}
    edited = EDITS["shrink"].scene(Scene(blocks=tuple(made.values())), OrbitCamera(azimuth=0.0, elevation=0.5))
    assert math.isclose(edited.blocks[0].half, SHRUNK * made["cylinder"].half)
    assert edited.blocks[1] == made["cube"]
    assert "large red cylinder" in edited.caption


def test_a_miniature_is_sharp_in_its_band_alone() -> None:
    pairs = rendered(EDITS["miniature"])
    difference = (pairs.after - pairs.before).abs().amax((0, 1, 3))
    assert float(difference[29]) < 0.05 < float(difference[:20].max())


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one pair, got 0"):
        rendered(EDITS["stripes"], 0)
