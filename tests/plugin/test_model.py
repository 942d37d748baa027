"""nerfacto without LPIPS, and with the losses of editing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from maskedit.editors import InputError, ModelError
from maskedit.plugin.model import MaskeditModel, rays_to_patches


@pytest.fixture
def model(config: Callable[..., Any]) -> MaskeditModel:
    from nerfstudio.data.scene_box import SceneBox

    options = config().pipeline.model
    box = SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    return options.setup(scene_box=box, num_train_data=2, metadata={}, device="cpu", grad_scaler=None)


def train_step(model: MaskeditModel, rays: int = 4) -> dict[str, torch.Tensor]:
    from nerfstudio.cameras.rays import RayBundle

    model.train()
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3), dim=-1)
    bundle = RayBundle(
        origins=torch.zeros(rays, 3),
        directions=directions,
        pixel_area=torch.full((rays, 1), 1e-3),
        camera_indices=torch.zeros(rays, 1, dtype=torch.long),
    )
    outputs = model(bundle)
    batch = {"image": torch.zeros(rays, 3)}
    return model.get_loss_dict(outputs, batch, model.get_metrics_dict(outputs, batch)) | {"pred": outputs["rgb"]}


def test_no_lpips_is_built_and_none_is_saved(model: MaskeditModel) -> None:
    import torchmetrics.image.lpip as lpip

    assert not [name for name in model.state_dict() if "lpips" in name]
    assert lpip.LearnedPerceptualImagePatchSimilarity.__name__ == "LearnedPerceptualImagePatchSimilarity"
    assert torch.isnan(model.lpips(torch.zeros(1), torch.zeros(1)))


def test_colours_are_compared_by_l2_then_by_l1(model: MaskeditModel) -> None:
    losses = train_step(model)
    torch.testing.assert_close(losses["rgb_loss"], losses["pred"].square().mean())
    model.set_editing(True)
    losses = train_step(model)
    torch.testing.assert_close(losses["rgb_loss"], losses["pred"].abs().mean())
    assert "lpips_loss" not in losses
    model.set_editing(False)
    losses = train_step(model)
    torch.testing.assert_close(losses["rgb_loss"], losses["pred"].square().mean())


def test_patches_are_compared_while_editing_alone(model: MaskeditModel) -> None:
    seen: list[torch.Size] = []

    def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        seen.append(first.shape)
        return (first - second).abs().mean((1, 2, 3))

    model.use_perceptual(distance)
    model.config.use_lpips, model.config.lpips_loss_mult, model.patch_size = True, 2.0, 2
    assert "lpips_loss" not in train_step(model, rays=8)
    model.set_editing(True)
    losses = train_step(model, rays=8)
    torch.testing.assert_close(losses["lpips_loss"], 2 * losses["pred"].abs().mean())
    assert losses["lpips_loss"].requires_grad
    assert seen == [(2, 3, 2, 2)]
    assert not [name for name in model.state_dict() if "perceptual" in name]


def test_patches_keep_the_order_of_their_rays() -> None:
    colors = torch.arange(2 * 4 * 3, dtype=torch.float32).view(8, 3)
    patches = rays_to_patches(colors, 2)
    assert patches.shape == (2, 3, 2, 2)
    assert patches[1, :, 1, 0].tolist() == colors[4 + 2].tolist()


def test_a_render_leaves_no_trace_in_the_sampler(model: MaskeditModel) -> None:
    from nerfstudio.cameras.rays import RayBundle

    model.restore_training_state(100, {"sampler_age": 7})
    model.eval()
    bundle = RayBundle(
        origins=torch.zeros(2, 3),
        directions=torch.eye(3)[:2],
        pixel_area=torch.full((2, 1), 1e-3),
        camera_indices=torch.zeros(2, 1, dtype=torch.long),
    )
    with torch.no_grad():
        model(bundle)
    assert model.training_state() == {"sampler_age": 7}


def test_the_score_is_dropped_where_lpips_is_not_loaded(model: MaskeditModel) -> None:
    picture = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))
    outputs = {
        "rgb": picture,
        "accumulation": picture[..., :1],
        "depth": picture[..., :1],
        "prop_depth_0": picture[..., :1],
    }
    metrics, _ = model.get_image_metrics_and_images(outputs, {"image": picture})
    assert set(metrics) == {"psnr", "ssim"}
    model.use_perceptual(lambda first, second: (first - second).square())
    metrics, _ = model.get_image_metrics_and_images(outputs, {"image": picture})
    assert metrics["lpips"] == 0


def test_missing_lpips_weights_name_the_flag(
    model: MaskeditModel, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.load_perceptual()  # Off: nothing is loaded.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # No name resolves, as on a machine without a network.
    monkeypatch.setattr("socket.getaddrinfo", _no_network)
    model.config.use_lpips = True
    with pytest.raises(ModelError, match=r"--pipeline.model.use-lpips False") as refused:
        model.load_perceptual()
    assert "\n" not in str(refused.value)


def _no_network(*args: object, **kwargs: object) -> object:
    raise OSError("no network")


def test_votes_leave_no_trace_in_training(model: MaskeditModel) -> None:
    from nerfstudio.cameras.cameras import Cameras

    camera = Cameras(torch.eye(4)[None, :3], 4.0, 4.0, 2.0, 1.5, width=4, height=3)
    model.train()
    age = model.proposal_sampler._steps_since_update
    parts = list(model.ray_weights(camera))
    weights = torch.cat([part.weights for part in parts])
    assert (len(weights), model.training, model.proposal_sampler._steps_since_update) == (12, True, age)
    assert 0 <= float(weights.min())
    assert float(weights.sum(dim=-1).max()) <= 1 + 1e-5
    again = torch.cat([part.weights for part in model.ray_weights(camera)])
    assert torch.equal(again, weights)


def test_protection_weighs_rays_and_adds_its_loss_while_editing(model: MaskeditModel) -> None:
    votes = model.make_votes()
    with pytest.raises(InputError, match="after keep_start"):
        model.protect(votes)
    model.keep_start(copy.deepcopy(model))
    model.protect(votes)
    assert "protect_loss" not in train_step(model)
    model.set_editing(True)
    losses = train_step(model)
    assert float(losses["protect_loss"].detach()) == 0
    losses["rgb_loss"].backward()
    held = [each.grad.abs().mean() for each in model.field.parameters() if each.grad is not None]
    model.zero_grad()
    model.protect(None)
    free_losses = train_step(model)
    assert "protect_loss" not in free_losses
    torch.testing.assert_close(free_losses["rgb_loss"], losses["rgb_loss"])
    free_losses["rgb_loss"].backward()
    free = [each.grad.abs().mean() for each in model.field.parameters() if each.grad is not None]
    # No ray meets a region that is nowhere, so each teaches a tenth.
    torch.testing.assert_close(torch.stack(held), 0.1 * torch.stack(free), rtol=1e-3, atol=1e-9)
    assert not [name for name in model.state_dict() if "hold" in name or "start" in name]


def test_cameras_come_to_the_scene(model: MaskeditModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are drawn in cameras that come from a file, and no two devices can be had here."""
    moved: list[object] = []
    to = Cameras.to
    monkeypatch.setattr(Cameras, "to", lambda self, device: moved.append(device) or to(self, device))
    camera = Cameras(torch.eye(4)[None, :3], 2.0, 2.0, 1.0, 1.0, width=2, height=2)
    assert sum(len(rays.weights) for rays in model.ray_weights(camera)) == 4
    assert moved == [model.device]
