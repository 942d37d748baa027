"""The common body of the editors on captions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors import (
    MDP,
    DiffEdit,
    DiffEditConfig,
    Editor,
    EditRequest,
    InstructEdit,
    InstructEditConfig,
    Instruction,
    MDPConfig,
    ParseError,
    Tools,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.language_options import LanguageConfig

Pictures = Callable[..., torch.Tensor]
BLUE = Instruction(text="make the red cube blue")


def made(backbone: Backbone, grounder: Any) -> list[Editor]:
    tools = Tools(backbone, language=LanguageConfig(), grounding=grounder)
    return [
        DiffEdit(backbone, DiffEditConfig(steps=4), tools=tools),
        InstructEdit(backbone, InstructEditConfig(steps=4), tools=tools),
        MDP(backbone, MDPConfig(steps=4), tools=tools),
    ]


def test_they_are_editors_and_plan_captions(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    for editor in made(sd_backbone, grounder):
        assert isinstance(editor, Editor)
        planned = editor.plan(EditRequest(image=pictures(2), instructions=(BLUE,)))
        assert [caption.target for caption in planned.captions] == ["photo of a blue cube"] * 2
        wanted = ("red cube",) if isinstance(editor, InstructEdit) else None
        assert planned.instructions[0].phrases == wanted


def test_an_instruction_nobody_understands_stops_them(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    for editor in made(sd_backbone, grounder):
        with pytest.raises(ParseError, match="hello there"):
            editor.edit(EditRequest(image=pictures(), instructions=(Instruction(text="hello there"),)))


def test_a_mask_of_the_request_overrides_every_other(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    image, mask = pictures(), torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    for editor in made(sd_backbone, grounder):
        request = EditRequest(image=image, instructions=(BLUE,), mask=mask)
        assert torch.equal(editor.find_masks(request)[0], mask)
        result = editor.edit(request)
        assert torch.equal(result.mask, mask)
        assert torch.equal(result.image[..., :32], image[..., :32])
    assert grounder.asked == []


def test_masks_given_back_are_the_edit_s_own(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    editor = made(sd_backbone, grounder)[1]
    request = EditRequest(image=pictures(), instructions=(BLUE,))
    masks = editor.find_masks(request)
    again = editor.edit(EditRequest(image=pictures(), instructions=(BLUE,), mask=masks[0]))
    assert torch.equal(again.image, editor.edit(request).image)
