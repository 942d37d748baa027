"""The autoencoder of the embedded set: its batches, its loss, and the folding of its latents' statistics."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from maskedit.bench.blocks import make_pairs
from maskedit.bench.embedded.vae import VAERecipe, blur_some, build_vae, fold_latent_statistics, vae_batch, vae_loss

RECIPE = VAERecipe(block_out_channels=(16, 16, 16), image_size=16, batch_size=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, 16, 16, generator=generator(1))


@pytest.fixture
def vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_vae(RECIPE).eval()


def encode(vae: AutoencoderKL, images: torch.Tensor):
    with torch.no_grad():
        return vae.encode(images * 2 - 1).latent_dist


def test_each_width_but_the_last_halves_the_picture(vae: AutoencoderKL):
    assert encode(vae, pictures(2)).mean.shape == (2, 4, 4, 4)
    assert vae.config.scaling_factor == 1


def test_folding_gives_zero_mean_and_unit_variance_and_the_same_pictures(vae: AutoencoderKL):
    images = pictures(32)
    before = encode(vae, images)
    decoded = vae.decode(before.mean).sample
    varied = vae.decode(before.mean + before.std).sample
    assert (before.mean.std((0, 2, 3)) - 1).abs().min() > 0.1

    fold_latent_statistics(vae, images)
    after = encode(vae, images)
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.decode(after.mean).sample, decoded, atol=1e-4, rtol=0)
    # The spread of the posterior is folded too.
    torch.testing.assert_close(vae.decode(after.mean + after.std).sample, varied, atol=1e-4, rtol=0)


def test_a_batch_holds_sources_and_truths_with_blocks_weighing_more():
    images, weights = vae_batch(replace(RECIPE, blurred_share=0.0), "train", 6, generator(), "cpu")
    pairs = make_pairs("train", range(6, 8), edits=(1, 2), height=16)
    assert torch.equal(images, torch.cat([pairs.source, pairs.target]))
    assert torch.equal(weights == 6, torch.cat([pairs.source_objects, pairs.target_objects]))
    assert set(weights.unique().tolist()) == {1.0, 6.0}


def test_batches_repeat_and_differ_by_start():
    one, two, other = (vae_batch(RECIPE, "train", start, generator(), "cpu")[0] for start in (0, 0, 50))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_blur_hits_about_the_share_it_is_given():
    images = pictures(40)
    assert blur_some(images, 0.0, generator()) is images
    shares = []
    for seed in range(30):
        blurred = blur_some(images, 0.2, generator(seed))
        rows = (blurred != images).flatten(1).any(1)
        shares.append(rows.float().mean().item())
        assert blurred.min() >= 0
        assert blurred.max() <= 1
        assert not rows.any() or blurred[rows].std() < images[rows].std()
    assert sum(shares) / len(shares) == pytest.approx(0.2, abs=0.06)


def test_the_loss_is_weighted_reconstruction_plus_kl(vae: AutoencoderKL):
    images, weights = pictures(2), torch.ones(2, 1, 16, 16)
    weights[:, :, 4:8] = 6
    loss = vae_loss(vae, RECIPE, images, weights, generator(3))

    posterior = encode(vae, images)
    noise = torch.randn(posterior.mean.shape, generator=generator(3))
    decoded = vae.decode(posterior.mean + (posterior.logvar / 2).exp() * noise).sample
    error = decoded - (2 * images - 1)
    wanted = ((error.abs() + 4 * error**2).mean(1, keepdim=True) * weights).sum() / weights.sum()
    kl = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).mean()
    torch.testing.assert_close(loss, wanted + RECIPE.kl_weight * kl)
    torch.testing.assert_close(vae_loss(vae, RECIPE, images, 5 * weights, generator(3)), loss)


def test_the_loss_falls_when_descended(vae: AutoencoderKL):
    images, weights = pictures(2), torch.ones(2, 1, 16, 16)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = vae_loss(vae, RECIPE, images, weights, generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
