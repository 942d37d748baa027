"""The frame of every edit: working size and back, locality to the bit, memory, and the account of what happened."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, EditResult, InputError, Instruction, ViewSharing
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.canvas import (
    PassResult,
    edit_on_canvas,
    from_working_size,
    given_masks,
    masks_on_canvas,
    to_working_size,
)
from maskedit.editors.parts.options import CanvasConfig

SIZES = [(64, 64), (48, 64), (37, 61), (100, 30), (150, 210), (5, 9), (64, 63)]
RED = Instruction(text="make it red")
Pictures = Callable[..., torch.Tensor]


def red(request: EditRequest) -> PassResult:
    """A pass that paints everything red and finds the left half."""
    image = torch.zeros_like(request.image)
    image[:, 0] = 1
    mask = torch.zeros_like(request.image[:, :1])
    mask[..., : mask.shape[-1] // 2] = 1
    return PassResult(image=image, masks=tuple(mask for _ in request.instructions), prompt="red", timesteps=(3, 2))


def edit(backbone: Backbone, request: EditRequest, run: Any = red, **config: Any) -> EditResult:
    return edit_on_canvas(request, backbone, CanvasConfig(**config), run, name="red")


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_size_come_back_in_it(backbone: Backbone, pictures: Pictures, size: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []

    def run(request: EditRequest) -> PassResult:
        seen.append(tuple(request.image.shape[-2:]))
        return red(request)

    result = edit(backbone, EditRequest(image=pictures(2, *size), instructions=(RED,)), run)
    assert result.image.shape == (2, 3, *size)
    assert result.mask.shape == (2, 1, *size)
    ((height, width),) = seen
    # The longest side is the checkpoint's, and both fit its latents.
    assert max(height, width) == 64
    assert (height % 4, width % 4) == (0, 0)


@pytest.mark.parametrize("size", SIZES)
def test_going_there_and_back_keeps_the_picture(backbone: Backbone, size: tuple[int, int]) -> None:
    ramp = torch.linspace(0, 1, size[1]).expand(1, 3, *size).contiguous()
    request = EditRequest(image=ramp, instructions=(RED,))
    working = to_working_size(request, backbone, None)
    back = from_working_size(working.image, request, None, backbone.native_size)
    assert back.shape == ramp.shape
    assert (back - ramp).abs().max() < 0.06
    if max(size) == 64:
        assert torch.equal(back, ramp)


def test_everything_of_a_request_goes_along(backbone: Backbone, pictures: Pictures) -> None:
    mask = torch.rand(1, 1, 30, 50)
    request = EditRequest(
        image=pictures(1, 30, 50),
        condition=pictures(1, 30, 50, seed=1),
        mask=mask,
        instructions=(RED, Instruction(text="make it blue", mask=1 - mask)),
        seeds=(7,),
    )
    working = to_working_size(request, backbone, 32)
    shapes = {t.shape[-2:] for t in (working.image, working.condition, working.mask, working.instructions[1].mask)}
    assert shapes == {(20, 32)}
    assert (working.seeds, working.instructions[0]) == ((7,), RED)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [None, 32])
def test_pixels_outside_the_mask_equal_the_condition_bit_for_bit(
    backbone: Backbone, pictures: Pictures, size: tuple[int, int], longest: int | None
) -> None:
    image, condition = pictures(2, *size), pictures(2, *size, seed=1)
    result = edit(backbone, EditRequest(image=image, condition=condition, instructions=(RED,)), size=longest)
    outside = (result.mask == 0).expand_as(image)
    assert outside.any()
    assert torch.equal(result.image[outside], condition[outside])
    assert not torch.equal(result.image, condition)
    assert result.trace.outside_change == (0.0, 0.0)
    assert min(result.trace.outside_change_unkept) > 0.1


@pytest.mark.parametrize(
    "options", [{"mask_dilate": 3}, {"mask_dilate": -3}, {"mask_feather": 4}, {"mask_dilate": 5, "mask_feather": 3}]
)
def test_locality_holds_for_finished_masks(backbone: Backbone, pictures: Pictures, options: dict[str, int]) -> None:
    image = pictures(1, 50, 70)
    result = edit(backbone, EditRequest(image=image, instructions=(RED,)), **options)
    outside = (result.mask == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert torch.equal(result.mask, result.masks[0])


def test_the_paper_s_behaviour_keeps_nothing(backbone: Backbone, pictures: Pictures) -> None:
    result = edit(backbone, EditRequest(image=pictures(), instructions=(RED,)), keep_outside="paper")
    assert torch.equal(result.image[0, 0], torch.ones(64, 64))
    assert result.trace.outside_change == result.trace.outside_change_unkept
    assert result.trace.outside_change[0] > 0.1


def test_a_given_mask_overrides_the_found_one_at_its_own_resolution(backbone: Backbone, pictures: Pictures) -> None:
    image, mask = pictures(1, 150, 210), torch.zeros(1, 1, 150, 210)
    mask[..., 33:67, 101:150] = 1
    result = edit(backbone, EditRequest(image=image, instructions=(RED,), mask=mask))
    assert torch.equal(result.mask, mask)
    inside = mask.bool().expand_as(image)
    assert torch.equal(result.image[~inside], image[~inside])
    torch.testing.assert_close(result.image[:, 0][mask[:, 0].bool()], torch.ones(34 * 49))


def test_soft_masks_mix(backbone: Backbone, pictures: Pictures) -> None:
    image, mask = pictures(), torch.full((1, 1, 64, 64), 0.25)
    mask[..., 32:] = 0
    result = edit(backbone, EditRequest(image=image, instructions=(RED,), mask=mask))
    target = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    torch.testing.assert_close(result.image[..., :32], (0.25 * target + 0.75 * image)[..., :32])
    assert torch.equal(result.image[..., 32:], image[..., 32:])


def test_each_instruction_may_bring_its_own_mask(backbone: Backbone, pictures: Pictures) -> None:
    own, whole = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    own[..., :8, :] = 1
    whole[..., 60:, :] = 1
    request = EditRequest(image=pictures(), instructions=(Instruction(text="a", mask=own), RED), mask=whole)
    assert [torch.equal(g, m) for g, m in zip(given_masks(request), (own, whole), strict=True)] == [True, True]
    result = edit(backbone, request)
    assert torch.equal(result.masks[0], own)
    assert torch.equal(result.masks[1], whole)
    assert torch.equal(result.mask, own + whole)


@pytest.mark.parametrize(("mask_value", "options"), [(0.0, {}), (1.0, {"mask_dilate": -40})])
def test_an_instruction_with_nowhere_to_act_is_told(
    backbone: Backbone, pictures: Pictures, mask_value: float, options: dict[str, int]
) -> None:
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 30:34, 30:34] = mask_value
    mask[0, ..., :, :] = 1
    result = edit(backbone, EditRequest(image=pictures(2), instructions=(RED,), mask=mask), **options)
    (warning,) = result.trace.warnings
    assert "the mask of 'make it red' is empty in 1 of 2 pictures" in warning
    assert torch.equal(result.image[1], pictures(2)[1])


def test_running_out_of_memory_takes_smaller_parts(backbone: Backbone, pictures: Pictures) -> None:
    sizes: list[int] = []

    def run(request: EditRequest) -> PassResult:
        sizes.append(len(request.image))
        if len(request.image) > 2:
            raise torch.OutOfMemoryError("too many")
        return red(request)

    request = EditRequest(image=pictures(5), instructions=(RED,))
    with pytest.warns(RuntimeWarning, match="out of memory"):
        result = edit(backbone, request, run)
    whole = edit(backbone, request)
    assert sizes == [5, 3, 2, 2, 1]
    assert torch.equal(result.image, whole.image)
    assert len(result.trace.mask_area) == 5


@pytest.mark.parametrize("size", SIZES)
def test_the_share_that_is_picture_goes_along(backbone: Backbone, pictures: Pictures, size: tuple[int, int]) -> None:
    request = EditRequest(image=pictures(1, *size), instructions=(RED,))
    working = to_working_size(request, backbone, None)
    filled = [round(share * side) for share, side in zip(working.filled, working.image.shape[-2:], strict=True)]
    assert max(filled) == 64
    assert filled == [round(64 * side / max(size)) for side in size]
    assert request.filled == (1.0, 1.0)


def test_views_that_share_attention_run_together(backbone: Backbone, pictures: Pictures) -> None:
    counts: list[int] = []

    def run(request: EditRequest) -> PassResult:
        counts.append(len(request.image))
        return red(request)

    shared = EditRequest(image=pictures(5), instructions=(RED,), sharing=ViewSharing())
    edit(backbone, shared, run)
    edit(backbone, shared, run, chunk=5)
    edit(backbone, shared.rows(slice(0, 1)), run, chunk=1)
    assert counts == [5, 5, 1]
    with pytest.raises(InputError, match="5 views share attention and must run together, but chunk is 4: raise it"):
        edit(backbone, shared, run, chunk=4)
    with pytest.raises(InputError, match="5 views share attention"):
        masks_on_canvas(shared, backbone, CanvasConfig(chunk=4), lambda request: red(request).masks)


def test_views_that_share_attention_are_not_halved_when_memory_runs_out(backbone: Backbone, pictures: Pictures) -> None:
    def run(request: EditRequest) -> PassResult:
        raise torch.OutOfMemoryError("too many")

    shared = EditRequest(image=pictures(4), instructions=(RED,), sharing=ViewSharing())
    with pytest.raises(InputError, match="4 views that share attention do not fit into memory together: edit fewer"):
        edit(backbone, shared, run)


def test_the_trace_says_what_tied_the_views(backbone: Backbone, pictures: Pictures, one_noise: Any) -> None:
    image = pictures(2)
    plain = edit(backbone, EditRequest(image=image, instructions=(RED,))).trace.settings
    sharing = ViewSharing(among="references", references=1)
    tied = edit(backbone, EditRequest(image=image, instructions=(RED,), noise=one_noise, sharing=sharing)).trace
    assert plain == {}
    assert tied.settings == {"noise": {"seed": 11}, "sharing": asdict(sharing)}
    assert json.loads(json.dumps(tied.settings))["sharing"]["among"] == "references"


def test_chunks_keep_every_picture_with_its_seed(backbone: Backbone, pictures: Pictures) -> None:
    seeds: list[tuple[int, ...]] = []

    def run(request: EditRequest) -> PassResult:
        seeds.append(request.seeds)
        return red(request)

    edit(backbone, EditRequest(image=pictures(5), instructions=(RED,), seeds=(5, 4, 3, 2, 1)), run, chunk=2)
    assert seeds == [(5, 4), (3, 2), (1,)]


def test_the_trace_tells_what_happened(backbone: Backbone, pictures: Pictures) -> None:
    trace = edit(backbone, EditRequest(image=pictures(), instructions=(RED,))).trace
    assert (trace.editor, trace.prompt, trace.timesteps) == ("red", "red", (3, 2))
    assert trace.mask_area == (0.5,)
    assert trace.seconds > 0
    assert trace.warnings == ()


def test_found_masks_come_unfinished_and_in_chunks(backbone: Backbone, pictures: Pictures) -> None:
    """Given back with a request, they are finished once."""
    config = CanvasConfig(mask_dilate=4, mask_feather=2, chunk=2)
    request = EditRequest(image=pictures(3, 60, 80), instructions=(RED,))
    (found,) = masks_on_canvas(request, backbone, config, lambda working: red(working).masks)
    assert found.shape == (3, 1, 60, 80)
    once = edit_on_canvas(request, backbone, config, red, name="red")
    given = EditRequest(image=request.image, instructions=(Instruction(text="make it red", mask=found),))
    again = edit_on_canvas(given, backbone, config, red, name="red")
    assert torch.equal(once.mask, again.mask)
    assert torch.equal(once.image, again.image)
    assert not torch.equal(once.mask, found)


def test_a_feather_wider_than_the_picture_is_one_clear_line(backbone: Backbone, pictures: Pictures) -> None:
    with pytest.raises(InputError, match="lower mask_feather"):
        edit(backbone, EditRequest(image=pictures(1, 20, 20), instructions=(RED,)), mask_feather=30)


def test_notes_of_planning_are_warnings(backbone: Backbone, pictures: Pictures) -> None:
    made = EditRequest(image=pictures(3), instructions=(Instruction(text="make it red", note="taken as one"), RED))
    assert edit(backbone, made, chunk=2).trace.warnings == ("taken as one",)


def test_a_scaled_request_is_worked_on_larger(backbone: Backbone, pictures: Pictures) -> None:
    seen: list[tuple[int, ...]] = []

    def run(request: EditRequest) -> PassResult:
        seen.append(tuple(request.image.shape[-2:]))
        return red(request)

    result = edit(backbone, EditRequest(image=pictures(1, 30, 60), instructions=(RED,), scale=1.5), run)
    assert seen == [(48, 96)]
    assert result.image.shape == (1, 3, 30, 60)
    with pytest.raises(InputError, match=r"scale of an edit must be in \(0, 4\], got 5"):
        EditRequest(image=pictures(1, 30, 60), instructions=(RED,), scale=5.0)
