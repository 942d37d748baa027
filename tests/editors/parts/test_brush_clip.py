"""CLIP's cosines are those of transformers' own model, whatever the number of phrases."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors.core.errors import ModelError
from maskedit.editors.core.images import image_to_pil
from maskedit.editors.parts.brush_clip import load_clip
from maskedit.editors.parts.brush_phrases import PhraseConfig, PhraseScorer, find_phrases, read_vocabulary


def test_cosines_are_those_of_the_library(clip_folder: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    network = CLIPModel.from_pretrained(clip_folder).eval()
    processor: Any = CLIPProcessor.from_pretrained(clip_folder)
    image = torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    phrases = ("red cube", "oil painting", "snow")
    inputs = processor(
        text=list(phrases), images=[image_to_pil(row[None]) for row in image], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        expected = network(**inputs).logits_per_text / network.logit_scale.exp()
    scorer = load_clip(str(clip_folder), device="cpu")
    assert isinstance(scorer, PhraseScorer)
    torch.testing.assert_close(scorer.similarity(image, phrases), expected.mean(1), atol=1e-5, rtol=1e-4)


def test_phrases_go_in_parts(clip_folder: Path) -> None:
    scorer = load_clip(str(clip_folder), device="cpu")
    image = torch.rand(1, 3, 32, 32)
    phrases = read_vocabulary()[:70]
    whole = scorer.similarity(image, phrases)
    assert whole.shape == (70,)
    torch.testing.assert_close(whole[-1:], scorer.similarity(image, phrases[-1:]), atol=1e-5, rtol=1e-4)
    assert find_phrases(image, image, scorer, PhraseConfig()).text == ""


def test_a_missing_clip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as the clip, found nothing"):
        load_clip(str(tmp_path / "none"), device="cpu")
