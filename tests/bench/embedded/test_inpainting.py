"""The embedded inpainting model: its masks and captions, where it starts from, and training cut into slices."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskedit.bench.embedded import inpainting
from maskedit.bench.embedded.editor import build_scheduler
from maskedit.bench.embedded.encoded_views import encode_views
from maskedit.bench.embedded.inpainting import (
    InpaintingRecipe,
    MaskedViews,
    caption_mask,
    draw_mask,
    inpainting_loss,
    mask_views,
    start_inpainting,
    train_inpainting,
)
from maskedit.bench.embedded.text_to_image import TextToImageRecipe, TrainedText, build_text_model
from maskedit.bench.embedded.vae import VAERecipe, build_vae
from maskedit.bench.embedded.views import Views, ViewsRecipe, make_views, render_views
from maskedit.editors import OptimizeConfig, optimize

TEXT = TextToImageRecipe(
    block_out_channels=(16, 32),
    text_width=32,
    text_layers=1,
    stacked_shards=0,
    views=ViewsRecipe(shards=2, views_per_shard=8, image_size=16),
)
RECIPE = InpaintingRecipe(
    batch_size=4,
    masks_per_view=2,
    optimize=OptimizeConfig(steps=2, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5),
)


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def views() -> Views:
    return make_views(ViewsRecipe(image_size=32), "train", range(30), device="cpu")


@pytest.fixture(scope="module")
def text() -> TrainedText:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = build_vae(VAERecipe(block_out_channels=(16, 16, 16), image_size=16)).eval()
    tokenizer, model = build_text_model(TEXT, vae, "cpu")
    return TrainedText(vae=vae, model=model.eval(), tokenizer=tokenizer, recipe=TEXT, step=7)


@pytest.fixture(scope="module")
def folder(text: TrainedText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered, encoded and masked views; do not write into it."""
    place = tmp_path_factory.mktemp("views")
    render_views(TEXT.views, place, silent, "cpu")
    masked(place, text)
    return place


def masked(folder: Path, text: TrainedText, report: Callable[[str], None] = silent) -> MaskedViews:
    data = encode_views(TEXT.views, text.vae, folder, silent, "cpu")
    assert data is not None
    found = mask_views(RECIPE, data, text.vae, folder, report, "cpu")
    assert found is not None
    return found


def test_masks_cover_blocks_boxes_empty_places_and_everything(views: Views):
    rng = np.random.default_rng(0)
    drawn = [(row, draw_mask(rng, RECIPE, views, row)) for row in range(30) for _ in range(20)]
    assert 0.1 < sum(bool(mask.all()) for _, mask in drawn) / len(drawn) < 0.2
    parts = [(views.index[row] >= 0, mask) for row, mask in drawn if not mask.all()]
    assert any(not (blocks & mask).any() and mask.any() for blocks, mask in parts)
    whole = [row for row, mask in drawn if any(_covers(views, row, block, mask) for block in views.visible(row))]
    assert len(whole) > 0.3 * len(drawn)


def _covers(views: Views, row: int, block: int, mask: torch.Tensor) -> bool:
    return bool((mask | (views.index[row] != block)).all())


def test_captions_name_what_is_covered(views: Views):
    rng = np.random.default_rng(0)
    row = next(i for i, scene in enumerate(views.scenes) if len(views.visible(i)) == len(scene.blocks) == 3)
    mask = torch.zeros_like(views.index[row], dtype=torch.bool)
    for block in views.visible(row):
        mask = views.index[row] == block
        captions = [caption_mask(rng, views, row, mask, flip=False) for _ in range(60)]
        alone = [c for c in captions if [p.blocks for p in c.phrases] == [(block,)]]
        assert len(alone) > 40
    nothing = [caption_mask(rng, views, row, torch.zeros_like(mask), flip=False) for _ in range(60)]
    assert sum("empty" in c.words for c in nothing) > 40
    everything = {len(caption_mask(rng, views, row, torch.ones_like(mask), flip=False).phrases) for _ in range(60)}
    assert everything == {1, 2, 3}


def test_masked_pictures_are_grey_under_the_mask(folder: Path, text: TrainedText):
    versions = masked(folder, text)
    assert len(versions.rows) == 2 * len(versions.data.views.scenes)
    assert versions.flips.float().mean() == 0.5
    for i in (0, 1, 20):
        picture = versions.data.views.pictures[versions.rows[i]].float() / 255
        picture = picture.flip(-1) if versions.flips[i] else picture
        emptied = picture.masked_fill(versions.masks[i], 0.5) * 2 - 1
        with torch.no_grad():
            latents = text.vae.encode(emptied[None]).latent_dist.mean[0]
        torch.testing.assert_close(versions.masked[i], latents, atol=1e-4, rtol=1e-4)


def test_masked_shards_are_read_and_not_made_again(folder: Path, text: TrainedText):
    lines: list[str] = []
    again = masked(folder, text, lines.append)
    assert lines == []
    assert torch.equal(again.masks, masked(folder, text).masks)


def test_at_first_mask_and_masked_picture_change_nothing(text: TrainedText):
    model = start_inpainting(text, "cpu").eval()
    assert model.unet.config.in_channels == 9
    generator = torch.Generator().manual_seed(0)
    latents, other = (torch.randn(2, c, 4, 4, generator=generator) for c in (4, 5))
    embeds = text.model.text_encoder(torch.zeros(2, 48, dtype=torch.long)).last_hidden_state
    with torch.no_grad():
        plain = text.model.unet(latents, 500, encoder_hidden_states=embeds).sample
        wide = model.unet(torch.cat([latents, other], 1), 500, encoder_hidden_states=embeds).sample
    torch.testing.assert_close(wide, plain)
    assert text.model.unet.config.in_channels == 4


def test_the_loss_teaches_the_unet_and_not_the_text_encoder(folder: Path, text: TrainedText):
    model = start_inpainting(text, "cpu")
    generator = torch.Generator().manual_seed(0)
    versions = masked(folder, text)
    loss = inpainting_loss(model, RECIPE, build_scheduler(), versions, text.tokenizer, generator)
    loss.backward()
    assert loss.isfinite()
    assert model.unet.conv_in.weight.grad is not None
    assert (model.unet.conv_in.weight.grad.abs().sum((0, 2, 3)) > 0).all()
    assert all(value.grad is None for value in model.text_encoder.parameters())


def test_slices_equal_one_go_and_leave_the_text_model_alone(
    folder: Path, text: TrainedText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {name: value.clone() for name, value in text.model.state_dict().items()}
    places = [Path(shutil.copytree(folder, tmp_path / name)) for name in ("whole", "sliced")]

    def train(place: Path) -> TrainedText:
        trained = train_inpainting(RECIPE, place, text=text, device="cpu", max_seconds=math.inf, report=silent)
        assert trained is not None
        return trained

    whole = train(places[0])
    monkeypatch.setattr(inpainting, "optimize", lambda *a, **k: optimize(*a, **{**k, "max_seconds": 1e-3}))
    assert [train(places[1]).step for _ in range(2)] == [1, 2]
    states = [load_file(place / "inpainting.state") for place in places]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(name.startswith("value.text_encoder") for name in states[0])
    assert whole.step == 2
    assert all(torch.equal(before[name], value) for name, value in text.model.state_dict().items())


def test_no_time_and_no_latents_gets_nowhere(text: TrainedText, tmp_path: Path):
    render_views(replace(TEXT.views, shards=1), tmp_path, silent, "cpu")
    assert train_inpainting(RECIPE, tmp_path, text=text, device="cpu", max_seconds=0.0, report=silent) is None


def test_whole_pictures_only_on_demand(views: Views):
    rng = np.random.default_rng(0)
    never = replace(RECIPE, whole_share=0.0)
    masks = [draw_mask(rng, never, views, row) for row in range(30)]
    assert not any(mask.all() for mask in masks)
