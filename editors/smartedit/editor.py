"""SmartEdit: Exploring Complex Instruction-based Image Editing with Multimodal Large Language Models.

arXiv 2312.06739, section 4. An InstructPix2Pix pass whose text is what a language model, which sees the picture, says
about the instruction, and which also gets features of the picture. It has no mask of its own: a mask, or a phrase to
look for, confines the edit.

Differs from the paper's code: the answer that carries the image tokens is given, not sampled, so that one forward pass
reads it; the template is fixed; and the picture's height and width are not swapped.
"""

from dataclasses import asdict, replace

import torch

from ..core.backbone import Backbone
from ..core.guidance import InstructGuidance
from ..core.types import Mask
from ..parts.canvas import PassResult, edit_on_canvas, given_masks, given_or_whole, masks_on_canvas
from ..parts.instruct_pass import prepare_pass, resolve_run
from ..parts.request import EditRequest, EditResult
from ..parts.smartedit_options import SmartEditConfig
from ..parts.tokens import bare_text
from ..parts.tools import Tools, ground_phrases
from .model import SmartEditModel
from .reader import Reader, SmartEditTools


class SmartEdit:
    """SmartEdit on the shared core."""

    def __init__(
        self,
        backbone: Backbone,
        config: SmartEditConfig | None = None,
        *,
        tools: Tools | None = None,
        model: SmartEditModel | None = None,
    ) -> None:
        """Edit with a checkpoint that has a language model beside its UNet.

        Args:
            backbone: the checkpoint.
            config: the settings.
            tools: those of an editor with other settings on the same backbone; None = what the options name.
            model: a language model that is loaded; None = the checkpoint's.

        Raises:
            ModelError: for a checkpoint whose UNet takes no condition picture, or whose language model does not fit.
        """
        backbone.require("smartedit", "smartedit")
        self.backbone = backbone
        self.config = config or SmartEditConfig()
        self.tools = tools or SmartEditTools(backbone, self.config, model=model)
        own = self.tools if isinstance(self.tools, SmartEditTools) else None
        self._reading = own or SmartEditTools(backbone, self.config, model=model)
        # What does not fit is refused now, not at the first edit.
        self._reading.check()
        self.settings = resolve_run(self.config, backbone.preset.instruct, noise_level=1.0)

    @property
    def reader(self) -> Reader:
        """Who reads; its language model is loaded when it is first asked for, since masks are found without it.

        Raises:
            ModelError: if the language model is missing.
        """
        return self._reading.reader

    def prepare(self) -> None:
        """Load the language model now, not at the first edit.

        Raises:
            ModelError: if it is missing.
        """
        _ = self.reader

    def plan(self, request: EditRequest) -> EditRequest:
        """The request as it is: the model reads the instructions themselves."""
        return request

    def edit(self, request: EditRequest) -> EditResult:
        """Edit a batch of images; several instructions are joined by commas and read as one.

        Raises:
            NothingFoundError: if a phrase has no answer in a picture.
        """
        request, grounding = ground_phrases(request, self.tools, chunk=self.config.chunk)
        result = edit_on_canvas(request, self.backbone, self.config, self._run, name="smartedit")
        return replace(result, trace=replace(result.trace, grounding=grounding)) if grounding else result

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        """The masks that were given or that phrases ask for; ones where there is neither."""
        request, _ = ground_phrases(request, self.tools, chunk=self.config.chunk)
        return masks_on_canvas(request, self.backbone, self.config, given_or_whole)

    def _run(self, request: EditRequest) -> PassResult:
        settings, config = self.settings, self.config
        instruction = ", ".join(bare_text(each) for each in request.instructions)
        # It reads the photo that is preserved, not a render of it: so a photo of a scene is read once.
        told = self.reader.under(
            request.preserved, instruction, template=config.template, drop_features=config.drop_features
        )
        guidance = InstructGuidance(
            guidance_scale=settings.guidance_scale, image_guidance_scale=settings.image_guidance_scale
        )
        prepared = prepare_pass(request, self.backbone, settings, told)
        return PassResult(
            image=prepared.run(guidance),
            masks=given_or_whole(request),
            prompt=instruction,
            timesteps=prepared.timesteps,
            warnings=_warn_of_regions(request),
            settings={**asdict(settings), "template": config.template, "drop_features": config.drop_features},
        )


def _warn_of_regions(request: EditRequest) -> tuple[str, ...]:
    """A word on regions that differ: instructions that are read as one know nothing of them."""
    first, *others = given_or_whole(request)
    if given_masks(request)[0] is None or all(torch.equal(first, other) for other in others):
        return ()
    return (
        "smartedit reads several instructions as one: each of them may act in the masks of the others, edit one after "
        "the other to keep them apart",
    )
