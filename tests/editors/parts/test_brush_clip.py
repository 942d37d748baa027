"""CLIP's cosines are those of transformers' own model, whatever the number of phrases."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.bench.blocks import make_pairs
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


def test_embeddings_have_length_one_and_make_the_cosines(clip_folder: Path) -> None:
    scorer = load_clip(str(clip_folder), device="cpu")
    image = torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    seen, read = scorer.embed_images(image), scorer.embed_texts(["red cube", "snow", "a very long caption"])
    assert (seen.shape, read.shape) == ((2, 16), (3, 16))
    for embeds in (seen, read):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))
    torch.testing.assert_close(scorer.similarity(image, ["snow"])[0], (seen @ read[1]).mean(), atol=1e-5, rtol=1e-4)
    longer = scorer.picture_features(image)
    torch.testing.assert_close(longer / longer.norm(dim=-1, keepdim=True), seen)


def test_hidden_states_are_projected_with_their_gradient(clip_folder: Path) -> None:
    scorer = load_clip(str(clip_folder), device="cpu")
    states = torch.rand(2, scorer.text_width, requires_grad=True)
    projected = scorer.project_states(states)
    torch.testing.assert_close(projected, states @ scorer.network.text_projection.weight.T)
    projected.sum().backward()
    torch.testing.assert_close(states.grad, scorer.network.text_projection.weight.sum(0).expand(2, -1))
    with pytest.raises(ModelError, match="hidden states 32 wide, the checkpoint's are 5"):
        scorer.project_states(torch.rand(1, 5))


def test_phrases_come_with_a_checkpoint(clip_folder: Path, tmp_path: Path) -> None:
    assert load_clip(str(clip_folder), device="cpu").phrases == ()
    own = Path(shutil.copytree(clip_folder, tmp_path / "own"))
    (own / "maskedit.json").write_text('{"phrases": ["red cube", "blue cube"]}')
    assert load_clip(str(own), device="cpu").phrases == ("red cube", "blue cube")
    (own / "maskedit.json").write_text("{")
    with pytest.raises(ModelError, match="mend or remove it"):
        load_clip(str(own), device="cpu")


def test_the_embedded_clip_knows_blocks() -> None:
    """Red pictures are called red, and blue ones blue, by the CLIP that ships."""
    clip = load_clip("embedded", device="cpu")
    assert "red cube" in clip.phrases and "oil painting" not in clip.phrases
    pairs = make_pairs("test", range(12), kinds={"recolor": 1.0}, references={"plain": 1.0})
    right = 0
    for row, spec in enumerate(pairs.specs):
        old, new = (scene.blocks[spec.edited_index[0][0]].noun for scene in (spec.scene, spec.edited))
        before, after = (clip.similarity(side[row : row + 1], [old, new]) for side in (pairs.source, pairs.target))
        right += bool(before[0] - before[1] > after[0] - after[1])
    assert right >= 11


def test_a_missing_clip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as the clip, found nothing"):
        load_clip(str(tmp_path / "none"), device="cpu")
