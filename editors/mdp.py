"""MDP: A generalized framework for text-guided image editing by manipulating the diffusion path (arXiv 2303.16765).

MDP-eps_t: the picture is inverted all the way, and while it is denoised under the edited caption, the noise of its own
path takes the place of the predicted one for some of the steps. It has no mask of its own; a mask that is given
confines the edit, in the latents too.

Differs from the published notebook: the path's noise is what leads from each inverted point exactly to the one before,
so that nothing has to be optimised (null-text inversion) to give the picture back.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .core.backbone import Backbone
from .core.errors import InputError
from .core.guidance import MixedGuidance, TextGuidance
from .parts.canvas import PassResult, given_masks, given_or_whole
from .parts.caption_editor import CaptionEditor
from .parts.caption_options import MDPConfig
from .parts.caption_pass import CaptionPass, latent_mask, prepare_captions
from .parts.request import EditRequest
from .parts.tools import Tools, tools_of


class MDP(CaptionEditor[MDPConfig]):
    """MDP-eps_t on the shared core; several instructions are one edit, under the captions of all of them."""

    name = "mdp"
    has_regions = False

    def __init__(self, backbone: Backbone, config: MDPConfig | None = None, *, tools: Tools | None = None) -> None:
        """Edit with a text-to-image checkpoint; tools not given are those the settings name."""
        config = config or MDPConfig()
        tools = tools or tools_of(config, backbone)
        super().__init__(backbone, config, tools)
        self.until = backbone.preset.caption.mix_until if config.mix_until is None else config.mix_until
        if config.mix_from > self.until:
            raise InputError(
                f"mix_from {config.mix_from:g} is past the checkpoint's mix_until of {self.until:g}: set mix_until, too"
            )
        self._inverter = tools.inverter

    def _run(self, request: EditRequest) -> PassResult:
        prepared = prepare_captions(
            request, self.backbone, self.settings, self._inverter, ratio=1.0, restores=_is_confined(request)
        )
        masks, cells, warnings = given_or_whole(request), None, ()
        if _is_confined(request):
            cells, warnings = latent_mask(masks, prepared.latent_size, self.settings.mask_resize)
        guidance = MixedGuidance(
            guidance=TextGuidance(guidance_scale=self.settings.guidance_scale),
            source=_path_noise(prepared),
            weights=mixing_weights(self.config, prepared.schedule.steps, until=self.until),
            schedule=prepared.schedule,
        )
        image = prepared.denoise(cells, guidance=guidance)
        return prepared.result(image, masks, warnings=warnings, settings={"weights": guidance.weights})


def _is_confined(request: EditRequest) -> bool:
    """Whether there is anything outside the masks: in a scene, every view that has none is given all ones."""
    return any(mask is not None and bool((mask < 1).any()) for mask in given_masks(request))


def mixing_weights(config: MDPConfig, steps: int, *, until: float) -> tuple[float, ...]:
    """w of each denoising step: the factor from `mix_from` to `until`, by its schedule, and 0 elsewhere."""
    first, last = round(config.mix_from * steps), round(until * steps)
    weights = [0.0] * steps
    for step in range(first, last):
        passed = (step - first) / (last - first)
        falling = {"constant": 1.0, "linear": 1 - passed, "cosine": math.cos(math.pi / 2 * passed)}
        weights[step] = config.mix_factor * falling[config.mix_schedule]
    return tuple(weights)


def _path_noise(prepared: CaptionPass) -> Float[Tensor, "steps batch channels latent_height latent_width"]:
    """The noise with which each step of denoising follows the inverted path exactly, noisiest first."""
    schedule, points = prepared.schedule, prepared.path.flip(0)
    return torch.stack(
        [
            schedule.noise_between(points[i], points[i + 1], schedule.timesteps[i], schedule.following[i])
            for i in range(schedule.steps)
        ]
    )
