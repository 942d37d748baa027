"""Phrases to masks with CLIPSeg: one probability per pixel, for everything that the phrase fits.

Source: Image Segmentation Using Text and Image Prompts, arXiv 2112.10003. Pictures are squashed to the square the
network reads, and its map is stretched back over the picture.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from ..core.checkpoint import EMBEDDED, PRESET_FILE
from ..core.errors import ModelError, NothingFoundError
from ..core.images import image_to_pil, resize_image
from ..core.types import Image, Mask
from .grounding import Found, check_phrases, choose_mode, pick_candidates
from .grounding_options import GroundingConfig
from .pretrained import load_pretrained

_PUBLISHED_THRESHOLD = 0.5


class CLIPSegGrounder:
    """Finds phrases with CLIPSeg.

    The candidates of a phrase are the connected regions above the threshold, each with its highest probability.
    """

    def __init__(
        self,
        network: CLIPSegForImageSegmentation,
        processor: CLIPSegProcessor,
        config: GroundingConfig,
        *,
        mask_threshold: float = _PUBLISHED_THRESHOLD,
        knows: str = "",
    ) -> None:
        """Hold a network that is already on its device; `load_grounder` makes one from a checkpoint."""
        self.network, self.processor, self.config = network, processor, config
        self.mask_threshold = mask_threshold
        self.knows = knows
        """What the checkpoint was trained on, if it is not general."""

    def ground(self, image: Image, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """What answers each phrase, per picture and per phrase.

        Raises:
            NothingFoundError: if the probability of a phrase stays below the threshold all over a picture.
            InputError: if there are no phrases, or one is empty or too long.
        """
        rows: list[list[Found]] = [[] for _ in image]
        for phrase, maps in zip(phrases, self.probabilities(image, phrases), strict=True):
            mode = choose_mode(self.config.mask_mode, phrase)
            for row, probability in zip(rows, maps, strict=True):
                regions, boxes, scores = split_regions(probability[0], self.mask_threshold)
                if len(regions) == 0:
                    best = float(probability.max())
                    raise NothingFoundError(phrase, score=best, threshold=self.mask_threshold)
                mask = regions[pick_candidates(mode, scores)].amax(0, keepdim=True)
                row.append(
                    Found(
                        phrase=phrase,
                        mask=mask.to(image.device),
                        boxes=boxes.to(image.device),
                        scores=scores.to(image.device),
                    )
                )
        return tuple(tuple(row) for row in rows)

    @torch.no_grad()
    def probabilities(self, image: Image, phrases: Sequence[str]) -> tuple[Mask, ...]:
        """The probability of each phrase at every pixel: for each phrase, one map per picture.

        Raises:
            InputError: if there are no phrases, or one is empty or too long.
        """
        network: Any = self.network
        tokenize = self.processor.tokenizer
        check_phrases(
            phrases,
            count_tokens=lambda phrase: len(tokenize(phrase, verbose=False).input_ids),
            limit=network.config.text_config.max_position_embeddings,
        )
        tokens = tokenize(list(phrases), padding=True, return_tensors="pt")
        pictures = [image_to_pil(picture[None]) for picture in image]
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt").pixel_values.to(network.device)
        maps: list[Mask] = []
        for ids, attended in zip(tokens.input_ids, tokens.attention_mask, strict=True):
            logits = network(
                pixel_values=pixels.to(network.dtype),
                input_ids=ids.expand(len(pixels), -1).to(network.device),
                attention_mask=attended.expand(len(pixels), -1).to(network.device),
            ).logits
            # For a single picture some versions of transformers leave out the batch axis.
            squares = logits.float().sigmoid().reshape(len(pixels), 1, *logits.shape[-2:])
            maps.append(resize_image(squares, *image.shape[-2:]).clamp(0, 1))
        return tuple(maps)


def split_regions(
    probability: Float[Tensor, "height width"], threshold: float
) -> tuple[Float[Tensor, "regions height width"], Float[Tensor, "regions 4"], Float[Tensor, " regions"]]:
    """The connected regions (also over corners) above a threshold, their boxes and their highest probabilities.

    They are listed from the top down, on the CPU.
    """
    values = probability.cpu()
    above = values > threshold
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above.numpy().astype("uint8"), connectivity=8)
    regions = torch.from_numpy(labels)[None] == torch.arange(1, count)[:, None, None]
    x, y, width, height = torch.from_numpy(stats[1:, :4]).float().unbind(1)
    boxes = torch.stack((x, y, x + width, y + height), 1)
    scores = torch.where(regions, values, 0.0).flatten(1).amax(1)
    return regions.float(), boxes, scores


def load_clipseg(
    config: GroundingConfig, *, device: torch.device | str, model_dir: Path | None, offline: bool
) -> CLIPSegGrounder:
    """Load CLIPSeg, with the settings that its checkpoint brings along.

    Raises:
        ModelError: if the checkpoint is missing or incomplete, or its settings cannot be understood.
    """
    name = config.clipseg
    if name == EMBEDDED:
        folder = Path(str(files("maskedit.editors.embedded"))) / "clipseg"
        if not (folder / "config.json").is_file():
            raise ModelError("the embedded segmenter is not installed: train it with `maskedit train embedded`")
        name = str(folder)
        # It was trained on phrases that name exactly what they mean ("left cube"), so its map needs no picking; a thing
        # behind another may well fall into two regions.
        if config.mask_mode == "auto":
            config = replace(config, mask_mode="merge")
    network, processor, location = load_pretrained(
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        name,
        role="clipseg",
        device=device,
        model_dir=model_dir,
        offline=offline,
    )
    threshold, knows = _own_settings(Path(location) / PRESET_FILE)
    if config.mask_threshold is not None:
        threshold = config.mask_threshold
    return CLIPSegGrounder(network, processor, config, mask_threshold=threshold, knows=knows)


def _own_settings(path: Path) -> tuple[float, str]:
    if not path.is_file():
        return _PUBLISHED_THRESHOLD, ""
    try:
        stored = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(stored, dict):
        raise ModelError(f"cannot read {path}: expected an object of settings, got a {type(stored).__name__}")
    threshold, knows = stored.get("mask_threshold", _PUBLISHED_THRESHOLD), stored.get("knows", "")
    if not isinstance(threshold, float) or not 0 <= threshold < 1:
        raise ModelError(f"cannot read {path}: mask_threshold must be in [0, 1), got {threshold!r}")
    if not isinstance(knows, str):
        raise ModelError(f"cannot read {path}: knows must be some text, got {knows!r}")
    return threshold, knows
