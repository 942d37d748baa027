"""The embedded text-to-image model: its data, its loss, and training that gives the same bits when it is cut."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from maskedit.bench.embedded import text_to_image
from maskedit.bench.embedded.editor import build_scheduler
from maskedit.bench.embedded.encoded_views import EncodedViews
from maskedit.bench.embedded.text_to_image import (
    MOST_PHRASES,
    TextToImageRecipe,
    TrainedText,
    build_text_model,
    draw_captions,
    drop_captions,
    encode_recipe,
    measure_text_to_image,
    text_to_image_loss,
    tokenize_captions,
    train_text_to_image,
)
from maskedit.bench.embedded.vae import VAERecipe, build_vae
from maskedit.bench.embedded.views import ViewsRecipe, render_views
from maskedit.editors import OptimizeConfig, SessionError, optimize

STEPS = 3
RECIPE = TextToImageRecipe(
    block_out_channels=(16, 32),
    text_width=32,
    text_layers=1,
    batch_size=4,
    stacked_shards=1,
    views=ViewsRecipe(shards=2, views_per_shard=10, image_size=16),
    optimize=OptimizeConfig(steps=STEPS, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5),
)


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_vae(VAERecipe(block_out_channels=(16, 16, 16), image_size=16)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered views; do not write into it."""
    place = tmp_path_factory.mktemp("views")
    render_views(RECIPE.views, place, silent, "cpu")
    return place


@pytest.fixture(scope="module")
def whole(folder: Path, vae: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedText]:
    """A model trained in one go, and its folder; do not write into it."""
    place = copied(folder, tmp_path_factory.mktemp("whole"))
    return place, train(place, vae)


@pytest.fixture(scope="module")
def data(whole: tuple[Path, TrainedText], vae: AutoencoderKL) -> EncodedViews:
    found = encode_recipe(RECIPE, vae, whole[0], silent, "cpu", deadline=math.inf)
    assert found is not None
    return found


def copied(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        shutil.copy(path, to / path.name)
    return to


def train(folder: Path, vae: AutoencoderKL, seconds: float = math.inf) -> TrainedText:
    trained = train_text_to_image(RECIPE, folder, device="cpu", max_seconds=seconds, report=silent, vae=vae)
    assert trained is not None
    return trained


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_no_time_and_no_latents_gets_nowhere(folder: Path, vae: AutoencoderKL):
    assert train_text_to_image(RECIPE, folder, device="cpu", max_seconds=0.0, report=silent, vae=vae) is None


def test_tokens_point_at_the_words_of_the_blocks(data: EncodedViews, vae: AutoencoderKL):
    tokenizer, _ = build_text_model(RECIPE, vae, "cpu")
    rows = list(range(len(data.index)))
    captions = draw_captions(data.views, rows, [False] * len(rows), np.random.default_rng(3))
    batch = tokenize_captions(captions, tokenizer, data.index)
    assert batch.ids.shape == (len(rows), RECIPE.text_length)
    assert any(caption.phrases for caption in captions)
    for row, caption in enumerate(captions):
        for i in range(MOST_PHRASES):
            words = batch.ids[row, batch.keywords[row, i] > 0]
            noun = batch.ids[row, batch.keywords[row, MOST_PHRASES + i] > 0]
            if i >= len(caption.phrases):
                assert not len(words)
                assert not batch.silhouettes[row, i].any()
                continue
            phrase = caption.phrases[i]
            assert tokenizer.decode(words) == " ".join(caption.words[k] for k in phrase.words)
            assert tokenizer.decode(noun).strip() == caption.words[phrase.noun]
            assert batch.keywords[row, i].sum() == pytest.approx(1)
            inside = sum((data.index[row] == block) for block in phrase.blocks)
            assert torch.equal(batch.silhouettes[row, i], inside > 0)


def test_dropped_captions_are_the_empty_text(vae: AutoencoderKL):
    tokenizer, _ = build_text_model(RECIPE, vae, "cpu")
    ids = tokenizer(["a red cube"] * 2, padding="max_length", return_tensors="pt").input_ids
    dropped = drop_captions(ids, torch.tensor([True, False]), tokenizer)
    assert tokenizer.decode(dropped[0], skip_special_tokens=True) == ""
    assert torch.equal(dropped[1], ids[1])


def test_the_loss_reaches_every_weight(data: EncodedViews, vae: AutoencoderKL):
    tokenizer, model = build_text_model(RECIPE, vae, "cpu")
    assert model.unet.config.in_channels == 4
    generator = torch.Generator().manual_seed(0)
    loss = text_to_image_loss(model, RECIPE, build_scheduler(), data, tokenizer, generator)
    loss.backward()
    assert loss.isfinite()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.unet.parameters())
    (words,) = [value for name, value in model.named_parameters() if name.endswith("token_embedding.weight")]
    assert words.grad is not None
    assert words.grad.abs().sum() > 0


def test_attention_is_asked_for_only_where_the_picture_shows(data: EncodedViews, vae: AutoencoderKL):
    tokenizer, model = build_text_model(RECIPE, vae, "cpu")

    def loss(**changed: float) -> float:
        recipe = replace(RECIPE, batch_size=8, **changed)
        generator = torch.Generator().manual_seed(0)
        return text_to_image_loss(model, recipe, build_scheduler(), data, tokenizer, generator).item()

    plain = loss(ratio_weight=0.0, flat_weight=0.0)
    assert loss() > plain
    assert loss(least_signal=1.0) == pytest.approx(plain)


def test_slices_equal_one_go(
    folder: Path, whole: tuple[Path, TrainedText], vae: AutoencoderKL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = copied(folder, tmp_path)
    # Reading the data takes longer than these steps do, so only the loop is cut short.
    monkeypatch.setattr(text_to_image, "optimize", lambda *a, **k: optimize(*a, **{**k, "max_seconds": 1e-3}))
    steps = [train(place, vae).step for _ in range(STEPS)]
    assert steps == [1, 2, 3]
    assert same(train(place, vae).model.state_dict(), whole[1].model.state_dict())
    assert same(load_file(place / "text_to_image.state"), load_file(whole[0] / "text_to_image.state"))


def test_a_folder_of_another_recipe_is_refused(whole: tuple[Path, TrainedText], vae: AutoencoderKL, tmp_path: Path):
    place = copied(whole[0], tmp_path)
    wider = replace(RECIPE, block_out_channels=(32, 32))
    with pytest.raises(SessionError, match="other tensors"):
        train_text_to_image(wider, place, device="cpu", max_seconds=9.0, report=silent, vae=vae)


def test_the_measure_is_repeatable_and_near_the_variance_of_v_at_first(whole: tuple[Path, TrainedText]):
    one, two = (measure_text_to_image(whole[1], "cpu", views=32) for _ in range(2))
    assert one == two
    assert 0.3 < one < 10
