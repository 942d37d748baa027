"""Encoded views: which pictures the latents are of, and that nothing is encoded twice."""

import math
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from maskedit.bench.embedded.encoded_views import EncodedViews, Report, encode_views
from maskedit.bench.embedded.vae import VAERecipe, build_vae
from maskedit.bench.embedded.views import ViewsRecipe, render_views

RECIPE = ViewsRecipe(shards=2, views_per_shard=10, image_size=16)


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_vae(VAERecipe(block_out_channels=(16, 16, 16), image_size=16)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered views, beside which the tests encode."""
    place = tmp_path_factory.mktemp("views")
    render_views(RECIPE, place, silent, "cpu")
    return place


def encode(folder: Path, vae: AutoencoderKL, report: Report = silent, deadline: float = math.inf) -> EncodedViews:
    found = encode_views(RECIPE, vae, folder, report, "cpu", stacked_shards=1, deadline=deadline)
    assert found is not None
    return found


def test_nothing_is_begun_after_the_deadline(vae: AutoencoderKL, tmp_path: Path):
    render_views(RECIPE, tmp_path, silent, "cpu")
    assert encode_views(RECIPE, vae, tmp_path, silent, "cpu", deadline=-math.inf) is None


def test_views_are_encoded_as_they_are_and_mirrored(folder: Path, vae: AutoencoderKL):
    data = encode(folder, vae)
    assert 20 < len(data.views.scenes) <= 30
    assert data.latents.shape == (len(data.views.scenes), 2, 4, 4, 4)
    assert torch.equal(data.index, data.views.index)
    for row in (0, 13, len(data.latents) - 1):
        picture = data.views.pictures[row : row + 1].float() / 255 * 2 - 1
        with torch.no_grad():
            encoded = [vae.encode(x).latent_dist.mean[0] for x in (picture, picture.flip(-1))]
        torch.testing.assert_close(data.latents[row], torch.stack(encoded), atol=1e-4, rtol=1e-4)


def test_views_with_guests_come_last(folder: Path, vae: AutoencoderKL):
    stacked = [any(block.z > 0 for block in scene.blocks) for scene in encode(folder, vae).views.scenes]
    assert stacked == [False] * 20 + [True] * (len(stacked) - 20)


def test_encoded_shards_are_not_encoded_again(folder: Path, vae: AutoencoderKL):
    data, lines = encode(folder, vae), list[str]()
    again = encode(folder, vae, lines.append, -math.inf)
    assert lines == []
    assert torch.equal(again.latents, data.latents)
    assert again.views.scenes == data.views.scenes
