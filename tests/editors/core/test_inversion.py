"""DDIM inversion against diffusers' inverse scheduler, and back again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler

from maskedit.editors.core.backbone import Backbone, Conditioning
from maskedit.editors.core.guidance import TextGuidance
from maskedit.editors.core.inversion import invert
from maskedit.editors.core.sampling import sample
from maskedit.editors.core.schedule import DDIMSchedule, make_schedule

CPU = torch.device("cpu")
GUIDANCE = TextGuidance(guidance_scale=1.0)
LEADING = {"timestep_spacing": "leading", "clip_sample": False}


def schedule_of(backbone: Backbone, steps: int, **config: Any) -> DDIMSchedule:
    settings = {**backbone.scheduler_config, **LEADING, **config}
    schedule = make_schedule("ddim", steps, config=settings, device=CPU)
    assert isinstance(schedule, DDIMSchedule)
    return schedule


@pytest.fixture(scope="module")
def conditioning(backbone: Backbone, pictures: Callable[..., torch.Tensor]) -> Conditioning:
    return backbone.condition(("text",), backbone.embed(["a cube"]), backbone.encode(pictures(2)))


@pytest.fixture(scope="module")
def clean(backbone: Backbone, pictures: Callable[..., torch.Tensor]) -> torch.Tensor:
    return backbone.scale_latents(backbone.encode(pictures(2)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("steps", [5, 20])
def test_steps_equal_diffusers_inverse_scheduler(
    backbone: Backbone, clean: torch.Tensor, prediction: str, to_one: bool, steps: int
) -> None:
    """The way between two timesteps is the same; only when the UNet is asked differs by convention."""
    config = {"prediction_type": prediction, "set_alpha_to_one": to_one, "clip_sample": False}
    theirs = DDIMInverseScheduler.from_config({**backbone.scheduler_config, "timestep_spacing": "leading", **config})
    theirs.set_timesteps(steps)
    schedule = schedule_of(backbone, steps, **config)
    times = schedule.timesteps[:, 0].flip(0)
    assert times.tolist() == theirs.timesteps.tolist()
    mine = expected = clean
    before = torch.cat([schedule.following[-1], times[:-1]])
    for step, timestep in enumerate(theirs.timesteps):
        output = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step))
        mine = schedule.move(output, mine, before[step : step + 1], times[step : step + 1])
        expected = theirs.step(output, timestep, expected, return_dict=False)[0]
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ask_at", ["target", "start"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_trajectory_equals_diffusers_inverse_scheduler(
    variant: Callable[..., Backbone], clean: torch.Tensor, conditioning: Conditioning, prediction: str, ask_at: Any
) -> None:
    """With the prediction at the noisier end of each step, as DiffEdit has it, or at the cleaner one, as in DDIM."""
    config = {"prediction_type": prediction, "clip_sample": False, "timestep_spacing": "leading"}
    backbone = variant(**config)
    theirs = DDIMInverseScheduler.from_config(dict(backbone.scheduler_config))
    theirs.set_timesteps(6)
    schedule = schedule_of(backbone, 6)
    points = invert(backbone, clean, conditioning=conditioning, guidance=GUIDANCE, schedule=schedule, ask_at=ask_at)
    assert backbone.counts["unet"] == 6
    assert points.shape == (7, *clean.shape)
    assert torch.equal(points[0], clean)
    expected, asked = clean, 0
    for step, timestep in enumerate(theirs.timesteps):
        output = backbone.predict(
            expected, torch.tensor([float(timestep if ask_at == "target" else asked)]), conditioning
        )["text"]
        expected = theirs.step(output, timestep, expected, return_dict=False)[0]
        asked = int(timestep)
        torch.testing.assert_close(points[step + 1], expected, atol=1e-4, rtol=1e-3)


def test_denoising_undoes_an_inversion(backbone: Backbone, conditioning: Conditioning) -> None:
    """The better, the finer the steps: what is left is the error of first order of DDIM itself."""
    clean = torch.randn((2, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (10, 20, 40):
        schedule = make_schedule("ddim", steps, config=backbone.scheduler_config | LEADING, device=CPU, noise_level=0.5)
        assert isinstance(schedule, DDIMSchedule)
        arguments: dict[str, Any] = {"conditioning": conditioning, "guidance": GUIDANCE, "schedule": schedule}
        points = invert(backbone, clean, **arguments)
        back = sample(backbone, points[-1], generators=(), **arguments)
        errors.append((back - clean).abs().mean().item())
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]
    assert errors[2] < 0.05


def test_only_the_steps_of_the_schedule_are_inverted(
    variant: Callable[..., Backbone], clean: torch.Tensor, conditioning: Conditioning
) -> None:
    backbone = variant(timestep_spacing="leading")
    schedule = make_schedule("ddim", 10, config=backbone.scheduler_config, device=CPU, noise_level=0.4)
    assert isinstance(schedule, DDIMSchedule)
    points = invert(backbone, clean, conditioning=conditioning, guidance=GUIDANCE, schedule=schedule)
    assert (len(points), backbone.counts["unet"]) == (5, 4)


def test_a_batch_equals_single_inversions(backbone: Backbone, pictures: Callable[..., torch.Tensor]) -> None:
    schedule, image = schedule_of(backbone, 4), pictures(2)

    def run(rows: slice) -> torch.Tensor:
        latents = backbone.encode(image[rows])
        conditioning = backbone.condition(("text",), backbone.embed(["a cube"]), latents)
        return invert(backbone, latents, conditioning=conditioning, guidance=GUIDANCE, schedule=schedule)

    both = run(slice(0, 2))
    torch.testing.assert_close(both, torch.cat([run(slice(0, 1)), run(slice(1, 2))], 1), atol=1e-4, rtol=1e-3)
