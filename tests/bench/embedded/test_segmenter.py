"""The embedded segmenter: learns what phrases mean, resumes, and is published as transformers loads it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor, CLIPTokenizer

from maskedit.bench.blocks import vocabulary
from maskedit.bench.embedded.phrases import ATTRIBUTES, PhraseBook, mirror_phrase
from maskedit.bench.embedded.segmenter import (
    SegmenterBatch,
    SegmenterHeads,
    SegmenterRecipe,
    TrainedSegmenter,
    build_segmenter,
    draw_batch,
    export_segmenter,
    segment_phrases,
    segmenter_loss,
    tokenize_phrases,
    train_segmenter,
)
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.bench.embedded.views import Views, ViewsRecipe, make_views, render_views
from maskedit.editors import OptimizeConfig

RECIPE = SegmenterRecipe(
    views=ViewsRecipe(shards=1, views_per_shard=20, image_size=32, twins_share=0.7),
    vision_width=32,
    text_width=32,
    text_layers=1,
    decoder_width=16,
    heads=2,
    vision_layers=3,
    extract_layers=(0, 1, 2),
    batch_size=4,
    phrases=3,
    optimize=OptimizeConfig(steps=6, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
)
TEXTS = ["the left red cube", "all blue things", "small cylinder", "the larger white sphere"]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(vocabulary(), length=RECIPE.text_length)


@pytest.fixture(scope="module")
def model(tokenizer: CLIPTokenizer) -> CLIPSegForImageSegmentation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter(RECIPE, tokenizer).eval()


@pytest.fixture(scope="module")
def views() -> Views:
    return make_views(RECIPE.views, "test", range(20), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Views to learn from; do not write into it."""
    path = tmp_path_factory.mktemp("views")
    render_views(RECIPE.views, path, lambda _: None, "cpu")
    return path


def draw(views: Views, recipe: SegmenterRecipe = RECIPE, seed: int = 0) -> SegmenterBatch:
    return draw_batch(recipe, PhraseBook(views), torch.Generator().manual_seed(seed), "cpu")


@torch.no_grad()
def test_phrases_together_give_what_the_network_itself_gives_for_each(model, tokenizer, views):
    tokens = tokenize_phrases(tokenizer, TEXTS, "cpu")
    pictures = views.pictures[:2].float() / 255
    together = segment_phrases(model, pictures, tokens).logits
    assert together.shape == (2, 2, 32, 32)
    pixels = ((pictures - 0.5) / 0.25).repeat_interleave(2, 0)
    each = model(pixel_values=pixels, input_ids=tokens).logits.view(2, 2, 32, 32)
    torch.testing.assert_close(together, each, atol=1e-5, rtol=1e-5)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3, "a phrase matters"


@torch.no_grad()
def test_a_phrase_means_the_same_however_it_is_padded(model, tokenizer, views):
    pictures = views.pictures[:1].float() / 255
    alone = segment_phrases(model, pictures, tokenize_phrases(tokenizer, ["red cube"], "cpu"))
    padded = tokenize_phrases(tokenizer, ["red cube", "the cylinder on the left"], "cpu")
    beside = segment_phrases(model, pictures, padded)
    torch.testing.assert_close(alone.logits[0, 0], beside.logits[0, 0], atol=1e-5, rtol=1e-5)
    assert (beside.condition[0] - beside.condition[1]).abs().max() > 1e-2


@torch.no_grad()
def test_what_the_decoder_gets_is_what_its_first_layer_is_given(model, tokenizer, views):
    given = []
    hook = model.decoder.layers[0].register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    segmented = segment_phrases(model, views.pictures[:2].float() / 255, tokenize_phrases(tokenizer, TEXTS, "cpu"))
    hook.remove()
    torch.testing.assert_close(segmented.modulated, given[0][:, 1:], atol=1e-5, rtol=1e-5)


def test_batches_show_what_they_ask_for(views):
    recipe = replace(RECIPE, blurred_share=0.0, batch_size=32)
    batch = draw(views, recipe)
    assert batch.pictures.shape == (32, 3, 32, 32) and len(batch.texts) == 96
    assert batch.masks.shape == (32, 3, 32, 32) and batch.attributes.shape == (32, len(ATTRIBUTES), 4, 4)
    blocks = views.index >= 0
    flipped = 0
    for row, picture in enumerate((batch.pictures * 255).round().to(torch.uint8)):
        same = (views.pictures == picture).flatten(1).all(1)
        mirrored = (views.pictures.flip(-1) == picture).flatten(1).all(1)
        (view,) = (same | mirrored).nonzero()[:1, 0].tolist()
        flipped += int(mirrored[view])
        seen = blocks[view].flip(-1) if mirrored[view] else blocks[view]
        assert not (batch.masks[row].bool() & ~seen).any()
        colors = batch.attributes[row, :8].sum(0)
        torch.testing.assert_close(colors, torch.nn.functional.avg_pool2d(seen[None].float(), 8)[0])
    assert 6 < flipped < 26
    absent = (batch.masks.flatten(2).sum(2) == 0).float().mean()
    assert 0.03 < absent < 0.35


def test_sides_are_right_in_flipped_pictures_too(views):
    batch = draw(views, replace(RECIPE, batch_size=64, phrases=8, blurred_share=0.0, absent_share=0.0, easy_share=0.0))
    columns = torch.arange(32.0)
    seen = 0
    for number, text in enumerate(batch.texts):
        if "left" not in text.split():
            continue
        row, place = divmod(number, 8)
        for other in range(8):
            if batch.texts[8 * row + other].removeprefix("the ") != mirror_phrase(text).removeprefix("the "):
                continue
            here, there = (batch.masks[row, at].sum(0) for at in (place, other))
            assert (here * columns).sum() / here.sum() < (there * columns).sum() / there.sum()
            seen += 1
    assert seen > 3


def test_easy_views_are_drawn_less_often(views):
    def hard(share: float) -> int:
        texts = draw(views, replace(RECIPE, batch_size=64, easy_share=share, absent_share=0.0)).texts
        return sum(bool({"left", "right", "smaller", "larger"} & set(text.split())) for text in texts)

    assert hard(0.0) > hard(1.0) > 0


def test_the_loss_falls_when_the_same_batch_is_learned(tokenizer, views):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, heads = build_segmenter(RECIPE, tokenizer), SegmenterHeads(RECIPE)
    batch = draw(views)
    tokens = tokenize_phrases(tokenizer, batch.texts, "cpu")
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = segmenter_loss(model, heads, RECIPE, batch, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    for tower in (model.clip.text_model, model.clip.vision_model, model.decoder):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in tower.parameters())


def test_a_cut_run_learns_what_an_unbroken_one_does(folder: Path, tmp_path: Path):
    weights = []
    for name, slices in (("cut", (0.0, 60.0)), ("whole", (60.0,))):
        own = tmp_path / name
        own.mkdir()
        (own / "views_000.safetensors").write_bytes((folder / "views_000.safetensors").read_bytes())
        lines: list[str] = []
        trained = [
            train_segmenter(RECIPE, own, device="cpu", max_seconds=seconds, report=lines.append) for seconds in slices
        ][-1]
        assert trained is not None and trained.step == 6
        assert lines[-1].startswith("segmenter 6/6 loss ")
        weights.append(trained.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_views_are_rendered_before_the_first_step(folder: Path, tmp_path: Path):
    lines: list[str] = []
    assert train_segmenter(RECIPE, tmp_path, device="cpu", max_seconds=-1.0, report=lines.append) is None
    assert not list(tmp_path.glob("*.safetensors")) and lines == []
    trained = train_segmenter(RECIPE, tmp_path, device="cpu", report=lines.append)
    assert trained is not None and trained.step == 6
    assert lines[0] == "rendered views 1/1"
    name = "views_000.safetensors"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_what_is_published_finds_the_same(model, tokenizer, views, tmp_path: Path):
    folder = tmp_path / "deep" / "clipseg"
    export_segmenter(TrainedSegmenter(model=model, tokenizer=tokenizer, step=6), folder)
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118
    settings = json.loads((folder / "maskedit.json").read_text())
    assert 0 < settings["mask_threshold"] < 1 and "blocks world" in settings["knows"]
    loaded = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    assert next(loaded.parameters()).dtype == next(model.parameters()).dtype
    processor = CLIPSegProcessor.from_pretrained(folder)
    picture = Image.fromarray(views.pictures[0].permute(1, 2, 0).numpy().astype(np.uint8))
    inputs = processor(text=TEXTS, images=[picture] * 4, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = loaded(**inputs).logits
        own = segment_phrases(model, views.pictures[:1].float() / 255, tokenize_phrases(tokenizer, TEXTS, "cpu"))
    torch.testing.assert_close(found, own.logits[0], atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 5}, "patch_size must divide 32"),
        ({"extract_layers": (1, 3)}, r"extract_layers must be in \[0, 3\)"),
        ({"absent_share": 1.2}, "absent_share must be in"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)
