"""Who reads pictures and instructions for the UNet: SmartEdit's language model beside a backbone, with a memory.

The language model may be on another device and of another precision than the UNet; what it read is brought to the UNet
here, and nowhere else. A picture under an instruction is read once, however many edits use it, and by itself, so that
it does not matter what shares its batch.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.backbone import Backbone, Conditioning
from ..core.caching import Remembered, picture_key
from ..core.checkpoint import locate_checkpoint
from ..core.errors import InputError, ModelError
from ..core.input_features import InputFeatures
from ..core.types import Branch, Image, Latents, PromptEmbeds
from ..parts.instruct_pass import MakeConditions
from ..parts.language_options import LanguageConfig
from ..parts.smartedit_options import SmartEditConfig
from ..parts.tools import Tools
from .architecture import SmartEditArchitecture
from .conversation import ChatStyle
from .files import load_smartedit, read_description
from .model import Reading, SmartEditModel

_READINGS = 1024
"""As many as a backbone remembers pictures; one of the published size takes a megabyte, not on the device."""


class Reader:
    """A SmartEdit model that reads for one backbone."""

    def __init__(self, model: SmartEditModel, backbone: Backbone) -> None:
        """Put them together.

        Raises:
            ModelError: if the UNet reads contexts or features of another shape than the model makes.
        """
        check_fit(model.architecture, backbone)
        self.model, self.backbone = model, backbone
        self.readings = 0
        """How often the language model really read."""
        self._remembered: Remembered[Reading] = Remembered(_READINGS)

    def under(self, pictures: Image, instruction: str, *, template: int, drop_features: bool) -> MakeConditions:
        """Conditions of a run: what was read for `text`, the empty text for the others; no picture for `uncond`.

        Args:
            pictures: those that are edited, at working size.
            instruction: what to do.
            template: see `SmartEditConfig`.
            drop_features: see `SmartEditConfig`.

        Source: SmartEdit, arXiv 2312.06739, sections 4.1 and 4.2; which branch gets what, from the released code.
        """

        def make(condition: Latents) -> Conditioning:
            size = (condition.shape[-2], condition.shape[-1])
            embeds, features = self.read(pictures, instruction, template=template, size=size)
            return lay_out_reading(self.backbone, condition, embeds, features, drop_features=drop_features)

        return make

    @torch.no_grad()
    def read(
        self, pictures: Image, instruction: str, *, template: int = 0, size: tuple[int, int]
    ) -> tuple[Float[Tensor, "batch queries context_width"], InputFeatures | None]:
        """Context and input features of pictures, on the UNet's device.

        Args:
            pictures: in [0, 1].
            instruction: what to do.
            template: see `SmartEditConfig`.
            size: rows and columns of the latents.

        Raises:
            InputError: if the checkpoint has no such template, or the instruction is too long for its language model.
        """
        check_template(template, self.model.mllm.tokenizer.style)
        contexts: list[Tensor] = []
        features: list[Tensor] = []
        for picture in pictures:
            key = (picture_key(picture), instruction, template)
            kept = self._remembered.get(key, lambda picture=picture: self._read(picture[None], instruction, template))
            reading = _moved(kept, lambda each: each.to(self.model.device))
            context, seen = self.model.condition(reading, size)
            contexts.append(context.to(self.backbone.device, self.backbone.dtype))
            if seen is not None:
                features.append(seen.to(self.backbone.device, self.backbone.dtype))
        return torch.cat(contexts), torch.cat(features) if features else None

    def _read(self, picture: Image, instruction: str, template: int) -> Reading:
        self.readings += 1
        reading = self.model.read(picture.to(self.model.mllm.device), [instruction], template=template)
        return _moved(reading, torch.Tensor.cpu)


def _moved(reading: Reading, move: Callable[[Tensor], Tensor]) -> Reading:
    v = None if reading.v is None else move(reading.v)
    return replace(reading, contexts=move(reading.contexts), v=v, talk_loss=move(reading.talk_loss))


def lay_out_reading(
    backbone: Backbone,
    condition: Latents,
    context: PromptEmbeds,
    features: InputFeatures | None,
    *,
    drop_features: bool = False,
) -> Conditioning:
    """What was read as conditions of the three branches of InstructPix2Pix.

    Args:
        backbone: whose UNet is conditioned.
        condition: unscaled latents of the condition pictures.
        context: what the branch `text` reads.
        features: what is added behind the first convolution; None = nothing.
        drop_features: whether in the branch `text` alone.
    """
    empty, nothing = backbone.embed([""]), torch.zeros_like(condition)
    seen: dict[Branch, Float[Tensor, "_ features latent_height latent_width"]] | None = None
    if features is not None:
        others = torch.zeros_like(features) if drop_features else features
        seen = {"text": features, "image": others, "uncond": others}
    return backbone.lay_out(
        {"text": context, "image": empty, "uncond": empty},
        {"text": condition, "image": condition, "uncond": nothing},
        batch=len(condition),
        features=seen,
    )


def check_template(template: int, style: ChatStyle) -> None:
    """Refuse a wording that a language model was not trained on.

    Args:
        template: its number.
        style: how the checkpoint's conversations are written.

    Raises:
        InputError: if there are fewer.
    """
    known = len(style.edits)
    if template >= known:
        raise InputError(
            f"expected a template in [0, {known - 1}], which this checkpoint was trained on, got {template}: leave it "
            "out"
        )


def check_fit(made: SmartEditArchitecture, backbone: Backbone) -> None:
    """Refuse a UNet that cannot be told what a model reads.

    Args:
        made: sizes of the model.
        backbone: whose UNet is told.

    Raises:
        ModelError: naming the first size that differs.
    """
    unet = backbone.unet
    sizes = [
        ("columns of its context", made.context_width, int(unet.config.cross_attention_dim)),
        ("rows of its context", made.queries, int(backbone.tokenizer.model_max_length)),
    ]
    if made.interaction != "none":
        sizes.append(("channels behind its first convolution", made.unet_width, int(unet.conv_in.out_channels)))
    for what, given, read in sizes:
        if given != read:
            raise ModelError(
                f"the UNet of {backbone.name!r} reads {read} {what}, and its language model gives {given}: they are "
                "not of one checkpoint, fetch or convert it again"
            )


class SmartEditTools(Tools):
    """The tools of SmartEdit: its reader, and who finds phrases."""

    def __init__(self, backbone: Backbone, config: SmartEditConfig, *, model: SmartEditModel | None = None) -> None:
        """Load from the checkpoint when needed, or use a model that is there.

        Args:
            backbone: says where the checkpoint is.
            config: how the language model is loaded, and who finds phrases.
            model: one that is loaded; None = the checkpoint's.
        """
        super().__init__(backbone, language=LanguageConfig(), grounding=config.grounding)
        self._config, self._model = config, model

    def check(self) -> None:
        """Refuse a checkpoint that does not fit its UNet by its description; one on the hub is read when it is loaded.

        Raises:
            ModelError: if it is no SmartEdit, or naming the first size that differs.
            InputError: if it has no such template.
        """
        if self._model is not None:
            sizes, style = self._model.architecture, self._model.mllm.tokenizer.style
        else:
            location = locate_checkpoint(self._backbone.origin, "smartedit")
            if isinstance(location, str):
                return
            sizes, style, _ = read_description(location)
        check_fit(sizes, self._backbone)
        check_template(self._config.template, style)

    @cached_property
    def reader(self) -> Reader:
        """Who reads.

        Raises:
            ModelError: if the checkpoint has no language model, or one that does not fit its UNet.
        """
        backbone, config, model = self._backbone, self._config, self._model
        if model is None:
            location = locate_checkpoint(backbone.origin, "smartedit")
            model = load_smartedit(location, backbone.origin, mllm_device=config.mllm_device, quantize=config.quantize)
        return Reader(model, backbone)
