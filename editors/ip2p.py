"""InstructPix2Pix: Learning to Follow Image Editing Instructions (arXiv 2211.09800).

The whole picture is denoised from noise under the instruction and the condition picture. It has no mask of its own; a
mask that is given confines the edit.
"""

from dataclasses import asdict

from .core.backbone import Backbone
from .core.guidance import InstructGuidance
from .core.types import Mask
from .parts.canvas import PassResult, edit_on_canvas, given_or_whole, masks_on_canvas
from .parts.instruct_pass import prepare_pass, resolve_run
from .parts.options import IP2PConfig
from .parts.request import EditRequest, EditResult
from .parts.tokens import compose_instructions


class IP2P:
    """InstructPix2Pix on the shared core."""

    def __init__(self, backbone: Backbone, config: IP2PConfig | None = None) -> None:
        """Edit with a checkpoint whose UNet takes a condition picture.

        Raises:
            ModelError: for any other checkpoint.
        """
        backbone.require("instruct-pix2pix", "ip2p")
        self.backbone = backbone
        self.config = config or IP2PConfig()
        self.settings = resolve_run(self.config, backbone.preset.instruct, noise_level=1.0)

    def plan(self, request: EditRequest) -> EditRequest:
        """The request as it is: the model reads the instructions themselves."""
        return request

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images; several instructions are joined by commas."""
        return edit_on_canvas(request, self.backbone, self.config, self._run, name="ip2p")

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks that were given; ones where there is none, since this editor may change anything."""
        return masks_on_canvas(request, self.backbone, self.config, given_or_whole)

    def _run(self, request: EditRequest) -> PassResult:
        layout = compose_instructions(request.instructions, self.backbone.tokenizer)
        settings = self.settings
        guidance = InstructGuidance(
            guidance_scale=settings.guidance_scale, image_guidance_scale=settings.image_guidance_scale
        )
        prepared = prepare_pass(request, self.backbone, settings, layout)
        return PassResult(
            image=prepared.run(guidance),
            masks=given_or_whole(request),
            prompt=layout.prompt,
            keywords=layout.keywords,
            timesteps=prepared.timesteps,
            settings=asdict(settings),
        )
