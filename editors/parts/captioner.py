"""Says in a sentence what a picture shows, for language processors that cannot see it.

Source: InstructEdit (arXiv 2305.18047), section 3.2, with BLIP-2 (arXiv 2301.12597): asked what kind of picture it is,
the model's answer is turned into a beginning ("Photo of"), which the model then completes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.caching import Remembered, picture_key
from ..core.errors import ModelError
from ..core.images import image_to_pil
from ..core.types import Image
from .grounding_options import CaptionerConfig

_PICTURES_KEPT = 1024


@runtime_checkable
class Captioner(Protocol):
    """Anything that describes pictures."""

    def describe(self, image: Image) -> tuple[str, ...]:
        """One description per picture, such as "Photo of a cat on a bench.".

        Raises:
            ModelError: if nothing is said about a picture.
        """
        ...


class Blip2Captioner:
    """Describes pictures with BLIP-2; each is described once."""

    def __init__(self, network: Any, processor: Any, config: CaptionerConfig) -> None:
        """Hold a network that is already on its device; `load_captioner` makes one from a checkpoint."""
        self.network, self.processor, self.config = network, processor, config
        self._known: Remembered[str] = Remembered(_PICTURES_KEPT)

    def describe(self, image: Image) -> tuple[str, ...]:
        """One description per picture.

        Pictures go through one by one: the second question is not the same for all of them, and what is said about one
        must not depend on its neighbours.

        Raises:
            ModelError: if the model answers one of the two questions with nothing.
        """
        return tuple(
            self._known.get(picture_key(picture), lambda picture=picture: self._describe(picture)) for picture in image
        )

    def _describe(self, picture: Tensor) -> str:
        kind = self.answer(picture, self.config.question)
        beginning = f"{kind[:1].upper()}{kind[1:]} of"
        return f"{beginning} {self.answer(picture, beginning)}."

    @torch.no_grad()
    def answer(self, picture: Float[Tensor, "3 height width"], text: str) -> str:
        """What the model says after a text, on one line, without its full stop.

        Raises:
            ModelError: if it says nothing.
        """
        network = self.network
        inputs = self.processor(images=image_to_pil(picture[None]), text=text, return_tensors="pt").to(network.device)
        said: Sequence[Tensor] = network.generate(
            # Other parts of the network stay in float32 whatever it is loaded in.
            pixel_values=inputs.pixel_values.to(network.vision_model.dtype),
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=self.config.max_new_tokens,
            do_sample=False,
        )
        # Language models without an encoder repeat what they were given.
        start = 0 if network.config.text_config.is_encoder_decoder else inputs.input_ids.shape[1]
        words = self.processor.tokenizer.decode(said[0][start:], skip_special_tokens=True).split()
        answer = " ".join(words).rstrip(" .")
        if not answer:
            raise ModelError(
                f"expected {self.config.model} to continue {text!r}, got nothing: turn the captioner off, ask another "
                "question or choose another model"
            )
        return answer


def load_captioner(
    config: CaptionerConfig, *, device: torch.device | str, model_dir: Path | None = None, offline: bool = False
) -> Captioner:
    """Load BLIP-2, in float16 where there is a GPU, as it is published.

    Args:
        config: which one, and what it is asked.
        device: where it runs.
        model_dir: folder with local copies, looked up before the hub.
        offline: never ask the hub.

    Raises:
        ModelError: if the checkpoint is missing or incomplete, or would not look at the picture.
    """
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    from .pretrained import load_pretrained

    network, processor, location = load_pretrained(
        Blip2ForConditionalGeneration,
        Blip2Processor,
        config.model,
        role="captioner",
        device=device,
        model_dir=model_dir,
        offline=offline,
        dtype="auto",
    )
    # The picture takes the place of these tokens; with too few of them it would be left out without a word.
    wanted = network.config.num_query_tokens
    if processor.num_query_tokens != wanted:
        raise ModelError(
            f"the processor of {location} leaves {processor.num_query_tokens or 0} places for the picture, expected "
            f"{wanted}: fetch a newer version of the checkpoint"
        )
    return Blip2Captioner(network, processor, config)
