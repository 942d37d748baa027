"""InstructBrush edits by rows of its own for each part of the noise range."""

from collections.abc import Callable

import torch

from maskedit.editors import Editor, EditRequest, Instruction
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.instructbrush import InstructBrush
from maskedit.editors.parts.brush import Brush
from maskedit.editors.parts.brush_options import BrushRecipe, InstructBrushConfig
from maskedit.editors.parts.brush_rows import begin_brush

Pictures = Callable[..., torch.Tensor]


def test_each_segment_acts_in_its_part_of_a_run(backbone: Backbone, pictures: Pictures) -> None:
    """The rows of a segment move a run that passes through it, and no run that starts below it."""
    brush = begin_brush(backbone, BrushRecipe(init_text="turn red into blue"), name="b")
    moved = {name: rows.clone() for name, rows in brush.tensors.items()}
    for rows in moved.values():
        rows[3] += 3.0
    config = InstructBrushConfig(sampler="ddim", steps=4)
    for level, differs in ((1.0, True), (0.7, False)):
        request = EditRequest(image=pictures(), instructions=(Instruction(text="b"),), noise_levels=(level,))
        before, after = (
            InstructBrush(backbone, config, brush=each).edit(request).image
            for each in (brush, Brush(brush.header, moved))
        )
        assert torch.equal(before, after) != differs


def test_it_is_an_editor(backbone: Backbone) -> None:
    editor = InstructBrush(backbone)
    assert isinstance(editor, Editor)
    assert editor.config == InstructBrushConfig()
