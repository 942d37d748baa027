"""An edit by a brush: the brush's own settings, words beside it, masks and phrases, refusals in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    IP2P,
    EditRequest,
    InputError,
    Instruction,
    IP2PConfig,
    LanguageConfig,
    ModelError,
    NothingFoundError,
    Tools,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.instructbrush import InstructBrush
from maskedit.editors.parts.brush import Brush
from maskedit.editors.parts.brush_options import BrushRecipe, InstructBrushConfig
from maskedit.editors.parts.brush_rows import begin_brush

Pictures = Callable[..., torch.Tensor]
TEXT = "turn red into blue"
BRUSH = Instruction(text="blue")


@pytest.fixture
def brush(backbone: Backbone) -> Brush:
    fresh = begin_brush(backbone, BrushRecipe(init_text=TEXT), name="blue")
    return Brush(replace(fresh.header, sampler="ddim", sampling_steps=3), fresh.tensors)


def asked(pictures: Pictures, *texts: Instruction, **values: Any) -> EditRequest:
    return EditRequest(image=pictures(2), instructions=texts or (BRUSH,), **values)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_before_learning_it_edits_as_the_text_does(
    backbone: Backbone, brush: Brush, pictures: Pictures, sampler: Any
) -> None:
    """I1, through a whole run."""
    editor = InstructBrush(backbone, InstructBrushConfig(sampler=sampler, steps=4), brush=brush)
    plain = IP2P(backbone, IP2PConfig(sampler=sampler, steps=4))
    expected = plain.edit(asked(pictures, Instruction(text=TEXT)))
    result = editor.edit(asked(pictures))
    torch.testing.assert_close(result.image, expected.image, atol=1e-4, rtol=0)
    assert (result.trace.prompt, result.trace.editor) == (TEXT, "instructbrush")


def test_settings_left_open_are_the_brushs(backbone: Backbone, brush: Brush, pictures: Pictures) -> None:
    trace = InstructBrush(backbone, brush=brush).edit(asked(pictures)).trace
    assert (len(trace.timesteps), trace.settings["sampler"]) == (3, "ddim")
    config = InstructBrushConfig(steps=2, guidance_scale=3.0)
    trace = InstructBrush(backbone, config, brush=brush).edit(asked(pictures)).trace
    assert (len(trace.timesteps), trace.settings["guidance_scale"]) == (2, 3.0)
    assert trace.settings["image_guidance_scale"] == brush.header.image_guidance_scale


def test_words_beside_it_join_the_prompt(backbone: Backbone, brush: Brush, pictures: Pictures) -> None:
    editor = InstructBrush(backbone, brush=brush)
    both = editor.edit(asked(pictures, BRUSH, Instruction(text="add a ball.")))
    assert both.trace.prompt == f"{TEXT}, add a ball"
    assert len(both.masks) == 2
    assert (both.image - editor.edit(asked(pictures)).image).abs().max() > 1e-4


def test_a_file_answers_to_its_own_name(backbone: Backbone, brush: Brush, pictures: Pictures, tmp_path: Path) -> None:
    config = InstructBrushConfig(brush=brush.save(tmp_path / "renamed.safetensors"))
    editor = InstructBrush(backbone, config)
    assert editor.edit(asked(pictures, Instruction(text="renamed"))).trace.prompt == TEXT


def test_a_batch_equals_single_edits_also_where_segments_differ(
    backbone: Backbone, brush: Brush, pictures: Pictures
) -> None:
    generator = torch.Generator().manual_seed(3)
    learned = {n: rows + torch.randn(rows.shape, generator=generator) for n, rows in brush.tensors.items()}
    editor = InstructBrush(backbone, brush=Brush(brush.header, learned))
    levels = (0.35, 0.95)
    batch = editor.edit(asked(pictures, noise_levels=levels))
    for row, level in enumerate(levels):
        one = slice(row, row + 1)
        request = EditRequest(image=pictures(2)[one], instructions=(BRUSH,), seeds=(row,), noise_levels=(level,))
        torch.testing.assert_close(batch.image[one], editor.edit(request).image, atol=1e-4, rtol=0)


def test_a_mask_confines_the_edit_to_the_bit(backbone: Backbone, brush: Brush, pictures: Pictures) -> None:
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 8:40, 20:50] = 1
    request = asked(pictures, mask=mask)
    result = InstructBrush(backbone, brush=brush).edit(request)
    outside = (mask == 0).expand_as(result.image)
    assert torch.equal(result.image[outside], request.image[outside])
    assert not torch.equal(result.image[~outside], request.image[~outside])
    nothing = InstructBrush(backbone, brush=brush).edit(replace(request, mask=torch.zeros_like(mask)))
    assert torch.equal(nothing.image, request.image)


def test_a_phrase_confines_it_too(backbone: Backbone, brush: Brush, pictures: Pictures, grounder: Any) -> None:
    tools = Tools(backbone, language=LanguageConfig(), grounding=grounder)
    editor = InstructBrush(backbone, brush=brush, tools=tools)
    request = asked(pictures, replace(BRUSH, phrases=("red cube",)))
    result = editor.edit(request)
    expected = torch.zeros(2, 1, 64, 64)
    expected[..., 16:48, 8:32] = 1
    assert torch.equal(result.mask, expected)
    assert torch.equal(editor.find_masks(request)[0], expected)
    assert result.trace.grounding[1][0].phrase == "red cube"
    with pytest.raises(NothingFoundError):
        editor.edit(asked(pictures, replace(BRUSH, phrases=("zebra",))))
    whole = editor.find_masks(asked(pictures))
    assert whole[0].min() == 1


def test_refusals_are_one_line(backbone: Backbone, sd_backbone: Backbone, brush: Brush, pictures: Pictures) -> None:
    with pytest.raises(InputError, match="pass --brush FILE"):
        InstructBrush(backbone).edit(asked(pictures))
    other = Brush(replace(brush.header, kind="visii"), brush.tensors)
    with pytest.raises(InputError, match="pass --editor visii"):
        InstructBrush(backbone, brush=other)
    with pytest.raises(ModelError, match="instructbrush needs an InstructPix2Pix checkpoint"):
        InstructBrush(sd_backbone)
    with pytest.raises(ModelError, match="there is no such file"):
        InstructBrush(backbone, InstructBrushConfig(brush=Path("none.safetensors")))


def test_other_weights_are_warned_of(backbone: Backbone, brush: Brush, pictures: Pictures) -> None:
    assert not InstructBrush(backbone, brush=brush).edit(asked(pictures)).trace.warnings
    other = Brush(replace(brush.header, fingerprint="x"), brush.tensors)
    (warning,) = InstructBrush(backbone, brush=other).edit(asked(pictures)).trace.warnings
    assert "weights" in warning
