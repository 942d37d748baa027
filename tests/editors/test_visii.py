"""Visii edits by an embedding of the text, which equals running the UNet on that embedding."""

from collections.abc import Callable
from dataclasses import replace

import torch

from maskedit.editors import IP2P, Editor, EditRequest, Instruction, IP2PConfig
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.brush import Brush
from maskedit.editors.parts.brush_options import BrushRecipe, VisiiConfig
from maskedit.editors.parts.brush_rows import begin_brush
from maskedit.editors.visii import Visii

Pictures = Callable[..., torch.Tensor]
RECIPE = BrushRecipe(kind="visii", learn="embedding", segments=1, init_text="turn red into blue")


def test_rows_of_a_prompt_are_that_prompt(backbone: Backbone, pictures: Pictures) -> None:
    """With every row of another prompt in place of the learned ones, it is InstructPix2Pix on that prompt."""
    brush = begin_brush(backbone, RECIPE, name="b")
    other = backbone.embed(["make the cube red"])
    whole = Brush(replace(brush.header, first_row=0, rows=other.shape[1]), {"embedding": other})
    expected = IP2P(backbone, IP2PConfig(sampler="ddim", steps=3)).edit(
        EditRequest(image=pictures(), instructions=(Instruction(text="make the cube red"),))
    )
    config = VisiiConfig(sampler="ddim", steps=3)
    result = Visii(backbone, config, brush=whole).edit(
        EditRequest(image=pictures(), instructions=(Instruction(text="b"),))
    )
    torch.testing.assert_close(result.image, expected.image, atol=1e-4, rtol=0)


def test_a_hybrid_prompt_adds_to_it(backbone: Backbone, pictures: Pictures) -> None:
    editor = Visii(backbone, VisiiConfig(sampler="ddim", steps=3), brush=begin_brush(backbone, RECIPE, name="b"))
    plain, hybrid = (
        editor.edit(EditRequest(image=pictures(), instructions=tuple(Instruction(text=text) for text in texts)))
        for texts in (("b",), ("b", "add a ball"))
    )
    assert hybrid.trace.prompt == "turn red into blue, add a ball"
    assert not torch.equal(plain.image, hybrid.image)


def test_it_is_an_editor(backbone: Backbone) -> None:
    editor = Visii(backbone)
    assert isinstance(editor, Editor)
    assert editor.config == VisiiConfig()
