"""Timesteps, noise and steps. Every run makes its own schedule; no shared scheduler is ever changed.

DDIM (arXiv 2010.02502, Eq. 12 with eta = 0) is written out, because the pictures of a batch may start from different
timesteps, which no library scheduler allows. Euler ancestral is diffusers' own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from .checkpoint import SamplerName
from .errors import InputError, ModelError
from .types import Latents


@runtime_checkable
class Schedule(Protocol):
    """One run from noisy to clean latents."""

    @property
    def steps(self) -> int:
        """Number of UNet calls."""
        ...

    @property
    def timesteps(self) -> Float[Tensor, "steps batch"]:
        """Training timestep of each step, one column for all pictures or one per picture."""
        ...

    def start(self, latents: Latents | None, noise: Latents) -> Latents:
        """Latents of the first step: pure noise, or clean latents with noise of the first level."""
        ...

    def scale_model_input(self, latents: Latents, step: int) -> Latents:
        """What the UNet sees at a step."""
        ...

    def step(
        self, model_output: Latents, step: int, latents: Latents, generators: Sequence[torch.Generator]
    ) -> Latents:
        """Latents of the next step."""
        ...


class DDIMSchedule:
    """Deterministic DDIM over any descending timesteps, also different ones per picture.

    Differs from diffusers: a scheduler's `clip_sample` is ignored. It is meant for pixels, its default is on, and
    configurations of other samplers do not mention it, so that latents would be cut off at 1.
    """

    def __init__(
        self,
        timesteps: Float[Tensor, "steps batch"],
        following: Float[Tensor, "steps batch"],
        *,
        config: Mapping[str, Any],
        pure_noise: bool,
    ) -> None:
        """Go from each timestep to the one in `following`; a negative one means clean latents.

        Args:
            timesteps: where each step starts.
            following: where each step ends.
            config: configuration of the checkpoint's scheduler.
            pure_noise: whether `start` ignores the latents it is given.
        """
        scheduler = DDIMScheduler.from_config(dict(config))
        self._alphas = scheduler.alphas_cumprod.to(timesteps.device)
        self._final = scheduler.final_alpha_cumprod.to(timesteps.device)
        self._prediction: str = scheduler.config.prediction_type
        self._timesteps, self._following, self._pure_noise = timesteps, following, pure_noise

    @property
    def steps(self) -> int:
        """Number of UNet calls."""
        return len(self._timesteps)

    @property
    def timesteps(self) -> Float[Tensor, "steps batch"]:
        """Training timestep of each step."""
        return self._timesteps

    @property
    def following(self) -> Float[Tensor, "steps batch"]:
        """Where each step ends; negative = clean latents."""
        return self._following

    def alpha(self, timesteps: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
        """Cumulative alpha of timesteps; of clean latents where negative."""
        known = self._alphas[timesteps.long().clamp(min=0)]
        return torch.where(timesteps >= 0, known, self._final).view(-1, 1, 1, 1)

    def start(self, latents: Latents | None, noise: Latents) -> Latents:
        """Pure noise, or latents with the noise of the first timestep."""
        if self._pure_noise or latents is None:
            return noise
        return self.add_noise(latents, noise, self._timesteps[0])

    def add_noise(self, latents: Latents, noise: Latents, at: Float[Tensor, " #batch"]) -> Latents:
        """Clean latents with the noise of a timestep."""
        alpha = self.alpha(at)
        return (alpha.sqrt() * latents.float() + (1 - alpha).sqrt() * noise.float()).to(latents.dtype)

    def scale_model_input(self, latents: Latents, step: int) -> Latents:
        """The latents themselves: DDIM needs no scaling."""
        return latents

    def step(
        self, model_output: Latents, step: int, latents: Latents, generators: Sequence[torch.Generator]
    ) -> Latents:
        """Move along the deterministic path."""
        return self.move(model_output, latents, self._timesteps[step], self._following[step])

    def move(
        self, model_output: Latents, latents: Latents, at: Float[Tensor, " #batch"], to: Float[Tensor, " #batch"]
    ) -> Latents:
        """Move latents along the deterministic path from one timestep to another, in either direction."""
        noise = self.noise_of(model_output, latents, at)
        here, there = self.alpha(at), self.alpha(to)
        clean = (latents.float() - (1 - here).sqrt() * noise) / here.sqrt()
        return (there.sqrt() * clean + (1 - there).sqrt() * noise).to(latents.dtype)

    def noise_of(self, model_output: Latents, latents: Latents, at: Float[Tensor, " #batch"]) -> Latents:
        """The noise (epsilon) that a model output stands for, in float32.

        Raises:
            ModelError: if the checkpoint predicts neither epsilon nor v.
        """
        if self._prediction == "epsilon":
            return model_output.float()
        alpha = self._v_alpha(at)
        return alpha.sqrt() * model_output.float() + (1 - alpha).sqrt() * latents.float()

    def output_of(self, noise: Latents, latents: Latents, at: Float[Tensor, " #batch"]) -> Latents:
        """The model output that stands for a noise; undoes `noise_of`, in float32.

        Raises:
            ModelError: if the checkpoint predicts neither epsilon nor v.
        """
        if self._prediction == "epsilon":
            return noise.float()
        alpha = self._v_alpha(at)
        return (noise.float() - (1 - alpha).sqrt() * latents.float()) / alpha.sqrt()

    def _v_alpha(self, at: Float[Tensor, " #batch"]) -> Float[Tensor, "#batch 1 1 1"]:
        if self._prediction != "v_prediction":
            raise ModelError(f"expected a checkpoint that predicts epsilon or v, got {self._prediction!r}")
        return self.alpha(at)

    def noise_between(
        self, noisy: Latents, cleaner: Latents, at: Float[Tensor, " #batch"], to: Float[Tensor, " #batch"]
    ) -> Latents:
        """The one noise with which `move` leads from `noisy` at a timestep to `cleaner` at another.

        Zeros where both timesteps have the same noise level, so that any would do.
        """
        here, there = self.alpha(at), self.alpha(to)
        ratio = (there / here).sqrt()
        factor = (1 - there).sqrt() - ratio * (1 - here).sqrt()
        wanted = cleaner.float() - ratio * noisy.float()
        return torch.where(factor == 0, 0.0, wanted / torch.where(factor == 0, 1.0, factor))


class EulerAncestralSchedule:
    """Euler ancestral steps of diffusers' scheduler, from any step on."""

    def __init__(self, steps: int, start_step: int, *, config: Mapping[str, Any], device: torch.device) -> None:
        """Run steps `start_step` to `steps` - 1; a start step of 0 begins from pure noise."""
        self._scheduler = EulerAncestralDiscreteScheduler.from_config(dict(config))
        self._total, self._start_step, self._device = steps, start_step, device
        self._rewind()
        self._times = self._scheduler.timesteps[start_step:].float()

    def _rewind(self) -> None:
        """Bring diffusers' scheduler, which counts its own steps, back to the first."""
        self._scheduler.set_timesteps(self._total, device=self._device)
        # Telling it where to begin also keeps it from searching the timesteps, which would wait for the device.
        self._scheduler.set_begin_index(self._start_step)

    @property
    def steps(self) -> int:
        """Number of UNet calls."""
        return len(self._times)

    @property
    def timesteps(self) -> Float[Tensor, "steps batch"]:
        """Training timestep of each step."""
        return self._times[:, None]

    def start(self, latents: Latents | None, noise: Latents) -> Latents:
        """Pure noise, or latents with the noise of the first timestep."""
        self._rewind()
        if self._start_step == 0 or latents is None:
            return noise * self._scheduler.init_noise_sigma
        return (latents.float() + self._scheduler.sigmas[self._start_step].to(noise.device) * noise.float()).to(
            latents.dtype
        )

    def scale_model_input(self, latents: Latents, step: int) -> Latents:
        """Latents divided by the noise level's scale."""
        scaled = self._scheduler.scale_model_input(latents, self._scheduler.timesteps[self._start_step + step])
        return scaled.to(latents.dtype)

    def step(
        self, model_output: Latents, step: int, latents: Latents, generators: Sequence[torch.Generator]
    ) -> Latents:
        """One step of diffusers' scheduler, with fresh noise from each picture's generator."""
        timestep = self._scheduler.timesteps[self._start_step + step]
        return self._scheduler.step(model_output, timestep, latents, generator=list(generators), return_dict=False)[0]


def make_schedule(
    sampler: SamplerName,
    steps: int,
    *,
    config: Mapping[str, Any],
    device: torch.device,
    noise_level: float = 1.0,
    bounds: Sequence[float] | None = None,
) -> DDIMSchedule | EulerAncestralSchedule:
    """A new schedule.

    Args:
        sampler: which one.
        steps: steps over the whole noise range; a lower noise level skips the first of them.
        config: configuration of the checkpoint's scheduler.
        device: where the timesteps live.
        noise_level: share of the range to start from, in (0, 1]; 1 = pure noise.
        bounds: for DDIM, one upper bound per picture as a share of the training timesteps: all `steps` are spread
            below it, as Instruct-NeRF2NeRF does (T // steps apart, ending at 1).

    Raises:
        InputError: if nothing is left to run, a bound is below one timestep per step, or the sampler takes no bounds.
    """
    skipped = round(steps * (1 - noise_level))
    if steps < 1 or skipped >= steps:
        raise InputError(f"{steps} steps at noise level {noise_level:g} leave nothing to run: raise one of them")
    if sampler == "euler_ancestral":
        if bounds is not None and len(set(bounds)) > 1:
            raise InputError("euler_ancestral starts all pictures of a batch at one noise level: use the ddim sampler")
        if bounds is not None:
            skipped = min(round(steps * (1 - bounds[0])), steps - 1)
        return EulerAncestralSchedule(steps, skipped, config=config, device=device)
    if bounds is not None:
        return _bounded_ddim(steps, bounds, config, device)
    scheduler = DDIMScheduler.from_config(dict(config))
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.float()
    following = times - scheduler.config.num_train_timesteps // steps
    return DDIMSchedule(
        times[skipped:, None].to(device), following[skipped:, None].to(device), config=config, pure_noise=skipped == 0
    )


def _bounded_ddim(steps: int, bounds: Sequence[float], config: Mapping[str, Any], device: torch.device) -> DDIMSchedule:
    """Instruct-NeRF2NeRF's timesteps: tau = (T // n) * [n-1 .. 0] + 1 for an upper bound T drawn per picture."""
    total = int(config.get("num_train_timesteps", 1000))
    stride = torch.tensor([int(total * bound) // steps for bound in bounds], dtype=torch.float32)
    if stride.min() < 1:
        raise InputError(f"{steps} steps need a noise level of at least {steps / total:g}, got {min(bounds):g}")
    index = torch.arange(steps - 1, -1, -1, dtype=torch.float32)
    times = index[:, None] * stride + 1
    return DDIMSchedule(times.to(device), (times - stride).to(device), config=config, pure_noise=False)
