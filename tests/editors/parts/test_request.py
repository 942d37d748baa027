"""Requests refuse what cannot be edited, in one line, and results join without loss."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from maskedit.editors import (
    Captions,
    EditRequest,
    EditResult,
    EditTrace,
    FoI,
    FoIConfig,
    InputError,
    Instruction,
    ParsedInstruction,
    ParseError,
    Tools,
    ViewSharing,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.request import join_results

IMAGE = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
BLUE = Instruction(text="make the cube blue")


def request(**changes: object) -> EditRequest:
    return EditRequest(**{"image": IMAGE, "instructions": (BLUE,), **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Instruction(text=""), "expected an instruction, got an empty text"),
        (lambda: Instruction(text=" \n"), "expected an instruction, got an empty text"),
        (lambda: Instruction(text="make it red", strength=11.0), r"strength must be in \[-10, 10\], got 11"),
        (lambda: Instruction(text="make it red", strength=float("nan")), "strength must be in"),
        (
            lambda: Instruction(text="make the cube red", keyword="ball"),
            "keyword 'ball' does not occur in 'make the cube",
        ),
        (lambda: request(instructions=()), "at least one instruction"),
        (lambda: request(image=IMAGE[:0]), "at least one image"),
        (lambda: request(seeds=(1,)), r"one seed per image \(2\), got 1"),
        (lambda: request(noise_levels=(0.5,)), r"one noise level per image \(2\), got 1"),
        (lambda: request(noise_levels=(0.5, 0.0)), r"noise levels must be in \(0, 1\]"),
        (lambda: request(noise_levels=(0.5, float("nan"))), r"noise levels must be in \(0, 1\]"),
        (
            lambda: request(condition=IMAGE[:1]),
            "the condition image as large as the image, 2 of 12x8 pixels, got 1 of 12x8",
        ),
        (
            lambda: request(mask=torch.ones(2, 1, 8, 8)),
            "the mask as large as the image, 2 of 12x8 pixels, got 2 of 8x8",
        ),
        (
            lambda: request(mask=torch.ones(1, 1, 8, 12)),
            "the mask as large as the image, 2 of 12x8 pixels, got 1 of 12x8",
        ),
        (
            lambda: request(instructions=(Instruction(text="make it red", mask=torch.ones(2, 1, 4, 4)),)),
            "mask of 'make it red' as large as the image",
        ),
    ],
)
def test_bad_input_is_one_clear_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_keyword_may_be_written_in_any_case() -> None:
    assert Instruction(text="Make the Red Cube blue", keyword="red cube").keyword == "red cube"


def test_seeds_default_to_the_number_of_the_image() -> None:
    assert request().seeds == (0, 1)
    assert request(seeds=(5, 5)).seeds == (5, 5)


def test_what_is_preserved_is_the_condition_or_else_the_image() -> None:
    other = IMAGE.flip(-1)
    assert request().preserved is IMAGE
    assert request(condition=other).preserved is other


def test_rows_cut_the_noise_and_keep_what_ties_the_images() -> None:
    class Counted:
        def __init__(self, images: tuple[int, ...]) -> None:
            self.images, self.settings = images, dict[str, Any]()

        def rows(self, rows: slice) -> "Counted":
            return Counted(self.images[rows])

        def draw(self, own: torch.Tensor, *, filled: tuple[float, float]) -> torch.Tensor:
            return own

    whole = request(noise=Counted((4, 7)), sharing=ViewSharing(references=1), filled=(0.5, 1.0))
    row = whole.rows(slice(1, 2))
    assert row.noise.images == (7,)
    assert (row.sharing, row.filled) == (whole.sharing, (0.5, 1.0))


def test_rows_cut_everything_that_is_per_image() -> None:
    masks = torch.rand(2, 1, 8, 12)
    whole = request(
        condition=IMAGE.flip(-1),
        mask=masks,
        seeds=(4, 9),
        noise_levels=(0.2, 0.7),
        instructions=(BLUE, Instruction(text="make it red", mask=masks.flip(-1), strength=2.0)),
    )
    row = whole.rows(slice(1, 2))
    assert torch.equal(row.image, IMAGE[1:])
    assert torch.equal(row.preserved, IMAGE.flip(-1)[1:])
    assert torch.equal(row.mask, masks[1:])
    assert torch.equal(row.instructions[1].mask, masks.flip(-1)[1:])
    assert (row.seeds, row.noise_levels) == ((9,), (0.7,))
    assert row.instructions[0] == BLUE
    assert row.instructions[1].strength == 2.0


def result(rows: slice, *, seconds: float, warning: str) -> EditResult:
    count = len(IMAGE[rows])
    trace = EditTrace(
        editor="foi",
        seconds=seconds,
        mask_area=(0.5,) * count,
        outside_change=(0.0,) * count,
        outside_change_unkept=(0.1,) * count,
        warnings=("the same", warning),
    )
    mask = torch.rand(2, 1, 8, 12, generator=torch.Generator().manual_seed(1))[rows]
    return EditResult(image=IMAGE[rows], mask=mask, masks=(mask, 1 - mask), trace=trace)


def test_parts_join_to_the_whole() -> None:
    whole = result(slice(0, 2), seconds=3.0, warning="a")
    joined = join_results(
        [result(slice(0, 1), seconds=1.0, warning="a"), result(slice(1, 2), seconds=2.0, warning="b")]
    )
    assert torch.equal(joined.image, whole.image)
    assert torch.equal(joined.mask, whole.mask)
    assert all(torch.equal(a, b) for a, b in zip(joined.masks, whole.masks, strict=True))
    assert joined.trace.seconds == 3.0
    assert joined.trace.mask_area == (0.5, 0.5)
    assert joined.trace.outside_change_unkept == (0.1, 0.1)
    assert joined.trace.warnings == ("the same", "a", "b")


def test_one_part_is_the_whole_itself() -> None:
    only = result(slice(0, 2), seconds=3.0, warning="a")
    assert join_results([only]) is only


def test_a_trace_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(asdict(result(slice(0, 2), seconds=1.0, warning="a").trace)))["editor"] == "foi"


def test_a_trace_of_one_picture_tells_of_that_picture() -> None:
    captions = (Captions(source="a", target="red"), Captions(source="b", target="green"))
    trace = EditTrace(editor="mdp", prompt="red", captions=captions, seconds=3.0, mask_area=(0.1, 0.2))
    second = trace.of_image(1, 2)
    assert (second.prompt, second.captions, second.mask_area) == ("green", captions[1:], (0.2,))
    assert second.seconds == 1.5
    assert EditTrace(editor="foi", prompt="make it red").of_image(0, 1).prompt == "make it red"


def test_captions_of_a_region_are_one_for_each_image_or_one_for_all() -> None:
    first, second = Captions(source="a", target="red"), Captions(source="b", target="green")
    own = Instruction(text="make it red", captions=(first,), phrases_by_image=(("cube",), ("ball",)))
    plain = Instruction(text="make it green")
    made = EditRequest(image=IMAGE, instructions=(own, plain), captions=(first, second))
    assert made.region_captions == ((first, first), (first, second))
    row = made.rows(slice(1, 2))
    assert row.region_captions == ((first,), (second,))
    assert row.instructions[0].phrases_in(0) == ("ball",)
    assert plain.phrases_in(0) == ()
    assert EditRequest(image=IMAGE, instructions=(plain, plain), captions=(first,)).region_captions == ()
    whole = EditRequest(image=IMAGE, instructions=(own, plain), captions=(first,), mask=torch.ones_like(IMAGE[:, :1]))
    assert whole.region_captions == ()


def test_what_is_said_of_images_must_be_said_of_each() -> None:
    three = (Captions(source="a", target="red"),) * 3
    with pytest.raises(InputError, match="captions for one image, or for each of 2, got 3"):
        EditRequest(image=IMAGE, instructions=(Instruction(text="make it red", captions=three),))
    with pytest.raises(InputError, match="phrases for each of 2 images or none, got 1 for 'make it red'"):
        EditRequest(image=IMAGE, instructions=(Instruction(text="make it red", phrases_by_image=(("cube",),)),))


def test_an_edit_of_foi_plans_what_is_not_planned(backbone: Backbone, pictures: Callable[..., torch.Tensor]) -> None:
    """As those on captions do; and a plan stays as it is, so that nobody is asked twice."""
    both, dog = Instruction(text="make the cube red and remove the ball"), Instruction(text="make the dog blue")
    made, found = EditRequest(image=pictures(), instructions=(both,)), FoI(backbone, FoIConfig(steps=2))
    result = found.edit(made)
    assert len(result.masks) == len(found.find_masks(made)) == 2
    planned = found.plan(replace(made, instructions=(both, dog)))
    assert [each.keyword for each in planned.instructions] == ["cube", "ball", "dog"]
    assert found.plan(planned).instructions == planned.instructions
    assert torch.equal(found.edit(found.plan(made)).image, result.image)
    assert len(FoI(backbone, FoIConfig(steps=2, split=False)).edit(made).masks) == 1


class Muttering:
    """Understands nothing, like a model that answers with junk."""

    def __init__(self) -> None:
        self.asked = 0

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        self.asked += 1
        raise ParseError("expected a list of edits", reply="mumble")


def test_what_nobody_could_take_apart_is_edited_as_a_whole_and_said(
    backbone: Backbone, pictures: Callable[..., torch.Tensor]
) -> None:
    language = Muttering()
    found = FoI(backbone, FoIConfig(steps=2), tools=Tools(backbone, language=language))
    given = (Instruction(text="make the cube red", keyword="cube"), Instruction(text="make the ball blue"))
    trace = found.edit(found.plan(EditRequest(image=pictures(), instructions=given))).trace
    assert trace.keywords == ("cube", "ball")
    assert trace.warnings == (
        "'make the ball blue' is carried out as one edit, it could not be taken apart: expected a list of edits",
    )
    assert language.asked == 1
