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
    region_weights,
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


def regions() -> dict[str, torch.Tensor]:
    """A on the left, B on the right, one column of both and one of neither."""
    masks = {"text": torch.zeros(2, 1, 6, 6), "text_2": torch.zeros(2, 1, 6, 6)}
    masks["text"][..., :3], masks["text_2"][..., 2:5] = 1, 1
    return masks


def test_weights_of_regions_are_shared_where_they_overlap() -> None:
    weights = region_weights(regions())
    assert weights["text"][0, 0, 0].tolist() == [1, 1, 0.5, 0, 0, 0]
    assert weights["text_2"][0, 0, 0].tolist() == [0, 0, 0.5, 1, 1, 0]


def test_each_text_guides_its_own_region_as_if_it_were_alone() -> None:
    """Bit for bit where only one text acts; the mean of both on their border; unguided outside."""
    noise_pred = {**predictions(), "text_2": predictions(4)["text"]}
    guidance = TextGuidance(guidance_scale=7.5, weights=region_weights(regions()))
    combined = guidance.combine(noise_pred, 0, noise_pred["text"])
    alone = [text_guidance({**noise_pred, "text": noise_pred[branch]}, 7.5) for branch in ("text", "text_2")]
    assert torch.equal(combined[..., :2], alone[0][..., :2])
    assert torch.equal(combined[..., 3:5], alone[1][..., 3:5])
    torch.testing.assert_close(combined[..., 2], (alone[0] + alone[1])[..., 2] / 2)
    assert torch.equal(combined[..., 5], noise_pred["uncond"][..., 5])
    assert guidance.branches == ("text", "text_2", "uncond")


def test_a_text_outside_its_region_changes_nothing() -> None:
    noise_pred = {**predictions(), "text_2": predictions(4)["text"]}
    moved = {**noise_pred, "text_2": predictions(5)["text"]}
    guidance = TextGuidance(weights=region_weights(regions()))
    before, after = (guidance.combine(each, 0, each["text"]) for each in (noise_pred, moved))
    assert torch.equal(before[..., :2], after[..., :2])
    assert (before[..., 2:5] != after[..., 2:5]).any()


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
