"""InstructPix2Pix on the shared core equals diffusers' pipeline on the same weights, noise and settings."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

from maskedit.editors import IP2P, BackboneConfig, EditRequest, InputError, Instruction, IP2PConfig, ModelError
from maskedit.editors.core.backbone import Backbone

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the cube red", keyword="cube")


def theirs(
    backbone: Backbone, sampler: str, prediction: str, image: torch.Tensor, seeds: tuple[int, ...], prompt: str
) -> torch.Tensor:
    """diffusers' pipeline on the networks of a backbone."""
    scheduler = {"ddim": DDIMScheduler, "euler_ancestral": EulerAncestralDiscreteScheduler}[sampler]
    # Built from the file's settings: those of a live scheduler leave out what was unset, such as the spacing.
    settings = {**backbone.scheduler_config, "prediction_type": prediction}
    if sampler == "ddim":
        settings["clip_sample"] = False
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=scheduler.from_config(settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        [prompt] * len(image),
        image=image,
        num_inference_steps=8,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    ).images


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("size", [(64, 64), (48, 64)])
def test_it_equals_diffusers_pipeline(
    variant: Callable[..., Backbone], pictures: Pictures, sampler: Any, prediction: str, size: tuple[int, int]
) -> None:
    backbone, image, seeds = variant(prediction_type=prediction), pictures(2, *size), (11, 12)
    expected = theirs(backbone, sampler, prediction, image, seeds, RED.text)
    config = IP2PConfig(sampler=sampler, steps=8, keep_outside="paper")
    result = IP2P(backbone, config).edit(EditRequest(image=image, instructions=(RED,), seeds=seeds))
    torch.testing.assert_close(result.image, expected, atol=1e-4, rtol=0)
    assert (expected - image).abs().mean() > 0.01
    assert backbone.counts["unet"] == 8


def test_several_instructions_are_joined_by_commas(backbone: Backbone, pictures: Pictures) -> None:
    instructions = (RED, Instruction(text="remove the ball"))
    expected = theirs(backbone, "ddim", "epsilon", pictures(), (0,), "make the cube red, remove the ball")
    result = IP2P(backbone, IP2PConfig(sampler="ddim", steps=8)).edit(
        EditRequest(image=pictures(), instructions=instructions)
    )
    torch.testing.assert_close(result.image, expected, atol=1e-4, rtol=0)
    assert result.trace.prompt == "make the cube red, remove the ball"


def test_the_published_settings_run_100_steps(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    """FoI's invariant I11 for the plain editor."""
    backbone = variant()
    result = IP2P(backbone).edit(EditRequest(image=pictures(), instructions=(RED,)))
    assert backbone.counts["unet"] == 100
    assert (result.trace.timesteps[0], result.trace.timesteps[-1], len(result.trace.timesteps)) == (999, 0, 100)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_a_batch_equals_single_edits(backbone: Backbone, pictures: Pictures, sampler: Any) -> None:
    editor, image = IP2P(backbone, IP2PConfig(sampler=sampler, steps=6)), pictures(3)
    batch = editor.edit(EditRequest(image=image, instructions=(RED,), seeds=(7, 8, 9)))
    for row in range(3):
        single = editor.edit(EditRequest(image=image[row : row + 1], instructions=(RED,), seeds=(7 + row,)))
        torch.testing.assert_close(batch.image[row : row + 1], single.image, atol=1e-4, rtol=0)


def test_noise_levels_of_each_picture_equal_single_edits(backbone: Backbone, pictures: Pictures) -> None:
    editor, image = IP2P(backbone, IP2PConfig(sampler="ddim", steps=6)), pictures(2)
    batch = editor.edit(EditRequest(image=image, instructions=(RED,), noise_levels=(0.3, 0.95)))
    for row, level in enumerate((0.3, 0.95)):
        one = slice(row, row + 1)
        single = editor.edit(EditRequest(image=image[one], instructions=(RED,), seeds=(row,), noise_levels=(level,)))
        torch.testing.assert_close(batch.image[one], single.image, atol=1e-4, rtol=0)


def test_noise_levels_of_each_picture_need_ddim(backbone: Backbone, pictures: Pictures) -> None:
    request = EditRequest(image=pictures(2), instructions=(RED,), noise_levels=(0.3, 0.9))
    with pytest.raises(InputError, match="use the ddim sampler"):
        IP2P(backbone, IP2PConfig(sampler="euler_ancestral", steps=6)).edit(request)


def test_a_second_edit_of_a_view_encodes_nothing_again(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    editor = IP2P(backbone, IP2PConfig(steps=2))
    request = EditRequest(image=pictures(2), instructions=(RED,))
    editor.edit(request)
    before = dict(backbone.counts)
    again = editor.edit(EditRequest(image=pictures(2), instructions=(RED,), seeds=(5, 6)))
    assert (backbone.counts["image"], backbone.counts["text"]) == (before["image"], before["text"]) == (2, 2)
    assert again.image.isfinite().all()


def test_a_mask_confines_the_edit_to_the_bit(backbone: Backbone, pictures: Pictures) -> None:
    image, mask = pictures(1, 50, 90), torch.zeros(1, 1, 50, 90)
    mask[..., 10:30, 20:70] = 1
    result = IP2P(backbone, IP2PConfig(steps=3)).edit(EditRequest(image=image, instructions=(RED,), mask=mask))
    outside = (mask == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert not torch.equal(result.image[~outside], image[~outside])
    assert torch.equal(result.mask, mask)


def test_without_a_mask_anything_may_change(backbone: Backbone, pictures: Pictures) -> None:
    editor = IP2P(backbone, IP2PConfig(steps=2))
    request = EditRequest(image=pictures(1, 50, 90), instructions=(RED, Instruction(text="remove the ball")))
    masks = editor.find_masks(request)
    assert [m.shape for m in masks] == [(1, 1, 50, 90)] * 2
    assert min(m.min() for m in masks) == 1
    assert editor.edit(request).trace.mask_area == (1.0,)


def test_a_given_mask_is_what_is_found(backbone: Backbone, pictures: Pictures) -> None:
    mask = (torch.rand(1, 1, 50, 90) > 0.5).float()
    request = EditRequest(image=pictures(1, 50, 90), instructions=(RED,), mask=mask)
    assert torch.equal(IP2P(backbone).find_masks(request)[0], mask)


def test_a_checkpoint_without_a_condition_picture_is_refused(sd_backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="ip2p needs an InstructPix2Pix checkpoint"):
        IP2P(sd_backbone)


def test_the_trace_is_json(backbone: Backbone, pictures: Pictures) -> None:
    trace = IP2P(backbone, IP2PConfig(steps=2)).edit(EditRequest(image=pictures(), instructions=(RED,))).trace
    stored = json.loads(json.dumps(asdict(trace)))
    assert stored["editor"] == "ip2p"
    assert stored["settings"]["steps"] == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_edits(ip2p_folder: Path, pictures: Pictures, dtype: Any) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu", dtype=dtype))
    result = IP2P(backbone, IP2PConfig(steps=2, keep_outside="paper")).edit(
        EditRequest(image=pictures(), instructions=(RED,))
    )
    assert result.image.dtype == torch.float32
    assert result.image.isfinite().all()
