"""The diffusion loss, against its formula written out."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from maskedit.editors import ModelError
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.objective import diffusion_loss

SHAPE = (3, 4, 16, 16)
TIMES = torch.tensor([0, 400, 999])


def draw(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scheduler_of(backbone: Backbone, prediction: str) -> DDIMScheduler:
    return DDIMScheduler.from_config({**backbone.scheduler_config, "prediction_type": prediction})


def arguments(backbone: Backbone, **changes: Any) -> dict[str, Any]:
    embeds = backbone.embed(["make it red"] * 3)
    return {"noise": draw(1), "timesteps": TIMES, "embeds": embeds, "condition": draw(2), **changes}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_is_the_squared_error_of_the_prediction(backbone: Backbone, prediction: str) -> None:
    scheduler, clean, given = scheduler_of(backbone, prediction), draw(0), arguments(backbone)
    alpha = scheduler.alphas_cumprod[TIMES].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * given["noise"]
    wanted = given["noise"] if prediction == "epsilon" else alpha.sqrt() * given["noise"] - (1 - alpha).sqrt() * clean
    said = backbone.unet(torch.cat([noisy, given["condition"]], 1), TIMES, given["embeds"]).sample
    loss = diffusion_loss(backbone.unet, scheduler, clean, **given)
    assert loss.shape == ()
    torch.testing.assert_close(loss, ((said - wanted) ** 2).mean())


def test_only_the_proportions_of_a_weight_matter(backbone: Backbone) -> None:
    scheduler, clean = scheduler_of(backbone, "epsilon"), draw(0)
    weight = torch.rand((3, 1, 16, 16), generator=torch.Generator().manual_seed(5))
    plain, flat, once, thrice = (
        diffusion_loss(backbone.unet, scheduler, clean, **arguments(backbone, weight=w))
        for w in (None, torch.full((3, 1, 16, 16), 4.0), weight, 3 * weight)
    )
    torch.testing.assert_close(flat, plain)
    torch.testing.assert_close(once, thrice)
    assert once != plain


def test_a_weight_chooses_where_errors_count(backbone: Backbone) -> None:
    scheduler, clean = scheduler_of(backbone, "epsilon"), draw(0)
    left = torch.zeros(3, 1, 16, 16)
    left[..., :8] = 1
    halves = [
        diffusion_loss(backbone.unet, scheduler, clean, **arguments(backbone, weight=w)) for w in (left, 1 - left)
    ]
    whole = diffusion_loss(backbone.unet, scheduler, clean, **arguments(backbone))
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_what_is_learned_gets_gradients(backbone: Backbone) -> None:
    embeds = backbone.embed(["make it red"] * 3).clone().requires_grad_()
    diffusion_loss(
        backbone.unet, scheduler_of(backbone, "epsilon"), draw(0), **arguments(backbone, embeds=embeds)
    ).backward()
    assert embeds.grad.abs().max() > 0
    assert all(p.grad is None for p in backbone.unet.parameters())


def test_checkpoints_without_a_condition_learn_too(sd_backbone: Backbone) -> None:
    scheduler = scheduler_of(sd_backbone, "epsilon")
    loss = diffusion_loss(sd_backbone.unet, scheduler, draw(0), **arguments(sd_backbone, condition=None))
    assert loss.isfinite()


def test_other_predictions_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="predicts epsilon or v, got 'sample'"):
        diffusion_loss(backbone.unet, scheduler_of(backbone, "sample"), draw(0), **arguments(backbone))
