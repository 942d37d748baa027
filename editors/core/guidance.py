"""Combining the branches of one UNet call. Branches are picked by name, and weights always sum to one.

Linear guidance means the same for epsilon and for v predictions of one noisy picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import InputError, ModelError
from .schedule import DDIMSchedule
from .types import Branch, LatentMask, Latents


@runtime_checkable
class Guidance(Protocol):
    """Turns the branches' predictions into one."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches it needs, in the order of the batch."""
        ...

    def combine(self, noise_pred: Mapping[Branch, Latents], step: int, latents: Latents) -> Latents:
        """The guided prediction of a step, given the noisy latents it was made for."""
        ...


def instruct_guidance(
    noise_pred: Mapping[Branch, Latents],
    guidance_scale: float,
    image_guidance_scale: float,
    weight: LatentMask | Float[Tensor, ""] | None = None,
) -> Latents:
    """e = e_uncond + S_T (e_text - e_image) W + S_I (e_image - e_uncond).

    Args:
        noise_pred: predictions of all three branches.
        guidance_scale: S_T.
        image_guidance_scale: S_I.
        weight: W in [0, 1] per latent cell; None = 1.

    Source: InstructPix2Pix, arXiv 2211.09800, Eq. 3; with W, FoI, arXiv 2312.10113, Eq. 9. Terms are added in the order
    of diffusers' pipeline, so that W = 1 gives the same bits.
    """
    image, uncond = noise_pred["image"], noise_pred["uncond"]
    push = _text_push(noise_pred, guidance_scale, {"text": weight}, base="image")
    return uncond + push + image_guidance_scale * (image - uncond)


def text_guidance(
    noise_pred: Mapping[Branch, Latents], guidance_scale: float, weights: Mapping[Branch, LatentMask] | None = None
) -> Latents:
    """e = e_uncond + S_T sum_k (e_k - e_uncond) W_k, over the branches k that have a text.

    Args:
        noise_pred: predictions of those branches and of `uncond`.
        guidance_scale: S_T.
        weights: W_k in [0, 1] per latent cell; None = the branch `text` alone, everywhere.

    Source: classifier-free guidance, arXiv 2207.12598, Eq. 6; with weights, each text is confined to its region as FoI
    (arXiv 2312.10113, Eq. 9) confines one.
    """
    return noise_pred["uncond"] + _text_push(noise_pred, guidance_scale, weights or {"text": None}, base="uncond")


def _text_push(
    noise_pred: Mapping[Branch, Latents],
    guidance_scale: float,
    weights: Mapping[Branch, LatentMask | Float[Tensor, ""] | None],
    *,
    base: Branch,
) -> Latents:
    """What texts add to the prediction of the branch `base`, each where its weight is."""
    pushes: list[Tensor] = []
    for branch, weight in weights.items():
        push = guidance_scale * (noise_pred[branch] - noise_pred[base])
        pushes.append(push if weight is None else push * weight.to(push.dtype))
    total = pushes[0]
    for push in pushes[1:]:
        total = total + push
    return total


def region_weights(masks: Mapping[Branch, LatentMask]) -> dict[Branch, LatentMask]:
    """W of each text branch from its region: 1 inside, shared evenly where regions overlap, 0 outside all of them.

    Source: MultiDiffusion, arXiv 2302.08113, section 3: where regions overlap, the mean of what each of them asks for.
    Its mean is one of denoised latents; a step of DDIM is linear in the prediction, so that this is the same.
    """
    total = torch.stack(list(masks.values())).sum(0)
    return {branch: torch.where(total > 0, mask / total.clamp(min=1e-6), 0.0) for branch, mask in masks.items()}


@dataclass(frozen=True, kw_only=True)
class InstructGuidance:
    """InstructPix2Pix's three branches, optionally with text guidance confined to a mask for the first steps."""

    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    weight: Callable[[int], LatentMask | None] | None = None
    """W of each step of the loop; None (or returning None) = 1 everywhere."""

    def __post_init__(self) -> None:
        if self.guidance_scale <= 1 or self.image_guidance_scale < 1:
            raise InputError(
                "three-branch guidance needs a guidance scale above 1 and an image guidance scale of at least 1, "
                f"got {self.guidance_scale:g} and {self.image_guidance_scale:g}"
            )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches of each UNet call."""
        return ("text", "image", "uncond")

    def combine(self, noise_pred: Mapping[Branch, Latents], step: int, latents: Latents) -> Latents:
        """Equation 3 of InstructPix2Pix, or Eq. 9 of FoI where there is a weight."""
        weight = None if self.weight is None else self.weight(step)
        return instruct_guidance(noise_pred, self.guidance_scale, self.image_guidance_scale, weight)


@dataclass(frozen=True, kw_only=True)
class TextGuidance:
    """Classifier-free guidance of text-to-image checkpoints; a scale of 1 runs the text branch alone."""

    guidance_scale: float = 7.5
    weights: Mapping[Branch, LatentMask] | None = None
    """W of each branch that has a text of its own, from `region_weights`; None = the branch `text`, everywhere."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches of each UNet call."""
        if self.weights is not None:
            return (*self.weights, "uncond")
        return ("text",) if self.guidance_scale == 1 else ("text", "uncond")

    def combine(self, noise_pred: Mapping[Branch, Latents], step: int, latents: Latents) -> Latents:
        """Classifier-free guidance, each text in its region where there are several; or the text branch itself."""
        if self.weights is None and self.guidance_scale == 1:
            return noise_pred["text"]
        return text_guidance(noise_pred, self.guidance_scale, self.weights)


@dataclass(frozen=True, kw_only=True)
class MixedGuidance:
    """MDP-eps_t: the noise of the source picture's own path takes the place of the guided one for some of the steps.

    Source: MDP, arXiv 2303.16765, section 4.3: e = w e_source + (1 - w) e_edit.
    """

    guidance: Guidance
    """Gives the edit's own prediction."""
    source: Float[Tensor, "steps batch channels latent_height latent_width"]
    """Noise of the source's path at each step."""
    weights: Sequence[float]
    """w of each step, in [0, 1]."""
    schedule: DDIMSchedule
    """The run's schedule, to mix noise whatever the checkpoint predicts."""

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.source) == self.schedule.steps:
            raise ModelError(
                f"expected a weight and a source noise for each of {self.schedule.steps} steps, "
                f"got {len(self.weights)} and {len(self.source)}"
            )
        if not all(0 <= weight <= 1 for weight in self.weights):
            raise InputError(f"weights of a mixture must be in [0, 1], got {tuple(self.weights)}")

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches of each UNet call."""
        return self.guidance.branches

    def combine(self, noise_pred: Mapping[Branch, Latents], step: int, latents: Latents) -> Latents:
        """The mixture as a model output."""
        guided = self.guidance.combine(noise_pred, step, latents)
        weight = self.weights[step]
        if weight == 0:
            return guided
        source = self.schedule.output_of(self.source[step], latents, self.schedule.timesteps[step])
        return weight * source + (1 - weight) * guided.float()
