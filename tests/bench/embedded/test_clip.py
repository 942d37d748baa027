"""The embedded CLIP: learns which caption belongs to which picture, resumes, and is published as others load it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

from maskedit.bench.embedded.captions import caption_vocabulary
from maskedit.bench.embedded.clip import (
    ClipBatch,
    ClipRecipe,
    EditorText,
    TrainedClip,
    block_phrases,
    build_clip,
    clip_loss,
    contrast,
    draw_clip_batch,
    embed_captions,
    embed_pictures,
    export_clip,
    installed_part,
    load_editor_text,
    train_clip,
)
from maskedit.bench.embedded.clip_views import States, StatesRecipe, make_states
from maskedit.bench.embedded.phrases import mirror_phrase
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.editors import OptimizeConfig, SessionError

RECIPE = ClipRecipe(
    states=StatesRecipe(shards=1, scenes_per_shard=10, edits=2, image_size=32),
    vision_width=32,
    vision_layers=2,
    text_layers=1,
    projection=32,
    heads=2,
    from_segmenter=False,
    batch_scenes=4,
    optimize=OptimizeConfig(steps=4, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
)
TEXTS = ["a small red cube", "photo of a blue sphere and a cylinder", "an empty floor"]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(caption_vocabulary(), length=RECIPE.text_length)


@pytest.fixture(scope="module")
def editor() -> EditorText:
    return load_editor_text("cpu")


@pytest.fixture(scope="module")
def model(tokenizer: CLIPTokenizer) -> CLIPModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_clip(RECIPE, tokenizer).eval()


@pytest.fixture(scope="module")
def states() -> States:
    return make_states(RECIPE.states, "test", range(10), device="cpu")


def draw(states: States, recipe: ClipRecipe = RECIPE, seed: int = 0) -> ClipBatch:
    return draw_clip_batch(recipe, states, torch.Generator().manual_seed(seed), "cpu")


@torch.no_grad()
def test_embeddings_are_what_the_network_itself_gives(model: CLIPModel, tokenizer: CLIPTokenizer, states: States):
    pictures = states.views.pictures[:2].float() / 255
    seen, read = embed_pictures(model, pictures), embed_captions(model, tokenizer, TEXTS)
    tokens: Any = tokenizer(TEXTS, padding=True, return_tensors="pt")
    own: Any = model(pixel_values=(pictures - 0.5) / 0.25, **tokens)
    torch.testing.assert_close(own.logits_per_image, model.logit_scale.exp() * seen @ read.T, atol=1e-4, rtol=1e-4)
    alone = embed_captions(model, tokenizer, TEXTS[:1])
    torch.testing.assert_close(alone[0], read[0], atol=1e-5, rtol=1e-4)


def test_contrast_is_the_symmetric_cross_entropy_without_what_is_ignored():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.nn.functional.normalize(torch.randn(3, 5, generator=generator), dim=-1) for _ in range(2))
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[0, 2] = True
    ignored[1, 1] = True
    cosines = (10 * first @ second.T).exp()
    allowed = torch.ones(3, 3)
    allowed[0, 2] = 0
    rows = sum(-torch.log(cosines[i, i] / (cosines[i] * allowed[i]).sum()) for i in range(3))
    columns = sum(-torch.log(cosines[i, i] / (cosines[:, i] * allowed[:, i]).sum()) for i in range(3))
    torch.testing.assert_close(contrast(first, second, 10.0, ignored), (rows + columns) / 6, atol=1e-5, rtol=1e-5)


def test_batches_say_what_their_pictures_show(states: States):
    batch = draw(states, replace(RECIPE, blurred_share=0.0, batch_scenes=10))
    assert batch.pictures.shape == (30, 3, 32, 32)
    assert (len(batch.full), len(batch.drawn), len(batch.instructions), batch.fits.shape) == (30, 30, 20, (30, 30))
    assert batch.fits.diagonal().all()
    flipped = 0
    for row in range(0, 30, 3):
        picture = (batch.pictures[row] * 255).round().to(torch.uint8)
        same, mirrored = (
            (views == picture).flatten(1).all(1) for views in (states.views.pictures, states.views.pictures.flip(-1))
        )
        (view,) = (same | mirrored).nonzero()[:1, 0].tolist()
        flipped += int(mirrored[view])
        own = states.instructions[view // 3]
        expected = [mirror_phrase(text) for text in own] if mirrored[view] else [*own]
        assert batch.instructions[row // 3 * 2 : row // 3 * 2 + 2] == expected
        colors = {block.color for block in states.views.scenes[view].blocks}
        assert {word for word in batch.full[row].split() if word in ("red", "blue", "green")} <= colors
    assert 0 < flipped < 10


def test_the_loss_falls_when_the_same_batch_is_learned(tokenizer: CLIPTokenizer, editor: EditorText, states: States):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_clip(RECIPE, tokenizer)
    batch = draw(states)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses: list[float] = []
    for _ in range(30):
        loss = clip_loss(model, tokenizer, editor, RECIPE, batch, each=states.each)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    for part in (model.text_model, model.vision_model, model.text_projection, model.visual_projection):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    assert all(parameter.grad is None for parameter in editor.model.parameters())


def test_a_cut_run_learns_what_an_unbroken_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights: list[dict[str, torch.Tensor]] = []
    for name, slices in (("cut", (-1.0, 1e-3, 600.0)), ("whole", (600.0,))):
        lines: list[str] = []
        trained = [
            train_clip(RECIPE, tmp_path / name, device="cpu", max_seconds=seconds, report=lines.append)
            for seconds in slices
        ]
        assert len(slices) == 1 or trained[0] is None
        assert trained[-1] is not None and trained[-1].step == 4
        assert lines[0] == "rendered states 1/1" and lines[-1].startswith("clip 4/4 loss ")
        weights.append(trained[-1].model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    monkeypatch.setattr("maskedit.bench.embedded.clip._fingerprint_beginning", lambda _: "another set")
    with pytest.raises(SessionError, match="another run"):
        train_clip(RECIPE, tmp_path / "whole", device="cpu", report=lambda _: None)


def test_it_starts_from_the_segmenter(tokenizer: CLIPTokenizer):
    model = build_clip(ClipRecipe(), tokenizer)
    stored = load_file(installed_part("clipseg") / "model.safetensors")
    for name, value in model.vision_model.state_dict().items():
        torch.testing.assert_close(value, stored[f"clip.vision_model.{name}"].float())
    with pytest.raises(SessionError, match="has no nothing: train that first"):
        installed_part("nothing")


def test_the_editors_states_are_its_own(editor: EditorText):
    states = editor.mean_states(["make the red cube blue", "remove it"])
    tokens: Any = editor.tokenizer(["make the red cube blue"], padding="max_length", return_tensors="pt")
    assert tokens.input_ids.shape[1] == editor.length
    with torch.no_grad():
        expected = editor.model(tokens.input_ids).last_hidden_state[0].mean(0)
    torch.testing.assert_close(states[0], expected, atol=1e-5, rtol=1e-4)


def test_what_is_published_sees_the_same(model: CLIPModel, tokenizer: CLIPTokenizer, states: States, tmp_path: Path):
    folder = tmp_path / "deep" / "clip"
    export_clip(TrainedClip(model=model, tokenizer=tokenizer, step=4), folder)
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}
    settings = json.loads((folder / "maskedit.json").read_text())
    assert settings["phrases"] == block_phrases() and "blocks world" in settings["knows"]
    loaded = CLIPModel.from_pretrained(folder).eval()
    assert next(loaded.parameters()).dtype == torch.float32
    processor: Any = CLIPProcessor.from_pretrained(folder)
    picture = Image.fromarray(states.views.pictures[0].permute(1, 2, 0).numpy().astype(np.uint8))
    inputs = processor(text=TEXTS, images=[picture], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        found = loaded(**inputs).logits_per_image / loaded.logit_scale.exp()
        seen = embed_pictures(model, states.views.pictures[:1].float() / 255)
        own = seen @ embed_captions(model, tokenizer, TEXTS).T
    torch.testing.assert_close(found, own, atol=0.01, rtol=0.01)


def test_phrases_are_words_it_knows():
    phrases = block_phrases()
    assert len(set(phrases)) == len(phrases)
    assert {"red cube", "blue thing", "large sphere", "shiny thing", "small green cylinder"} <= set(phrases)
    assert {word for phrase in phrases for word in phrase.split()} <= set(caption_vocabulary())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 5}, "patch_size must divide 32, got 5"),
        ({"blurred_share": 1.2}, "blurred_share must be in"),
        ({"batch_scenes": 1}, "batch_scenes must be at least 2, got 1"),
        ({"direction_scale": 0.0}, "direction_scale must be above 0, got 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)
