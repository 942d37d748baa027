"""The edit of canonical images, with a real editor on a tiny random checkpoint."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from maskedit.editors import (
    Captions,
    Editor,
    EditRequest,
    EditResult,
    Inpaint,
    InputError,
    Instruction,
    NothingFoundError,
)
from maskedit.video.editing import EditedClip, edit_segments
from maskedit.video.frame_mask import FrameMask
from maskedit.video.segments import Segment

BLUE = (Instruction(text="make the red cube blue"),)
WORDS = (Captions(source="a red cube", target="a blue cube"),)
Make = Callable[..., Segment]


def edit(segments: list[Segment], editor: Editor, **options: object) -> EditedClip:
    return edit_segments(segments, editor, BLUE, captions=WORDS, **options)  # type: ignore[arg-type]


def plain(scene: torch.Tensor) -> torch.Tensor:
    """The scene without its red square."""
    return scene.flip(1) * 0.5


def test_only_the_red_square_changes_and_it_does(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    edited = edit([make_segment([scene], [(0, 3)])], red_editor)
    ((layer,),) = edited.segments
    square = torch.zeros(1, 1, 56, 72, dtype=torch.bool)
    square[..., 22:34, 28:40] = True
    assert torch.equal(layer.mask > 0, square)
    assert torch.equal(layer.edited[~square.expand(1, 3, -1, -1)], layer.original[~square.expand(1, 3, -1, -1)])
    assert (layer.edited - layer.original).abs()[square.expand(1, 3, -1, -1)].mean() > 0.05
    # One canonical image is the sheet: what frames show of it, 32 high and 48 + 3 wide.
    assert edited.sheet.shape == edited.sheet_edited.shape == (1, 3, 32, 51)
    assert len(edited.traces) == 1 and edited.traces[0].editor == "inpaint"


def test_the_seed_decides(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    segment = make_segment([scene], [(0, 3)])
    one, same, other = (edit([segment], red_editor, seed=seed).sheet_edited for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_segments_and_layers_share_one_sheet(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    masks = torch.full((2, 2, 1, 32, 48), 0.5)
    pair = [make_segment([scene, plain(scene)], [(0, 1), (0, 0)], first=n, masks=masks) for n in (0, 1)]
    edited = edit(pair, red_editor)
    assert [len(layers) for layers in edited.segments] == [2, 2] and len(edited.traces) == 1
    for with_square, without in edited.segments:
        assert (with_square.mask > 0).sum() == 144 and not without.mask.any()
        assert torch.equal(without.edited, without.original)
    assert edited.sheet.shape[-2:] == (32 * 2 + 8, 49 + 8 + 48)


def test_only_some_layers_may_change(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    masks = torch.full((2, 2, 1, 32, 48), 0.5)
    segment = make_segment([scene, scene], [(0, 1), (0, 0)], masks=masks)
    both, second = edit([segment], red_editor), edit([segment], red_editor, only_layers=(1,))
    alone = edit([make_segment([scene], [(0, 0)])], red_editor)
    assert all(layer.mask.any() for layer in both.segments[0])
    first, last = second.segments[0]
    assert torch.equal(first.edited, first.original) and not first.mask.any()
    assert torch.equal(last.edited, alone.segments[0][0].edited)
    assert torch.equal(second.sheet, alone.sheet)
    for none in ((2,), ()):
        with pytest.raises(InputError, match=r"expected layers from 0 to 1, got \[2?\]"):
            edit([segment], red_editor, only_layers=none)


@pytest.mark.parametrize("arrange", ["sheet", "batch"])
def test_what_shows_only_in_a_layer_that_may_not_change_is_not_found(
    make_segment: Make, scene: torch.Tensor, red_editor: Editor, arrange: str
) -> None:
    masks = torch.full((2, 2, 1, 32, 48), 0.5)
    segment = make_segment([scene, plain(scene)], [(0, 1), (0, 0)], masks=masks)
    with pytest.raises(NothingFoundError):
        edit([segment], red_editor, only_layers=(1,), arrange=arrange)


def test_edited_layers_are_blended_by_their_mask_whatever_editors_keep(
    make_segment: Make, scene: torch.Tensor, red_editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = make_segment([scene], [(0, 3)])
    soft = torch.zeros(1, 1, 32, 48)
    soft[..., 8:20, 10:24] = 0.5
    painted = FrameMask(frame=0, mask=soft)
    ((kept,),) = edit([segment], red_editor, mask=painted).segments
    assert isinstance(red_editor, Inpaint)
    monkeypatch.setattr(red_editor, "config", replace(red_editor.config, keep_outside="paper"))
    ((free,),) = edit([segment], red_editor, mask=painted).segments
    assert torch.equal(free.mask, kept.mask) and (kept.mask[kept.mask > 0] == 0.5).any()
    assert torch.allclose(free.edited, kept.edited, atol=1e-5)


def test_a_painted_mask_overrides_the_editor_s(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    painted = torch.zeros(1, 1, 32, 48)
    painted[..., 2:8, 4:12] = 1
    segment = make_segment([plain(scene)], [(0, 3)])
    ((layer,),) = edit([segment], red_editor, mask=FrameMask(frame=1, mask=painted)).segments
    where = (layer.mask[0, 0] > 0).nonzero()
    assert where.min(0).values.tolist() == [14, 19] and where.max(0).values.tolist() == [19, 26]


def test_alone_means_each_from_the_same_seed(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    segments = [make_segment([scene], [(0, 1)]), make_segment([scene], [(0, 1)], first=1)]
    edited = edit(segments, red_editor, arrange="batch")
    assert len(edited.traces) == 2
    first, second = edited.segments[0][0], edited.segments[1][0]
    assert torch.equal(first.edited, second.edited)
    assert torch.equal(first.edited, edit(segments[:1], red_editor).segments[0][0].edited)


def test_nothing_found_anywhere_is_passed_on(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    without = make_segment([plain(scene)], [(0, 1)])
    for arrange in ("sheet", "batch"):
        with pytest.raises(NothingFoundError):
            edit([without], red_editor, arrange=arrange)
    found = edit([without, make_segment([scene], [(0, 1)], first=1)], red_editor, arrange="batch")
    assert torch.equal(found.segments[0][0].edited, found.segments[0][0].original)
    assert found.segments[1][0].mask.any() and len(found.traces) == 1


def test_nothing_changes_where_no_frame_looks(make_segment: Make, scene: torch.Tensor, red_editor: Editor) -> None:
    everything = scene.clone()
    everything[:] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    ((layer,),) = edit([make_segment([everything], [(0, 3)])], red_editor).segments
    outside = torch.ones(1, 1, 56, 72, dtype=torch.bool)
    # What is seen and, because frames are sampled between pixels, one pixel around it.
    outside[..., 11:45, 11:64] = False
    assert not layer.mask[outside].any()
    assert torch.equal(layer.edited[outside.expand(1, 3, -1, -1)], layer.original[outside.expand(1, 3, -1, -1)])
    assert (layer.mask[..., 11:45, 11:64] > 0).all()


def test_a_mask_beside_all_layers_that_may_change_is_refused(
    make_segment: Make, scene: torch.Tensor, red_editor: Editor
) -> None:
    masks = torch.zeros(2, 2, 1, 32, 48)
    masks[0, ..., :24], masks[1, ..., 24:] = 1, 1
    painted = torch.zeros(1, 1, 32, 48)
    painted[..., 2:8, 4:12] = 1
    segment = make_segment([scene, scene], [(0, 0), (0, 0)], masks=masks)
    with pytest.raises(InputError, match=r"nothing of the layers \[1\]"):
        edit([segment], red_editor, mask=FrameMask(frame=0, mask=painted), only_layers=(1,))


def test_the_editor_sees_things_as_large_as_in_frames(
    make_segment: Make, scene: torch.Tensor, red_editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[float] = []
    whole = red_editor.edit

    def note(request: EditRequest) -> EditResult:
        scales.append(request.scale)
        return whole(request)

    monkeypatch.setattr(red_editor, "edit", note)
    # Frames are 48 wide; this canonical image shows 51 columns, a sheet of four 32 * 2 + 8 rows and 105 columns.
    edit([make_segment([scene], [(0, 3)])], red_editor)
    edit([make_segment([scene], [(0, 3)])], red_editor, keep_scale=False)
    masks = torch.full((2, 2, 1, 32, 48), 0.5)
    edit([make_segment([scene, scene], [(0, 1), (0, 0)], first=n, masks=masks) for n in (0, 1)], red_editor)
    assert scales == [51 / 48, 1.0, 2.0]
