"""CLIP as a judge of phrases, loaded as the other models around an editor are.

Source: CLIP, arXiv 2103.00020; InstructBrush (arXiv 2403.18660) leaves open which size it uses. ViT-L/14 is the usual.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.images import image_to_pil
from ..core.types import Image
from .pretrained import load_pretrained

_PHRASES_AT_ONCE = 64


class ClipScorer:
    """Cosines of CLIP between pictures and phrases."""

    def __init__(self, network: Any, processor: Any) -> None:
        """Use a network of transformers and its processor."""
        self._network, self._processor = network, processor

    @torch.no_grad()
    def similarity(self, image: Image, phrases: Sequence[str]) -> Float[Tensor, " phrases"]:
        """For each phrase the mean cosine with the pictures."""
        pictures = [image_to_pil(row[None]) for row in image]
        pixels = self._processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        device = self._network.device
        seen = self._network.vision_model(pixel_values=pixels.to(device)).pooler_output
        seen = F.normalize(self._network.visual_projection(seen), dim=-1)
        means: list[Tensor] = []
        for start in range(0, len(phrases), _PHRASES_AT_ONCE):
            part = list(phrases[start : start + _PHRASES_AT_ONCE])
            tokens = self._processor.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
            read = self._network.text_model(
                input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
            ).pooler_output
            read = F.normalize(self._network.text_projection(read), dim=-1)
            means.append((read @ seen.T).mean(1))
        return torch.cat(means)


def load_clip(
    name: str, *, device: torch.device | str, model_dir: Path | None = None, offline: bool = False
) -> ClipScorer:
    """Load CLIP.

    Args:
        name: folder or hub id.
        device: where it runs.
        model_dir: folder with local copies, looked up before the hub.
        offline: never ask the hub.

    Raises:
        ModelError: if it is missing or incomplete.
    """
    from transformers import CLIPModel, CLIPProcessor

    loaded = load_pretrained(
        CLIPModel, CLIPProcessor, name, role="clip", device=device, model_dir=model_dir, offline=offline
    )
    return ClipScorer(loaded.network, loaded.processor)
