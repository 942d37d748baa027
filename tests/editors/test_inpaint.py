"""Inpainting on the shared core equals diffusers' pipeline on the same weights, noise and masked latents."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

from maskedit.editors import Captions, EditRequest, Inpaint, InpaintConfig, Instruction, ModelError, Tools, ViewSharing
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.caption_pass import caption_scheduler
from maskedit.editors.parts.language_options import LanguageConfig

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the red cube blue")
CAPTIONS = Captions(source="photo of a red cube", target="photo of a blue cube")
STEPS = 8


def box(count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, 1, 64, 64)
    mask[..., 16:48, 8:40] = 1
    return mask


def request(image: torch.Tensor, **changes: Any) -> EditRequest:
    return EditRequest(image=image, **{"instructions": (RED,), "captions": (CAPTIONS,), **changes})


def editor(backbone: Backbone, **options: Any) -> Inpaint:
    return Inpaint(backbone, InpaintConfig(**{"steps": STEPS, "keep_outside": "paper", **options}))


def test_it_equals_diffusers_pipeline(inpainting_backbone: Backbone, pictures: Pictures) -> None:
    backbone, image, mask, seeds = inpainting_backbone, pictures(2), box(2), (4, 5)
    pipeline = StableDiffusionInpaintPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=DDIMScheduler.from_config(backbone.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Afterwards, because the constructor changes an offset of 0 to 1.
    pipeline.scheduler = DDIMScheduler.from_config({**caption_scheduler(backbone), "clip_sample": False})
    pipeline.set_progress_bar_config(disable=True)
    emptied = torch.where(mask < 0.5, image, 0.5)
    theirs = pipeline(
        [CAPTIONS.target] * 2,
        image=image,
        mask_image=mask,
        masked_image_latents=backbone.scale_latents(backbone.encode(emptied)),
        height=64,
        width=64,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    ).images
    result = editor(backbone).edit(request(image, mask=mask, seeds=seeds))
    torch.testing.assert_close(result.image, theirs, atol=1e-4, rtol=1e-3)


def test_what_is_inside_the_mask_does_not_matter(inpainting_backbone: Backbone, pictures: Pictures) -> None:
    image, other = pictures(), pictures()
    other[..., 16:48, 8:40] = 0.3
    made = [editor(inpainting_backbone).edit(request(each, mask=box())).image for each in (image, other)]
    assert torch.equal(*made)


def test_in_a_scene_the_photo_is_kept_and_the_level_is_the_request_s(
    inpainting_backbone: Backbone, pictures: Pictures
) -> None:
    photo, render = pictures(), pictures(seed=1)
    found = editor(inpainting_backbone, keep_outside="exact")
    low = found.edit(request(render, condition=photo, mask=box(), noise_levels=(0.1,)))
    outside = (box() == 0).expand_as(photo)
    assert torch.equal(low.image[outside], photo[outside])
    assert low.trace.timesteps[0] < 100
    full = found.edit(request(render, condition=photo, mask=box()))
    assert full.trace.timesteps[0] == 875


def test_objects_are_found_and_told(inpainting_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    tools = Tools(inpainting_backbone, language=LanguageConfig(), grounding=grounder)
    found = Inpaint(inpainting_backbone, InpaintConfig(steps=STEPS), tools=tools)
    result = found.edit(EditRequest(image=pictures(2), instructions=(RED,)))
    assert grounder.asked == [(2, ("red cube",))]
    assert result.mask.mean() == 24 * 32 / 64**2
    assert result.trace.captions == (CAPTIONS, CAPTIONS)
    assert [row[0].phrase for row in result.trace.grounding] == ["red cube", "red cube"]


def test_each_region_follows_its_own_caption(inpainting_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    tools = Tools(inpainting_backbone, language=LanguageConfig(), grounding=grounder)
    found, image = Inpaint(inpainting_backbone, InpaintConfig(steps=STEPS), tools=tools), pictures(2)
    both = (RED, Instruction(text="make the ball green"))
    result = found.edit(EditRequest(image=image, instructions=both))
    assert [[each.target for each in row] for row in result.trace.region_captions] == [
        ["photo of a blue cube", "photo of a green ball"]
    ] * 2
    joined = found.edit(EditRequest(image=image, instructions=both, captions=result.trace.captions))
    assert joined.trace.region_captions == ()
    assert torch.equal(joined.mask, result.mask)
    assert not torch.equal(joined.image, result.image)


def test_the_kind_of_checkpoint_is_checked(sd_backbone: Backbone, inpainting_backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="inpaint needs an inpainting checkpoint, a UNet of 9 input channels"):
        Inpaint(sd_backbone)
    with pytest.raises(ModelError, match="has 9"):
        inpainting_backbone.require("text-to-image", "mdp")


def test_views_share_noise_and_attention(inpainting_backbone: Backbone, pictures: Pictures, one_noise: Any) -> None:
    image, mask, painter = pictures(2), box(2), editor(inpainting_backbone)
    own = painter.edit(request(image, mask=mask, seeds=(3, 11)))
    given = painter.edit(request(image, mask=mask, seeds=(3, 4), noise=one_noise))
    torch.testing.assert_close(given.image[1], own.image[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(given.image[0], own.image[0], atol=1e-3)
    shared = painter.edit(request(image, mask=mask, seeds=(3, 11), sharing=ViewSharing()))
    assert ((shared.image - own.image).abs().amax((1, 2, 3)) > 1e-3).all()
    assert shared.trace.settings["sharing"]["among"] == "all"
