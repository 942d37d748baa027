"""DiffEdit against diffusers' own (deprecated) pipeline on the same weights, and its mask's invariants (I8)."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionDiffEditPipeline

from maskedit.editors import (
    Captions,
    DiffEdit,
    DiffEditConfig,
    EditRequest,
    Instruction,
    ModelError,
    NothingFoundError,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.caption_pass import Inverter, caption_schedule, caption_scheduler, prepare_captions

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the red cube blue")
CAPTIONS = Captions(source="photo of a red cube", target="photo of a blue cube")
STEPS = 10


@pytest.fixture
def pipeline(sd_backbone: Backbone) -> Any:
    """diffusers' pipeline on the tiny networks; `set_noise` gives it the noise schedule of our editors."""
    settings = {**sd_backbone.scheduler_config, "clip_sample": False}
    made = StableDiffusionDiffEditPipeline(
        vae=sd_backbone.vae,
        text_encoder=sd_backbone.text_encoder,
        tokenizer=sd_backbone.tokenizer,
        unet=sd_backbone.unet,
        scheduler=DDIMScheduler.from_config(settings),
        inverse_scheduler=DDIMInverseScheduler.from_config(settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    set_noise(made, sd_backbone)
    return made


def set_noise(pipeline: Any, backbone: Backbone) -> None:
    """Done afterwards, because the pipeline's constructor changes an offset of 0 to 1."""
    settings = {**caption_scheduler(backbone), "clip_sample": False}
    pipeline.scheduler = DDIMScheduler.from_config(settings)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(settings)


def request(image: torch.Tensor, *, seeds: tuple[int, ...] = (), **changes: Any) -> EditRequest:
    return EditRequest(image=image, **{"instructions": (RED,), "captions": (CAPTIONS,), "seeds": seeds, **changes})


def editor(backbone: Backbone, **options: Any) -> DiffEdit:
    return DiffEdit(backbone, DiffEditConfig(**{"steps": STEPS, **options}))


def latents_of(backbone: Backbone, image: torch.Tensor) -> torch.Tensor:
    return backbone.scale_latents(backbone.encode(image))


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0])
def test_inverted_latents_equal_diffusers(
    sd_backbone: Backbone, pictures: Pictures, pipeline: Any, ratio: float
) -> None:
    """Given the same latents: diffusers samples the autoencoder where we take its mode."""
    image = pictures()
    found = editor(sd_backbone)
    path = prepare_captions(request(image), sd_backbone, found.settings, Inverter(sd_backbone), ratio=ratio).path
    theirs = pipeline.invert(
        CAPTIONS.source,
        image=latents_of(sd_backbone, image),
        num_inference_steps=STEPS,
        inpaint_strength=ratio,
        guidance_scale=1.0,
    ).latents
    assert len(path) == theirs.shape[1] + 1
    torch.testing.assert_close(path[1:].flip(0), theirs[0][:, None], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("clip", [3.0, 1.5])
def test_masks_equal_diffusers(
    sd_backbone: Backbone, pictures: Pictures, pipeline: Any, strength: float, clip: float
) -> None:
    """With guidance there and without here: it cancels out of the normalised difference. Its threshold is 0.5."""
    found = editor(sd_backbone, mask_strength=strength, mask_maps=6, mask_clip=clip)
    mine = found.difference(request(pictures(), seeds=(5,)))[0, 0]
    theirs = pipeline.generate_mask(
        latents_of(sd_backbone, pictures()),
        target_prompt=CAPTIONS.target,
        source_prompt=CAPTIONS.source,
        num_maps_per_mask=6,
        mask_encode_strength=strength,
        mask_thresholding_ratio=clip,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    )
    # Cells within rounding of the threshold may fall on either side.
    clear = (mine - 0.5).abs() > 1e-4
    assert torch.equal((mine > 0.5)[clear], torch.from_numpy(theirs[0] > 0)[clear])
    assert 0 < (mine > 0.5).float().mean() < 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_with_the_published_blend_the_edit_equals_diffusers(
    sd_variant: Callable[..., Backbone], pictures: Pictures, pipeline: Any, prediction: str
) -> None:
    """`reference` puts back latents a step noisier than those it blends with, as diffusers does; `aligned` does not."""
    backbone, image = sd_variant(prediction_type=prediction), pictures()
    set_noise(pipeline, backbone)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 8:40] = 1
    inverted = pipeline.invert(
        CAPTIONS.source,
        image=latents_of(backbone, image),
        num_inference_steps=STEPS,
        inpaint_strength=0.6,
        guidance_scale=1.0,
    ).latents
    theirs = pipeline(
        prompt=CAPTIONS.target,
        mask_image=mask[:, 0, ::4, ::4],
        image_latents=inverted,
        num_inference_steps=STEPS,
        inpaint_strength=0.6,
        guidance_scale=7.5,
        output_type="pt",
    ).images
    results = {
        blend: editor(backbone, encoding_ratio=0.6, blend=blend, keep_outside="paper").edit(request(image, mask=mask))
        for blend in ("reference", "aligned")
    }
    torch.testing.assert_close(results["reference"].image, theirs, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(results["aligned"].image, theirs, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_its_own_mask_reaches_the_latents_cell_for_cell(
    sd_backbone: Backbone, pictures: Pictures, pipeline: Any, threshold: float
) -> None:
    """From the map to the edit, as diffusers does it, whatever happens to the mask at the picture's size."""
    image, found = pictures(), editor(sd_backbone, blend="reference", keep_outside="paper", mask_threshold=threshold)
    made = request(image, seeds=(5,))
    mask = (found.difference(made) > threshold).float()
    inverted = pipeline.invert(
        CAPTIONS.source,
        image=latents_of(sd_backbone, image),
        num_inference_steps=STEPS,
        inpaint_strength=0.5,
        guidance_scale=1.0,
    ).latents
    theirs = pipeline(
        prompt=CAPTIONS.target,
        mask_image=mask[:, 0],
        image_latents=inverted,
        num_inference_steps=STEPS,
        inpaint_strength=0.5,
        guidance_scale=7.5,
        output_type="pt",
    ).images
    torch.testing.assert_close(found.edit(made).image, theirs, atol=1e-4, rtol=1e-4)


def test_an_instruction_s_own_mask_is_added_to_the_one_that_is_found(sd_backbone: Backbone, pictures: Pictures) -> None:
    own = torch.zeros(1, 1, 64, 64)
    own[..., :16] = 1
    both = (RED, Instruction(text="remove the ball", mask=own))
    result = editor(sd_backbone).edit(request(pictures(), instructions=both))
    assert torch.equal(result.masks[1], own)
    assert torch.equal(result.mask, torch.maximum(*result.masks))
    assert result.masks[0].mean() < 1


def test_each_instruction_has_the_mask_of_its_own_captions(sd_backbone: Backbone, pictures: Pictures) -> None:
    """The same as it would have alone, and the captions with it; captions for all make one mask for all."""
    both, found = (RED, Instruction(text="make the ball green")), editor(sd_backbone)
    result = found.edit(request(pictures(), instructions=both, captions=()))
    alone = [found.find_masks(request(pictures(), instructions=(each,), captions=()))[0] for each in both]
    assert all(torch.equal(mask, one) for mask, one in zip(result.masks, alone, strict=True))
    assert not torch.equal(*result.masks)
    assert [each.target for each in result.trace.region_captions[0]] == [
        "photo of a blue cube",
        "photo of a green ball",
    ]
    shared = found.edit(request(pictures(), instructions=both))
    assert torch.equal(*shared.masks)
    assert shared.trace.region_captions == ()


def test_a_mask_that_is_brought_takes_the_place_of_an_instruction_s_own(
    sd_backbone: Backbone, pictures: Pictures
) -> None:
    own = torch.zeros(1, 1, 64, 64)
    own[..., :16] = 1
    both = (RED, Instruction(text="make the ball green", mask=own))
    result = editor(sd_backbone).edit(request(pictures(), instructions=both, captions=()))
    assert torch.equal(result.masks[1], own)
    assert len(result.trace.region_captions[0]) == 2


def test_i8_equal_captions_find_nothing(sd_backbone: Backbone, pictures: Pictures) -> None:
    same = Captions(source="photo of a cube", target="photo of a cube")
    found = editor(sd_backbone)
    assert not found.difference(request(pictures(2), captions=(same,))).any()
    with pytest.raises(NothingFoundError, match=r"photo of a cube.*best score 0, threshold 0\.5"):
        found.edit(request(pictures(2), captions=(CAPTIONS, same)))


def test_the_published_settings_are_the_defaults(sd_backbone: Backbone) -> None:
    made = DiffEdit(sd_backbone)
    assert (made.settings.steps, made.settings.guidance_scale, made.ratio, made.threshold) == (50, 7.5, 0.5, 0.5)
    config = made.config
    assert (config.mask_maps, config.mask_strength, config.mask_clip) == (10, 0.5, 3.0)


def test_a_higher_threshold_gives_a_mask_within_the_lower_one(sd_backbone: Backbone, pictures: Pictures) -> None:
    low, high = (editor(sd_backbone, mask_threshold=t).find_masks(request(pictures()))[0] for t in (0.3, 0.6))
    assert bool((high <= low).all())
    assert low.mean() > high.mean()


def test_an_edit_uses_the_mask_that_is_found(sd_backbone: Backbone, pictures: Pictures) -> None:
    made, image = request(pictures(2), seeds=(1, 2)), pictures(2)
    found = editor(sd_backbone)
    result = found.edit(made)
    assert torch.equal(result.mask, found.find_masks(made)[0])
    outside = (result.mask == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert not torch.equal(result.image, image)


def test_a_batch_equals_single_edits(sd_backbone: Backbone, pictures: Pictures) -> None:
    image = pictures(2)
    both = editor(sd_backbone).edit(request(image, seeds=(3, 4)))
    for row in range(2):
        one = editor(sd_backbone).edit(request(image[row : row + 1], seeds=(3 + row,)))
        torch.testing.assert_close(both.image[row : row + 1], one.image, atol=1e-4, rtol=1e-3)


def test_captions_come_from_the_instruction(sd_backbone: Backbone, pictures: Pictures) -> None:
    result = editor(sd_backbone).edit(request(pictures(), captions=()))
    assert result.trace.captions == (CAPTIONS,)
    assert json.loads(json.dumps(asdict(result.trace)))["settings"]["encoding_ratio"] == 0.5


def test_the_kind_of_checkpoint_is_checked(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="diffedit needs a text-to-image checkpoint, a UNet of 4 input channels"):
        DiffEdit(backbone)


def test_the_difference_is_measured_where_the_settings_say(sd_backbone: Backbone, pictures: Pictures) -> None:
    """The map, computed by hand from one UNet call per side and map."""
    image, found = pictures(), editor(sd_backbone, mask_maps=3, mask_strength=0.5)
    generator = torch.Generator().manual_seed(9)
    clean = latents_of(sd_backbone, image)
    noise = torch.randn((3, *clean.shape[1:]), generator=generator)
    at = caption_schedule(sd_backbone, STEPS, ratio=0.5).timesteps[0]
    scheduler = DDIMScheduler.from_config(caption_scheduler(sd_backbone))
    total = torch.zeros(clean.shape[-2:])
    for one in noise:
        noisy = scheduler.add_noise(clean, one[None], at.long())
        sides = [
            sd_backbone.unet(noisy, at, encoder_hidden_states=sd_backbone.embed([text])).sample
            for text in (CAPTIONS.source, CAPTIONS.target)
        ]
        total += (sides[1] - sides[0]).abs().mean(1)[0] / 3
    expected = (total / (3 * total.mean())).clamp(max=1)
    torch.testing.assert_close(found.difference(request(image, seeds=(9,)))[0, 0], expected, atol=1e-4, rtol=1e-4)


def test_noise_of_its_masks_may_come_from_a_source(sd_backbone: Backbone, pictures: Pictures, one_noise: Any) -> None:
    found = editor(sd_backbone, mask_maps=2)
    own = found.difference(request(pictures(2), seeds=(3, 11)))
    given = found.difference(request(pictures(2), seeds=(3, 4), noise=one_noise))
    torch.testing.assert_close(given[1], own[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(given[0], own[0], atol=1e-3)
