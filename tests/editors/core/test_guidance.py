"""Guidance: branches by name, weights that sum to one, and FoI's Eq. 9 (its invariant I3)."""

import pytest
import torch

from maskedit.editors import InputError, ModelError
from maskedit.editors.core.guidance import (
    Guidance,
    InstructGuidance,
    MixedGuidance,
    TextGuidance,
    instruct_guidance,
    text_guidance,
)
from maskedit.editors.core.schedule import DDIMSchedule, make_schedule

SHAPE = (2, 4, 6, 6)


def predictions(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {branch: torch.randn(SHAPE, generator=generator) for branch in ("text", "image", "uncond")}


def half_mask() -> torch.Tensor:
    mask = torch.zeros(2, 1, 6, 6)
    mask[..., :3] = 1
    return mask


def test_equal_predictions_come_back() -> None:
    same = dict.fromkeys(("text", "image", "uncond"), predictions()["text"])
    torch.testing.assert_close(instruct_guidance(same, 7.5, 1.5), same["text"])


def test_the_order_of_the_branches_does_not_matter() -> None:
    noise_pred = predictions()
    turned = dict(reversed(noise_pred.items()))
    assert torch.equal(instruct_guidance(noise_pred, 7.5, 1.5), instruct_guidance(turned, 7.5, 1.5))


def test_scales_of_one_give_the_text_branch() -> None:
    noise_pred = predictions()
    torch.testing.assert_close(instruct_guidance(noise_pred, 1.0, 1.0), noise_pred["text"])
    torch.testing.assert_close(text_guidance(noise_pred, 1.0), noise_pred["text"])


def test_text_guidance_equals_the_formula_of_the_paper() -> None:
    noise_pred = predictions()
    scale = 3.0
    torch.testing.assert_close(
        text_guidance(noise_pred, scale), scale * noise_pred["text"] + (1 - scale) * noise_pred["uncond"]
    )


def test_i3_w_of_zero_ignores_the_text() -> None:
    noise_pred, other = predictions(), {**predictions(), "text": predictions(1)["text"]}
    nothing = torch.zeros(2, 1, 6, 6)
    expected = noise_pred["uncond"] + 1.5 * (noise_pred["image"] - noise_pred["uncond"])
    for each in (noise_pred, other):
        assert torch.equal(instruct_guidance(each, 7.5, 1.5, nothing), expected)


def test_i3_w_of_one_is_stock_guidance_bit_for_bit() -> None:
    noise_pred = predictions()
    text, image, uncond = noise_pred["text"], noise_pred["image"], noise_pred["uncond"]
    stock = uncond + 7.5 * (text - image) + 1.5 * (image - uncond)
    assert torch.equal(instruct_guidance(noise_pred, 7.5, 1.5), stock)
    assert torch.equal(instruct_guidance(noise_pred, 7.5, 1.5, torch.ones(2, 1, 6, 6)), stock)


def test_i3_text_outside_the_mask_changes_nothing_there() -> None:
    noise_pred, mask = predictions(), half_mask()
    moved = {**noise_pred, "text": noise_pred["text"] + predictions(2)["text"]}
    before, after = (instruct_guidance(each, 7.5, 1.5, mask) for each in (noise_pred, moved))
    assert torch.equal(before[..., 3:], after[..., 3:])
    assert (before[..., :3] != after[..., :3]).any()


def test_i11_the_weight_is_asked_at_every_step() -> None:
    asked: list[int] = []

    def weight(step: int) -> torch.Tensor | None:
        asked.append(step)
        return half_mask() if step < 2 else None

    guidance = InstructGuidance(weight=weight)
    noise_pred = predictions()
    results = [guidance.combine(noise_pred, step, noise_pred["text"]) for step in range(4)]
    assert asked == [0, 1, 2, 3]
    assert torch.equal(results[1], instruct_guidance(noise_pred, 7.5, 1.5, half_mask()))
    assert torch.equal(results[2], instruct_guidance(noise_pred, 7.5, 1.5))


def test_a_weight_keeps_half_precision() -> None:
    halves = {branch: value.half() for branch, value in predictions().items()}
    assert instruct_guidance(halves, 7.5, 1.5, half_mask()).dtype == torch.float16


def test_branches_are_named() -> None:
    assert InstructGuidance().branches == ("text", "image", "uncond")
    assert TextGuidance().branches == ("text", "uncond")
    assert TextGuidance(guidance_scale=1.0).branches == ("text",)
    assert isinstance(InstructGuidance(), Guidance)
    assert isinstance(TextGuidance(), Guidance)


def test_text_guidance_of_one_is_the_text_branch_itself() -> None:
    noise_pred = {"text": predictions()["text"]}
    assert TextGuidance(guidance_scale=1.0).combine(noise_pred, 0, noise_pred["text"]) is noise_pred["text"]


@pytest.mark.parametrize("scales", [(1.0, 1.5), (7.5, 0.9)])
def test_scales_without_an_image_branch_are_refused(scales: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="three-branch guidance needs"):
        InstructGuidance(guidance_scale=scales[0], image_guidance_scale=scales[1])


def mixed(weights: tuple[float, ...], prediction: str = "epsilon") -> tuple[MixedGuidance, DDIMSchedule]:
    config = {"beta_schedule": "scaled_linear", "prediction_type": prediction}
    schedule = make_schedule("ddim", len(weights), config=config, device=torch.device("cpu"))
    assert isinstance(schedule, DDIMSchedule)
    source = torch.randn((len(weights), *SHAPE), generator=torch.Generator().manual_seed(7))
    guidance = TextGuidance(guidance_scale=3.0)
    return MixedGuidance(guidance=guidance, source=source, weights=weights, schedule=schedule), schedule


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_mixture_is_one_of_noises_whatever_the_checkpoint_predicts(prediction: str) -> None:
    guidance, schedule = mixed((1.0, 0.0, 0.25), prediction)
    noise_pred, latents = predictions(), predictions(3)["text"]
    for step, weight in enumerate(guidance.weights):
        at = schedule.timesteps[step]
        edit = schedule.noise_of(text_guidance(noise_pred, 3.0), latents, at)
        expected = weight * guidance.source[step] + (1 - weight) * edit
        combined = guidance.combine(noise_pred, step, latents)
        torch.testing.assert_close(schedule.noise_of(combined, latents, at), expected, atol=1e-4, rtol=1e-4)
    assert guidance.branches == ("text", "uncond")
    assert isinstance(guidance, Guidance)


def test_mixtures_that_do_not_fit_a_run_are_refused() -> None:
    with pytest.raises(InputError, match=r"weights of a mixture must be in \[0, 1\]"):
        mixed((0.5, 1.5))
    guidance, schedule = mixed((0.5, 0.5))
    with pytest.raises(ModelError, match="a weight and a source noise for each of 2 steps"):
        MixedGuidance(guidance=TextGuidance(), source=guidance.source[:1], weights=(0.5, 0.5), schedule=schedule)
