"""Phrases to masks with CLIPSeg: one probability per pixel, for everything that the phrase fits.

Source: Image Segmentation Using Text and Image Prompts, arXiv 2112.10003. Pictures are squashed to the square the
network reads, and its map is stretched back over the picture.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from ..core.checkpoint import EMBEDDED, PRESET_FILE
from ..core.errors import ModelError, NothingFoundError
from ..core.images import image_to_pil, resize_image
from ..core.types import Image, Mask
from .grounding import Found, OnlySpecksError, check_phrases, choose_mode, pick_candidates
from .grounding_options import GroundingConfig
from .places import embedded_segmenter
from .pretrained import load_pretrained

_PUBLISHED_THRESHOLD = 0.5


class Regions(NamedTuple):
    """The connected regions of a map, from the top down, on the CPU."""

    labels: Int[Tensor, "height width"]
    """At every pixel the number of its region, counted from 1; 0 = in none."""
    boxes: Float[Tensor, "regions 4"]
    scores: Float[Tensor, " regions"]
    """Highest probability of each."""


class CLIPSegGrounder:
    """Finds phrases with CLIPSeg.

    The candidates of a phrase are the connected regions above the threshold that are no mere specks, each with its
    highest probability.
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
            NothingFoundError: if the probability of a phrase stays below the threshold all over a picture, or is above
                it only in specks.
            InputError: if there are no phrases, or one is empty or too long.
        """
        rows: list[list[Found]] = [[] for _ in image]
        for phrase, maps in zip(phrases, self.probabilities(image, phrases), strict=True):
            mode = choose_mode(self.config.mask_mode, phrase)
            for row, probability in zip(rows, maps, strict=True):
                regions = self._regions(phrase, probability[0])
                # Labels count from 1.
                mask = torch.isin(regions.labels, pick_candidates(mode, regions.scores).int() + 1)
                row.append(
                    Found(
                        phrase=phrase,
                        mask=mask[None].float().to(image.device),
                        boxes=regions.boxes.to(image.device),
                        scores=regions.scores.to(image.device),
                    )
                )
        return tuple(tuple(row) for row in rows)

    def _regions(self, phrase: str, probability: Tensor) -> Regions:
        regions = find_regions(probability, self.mask_threshold, least=self.config.min_area * probability.numel())
        if len(regions.scores) == 0:
            best = float(probability.max())
            if best <= self.mask_threshold:
                flag = "--grounding.mask-threshold"
                raise NothingFoundError(phrase, score=best, threshold=self.mask_threshold, lower=flag)
            raise OnlySpecksError(phrase, min_area=self.config.min_area)
        return regions

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


def find_regions(probability: Float[Tensor, "height width"], threshold: float, *, least: float = 0) -> Regions:
    """The connected regions (also over corners) above a threshold.

    They come as one picture of numbers, because a mask for each would take gigabytes where a photo has a hundred.

    Args:
        probability: at every pixel.
        threshold: probability above which a pixel counts.
        least: pixels below which a region is left out.
    """
    values = probability.cpu()
    above = (values > threshold).numpy().astype("uint8")
    count, found, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    sizes = torch.from_numpy(stats[:, cv2.CC_STAT_AREA])
    # The first one is what lies outside all others.
    kept = (sizes >= least) & (torch.arange(count) > 0)
    numbers = torch.where(kept, kept.cumsum(0), 0).int()
    labels = numbers[torch.from_numpy(found)]
    x, y, width, height = torch.from_numpy(stats[:, :4])[kept].float().unbind(1)
    scores = torch.zeros(int(kept.sum()) + 1).scatter_reduce(0, labels.flatten().long(), values.flatten(), "amax")
    return Regions(labels=labels, boxes=torch.stack((x, y, x + width, y + height), 1), scores=scores[1:])


def load_clipseg(
    config: GroundingConfig, *, device: torch.device | str, model_dir: Path | None, offline: bool
) -> CLIPSegGrounder:
    """Load CLIPSeg, with the settings that its checkpoint brings along.

    Raises:
        ModelError: if the checkpoint is missing or incomplete, or its settings cannot be understood.
    """
    name = config.clipseg
    if name == EMBEDDED:
        name = str(embedded_segmenter())
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
