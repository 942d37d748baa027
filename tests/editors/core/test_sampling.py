"""The one denoising loop: batches, noise per picture, hooks and the number of UNet calls."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors.core.attention import attention_control
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.guidance import InstructGuidance, TextGuidance
from maskedit.editors.core.sampling import draw_noise, make_generators, sample
from maskedit.editors.core.schedule import make_schedule

BRANCHES = ("text", "image", "uncond")
SHAPE = (4, 16, 16)
CPU = torch.device("cpu")
Pictures = Callable[..., torch.Tensor]


def denoise(backbone: Backbone, image: torch.Tensor, seeds: tuple[int, ...], sampler: Any, **more: Any) -> torch.Tensor:
    condition = backbone.encode(image)
    schedule = make_schedule(
        sampler,
        6,
        config=backbone.scheduler_config,
        device=CPU,
        noise_level=more.pop("noise_level", 1.0),
        bounds=more.pop("bounds", None),
    )
    generators = make_generators(seeds, CPU)
    start = schedule.start(
        backbone.scale_latents(condition), draw_noise(generators, condition.shape[1:], condition.dtype)
    )
    return sample(
        backbone,
        start,
        conditioning=backbone.condition(BRANCHES, backbone.embed(["make it red"]), condition),
        guidance=InstructGuidance(),
        schedule=schedule,
        generators=generators,
        **more,
    )


def test_noise_of_a_picture_does_not_depend_on_its_batch() -> None:
    batch = draw_noise(make_generators((3, 4, 5), CPU), SHAPE, torch.float32)
    for row, seed in enumerate((3, 4, 5)):
        assert torch.equal(batch[row : row + 1], draw_noise(make_generators((seed,), CPU), SHAPE, torch.float32))


def test_noise_is_standard_normal_in_the_wanted_dtype() -> None:
    noise = draw_noise(make_generators((0,), CPU), (4, 64, 64), torch.float16)
    assert noise.dtype == torch.float16
    assert noise.float().mean().abs() < 0.05
    assert abs(noise.float().std() - 1) < 0.05


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
@pytest.mark.parametrize("noise_level", [1.0, 0.5])
def test_a_batch_equals_single_runs(backbone: Backbone, pictures: Pictures, sampler: str, noise_level: float) -> None:
    image = pictures(3)
    batch = denoise(backbone, image, (7, 8, 9), sampler, noise_level=noise_level)
    singles = [
        denoise(backbone, image[row : row + 1], (seed,), sampler, noise_level=noise_level)
        for row, seed in enumerate((7, 8, 9))
    ]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-3, rtol=1e-3)
    assert (batch[0] - batch[1]).abs().max() > 0.1


def test_pictures_at_their_own_noise_levels_equal_single_runs(backbone: Backbone, pictures: Pictures) -> None:
    image = pictures(2)
    batch = denoise(backbone, image, (7, 8), "ddim", bounds=(0.3, 0.9))
    singles = [
        denoise(backbone, image[row : row + 1], (7 + row,), "ddim", bounds=(bound,))
        for row, bound in enumerate((0.3, 0.9))
    ]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_a_run_repeats_bit_for_bit_and_follows_its_seed(backbone: Backbone, pictures: Pictures, sampler: str) -> None:
    first, second, other = (denoise(backbone, pictures(), (seed,), sampler) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_one_unet_call_a_step(variant: Callable[..., Backbone], pictures: Pictures) -> None:
    backbone = variant()
    denoise(backbone, pictures(2), (1, 2), "ddim", noise_level=0.5)
    assert backbone.counts["unet"] == 3


def test_global_random_numbers_are_left_alone(backbone: Backbone, pictures: Pictures) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    denoise(backbone, pictures(), (1,), "euler_ancestral")
    assert torch.equal(torch.get_rng_state(), before)


def test_hooks_see_every_step_in_order_and_may_change_latents(backbone: Backbone, pictures: Pictures) -> None:
    seen: list[tuple[str, int]] = []

    def first(step: int, latents: torch.Tensor) -> torch.Tensor:
        seen.append(("first", step))
        return torch.zeros_like(latents) if step == 5 else latents

    def second(step: int, latents: torch.Tensor) -> torch.Tensor:
        seen.append(("second", step))
        return latents + 1 if step == 5 else latents

    latents = denoise(backbone, pictures(), (1,), "ddim", hooks=(first, second))
    assert seen == [(name, step) for step in range(6) for name in ("first", "second")]
    assert torch.equal(latents, torch.ones_like(latents))


def test_attention_edits_are_told_every_step(backbone: Backbone, pictures: Pictures, pass_through) -> None:
    with attention_control(backbone.unet, [pass_through], BRANCHES) as control:
        controlled = denoise(backbone, pictures(), (1,), "ddim", control=control)
    assert pass_through.steps == [0, *range(6)]
    torch.testing.assert_close(controlled, denoise(backbone, pictures(), (1,), "ddim"), atol=1e-3, rtol=1e-3)


def test_two_branches_of_a_text_to_image_checkpoint(sd_backbone: Backbone) -> None:
    schedule = make_schedule("ddim", 3, config=sd_backbone.scheduler_config, device=CPU)
    generators = make_generators((0,), CPU)
    guidance = TextGuidance(guidance_scale=3.0)
    latents = sample(
        sd_backbone,
        schedule.start(None, draw_noise(generators, SHAPE, torch.float32)),
        conditioning=sd_backbone.condition(guidance.branches, sd_backbone.embed(["a cube"])),
        guidance=guidance,
        schedule=schedule,
        generators=generators,
    )
    assert latents.isfinite().all()


def test_no_gradients_are_kept(backbone: Backbone, pictures: Pictures) -> None:
    assert not denoise(backbone, pictures().requires_grad_(), (1,), "ddim").requires_grad


class Source:
    """Gives zeros, and remembers what it was asked."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def rows(self, rows: slice) -> "Source":
        return self

    def draw(self, own: torch.Tensor, *, filled: tuple[float, float]) -> torch.Tensor:
        self.own, self.filled = own, filled
        return torch.zeros_like(own)


def test_a_source_is_shown_the_pictures_own_noise_and_gives_another() -> None:
    source, generators, others = Source(), make_generators((3, 4), CPU), make_generators((3, 4), CPU)
    noise = draw_noise(generators, SHAPE, torch.float32, source=source, filled=(1.0, 0.75))
    assert torch.equal(noise, torch.zeros(2, *SHAPE))
    assert torch.equal(source.own, draw_noise(others, SHAPE, torch.float32))
    assert source.filled == (1.0, 0.75)
    # What is drawn later is the same with a source and without.
    for one, other in zip(generators, others, strict=True):
        assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
