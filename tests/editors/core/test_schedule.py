"""Schedules against diffusers' own schedulers, and Instruct-NeRF2NeRF's timesteps (its invariant I5)."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler

from maskedit.editors import InputError, ModelError
from maskedit.editors.core.sampling import make_generators
from maskedit.editors.core.schedule import DDIMSchedule, EulerAncestralSchedule, Schedule, make_schedule

CPU = torch.device("cpu")
SHAPE = (2, 4, 6, 5)
CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 7, 20, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False])
def test_ddim_equals_diffusers_step_by_step(steps: int, prediction: str, spacing: str, to_one: bool) -> None:
    config = {**CONFIG, "prediction_type": prediction, "timestep_spacing": spacing, "set_alpha_to_one": to_one}
    schedule = make_schedule("ddim", steps, config=config, device=CPU)
    theirs = DDIMScheduler.from_config(dict(config))
    theirs.set_timesteps(steps)
    assert schedule.timesteps[:, 0].tolist() == theirs.timesteps.tolist()
    mine = expected = schedule.start(None, noise())
    for step, timestep in enumerate(theirs.timesteps):
        output = noise(1 + step)
        assert schedule.scale_model_input(mine, step) is mine
        mine = schedule.step(output, step, mine, ())
        expected = theirs.step(output, timestep, expected, return_dict=False)[0]
        torch.testing.assert_close(mine, expected, **CLOSE)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("skipped", [0, 4])
def test_euler_ancestral_equals_diffusers_step_by_step(prediction: str, skipped: int) -> None:
    config = {**CONFIG, "prediction_type": prediction}
    schedule = make_schedule("euler_ancestral", 20, config=config, device=CPU, noise_level=1 - skipped / 20)
    theirs = EulerAncestralDiscreteScheduler.from_config(dict(config))
    theirs.set_timesteps(20)
    if skipped:
        theirs.set_begin_index(skipped)
        clean = noise(99)
        mine = schedule.start(clean, noise())
        expected = clean + theirs.sigmas[skipped] * noise()
    else:
        mine = schedule.start(None, noise())
        expected = noise() * theirs.init_noise_sigma
    torch.testing.assert_close(mine, expected, **CLOSE)
    ours, others = make_generators((5, 6), CPU), make_generators((5, 6), CPU)
    for step, timestep in enumerate(theirs.timesteps[skipped:]):
        assert schedule.timesteps[step].item() == pytest.approx(timestep.item())
        seen = schedule.scale_model_input(mine, step)
        torch.testing.assert_close(seen, theirs.scale_model_input(expected, timestep), **CLOSE)
        output = noise(1 + step)
        mine = schedule.step(output, step, mine, ours)
        expected = theirs.step(output, timestep, expected, generator=list(others), return_dict=False)[0]
        torch.testing.assert_close(mine, expected, **CLOSE)
    assert schedule.steps == 20 - skipped


def test_foi_starts_at_80_percent_noise() -> None:
    """Specification of FoI, 4.2: step 20 of 100, t = 797.18, sigma about 5.05, 80 steps left."""
    schedule = make_schedule("euler_ancestral", 100, config=CONFIG, device=CPU, noise_level=0.8)
    assert schedule.steps == 80
    assert schedule.timesteps[0].item() == pytest.approx(797.18, abs=0.01)
    sigma = (schedule.start(torch.zeros(SHAPE), noise()) / noise()).median().item()
    assert sigma == pytest.approx(5.05, abs=0.05)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_a_perfect_prediction_gives_the_clean_latents(sampler: Any) -> None:
    schedule = make_schedule(sampler, 30, config=CONFIG, device=CPU, noise_level=0.7)
    assert isinstance(schedule, Schedule)
    clean = noise(7)
    latents = schedule.start(clean, noise())
    generators = make_generators((0, 1), CPU)
    alphas = DDIMScheduler.from_config(dict(CONFIG)).alphas_cumprod
    for step in range(schedule.steps):
        time = schedule.timesteps[step].item()
        below = int(time)
        share = alphas[below].log().lerp(alphas[min(below + 1, 999)].log(), time - below).exp()
        seen = schedule.scale_model_input(latents, step)
        output = (seen - share.sqrt() * clean) / (1 - share).sqrt()
        latents = schedule.step(output, step, latents, generators)
    torch.testing.assert_close(latents, clean, atol=0.02, rtol=0.02)


def test_i5_bounded_timesteps_are_those_of_instruct_nerf2nerf() -> None:
    """tau strictly falls, ends at 1, and begins at (n - 1) (T // n) + 1 <= T."""
    for steps in (1, 7, 20):
        bounds = (0.02, 0.5, 0.632, 0.98, 1.0)
        times = make_schedule("ddim", steps, config=CONFIG, device=CPU, bounds=bounds).timesteps
        assert times.shape == (steps, len(bounds))
        for column, bound in enumerate(bounds):
            top = int(1000 * bound)
            tau = times[:, column].tolist()
            assert tau[0] == (steps - 1) * (top // steps) + 1 <= top
            assert tau[-1] == 1
            assert all(a > b for a, b in itertools.pairwise(tau))
            assert tau == [(top // steps) * i + 1 for i in range(steps - 1, -1, -1)]


def test_in2n_example_of_the_specification() -> None:
    times = make_schedule("ddim", 20, config=CONFIG, device=CPU, bounds=(0.98, 0.632)).timesteps
    assert times[0].tolist() == [932, 590]


def test_bounded_steps_end_at_the_first_alpha() -> None:
    """Below 0 the published code uses alphas_cumprod[0] (set_alpha_to_one is off there)."""
    config = {**CONFIG, "set_alpha_to_one": False}
    schedule = make_schedule("ddim", 4, config=config, device=CPU, bounds=(0.5,))
    assert isinstance(schedule, DDIMSchedule)
    assert schedule.following[-1].item() == 1 - 125
    assert schedule.alpha(schedule.following[-1]).item() == DDIMScheduler.from_config(dict(config)).alphas_cumprod[0]


def test_pictures_at_their_own_timesteps_equal_single_runs() -> None:
    both = make_schedule("ddim", 5, config=CONFIG, device=CPU, bounds=(0.4, 0.9))
    singles = [make_schedule("ddim", 5, config=CONFIG, device=CPU, bounds=(bound,)) for bound in (0.4, 0.9)]
    latents = both.start(noise(1), noise())
    rows = [single.start(noise(1)[i : i + 1], noise()[i : i + 1]) for i, single in enumerate(singles)]
    for step in range(5):
        output = noise(2 + step)
        latents = both.step(output, step, latents, ())
        rows = [s.step(output[i : i + 1], step, rows[i], ()) for i, s in enumerate(singles)]
    assert torch.equal(latents, torch.cat(rows))


def test_one_bound_selects_the_steps_of_euler_ancestral() -> None:
    schedule = make_schedule("euler_ancestral", 20, config=CONFIG, device=CPU, bounds=(0.75, 0.75))
    assert schedule.steps == 15


def test_half_precision_latents_stay_half() -> None:
    for sampler in ("ddim", "euler_ancestral"):
        schedule = make_schedule(sampler, 4, config=CONFIG, device=CPU, noise_level=0.5)
        latents = schedule.start(noise(1).half(), noise().half())
        seen = schedule.scale_model_input(latents, 0)
        stepped = schedule.step(noise(2).half(), 0, latents, make_generators((0, 1), CPU))
        assert {latents.dtype, seen.dtype, stepped.dtype} == {torch.float16}


def test_a_run_changes_no_shared_configuration() -> None:
    config = dict(CONFIG)
    for bounds in (None, (0.3,)):
        make_schedule("ddim", 4, config=config, device=CPU, bounds=bounds)
        make_schedule("euler_ancestral", 4, config=config, device=CPU, bounds=bounds)
    assert config == CONFIG


@pytest.mark.parametrize(
    ("sampler", "steps", "level", "bounds", "message"),
    [
        ("ddim", 0, 1.0, None, "leave nothing to run"),
        ("ddim", 10, 0.01, None, "leave nothing to run"),
        ("ddim", 20, 1.0, (0.01,), "need a noise level of at least 0.02"),
        ("euler_ancestral", 20, 1.0, (0.2, 0.4), "use the ddim sampler"),
    ],
)
def test_impossible_schedules_are_refused(
    sampler: Any, steps: int, level: float, bounds: Sequence[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_schedule(sampler, steps, config=CONFIG, device=CPU, noise_level=level, bounds=bounds)


def test_a_checkpoint_that_predicts_samples_is_refused() -> None:
    schedule = make_schedule("ddim", 3, config={**CONFIG, "prediction_type": "sample"}, device=CPU)
    with pytest.raises(ModelError, match="epsilon or v"):
        schedule.step(noise(), 0, noise(), ())


def test_euler_ancestral_is_the_library_s() -> None:
    assert isinstance(make_schedule("euler_ancestral", 3, config=CONFIG, device=CPU), EulerAncestralSchedule)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_output_are_two_forms_of_one_prediction(prediction: str) -> None:
    schedule = make_schedule("ddim", 5, config={**CONFIG, "prediction_type": prediction}, device=CPU)
    assert isinstance(schedule, DDIMSchedule)
    output, latents = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    at = schedule.timesteps[2]
    noise = schedule.noise_of(output, latents, at)
    torch.testing.assert_close(schedule.output_of(noise, latents, at), output, atol=1e-5, rtol=1e-4)
    if prediction == "epsilon":
        assert torch.equal(noise, output)
    else:
        theirs = DDIMScheduler.from_config({**CONFIG, "prediction_type": prediction})
        alpha = theirs.alphas_cumprod[int(at)]
        assert torch.equal(noise, alpha.sqrt() * output + (1 - alpha).sqrt() * latents)


def test_the_noise_between_two_points_leads_from_one_to_the_other() -> None:
    schedule = make_schedule("ddim", 5, config=CONFIG, device=CPU)
    assert isinstance(schedule, DDIMSchedule)
    noisy, cleaner = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    at, to = schedule.timesteps[2], schedule.following[2]
    noise = schedule.noise_between(noisy, cleaner, at, to)
    output = schedule.output_of(noise, noisy, at)
    torch.testing.assert_close(schedule.move(output, noisy, at, to), cleaner, atol=1e-4, rtol=1e-4)
    assert torch.equal(schedule.noise_between(noisy, noisy, at, at), torch.zeros_like(noisy))
