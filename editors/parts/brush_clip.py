"""CLIP as a judge of pictures, phrases and learned embeddings, loaded as the other models around an editor are.

Source: CLIP, arXiv 2103.00020; InstructBrush (arXiv 2403.18660) leaves open which size it uses. ViT-L/14 is the usual.
The embedded set has a small one, which knows the blocks world and brings along the phrases it is to be asked.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.checkpoint import EMBEDDED, PRESET_FILE
from ..core.errors import ModelError
from ..core.files import read_json
from ..core.images import image_to_pil
from ..core.types import Image
from .pretrained import load_pretrained

_TEXTS_AT_ONCE = 64


class ClipScorer:
    """What CLIP makes of pictures and texts."""

    def __init__(self, network: Any, processor: Any, *, name: str = "CLIP", phrases: Sequence[str] = ()) -> None:
        """Use a network of transformers and its processor.

        Args:
            network: CLIP; it stays as it is.
            processor: prepares its inputs.
            name: what messages call it.
            phrases: what it is to be asked where nobody names a vocabulary; empty = anything.
        """
        self.network, self.processor = network, processor
        self.name, self.phrases = name, tuple(phrases)

    @property
    def text_width(self) -> int:
        """Width of the hidden states that its projection of texts reads."""
        return int(self.network.text_projection.in_features)

    @torch.no_grad()
    def picture_features(self, image: Image) -> Float[Tensor, "batch features"]:
        """Projected features of pictures, of any length."""
        pictures = [image_to_pil(row[None]) for row in image]
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        seen = self.network.vision_model(pixel_values=pixels.to(self.network.device)).pooler_output
        return self.network.visual_projection(seen).float()

    def embed_images(self, image: Image) -> Float[Tensor, "batch features"]:
        """Embeddings of pictures, of length 1."""
        return F.normalize(self.picture_features(image), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts features"]:
        """Embeddings of texts, of length 1; what is too long is cut."""
        found: list[Tensor] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            tokens = self.processor.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
            read = self.network.text_model(
                input_ids=tokens["input_ids"].to(self.network.device),
                attention_mask=tokens["attention_mask"].to(self.network.device),
            ).pooler_output
            found.append(F.normalize(self.network.text_projection(read).float(), dim=-1))
        return torch.cat(found)

    def similarity(self, image: Image, phrases: Sequence[str]) -> Float[Tensor, " phrases"]:
        """For each phrase the mean cosine with the pictures."""
        return (self.embed_texts(phrases) @ self.embed_images(image).T).mean(1)

    def project_states(self, states: Float[Tensor, "rows width"]) -> Float[Tensor, "rows features"]:
        """What its projection of texts makes of hidden states; gradients pass through.

        Raises:
            ModelError: if they are of another width than its own.
        """
        if states.shape[-1] != self.text_width:
            raise ModelError(
                f"{self.name} projects hidden states {self.text_width} wide, the checkpoint's are {states.shape[-1]}: "
                "pass --clip the CLIP whose text encoder the checkpoint has"
            )
        weight = self.network.text_projection.weight
        return self.network.text_projection(states.to(weight)).float()


def load_clip(
    name: str, *, device: torch.device | str, model_dir: Path | None = None, offline: bool = False
) -> ClipScorer:
    """Load CLIP.

    Args:
        name: folder or hub id; `embedded` = of the embedded set.
        device: where it runs.
        model_dir: folder with local copies, looked up before the hub.
        offline: never ask the hub.

    Raises:
        ModelError: if it is missing or incomplete.
    """
    from transformers import CLIPModel, CLIPProcessor

    place = str(embedded_clip()) if name == EMBEDDED else name
    loaded = load_pretrained(
        CLIPModel, CLIPProcessor, place, role="clip", device=device, model_dir=model_dir, offline=offline
    )
    phrases: Sequence[str] = ()
    if isinstance(loaded.location, Path) and (loaded.location / PRESET_FILE).is_file():
        own = read_json(loaded.location / PRESET_FILE, hint="mend or remove it", error=ModelError)
        phrases = [str(phrase) for phrase in own.get("phrases", ())]
    return ClipScorer(loaded.network, loaded.processor, name=name, phrases=phrases)


def embedded_clip() -> Path:
    """Folder of the CLIP of the embedded set.

    Raises:
        ModelError: if it is not installed.
    """
    folder = Path(str(files("maskedit.editors.embedded"))) / "clip"
    if not (folder / "config.json").is_file():
        raise ModelError("the embedded CLIP is not installed: train it with `maskedit train embedded --part clip`")
    return folder
