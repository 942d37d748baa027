"""The run that editors on captions share: schedules, paths that are remembered, masks on the latents."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from maskedit.editors import (
    CaptionPreset,
    Captions,
    EditRequest,
    InputError,
    InstructEditConfig,
    Instruction,
    ViewSharing,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.caption_pass import (
    CaptionSettings,
    Inverter,
    caption_schedule,
    caption_scheduler,
    executed_steps,
    latent_mask,
    prepare_captions,
    resolve_captions,
)

Pictures = Callable[..., torch.Tensor]
CAPTIONS = Captions(source="photo of a red cube", target="photo of a blue cube")
SETTINGS = CaptionSettings(steps=10, guidance_scale=7.5, mask_resize="nearest")


def request(image: torch.Tensor, **changes: Any) -> EditRequest:
    made = {"instructions": (Instruction(text="make the cube blue"),), "captions": (CAPTIONS,), **changes}
    return EditRequest(image=image, **made)


def test_the_preset_fills_what_is_left_open() -> None:
    preset = CaptionPreset(steps=20, guidance_scale=2.5, mask_resize="cover")
    assert resolve_captions(InstructEditConfig(), preset) == CaptionSettings(
        steps=20, guidance_scale=2.5, mask_resize="cover"
    )
    own = InstructEditConfig(steps=7, guidance_scale=3.0, mask_resize="nearest")
    assert resolve_captions(own, preset) == CaptionSettings(steps=7, guidance_scale=3.0, mask_resize="nearest")


@pytest.mark.parametrize(("steps", "ratio", "expected"), [(50, 0.5, 25), (50, 0.58, 29), (50, 1.0, 50), (10, 0.55, 5)])
def test_steps_of_a_ratio_are_counted_exactly(steps: int, ratio: float, expected: int) -> None:
    """Plain rounding down turns 50 x 0.58 into 28 (pitfall A8)."""
    assert executed_steps(steps, ratio) == expected


def test_i6_more_of_the_range_never_means_fewer_steps(sd_backbone: Backbone) -> None:
    counts = [caption_schedule(sd_backbone, 50, ratio=percent / 100).steps for percent in range(2, 101)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 50)
    with pytest.raises(InputError, match="leave nothing to run"):
        caption_schedule(sd_backbone, 50, ratio=0.01)


def test_timesteps_are_the_published_ones(sd_backbone: Backbone) -> None:
    """0, 20, ..., 980, whatever the checkpoint's offset; the last step ends at the level of timestep 0."""
    schedule = caption_schedule(sd_backbone, 50)
    assert sd_backbone.scheduler_config["steps_offset"] == 1
    assert schedule.timesteps[:, 0].tolist() == list(range(980, -1, -20))
    theirs = DDIMScheduler.from_config(caption_scheduler(sd_backbone))
    alpha = schedule.alpha(schedule.following[-1])
    torch.testing.assert_close(alpha.flatten(), theirs.alphas_cumprod[:1])


def test_levels_give_each_picture_its_own_range(sd_backbone: Backbone) -> None:
    schedule = caption_schedule(sd_backbone, 10, levels=(0.2, 0.9))
    assert schedule.timesteps.shape == (10, 2)
    assert schedule.timesteps[0].tolist() == [181, 811]


def test_paths_of_photos_are_remembered_by_picture_caption_and_schedule(
    sd_variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone, image = sd_variant(), pictures(2)
    inverter, other = Inverter(backbone), Captions(source="a dog", target="a cat")

    def calls(picture: torch.Tensor, captions: Captions, ratio: float, *, keep: bool = True) -> int:
        before = backbone.counts["unet"]
        inverter.invert(picture, (captions,), caption_schedule(backbone, 10, ratio=ratio), keep=keep)
        return backbone.counts["unet"] - before

    assert calls(image[:1], CAPTIONS, 0.5) == 5
    assert calls(image[:1], CAPTIONS, 0.5) == 0
    assert calls(image[:1], CAPTIONS, 0.5, keep=False) == 5
    assert calls(image[1:], CAPTIONS, 0.5) == 5
    assert calls(image[:1], other, 0.5) == 5
    assert calls(image[:1], CAPTIONS, 0.7) == 7
    assert calls(image[:1], Captions(source=CAPTIONS.source, target="other"), 0.7) == 0


def test_a_remembered_path_is_the_same(sd_backbone: Backbone, pictures: Pictures) -> None:
    schedule, captions = caption_schedule(sd_backbone, 10, ratio=0.5), (CAPTIONS, CAPTIONS)
    inverter, image = Inverter(sd_backbone), pictures(2)
    fresh = inverter.invert(image, captions, schedule, keep=False)
    for _ in range(2):
        kept = inverter.invert(image, captions, schedule, keep=True)
        torch.testing.assert_close(kept, fresh, atol=1e-5, rtol=1e-4)


def test_a_picture_has_one_path_and_a_scene_two(sd_backbone: Backbone, pictures: Pictures) -> None:
    inverter = Inverter(sd_backbone)
    alone = prepare_captions(request(pictures()), sd_backbone, SETTINGS, inverter, ratio=0.5)
    assert alone.background is alone.path
    scene = request(pictures(seed=1), condition=pictures())
    both = prepare_captions(scene, sd_backbone, SETTINGS, inverter, ratio=0.5)
    assert torch.equal(both.background, alone.path)
    assert not torch.equal(both.path, alone.path)
    assert both.latent_size == (16, 16)


def test_masks_come_to_the_latents_as_published_or_covering() -> None:
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:24, 12:28] = 1
    mask[1, :, 9:11, 9:40] = 1
    nearest, warnings = latent_mask([mask], (16, 16), "nearest")
    assert torch.equal(nearest, mask[:, :, ::4, ::4])
    assert len(warnings) == 1
    assert "1 of 2 pictures is too thin" in warnings[0]
    covering, none = latent_mask([mask], (16, 16), "cover")
    assert none == ()
    assert covering[1].sum() == 8
    assert bool((covering >= nearest).all())


def test_masks_are_united() -> None:
    left, right = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    left[..., :4], right[..., 4:6] = 1, 1
    united, _ = latent_mask([left, right], (4, 4), "nearest")
    assert torch.equal(united, torch.maximum(left, right)[:, :, ::2, ::2])


@pytest.mark.parametrize("among", ["all", "references"])
def test_views_share_attention_while_denoising_and_not_while_inverting(
    sd_backbone: Backbone, pictures: Pictures, among: Any
) -> None:
    sharing = ViewSharing(among=among, references=1)
    alone, shared = (
        prepare_captions(request(pictures(2), sharing=each), sd_backbone, SETTINGS, Inverter(sd_backbone), ratio=0.5)
        for each in (None, sharing)
    )
    assert torch.equal(alone.path, shared.path)
    assert not torch.allclose(alone.denoise(None)[1], shared.denoise(None)[1], atol=1e-3)
    twins = request(pictures().repeat(2, 1, 1, 1), sharing=sharing)
    same = prepare_captions(twins, sd_backbone, SETTINGS, Inverter(sd_backbone), ratio=0.5)
    torch.testing.assert_close(same.denoise(None)[1], alone.denoise(None)[0], atol=1e-3, rtol=1e-3)
