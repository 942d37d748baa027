"""Phrases to masks in two steps: GroundingDINO finds boxes, Segment Anything fills them in.

Source: InstructEdit (arXiv 2305.18047), section 3.3, with GroundingDINO (arXiv 2303.05499) and Segment Anything (arXiv
2304.02643). The detector runs once for each phrase, so that every box belongs to exactly one of them; the published
code runs it once for all, joined by commas, and cannot tell afterwards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

from ..core.errors import NothingFoundError
from ..core.images import image_to_pil
from ..core.types import Image
from .grounding import Found, check_phrases, choose_mode, corners_of, pick_candidates
from .grounding_options import GroundingConfig
from .pretrained import load_pretrained
from .sam import SamMasks, load_sam


class Boxes(NamedTuple):
    """The boxes of one phrase in one picture, in the order of the detector."""

    corners: Float[Tensor, "boxes 4"]
    scores: Float[Tensor, " boxes"]
    labels: tuple[str, ...]


class GroundedSam:
    """Finds phrases with GroundingDINO and SAM."""

    def __init__(
        self,
        detector: GroundingDinoForObjectDetection,
        processor: GroundingDinoProcessor,
        sam: SamMasks,
        config: GroundingConfig,
    ) -> None:
        """Hold networks that are already on their device; `load_grounded_sam` makes one from checkpoints."""
        self.detector, self.processor, self.sam, self.config = detector, processor, sam, config

    def ground(self, image: Image, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """What answers each phrase, per picture and per phrase.

        Raises:
            NothingFoundError: if no box of a phrase reaches even the lowest threshold, or SAM finds nothing in it.
            InputError: if there are no phrases, or one is empty or too long.
        """
        detected = self.detect(image, phrases)
        return tuple(
            tuple(self._fill(picture, phrase, boxes) for phrase, boxes in zip(phrases, row, strict=True))
            for picture, row in zip(image, detected, strict=True)
        )

    def _fill(self, picture: Tensor, phrase: str, boxes: Boxes) -> Found:
        mode = choose_mode(self.config.mask_mode, phrase)
        picked = boxes.corners[pick_candidates(mode, boxes.scores)]
        mask = self.sam.masks(picture, picked).any(0, keepdim=True)
        if not mask.any():
            raise NothingFoundError(phrase)
        return Found(
            phrase=phrase,
            mask=mask.float().to(picture.device),
            boxes=boxes.corners.to(picture.device),
            scores=boxes.scores.to(picture.device),
            labels=boxes.labels,
        )

    @torch.no_grad()
    def detect(self, image: Image, phrases: Sequence[str]) -> tuple[tuple[Boxes, ...], ...]:
        """The boxes of each phrase, per picture and per phrase; there is at least one.

        Raises:
            NothingFoundError: if no box of a phrase reaches even the lowest threshold.
            InputError: if there are no phrases, or one is empty or too long.
        """
        # The network is typed as a dozen optional tensors.
        detector: Any = self.detector
        tokenize = self.processor.tokenizer
        check_phrases(
            phrases,
            count_tokens=lambda phrase: len(tokenize(detection_text(phrase), verbose=False).input_ids),
            limit=detector.config.max_text_len,
        )
        pictures = [image_to_pil(picture[None]) for picture in image]
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt").to(detector.device)
        columns: list[list[Boxes]] = []
        for phrase in phrases:
            tokens = tokenize(detection_text(phrase), return_tensors="pt").to(detector.device)
            words = {name: value.expand(len(image), -1) for name, value in tokens.items()}
            outputs = detector(pixel_values=pixels.pixel_values, pixel_mask=pixels.pixel_mask, **words)
            probabilities = outputs.logits.float().sigmoid()
            columns.append(
                [
                    self._choose(phrase, tokens.input_ids[0], values, boxes.float(), image)
                    for values, boxes in zip(probabilities, outputs.pred_boxes, strict=True)
                ]
            )
        return tuple(zip(*columns, strict=True))

    def _choose(self, phrase: str, ids: Tensor, probabilities: Tensor, boxes: Tensor, image: Tensor) -> Boxes:
        """The boxes above the threshold, or above the first lower one that any box passes."""
        scores = probabilities.amax(-1)
        best = float(scores.max())
        wanted = self.config.box_threshold
        thresholds = (wanted, *(lower for lower in self.config.retry_thresholds if lower < wanted))
        passed = [threshold for threshold in thresholds if best > threshold]
        if not passed:
            flag = f"--grounding.{'retry-thresholds' if thresholds[1:] else 'box-threshold'}"
            raise NothingFoundError(phrase, score=best, threshold=min(thresholds), lower=flag)
        keep = scores > passed[0]
        height, width = image.shape[-2:]
        named = (probabilities[keep, : len(ids)] > self.config.text_threshold).tolist()
        return Boxes(
            corners=corners_of(boxes[keep], height=height, width=width),
            scores=scores[keep],
            labels=tuple(self._label(ids.tolist(), row) for row in named),
        )

    def _label(self, ids: list[int], named: list[bool]) -> str:
        # The first and the last token are no words.
        chosen = [token for token, is_named in zip(ids[1:-1], named[1:-1], strict=True) if is_named]
        return self.processor.tokenizer.decode(chosen).strip(" .")


def detection_text(phrase: str) -> str:
    """A phrase as GroundingDINO was trained to read it: in lower case, ended by a full stop."""
    return phrase.strip().rstrip(".").rstrip().lower() + "."


def load_grounded_sam(
    config: GroundingConfig, *, device: torch.device | str, model_dir: Path | None, offline: bool
) -> GroundedSam:
    """Load GroundingDINO and SAM, both in float32: their thresholds were chosen so, and SAM runs no other way.

    Raises:
        ModelError: if a checkpoint is missing or incomplete.
    """
    detector, processor, _ = load_pretrained(
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        config.detector,
        role="detector",
        device=device,
        model_dir=model_dir,
        offline=offline,
    )
    return GroundedSam(detector, processor, load_sam(config.sam, device=device, model_dir=model_dir), config)
