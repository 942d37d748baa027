"""The loss of a brush: the published formula, gradients where they belong, all segments at once as one by one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from maskedit.editors.core.attention import attention_control
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.errors import ModelError
from maskedit.editors.parts.brush_clip import load_clip
from maskedit.editors.parts.brush_direction import EditDirection
from maskedit.editors.parts.brush_loss import BrushLoss, segment_bounds
from maskedit.editors.parts.brush_options import BrushRecipe
from maskedit.editors.parts.brush_rows import LearnedRows, begin_brush, brush_prompt, layers_of, segment_of

Pictures = Callable[..., torch.Tensor]
RECIPE = BrushRecipe(init_text="turn red into blue", steps=8, guidance_scale=7.5, image_guidance_scale=1.5)


def make(backbone: Backbone, pictures: Pictures, recipe: BrushRecipe = RECIPE, **values: Any) -> BrushLoss:
    """A loss over tensors of its own, from three pairs."""
    brush = begin_brush(backbone, recipe, name="b")
    parameters = {name: rows.clone().requires_grad_() for name, rows in brush.tensors.items()}
    sides = {"before": pictures(3), "after": pictures(3, seed=1)}
    return BrushLoss(backbone, brush.header, parameters, recipe, **sides, **values)


def step_of(loss: BrushLoss, step: int = 0, seed: int = 5) -> torch.Tensor:
    return loss(step, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("segments", [1, 3, 5, 7])
def test_segments_part_the_timesteps(segments: int) -> None:
    """I5: what is drawn for a segment belongs to it."""
    bounds = [segment_bounds(segment, segments, 1000) for segment in range(segments)]
    assert [t for own in bounds for t in own] == list(range(1000))
    for segment, own in enumerate(bounds):
        assert segment_of(torch.tensor([*own]), segments, 1000).unique().tolist() == [segment]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guided", [True, False])
def test_it_is_the_published_formula(
    variant: Callable[..., Backbone], pictures: Pictures, prediction: str, guided: bool
) -> None:
    """One call of all three branches, diffusers' own noise, and the guidance written out."""
    backbone = variant(prediction_type=prediction)
    recipe = replace(RECIPE, cfg_train=guided, batch=2)
    loss = make(backbone, pictures, recipe)
    draws = loss._draw(0, 5)
    scheduler: Any = DDPMScheduler.from_config(backbone.scheduler_config)
    clean = torch.cat([backbone.encode(pictures(3, seed=1))])[draws.pairs] * backbone.vae.config.scaling_factor
    noisy = scheduler.add_noise(clean, draws.noise, draws.timesteps)
    branches = ("uncond", "text", "image")
    condition = backbone.encode(pictures(3))[draws.pairs]
    conditioning = backbone.lay_out(
        {b: backbone.embed([RECIPE.init_text if b == "text" else ""]) for b in branches},
        {b: condition * (b != "uncond") for b in branches},
        batch=len(condition),
    )
    layers = layers_of(backbone, loss._parameters)
    rows = LearnedRows(layers, first_row=1, segments=draws.segments[None], dtype=torch.float32)
    with torch.no_grad(), attention_control(backbone.unet, [rows], branches):
        e = backbone.predict(noisy, draws.timesteps, conditioning)
    expected = e["uncond"] + 7.5 * (e["text"] - e["image"]) + 1.5 * (e["image"] - e["uncond"])
    wanted = draws.noise
    if prediction == "v_prediction":
        wanted = scheduler.get_velocity(clean, draws.noise, draws.timesteps)
    errors = ((wanted - (expected if guided else e["text"])) ** 2).mean((1, 2, 3))
    got = step_of(loss)
    torch.testing.assert_close(got.detach(), errors.view(5, 2).mean(1).sum(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss.curve[0], errors.view(5, 2).mean(1), atol=1e-5, rtol=1e-4)


def test_only_the_drawn_segment_and_all_layers_learn(backbone: Backbone, pictures: Pictures) -> None:
    """I3."""
    loss = make(backbone, pictures, only=(2,))
    step_of(loss).backward()
    for rows in loss._parameters.values():
        assert rows.grad is not None
        norms = rows.grad.abs().sum((1, 2))
        assert norms[2] > 0
        assert norms[[0, 1, 3, 4]].sum() == 0
    networks = (backbone.unet, backbone.vae, backbone.text_encoder)
    assert not any(parameter.grad is not None for network in networks for parameter in network.parameters())


def learned(loss: BrushLoss, steps: int) -> dict[str, torch.Tensor]:
    """The tensors after some steps of AdamW as the paper takes them."""
    optimizer = torch.optim.AdamW(list(loss._parameters.values()), lr=1e-3, weight_decay=0.0)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step, torch.Generator().manual_seed(1000 + step)).backward()
        optimizer.step()
    return {name: rows.detach() for name, rows in loss._parameters.items()}


@pytest.mark.parametrize("learn", ["attention", "embedding"])
def test_all_segments_at_once_are_one_after_another(backbone: Backbone, pictures: Pictures, learn: Any) -> None:
    recipe = replace(RECIPE, learn=learn)
    together = learned(make(backbone, pictures, recipe), 4)
    start = make(backbone, pictures, recipe)._parameters
    for segment in (0, 4):
        alone = learned(make(backbone, pictures, recipe, only=(segment,)), 4)
        for name, rows in together.items():
            torch.testing.assert_close(alone[name][segment], rows[segment], atol=1e-5, rtol=0)
            assert (rows[segment] - start[name][segment]).abs().max() > 1e-4


@pytest.mark.parametrize("chunk", [1, 3])
def test_parts_of_a_step_change_nothing(backbone: Backbone, pictures: Pictures, chunk: int) -> None:
    whole, parts = (make(backbone, pictures, replace(RECIPE, chunk=size, batch=2)) for size in (None, chunk))
    values = [step_of(loss) for loss in (whole, parts)]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)
    for value in values:
        value.backward()
    for one, other in zip(whole._parameters.values(), parts._parameters.values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-3)


def test_pairs_are_encoded_once(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    loss = make(backbone, pictures)
    for step in range(2):
        step_of(loss, step)
    assert (backbone.counts["image"], backbone.counts["unet"]) == (6, 4)


def test_the_lowest_step_is_kept_where_it_is_asked_for(backbone: Backbone, pictures: Pictures) -> None:
    loss = make(backbone, pictures, replace(RECIPE, keep="lowest"))
    values = [float(step_of(loss, step, seed=step).detach()) for step in range(3)]
    assert float(loss.lowest_loss) == pytest.approx(min(values))


def test_a_measure_repeats(backbone: Backbone, pictures: Pictures) -> None:
    loss = make(backbone, pictures)
    first = loss.measure(2)
    assert first.shape == (5,)
    assert torch.equal(first, loss.measure(2))
    assert loss.curve.isnan().all()


def test_visii_visits_every_timestep_once(backbone: Backbone, pictures: Pictures) -> None:
    recipe = BrushRecipe(kind="visii", learn="embedding", segments=1, init_text="turn red into blue")
    loss = make(backbone, pictures, recipe)
    drawn = [loss._draw(step, seed=step) for step in (*range(20), 1000)]
    assert len({int(each.timesteps) for each in drawn[:20]}) == 20
    assert torch.equal(drawn[0].noise, drawn[20].noise)
    assert all(int(each.pairs) == int(each.timesteps) % 3 for each in drawn)
    plain = make(backbone, pictures, replace(recipe, kind="instructbrush"))
    plain._draw = loss._draw  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(step_of(loss), 4 * step_of(plain))


VISII = BrushRecipe(
    kind="visii", learn="embedding", segments=1, init_text="turn red into blue", steps=8, direction_weight=0.1
)


def direction_of(backbone: Backbone, pictures: Pictures, clip_folder: Path) -> EditDirection:
    brush = begin_brush(backbone, VISII, name="b")
    _, embeds = brush_prompt(brush.header, (), backbone)
    clip = load_clip(str(clip_folder), device="cpu")
    return EditDirection(clip, embeds, first_row=1, before=pictures(3), after=pictures(3, seed=1))


def test_visii_adds_the_direction_of_clip(backbone: Backbone, pictures: Pictures, clip_folder: Path) -> None:
    direction = direction_of(backbone, pictures, clip_folder)
    plain, whole = make(backbone, pictures, VISII), make(backbone, pictures, VISII, direction=direction)
    gain = direction.gain(whole._parameters["embedding"])
    (expected,) = torch.autograd.grad(-0.1 * gain, [whole._parameters["embedding"]])
    values = [step_of(loss) for loss in (plain, whole)]
    torch.testing.assert_close(values[1], values[0] - 0.1 * gain.detach(), atol=1e-5, rtol=1e-5)
    # What is remembered and picked by is the noise alone.
    torch.testing.assert_close(plain.curve[0], whole.curve[0])
    for value in values:
        value.backward()
    gradients = [loss._parameters["embedding"].grad for loss in (plain, whole)]
    assert gradients[0] is not None and gradients[1] is not None
    torch.testing.assert_close(gradients[1] - gradients[0], expected, atol=1e-6, rtol=1e-3)
    assert expected.abs().max() > 0


def test_gradients_are_clipped_number_by_number(backbone: Backbone, pictures: Pictures) -> None:
    recipe = replace(VISII, direction_weight=0.0, clip_values=True)
    free, clipped = (make(backbone, pictures, replace(recipe, clip_values=on)) for on in (False, True))
    largest = float(backbone.embed(["turn red into blue", ""]).max())
    assert clipped._largest == pytest.approx(largest)
    clipped._largest = limit = 1e-4
    values = [step_of(loss) for loss in (free, clipped)]
    torch.testing.assert_close(*values)
    for value in values:
        value.backward()
    whole, cut = (loss._parameters["embedding"].grad for loss in (free, clipped))
    assert whole.abs().max() > limit
    torch.testing.assert_close(cut, whole.clamp(-limit, limit))


def test_other_predictions_are_refused(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    with pytest.raises(ModelError, match="predicts epsilon or v, got 'sample'"):
        make(variant(prediction_type="sample"), pictures)
