"""The diffusion loss against formulas written out by hand."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from maskedit.editors import ModelError, diffusion_loss

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TIMESTEPS = torch.tensor([3, 500, 999])


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLEAN, EPSILON, CONDITION = (draw(3, 4, 8, 8, seed=seed) for seed in range(3))
EMBEDS = draw(3, 77, 32, seed=3)


@pytest.fixture(scope="module")
def unet(ip2p_folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(ip2p_folder / "unet").eval()


@pytest.fixture(scope="module")
def plain_unet(sd_folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(sd_folder / "unet").eval()


def levels() -> torch.Tensor:
    """Share of the signal's power at each timestep."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)[TIMESTEPS].float().view(-1, 1, 1, 1)


def loss_of(unet: UNet2DConditionModel, kind: str = "epsilon", **options: torch.Tensor) -> torch.Tensor:
    scheduler = DDIMScheduler(**NOISE, prediction_type=kind)
    rest = {"noise": EPSILON, "timesteps": TIMESTEPS, "embeds": EMBEDS, "condition": CONDITION} | options
    return diffusion_loss(unet, scheduler, CLEAN, **rest)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_the_error_of_the_prediction(kind: str, unet: UNet2DConditionModel):
    signal, noise = levels().sqrt(), (1 - levels()).sqrt()
    noisy = signal * CLEAN + noise * EPSILON
    wanted = EPSILON if kind == "epsilon" else signal * EPSILON - noise * CLEAN
    with torch.no_grad():
        predicted = unet(torch.cat([noisy, CONDITION], 1), TIMESTEPS, encoder_hidden_states=EMBEDS).sample
        torch.testing.assert_close(loss_of(unet, kind), ((predicted - wanted) ** 2).mean())


def test_a_unet_without_condition_sees_the_noisy_latents_alone(plain_unet: UNet2DConditionModel):
    noisy = levels().sqrt() * CLEAN + (1 - levels()).sqrt() * EPSILON
    with torch.no_grad():
        predicted = plain_unet(noisy, TIMESTEPS, encoder_hidden_states=EMBEDS).sample
        found = loss_of(plain_unet, condition=None)
    torch.testing.assert_close(found, ((predicted - EPSILON) ** 2).mean())


@torch.no_grad()
def test_only_the_proportions_of_the_weight_matter(unet: UNet2DConditionModel):
    weight = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    weighted = loss_of(unet, weight=weight)
    torch.testing.assert_close(loss_of(unet, weight=7 * weight), weighted)
    torch.testing.assert_close(loss_of(unet, weight=torch.full_like(weight, 0.3)), loss_of(unet))
    assert (weighted - loss_of(unet)).abs() > 1e-5


@torch.no_grad()
def test_cells_without_weight_do_not_count(unet: UNet2DConditionModel):
    weight = torch.zeros(3, 1, 8, 8)
    weight[1, :, 2:4, 5:8] = 1
    noisy = levels().sqrt() * CLEAN + (1 - levels()).sqrt() * EPSILON
    predicted = unet(torch.cat([noisy, CONDITION], 1), TIMESTEPS, encoder_hidden_states=EMBEDS).sample
    error = (predicted - EPSILON)[1, :, 2:4, 5:8] ** 2
    torch.testing.assert_close(loss_of(unet, weight=weight), error.mean())


def test_gradients_reach_the_text_and_every_layer(unet: UNet2DConditionModel):
    embeds = EMBEDS.clone().requires_grad_()
    gradients = torch.autograd.grad(loss_of(unet, embeds=embeds), [embeds, *unet.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[0].abs().max() > 0


def test_the_scheduler_is_left_as_it_was(unet: UNet2DConditionModel):
    scheduler = DDIMScheduler(**NOISE)
    before = {name: repr(value) for name, value in vars(scheduler).items()}
    diffusion_loss(unet, scheduler, CLEAN, noise=EPSILON, timesteps=TIMESTEPS, embeds=EMBEDS, condition=CONDITION)
    assert {name: repr(value) for name, value in vars(scheduler).items()} == before


def test_other_predictions_are_refused(unet: UNet2DConditionModel):
    with pytest.raises(ModelError, match="epsilon or v, got 'sample'"):
        loss_of(unet, "sample")
