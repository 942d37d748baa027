"""Instruct-NeRF2NeRF's edit call on a tiny random checkpoint, against its algorithm written out."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from maskedit.bench.scene_in2n import In2nEdit
from maskedit.editors import Backbone, BackboneConfig, InputError

TEXT = "make the red cube blue"
STEPS = 4


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    render, photo = torch.rand(2, 1, 3, 64, 64, generator=generator)
    return render, photo


@torch.no_grad()
def spell_out(backbone: Backbone, render: torch.Tensor, photo: torch.Tensor, seed: int) -> torch.Tensor:
    """The edit as the paper's supplement describes it: DDIM by hand, three calls of the UNet a step."""
    generator = torch.Generator().manual_seed(seed)
    level = int(torch.randint(20, 981, (1,), generator=generator))
    stride = level // STEPS
    plan = [k * stride + 1 for k in reversed(range(STEPS))]
    alphas = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    ).alphas_cumprod
    scale = backbone.vae.config.scaling_factor
    posterior = backbone.vae.encode(2 * render - 1).latent_dist
    clean = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    z = alphas[plan[0]].sqrt() * scale * clean + (1 - alphas[plan[0]]).sqrt() * noise
    seen = backbone.vae.encode(2 * photo - 1).latent_dist.mode()
    text, empty = backbone.embed([TEXT]), backbone.embed([""])
    for t in plan:
        full, image, none = (
            backbone.unet(torch.cat([z, condition], 1), t, encoder_hidden_states=words).sample
            for condition, words in ((seen, text), (seen, empty), (torch.zeros_like(seen), empty))
        )
        e = none + 7.5 * (full - image) + 1.5 * (image - none)
        before = alphas[t - stride] if t >= stride else alphas[0]
        x = (z - (1 - alphas[t]).sqrt() * e) / alphas[t].sqrt()
        z = before.sqrt() * x + (1 - before).sqrt() * e
    return (backbone.vae.decode(z / scale).sample / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_call_is_the_published_algorithm(
    backbone: Backbone, pictures: tuple[torch.Tensor, torch.Tensor], seed: int
) -> None:
    edit = In2nEdit(backbone, TEXT, steps=STEPS)
    found = edit(*pictures, torch.Generator().manual_seed(seed))
    expected = spell_out(backbone, *pictures, seed)
    assert found.shape == (1, 3, 64, 64)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert expected.std() > 0.01


def test_levels_are_drawn_anew_and_within_their_bounds(
    backbone: Backbone, pictures: tuple[torch.Tensor, torch.Tensor]
) -> None:
    edit = In2nEdit(backbone, TEXT, steps=STEPS, lower=0.5, upper=0.52)
    generator = torch.Generator().manual_seed(0)
    found = set[int]()
    for _ in range(12):
        edit(*pictures, generator)
        found.add(int(edit.scheduler.config.num_train_timesteps))
    assert len(found) > 4
    assert min(found) >= 500
    assert max(found) <= 520


def test_nothing_of_the_backbone_is_changed(backbone: Backbone, pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = dict(backbone.scheduler_config)
    In2nEdit(backbone, TEXT, steps=STEPS)(*pictures, torch.Generator().manual_seed(0))
    assert backbone.scheduler_config == before


def test_a_level_needs_as_many_steps_below_it(backbone: Backbone) -> None:
    with pytest.raises(InputError, match=r"at least 0\.02, got 0\.01"):
        In2nEdit(backbone, TEXT, lower=0.01)
