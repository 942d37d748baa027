"""Learned rows stand where they belong: in the text branch, in their segment, in their place among the tokens."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors.core.attention import attention_control
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.parts.brush import Brush
from maskedit.editors.parts.brush_options import BrushRecipe
from maskedit.editors.parts.brush_rows import (
    LearnedRows,
    begin_brush,
    brush_prompt,
    check_fit,
    layer_widths,
    layers_of,
    prompt_ids,
    segment_of,
)

TEXT = "turn red into blue"
BRANCHES = ("text", "image", "uncond")


def predict(backbone: Backbone, brush: Brush, text: str, times: tuple[float, ...] = (700.0,)) -> dict[str, Any]:
    """One call of the UNet for a picture at each timestep, with a brush's rows in the prompt `text`."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(times), 4, 16, 16, generator=generator)
    conditioning = backbone.condition(BRANCHES, backbone.embed([text]), latents.flip(-1))
    timesteps = torch.tensor(times)
    header = brush.header
    segments = segment_of(timesteps, header.segments, 1000)[None]
    layers = layers_of(backbone, brush.tensors)
    rows = LearnedRows(layers, first_row=header.first_row, segments=segments, dtype=backbone.dtype)
    with torch.no_grad(), attention_control(backbone.unet, [rows], BRANCHES):
        return backbone.predict(latents, timesteps, conditioning)


def changed(brush: Brush, segment: int | None = None) -> Brush:
    """The brush with other rows, in one segment or in all."""
    generator = torch.Generator().manual_seed(1)
    tensors = {name: rows.clone() for name, rows in brush.tensors.items()}
    for rows in tensors.values():
        part = slice(None) if segment is None else slice(segment, segment + 1)
        rows[part] += torch.randn(rows[part].shape, generator=generator)
    return Brush(brush.header, tensors)


def test_segments_part_the_timesteps_evenly() -> None:
    """I5."""
    found = segment_of(torch.arange(1000), 5, 1000)
    assert found.tolist() == [step // 200 for step in range(1000)]
    assert segment_of(torch.tensor([999.0, 999.99, 1000.0, 0.0, 199.99]), 5, 1000).tolist() == [4, 4, 4, 0, 0]


@pytest.mark.parametrize("learn", ["attention", "embedding"])
@pytest.mark.parametrize("include_bos", [False, True])
def test_before_learning_it_is_the_initial_text(backbone: Backbone, learn: Any, include_bos: bool) -> None:
    """I1, in every segment."""
    recipe = BrushRecipe(init_text=TEXT, learn=learn, include_bos=include_bos)
    brush = begin_brush(backbone, recipe, name="b")
    none = Brush(replace(brush.header, rows=0), {name: rows[:, :0] for name, rows in brush.tensors.items()})
    times = (50.0, 250.0, 450.0, 650.0, 850.0)
    got, expected = (predict(backbone, each, TEXT, times) for each in (brush, none))
    for branch in BRANCHES:
        torch.testing.assert_close(got[branch], expected[branch], atol=1e-6, rtol=1e-5)


def test_no_rows_are_the_text_itself(backbone: Backbone) -> None:
    """I2, to the bit: the layers keep their own processors."""
    brush = begin_brush(backbone, BrushRecipe(rows=0), name="b")
    with_brush = predict(backbone, brush, "")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    conditioning = backbone.condition(BRANCHES, backbone.embed([""]), latents.flip(-1))
    with torch.no_grad():
        plain = backbone.predict(latents, torch.tensor([700.0]), conditioning)
    assert all(torch.equal(with_brush[branch], plain[branch]) for branch in BRANCHES)


def test_only_the_text_branch_sees_the_rows(backbone: Backbone) -> None:
    """I4."""
    brush = begin_brush(backbone, BrushRecipe(init_text=TEXT), name="b")
    before, after = predict(backbone, brush, TEXT), predict(backbone, changed(brush), TEXT)
    assert torch.equal(before["image"], after["image"])
    assert torch.equal(before["uncond"], after["uncond"])
    assert (before["text"] - after["text"]).abs().max() > 1e-3


def test_each_picture_follows_its_own_timestep(backbone: Backbone) -> None:
    brush = begin_brush(backbone, BrushRecipe(init_text=TEXT), name="b")
    times = (150.0, 350.0, 950.0)
    before, after = (predict(backbone, each, TEXT, times)["text"] for each in (brush, changed(brush, segment=1)))
    moved = (before - after).abs().amax((1, 2, 3)) > 1e-4
    assert moved.tolist() == [False, True, False]


def test_equal_segments_are_one(backbone: Backbone) -> None:
    """I6."""
    one = changed(begin_brush(backbone, BrushRecipe(init_text=TEXT, segments=1), name="b"))
    tensors = {name: rows.repeat(5, 1, 1) for name, rows in one.tensors.items()}
    five = Brush(replace(one.header, segments=5), tensors)
    for time in (100.0, 999.0):
        assert torch.equal(
            predict(backbone, one, TEXT, (time,))["text"], predict(backbone, five, TEXT, (time,))["text"]
        )


def test_rows_of_another_prompt_of_the_same_end_are_that_prompt(backbone: Backbone) -> None:
    """I8, with all rows of the other prompt, so that nothing of the first is left."""
    ids = prompt_ids((TEXT,), backbone)
    own = begin_brush(backbone, BrushRecipe(init_text=TEXT, learn="embedding", segments=1, include_bos=True), name="b")
    other = backbone.embed(["make the cube red"])
    header = replace(own.header, rows=ids.shape[1])
    brush = Brush(header, {"embedding": other.clone()})
    empty = replace(brush.header, rows=0)
    expected = predict(backbone, Brush(empty, {"embedding": other[:, :0]}), "make the cube red")
    got = predict(backbone, brush, TEXT)
    torch.testing.assert_close(got["text"], expected["text"], atol=1e-6, rtol=1e-5)
    part = Brush(replace(header, rows=2, first_row=1), {"embedding": other[:, 1:3]})
    assert (predict(backbone, part, TEXT)["text"] - expected["text"]).abs().max() > 1e-5


def test_a_brush_has_as_many_rows_as_its_text_has_tokens(backbone: Backbone) -> None:
    brush = begin_brush(backbone, BrushRecipe(init_text=f" {TEXT}. "), name="b")
    words = backbone.tokenizer(TEXT, add_special_tokens=False).input_ids
    assert (brush.header.initial_text, brush.header.rows) == (TEXT, len(words))
    assert begin_brush(backbone, BrushRecipe(), name="b").header.rows == 10
    assert {rows.shape[:2] for rows in brush.tensors.values()} == {(5, len(words))}
    assert len(brush.tensors) == 2 * len(layer_widths(backbone))


def test_more_text_follows_the_initial_text(backbone: Backbone) -> None:
    header = begin_brush(backbone, BrushRecipe(init_text=TEXT), name="b").header
    prompt, embeds = brush_prompt(header, ["add a ball"], backbone)
    assert prompt == f"{TEXT}, add a ball"
    assert torch.equal(embeds, backbone.embed([prompt]))
    assert torch.equal(brush_prompt(header, [], backbone)[1], backbone.embed([TEXT]))


def test_more_text_beside_no_text_follows_the_rows(backbone: Backbone) -> None:
    header = begin_brush(backbone, BrushRecipe(rows=4), name="b").header
    prompt, embeds = brush_prompt(header, ["add a ball"], backbone)
    own, empty = backbone.embed(["add a ball"]), backbone.embed([""])
    count = len(backbone.tokenizer("add a ball", add_special_tokens=False).input_ids) + 1
    assert prompt == "add a ball"
    assert torch.equal(embeds[:, :5], empty[:, :5])
    assert torch.equal(embeds[:, 5 : 5 + count], own[:, 1 : 1 + count])
    assert torch.equal(embeds[:, 5 + count :], empty[:, 5 + count :])
    assert torch.equal(brush_prompt(header, [], backbone)[1], empty)


def test_too_much_text_is_refused(backbone: Backbone) -> None:
    for recipe in (BrushRecipe(init_text=TEXT), BrushRecipe(rows=60)):
        header = begin_brush(backbone, recipe, name="b").header
        with pytest.raises(InputError, match="shorten the instructions"):
            brush_prompt(header, ["a cube " * 40], backbone)


@pytest.mark.parametrize("learn", ["attention", "embedding"])
def test_a_checkpoint_of_another_width_is_refused(backbone: Backbone, learn: Any) -> None:
    brush = begin_brush(backbone, BrushRecipe(learn=learn), name="b")
    check_fit(brush, backbone)
    widths = {name: width + 8 for name, width in brush.header.widths.items()}
    wider = {name: torch.nn.functional.pad(rows, (0, 8)) for name, rows in brush.tensors.items()}
    with pytest.raises(ModelError, match=r"was made for .* learn it again"):
        check_fit(Brush(replace(brush.header, widths=widths), wider), backbone)
