"""What editors on an InstructPix2Pix UNet share: settings, conditions, start latents."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors import (
    EditRequest,
    FoIConfig,
    Instruction,
    InstructPreset,
    IP2PConfig,
    ViewSharing,
    compose_instructions,
)
from maskedit.editors.core.backbone import Backbone, Conditioning
from maskedit.editors.core.guidance import InstructGuidance
from maskedit.editors.parts.instruct_pass import InstructPass, RunSettings, prepare_pass, resolve_run, under_text

Pictures = Callable[..., torch.Tensor]
SETTINGS = RunSettings(sampler="ddim", steps=4, guidance_scale=7.5, image_guidance_scale=1.5, noise_level=1.0)


def prepare(backbone: Backbone, image: torch.Tensor, settings: RunSettings = SETTINGS, **request: Any) -> InstructPass:
    made = EditRequest(image=image, instructions=(Instruction(text="make the cube red", keyword="cube"),), **request)
    return prepare_pass(made, backbone, settings, compose_instructions(made.instructions, backbone.tokenizer))


def test_the_published_settings_are_the_defaults() -> None:
    expected = RunSettings(
        sampler="euler_ancestral", steps=100, guidance_scale=7.5, image_guidance_scale=1.5, noise_level=0.8
    )
    assert resolve_run(FoIConfig(), InstructPreset(), noise_level=0.8) == expected


def test_a_checkpoint_s_preset_fills_what_is_left_open() -> None:
    preset = InstructPreset(sampler="ddim", steps=20, guidance_scale=2.5, image_guidance_scale=1.2)
    resolved = resolve_run(IP2PConfig(steps=7), preset, noise_level=1.0)
    assert resolved == RunSettings(
        sampler="ddim", steps=7, guidance_scale=2.5, image_guidance_scale=1.2, noise_level=1.0
    )


def test_an_own_setting_wins_over_the_preset() -> None:
    config = IP2PConfig(sampler="ddim", steps=9, guidance_scale=3.0, image_guidance_scale=1.0, noise_level=0.5)
    resolved = resolve_run(config, InstructPreset(), noise_level=1.0)
    assert resolved == RunSettings(
        sampler="ddim", steps=9, guidance_scale=3.0, image_guidance_scale=1.0, noise_level=0.5
    )


def test_a_full_run_starts_from_pure_noise_and_does_not_encode_the_image(
    variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone = variant()
    prepared = prepare(backbone, pictures(), condition=pictures(seed=1), seeds=(3,))
    assert backbone.counts["image"] == 1
    assert torch.equal(prepared.latents, torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(3)))
    assert torch.equal(prepared.conditioning.channels[:1], backbone.encode(pictures(seed=1)))


def test_a_partial_run_starts_from_the_image_and_is_conditioned_on_the_condition(
    variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone = variant()
    settings = RunSettings(sampler="ddim", steps=4, guidance_scale=7.5, image_guidance_scale=1.5, noise_level=0.5)
    prepared = prepare(backbone, pictures(), settings, condition=pictures(seed=1), seeds=(3,))
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(3))
    clean = backbone.scale_latents(backbone.encode(pictures()))
    assert torch.equal(prepared.latents, prepared.schedule.start(clean, noise))
    assert torch.equal(prepared.conditioning.channels[:1], backbone.encode(pictures(seed=1)))


def test_noise_levels_of_a_request_win_and_start_from_the_image(backbone: Backbone, pictures: Pictures) -> None:
    prepared = prepare(backbone, pictures(2), noise_levels=(0.98, 0.632))
    assert prepared.schedule.timesteps[0].tolist() == [3 * 245 + 1, 3 * 158 + 1]
    assert prepared.timesteps == (736, 491, 246, 1)


def test_encoding_happens_once_for_image_and_condition_alike(
    variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone = variant()
    for _ in range(2):
        prepare(backbone, pictures(2), noise_levels=(0.5, 0.5))
    assert (backbone.counts["image"], backbone.counts["text"]) == (2, 2)


def test_running_decodes_to_pictures(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    image = prepare(backbone, pictures(2)).run(InstructGuidance())
    assert image.shape == (2, 3, 64, 64)
    assert (backbone.counts["unet"], backbone.counts["decode"]) == (4, 2)


def test_edits_that_do_nothing_change_nothing(backbone: Backbone, pictures: Pictures, pass_through: Any) -> None:
    plain = prepare(backbone, pictures()).run(InstructGuidance())
    controlled = prepare(backbone, pictures()).run(InstructGuidance(), [pass_through])
    torch.testing.assert_close(controlled, plain, atol=1e-3, rtol=1e-3)
    assert len(pass_through.steps) == 5


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_timesteps_are_reported_whole_and_falling(backbone: Backbone, pictures: Pictures, sampler: Any) -> None:
    settings = RunSettings(sampler=sampler, steps=5, guidance_scale=7.5, image_guidance_scale=1.5, noise_level=1.0)
    times = prepare(backbone, pictures(), settings).timesteps
    assert len(times) == 5
    assert list(times) == sorted(times, reverse=True)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_start_noise_may_come_from_a_source(
    backbone: Backbone, pictures: Pictures, one_noise: Any, sampler: Any
) -> None:
    """Where it is the noise of a seed, it is that seed's run, and later noise stays the picture's own."""
    settings = RunSettings(sampler=sampler, steps=4, guidance_scale=7.5, image_guidance_scale=1.5, noise_level=1.0)
    given = prepare(backbone, pictures(2), settings, seeds=(3, 11), noise=one_noise, filled=(1.0, 0.5))
    drawn = prepare(backbone, pictures(2), settings, seeds=(3, 11))
    assert one_noise.asked == [(2, (1.0, 0.5))]
    assert not torch.equal(given.latents[0], drawn.latents[0])
    assert torch.equal(given.latents[1], drawn.latents[1])
    assert torch.equal(given.latents[0], given.latents[1])
    result, expected = given.run(InstructGuidance()), drawn.run(InstructGuidance())
    torch.testing.assert_close(result[1], expected[1], atol=1e-5, rtol=1e-4)


def test_views_share_attention_where_the_request_says_so(backbone: Backbone, pictures: Pictures) -> None:
    alone, shared = (prepare(backbone, pictures(2), sharing=each) for each in (None, ViewSharing()))
    apart, together = alone.run(InstructGuidance()), shared.run(InstructGuidance())
    assert ((apart - together).abs().amax((1, 2, 3)) > 1e-3).all()
    same = prepare(backbone, pictures().repeat(2, 1, 1, 1), seeds=(1, 1), sharing=ViewSharing())
    single = prepare(backbone, pictures(), seeds=(1,))
    torch.testing.assert_close(
        same.run(InstructGuidance()), single.run(InstructGuidance()).repeat(2, 1, 1, 1), atol=1e-3, rtol=1e-3
    )


def test_conditions_may_be_anyone_s(backbone: Backbone, pictures: Pictures) -> None:
    """They are made from the latents of the condition pictures, and those of a text are the same whoever makes them."""
    made = EditRequest(image=pictures(2), condition=pictures(2, seed=1), instructions=(Instruction(text="x"),))
    layout = compose_instructions(made.instructions, backbone.tokenizer)
    seen: list[torch.Tensor] = []

    def make(condition: torch.Tensor) -> Conditioning:
        seen.append(condition)
        return under_text(backbone, backbone.embed(["x"]))(condition)

    given, usual = (prepare_pass(made, backbone, SETTINGS, told) for told in (make, layout))
    assert torch.equal(seen[0], backbone.encode(made.preserved))
    assert torch.equal(given.run(InstructGuidance()), usual.run(InstructGuidance()))
