"""All that SmartEdit has before the UNet: language model, QFormer and interaction.

Source: SmartEdit, arXiv 2312.06739, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import ModelError
from ..core.types import Image
from .architecture import SmartEditArchitecture
from .conversation import Conversation, edit_conversation
from .interaction import Interaction
from .mllm import Mllm
from .qformer import QFormer
from .recipe import SmartEditStage


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the language model said about pictures, before it meets their features."""

    contexts: Float[Tensor, "batch queries context_width"]
    """f, of the QFormer."""
    v: Float[Tensor, "batch patches vision_width"] | None
    """Features of the patches; None = there was no picture."""
    talk_loss: Float[Tensor, " batch"]
    """How badly the language model foretold its answer."""


class SmartEditModel(nn.Module):
    """From a picture and an instruction to what the UNet is conditioned on."""

    def __init__(
        self, mllm: Mllm, qformer: QFormer, interaction: Interaction, architecture: SmartEditArchitecture
    ) -> None:
        """Hold networks that are already on their devices; the language model may be on another than the rest.

        Raises:
            ModelError: if the pictures' features are not as wide as the interaction.
        """
        super().__init__()
        if architecture.interaction != "none" and mllm.vision_width != architecture.interaction_width:
            raise ModelError(
                f"expected a language model whose features of pictures have width {architecture.interaction_width}, "
                f"got {mllm.vision_width}: use the one that the checkpoint was made for"
            )
        self.mllm, self.qformer, self.interaction, self.architecture = mllm, qformer, interaction, architecture
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where QFormer and interaction are, and what they give."""
        return self.qformer.queries.device

    def look(self, image: Image) -> Float[Tensor, "batch patches vision_width"]:
        """v: features of the patches of pictures, on the language model's device."""
        return self.mllm.look(image)

    def read(self, image: Image, instructions: Sequence[str], template: int = 0) -> Reading:
        """Read an instruction for each picture.

        Args:
            image: pictures of any size.
            instructions: one per picture.
            template: which words stand around them.
        """
        talks = [edit_conversation(self.mllm.tokenizer, each, template) for each in instructions]
        return self.read_conversations(talks, self.look(image))

    def read_conversations(
        self, conversations: Sequence[Conversation], v: Float[Tensor, "batch patches vision_width"] | None
    ) -> Reading:
        """Read any conversations; what is read out of one without image tokens means nothing.

        Args:
            conversations: one per picture.
            v: from `look`; None = none of them has a picture.
        """
        output = self.mllm.read(conversations, v)
        return Reading(
            contexts=self.qformer(output.states.to(self.device)),
            v=None if v is None else v.to(self.device, torch.float32),
            talk_loss=output.loss.to(self.device),
        )

    def condition(
        self, reading: Reading, size: tuple[int, int]
    ) -> tuple[
        Float[Tensor, "batch queries context_width"],
        Float[Tensor, "batch unet_width latent_height latent_width"] | None,
    ]:
        """f' and v': the context of the UNet, and what is added behind its first convolution.

        Args:
            reading: from `read`.
            size: rows and columns of the UNet's latents.

        Raises:
            ModelError: if the reading is one without pictures, and there is an interaction.
        """
        if self.interaction.kind == "none":
            return reading.contexts, None
        if reading.v is None:
            raise ModelError("expected a reading of a picture, got one of a text alone: read it with its picture")
        return self.interaction(reading.contexts, reading.v, size)

    def trainable(self, stage: SmartEditStage) -> dict[str, nn.Parameter]:
        """Let learn what a stage trains, freeze all else, and give the former by name.

        Source: SmartEdit, section 4.3; without the UNet, which is not in here.
        """
        self.requires_grad_(False)
        adapter = {f"mllm.{name}" for name in self.mllm.adapter_parameters()} if stage != "1" else set[str]()
        rows = {"mllm.new_inputs", "mllm.new_outputs"}
        heads = ("qformer.", "interaction.") if stage == "2b" else ("qformer.",)
        chosen = {
            name: each
            for name, each in self.named_parameters()
            if name in adapter or name in rows or name.startswith(heads)
        }
        for each in chosen.values():
            each.requires_grad_(True)
        return chosen

    def count_parameters(self) -> dict[str, int]:
        """How many numbers each part holds."""
        mllm = self.mllm
        adapter = sum(each.numel() for each in mllm.adapter_parameters().values())
        spoken = [mllm.language, mllm.llava.lm_head]
        return {
            "vision tower": _count(mllm.llava.model.vision_tower),
            "projector": _count(mllm.llava.model.multi_modal_projector),
            "language model": sum(_count(each) for each in spoken) - adapter,
            "adapter": adapter,
            "new tokens": mllm.new_inputs.numel() + mllm.new_outputs.numel(),
            "qformer": _count(self.qformer),
            "interaction": _count(self.interaction),
        }


def _count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())
