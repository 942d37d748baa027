"""MDP-eps_t: all of the path's noise gives the picture back, none of it is plain guided sampling (I7)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from maskedit.editors import (
    MDP,
    CaptionPreset,
    Captions,
    CheckpointPreset,
    EditRequest,
    InputError,
    Instruction,
    MDPConfig,
    ModelError,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.mdp import mixing_weights
from maskedit.editors.parts.caption_pass import Inverter, caption_scheduler, prepare_captions

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the red cube blue")
CAPTIONS = Captions(source="photo of a red cube", target="photo of a blue cube")
STEPS = 10


def request(image: torch.Tensor, **changes: Any) -> EditRequest:
    return EditRequest(image=image, **{"instructions": (RED,), "captions": (CAPTIONS,), **changes})


def editor(backbone: Backbone, **options: Any) -> MDP:
    return MDP(backbone, MDPConfig(**{"steps": STEPS, "keep_outside": "paper", **options}))


def round_trip(backbone: Backbone, image: torch.Tensor) -> torch.Tensor:
    return backbone.decode(backbone.scale_latents(backbone.encode(image)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_i7_all_of_the_path_s_noise_gives_the_picture_back(
    sd_variant: Callable[..., Backbone], pictures: Pictures, prediction: str
) -> None:
    backbone, image = sd_variant(prediction_type=prediction), pictures(2)
    result = editor(backbone, mix_until=1.0).edit(request(image))
    torch.testing.assert_close(result.image, round_trip(backbone, image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_i7_none_of_it_is_guided_sampling_from_the_inverted_noise(
    sd_variant: Callable[..., Backbone], pictures: Pictures, prediction: str
) -> None:
    """By hand, with diffusers' scheduler."""
    backbone, image = sd_variant(prediction_type=prediction), pictures()
    found = editor(backbone, mix_until=0.0, guidance_scale=3.0)
    latents = prepare_captions(request(image), backbone, found.settings, Inverter(backbone), ratio=1.0).path[-1]
    scheduler = DDIMScheduler.from_config({**caption_scheduler(backbone), "clip_sample": False})
    scheduler.set_timesteps(STEPS)
    texts = backbone.embed([CAPTIONS.target, ""])
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            text, empty = backbone.unet(latents.repeat(2, 1, 1, 1), timestep, encoder_hidden_states=texts)[0].chunk(2)
            latents = scheduler.step(empty + 3.0 * (text - empty), timestep, latents)[0]
    torch.testing.assert_close(found.edit(request(image)).image, backbone.decode(latents), atol=1e-4, rtol=1e-3)


def test_the_longer_the_path_s_noise_is_used_the_closer_to_the_picture(
    sd_backbone: Backbone, pictures: Pictures
) -> None:
    image = pictures()
    kept = round_trip(sd_backbone, image)
    results = [editor(sd_backbone, mix_until=until).edit(request(image)).image for until in (0.0, 0.4, 0.7, 1.0)]
    distances = [float((result - kept).abs().mean()) for result in results]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, 1, 1, 1, 1, 0, 0, 0, 0, 0)),
        ({"mix_from": 0.2, "mix_until": 0.6, "mix_factor": 0.5}, (0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0)),
        ({"mix_until": 0.4, "mix_schedule": "linear"}, (1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0, 0)),
        ({"mix_until": 0.2, "mix_schedule": "cosine"}, (1, 0.5**0.5, 0, 0, 0, 0, 0, 0, 0, 0)),
        ({"mix_from": 0.3, "mix_until": 0.3}, (0,) * 10),
    ],
)
def test_weights_follow_window_factor_and_schedule(options: dict[str, Any], expected: tuple[float, ...]) -> None:
    config = MDPConfig(**{"mix_until": 0.5, **options})
    assert mixing_weights(config, 10, until=config.mix_until) == pytest.approx(expected)


def test_the_window_is_the_checkpoint_s_unless_said(sd_variant: Callable[..., Backbone]) -> None:
    assert MDP(sd_variant()).until == 0.5
    backbone = sd_variant(preset=CheckpointPreset(caption=CaptionPreset(mix_until=0.2)))
    assert MDP(backbone).until == 0.2
    assert MDP(backbone, MDPConfig(mix_until=0.7)).until == 0.7
    with pytest.raises(InputError, match=r"mix_from 0\.4 is past the checkpoint's mix_until of 0\.2"):
        MDP(backbone, MDPConfig(mix_from=0.4))


def test_a_mask_that_is_given_confines_the_edit(sd_backbone: Backbone, pictures: Pictures) -> None:
    image, mask = pictures(), torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    whole = editor(sd_backbone).edit(request(image))
    result = editor(sd_backbone, keep_outside="exact").edit(request(image, mask=mask))
    assert torch.equal(result.image[..., 32:], image[..., 32:])
    assert result.trace.outside_change_unkept[0] < 1
    assert bool((whole.mask == 1).all())
    assert whole.trace.mask_area == (1.0,)


def test_i1_an_empty_mask_gives_the_autoencoder_s_round_trip(sd_backbone: Backbone, pictures: Pictures) -> None:
    image = pictures()
    result = editor(sd_backbone).edit(request(image, mask=torch.zeros(1, 1, 64, 64)))
    torch.testing.assert_close(result.image, round_trip(sd_backbone, image), atol=1e-5, rtol=1e-4)


def test_in_a_scene_a_photo_is_inverted_only_where_it_is_put_back(
    sd_variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    for mask, calls in ((torch.ones(1, 1, 64, 64), 2 * STEPS), (torch.eye(64)[None, None], 3 * STEPS)):
        backbone = sd_variant()
        editor(backbone).edit(request(pictures(seed=1), condition=pictures(), mask=mask))
        assert backbone.counts["unet"] == calls


def test_the_kind_of_checkpoint_is_checked(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="mdp needs a text-to-image checkpoint"):
        MDP(backbone)
