"""InstructEdit: Improving automatic masks for diffusion-based image editing with user instructions (arXiv 2305.18047).

A language processor turns the instruction into what to segment and two captions, a segmenter finds it, and the picture
is edited inside that mask only: DDIM inversion and mask-guided denoising, see `parts/caption_pass.py`.

Differs from the paper: nothing found is an error after lower thresholds were tried, where the published code crashes;
and several instructions are one run, in which the region of each follows its own caption; the paper has one object.
"""

from .core.backbone import Backbone
from .parts.canvas import PassResult, given_or_whole
from .parts.caption_editor import GroundedEditor
from .parts.caption_options import InstructEditConfig
from .parts.caption_pass import prepare_captions
from .parts.regions import put_on_latents
from .parts.request import EditRequest
from .parts.tools import Tools, tools_of


class InstructEdit(GroundedEditor[InstructEditConfig]):
    """InstructEdit on the shared core."""

    name = "instructedit"

    def __init__(
        self, backbone: Backbone, config: InstructEditConfig | None = None, *, tools: Tools | None = None
    ) -> None:
        """Edit with a text-to-image checkpoint; tools not given are those the settings name."""
        config = config or InstructEditConfig()
        tools = tools or tools_of(config, backbone)
        super().__init__(backbone, config, tools)
        self.ratio = config.encoding_ratio or backbone.preset.caption.encoding_ratio
        self._inverter = tools.inverter

    def _run(self, request: EditRequest) -> PassResult:
        masks = given_or_whole(request)
        prepared = prepare_captions(request, self.backbone, self.settings, self._inverter, ratio=self.ratio)
        regions = put_on_latents(request, masks, prepared.latent_size, self.settings.mask_resize)
        image = prepared.denoise(
            regions.cells,
            targets=regions.targets,
            guidance=regions.guidance(self.settings.guidance_scale),
            blend=self.config.blend,
        )
        return prepared.result(image, masks, warnings=regions.warnings, settings={"encoding_ratio": self.ratio})
