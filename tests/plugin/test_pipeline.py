"""The pipeline: draws that depend on the step alone, and an editor that only training loads."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors import InputError, IP2PConfig
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.pipeline import MaskeditPipeline
from maskedit.plugin.session import Event


def test_a_pipeline_that_does_not_train_has_no_editor(config: Any) -> None:
    pipeline = config().pipeline.setup(device="cpu", test_mode="test")
    assert isinstance(pipeline, MaskeditPipeline)
    pipeline.eval()
    camera = pipeline.datamanager.eval_dataset.cameras[0:1]
    assert pipeline.model.get_outputs_for_camera(camera)["rgb"].shape == (16, 16, 3)
    metrics = pipeline.get_average_eval_image_metrics()
    assert "psnr" in metrics
    assert "lpips" not in metrics
    assert pipeline.edits is None
    inference = config().pipeline.setup(device="cpu", test_mode="inference")
    assert inference.edits is None


def test_the_editor_is_loaded_at_the_first_edit(start: Callable[..., Any], ip2p_folder: Any, config: Any) -> None:
    given = config(reconstruct_steps=1)
    given.max_num_iterations = 1
    given.pipeline.editor = SceneEditorConfig(
        model=str(ip2p_folder), device="cpu", name="ip2p", ip2p=IP2PConfig(size=16, steps=2, sampler="ddim")
    )
    trainer = start(config=given)
    edits = trainer.pipeline.edits
    edits._cache._fixed = None
    trainer.train_iteration(0)
    assert not edits.has_editor
    trainer.train_iteration(1)
    assert edits.has_editor
    assert "diffusers" in sys.modules
    assert not [name for name in trainer.pipeline.state_dict() if "unet" in name or "vae" in name]
    before = edits._cache.peek(edits.settings_at(0))
    edits.run_due(0)
    assert edits._cache.peek(edits.settings_at(0)) is before
    trainer.session.add_event(Event(step=0, kind="settings", value={"guidance_scale": 3.0}))
    edits.run_due(0)
    after = edits._cache.peek(edits.settings_at(0))
    assert after.settings.guidance_scale == 3.0
    # The weights were not read again.
    assert after.backbone is before.backbone
    with pytest.raises(InputError, match="shorten the text"):
        edits.check_event(Event(step=0, kind="settings", value={"instructions": [{"text": "cube " * 100}]}))


def test_rays_are_drawn_before_the_edit_of_the_same_step(start: Callable[..., Any], paint: Any) -> None:
    trainer = start(paint(color=1.0), reconstruct_steps=1)
    data = trainer.pipeline.datamanager
    seen: list[torch.Tensor] = []
    draw = data.next_train

    def spy(step: int) -> Any:
        bundle, batch = draw(step)
        seen.append(data.shown(0).clone())
        return bundle, batch

    data.next_train = spy
    trainer.train_iteration(1)
    assert torch.equal(seen[0], data.original(0))
    assert not torch.equal(data.shown(0), data.original(0))


def test_training_draws_depend_on_the_step_alone(start: Callable[..., Any]) -> None:
    trainer = start(reconstruct_steps=9)
    weights = {name: value.clone() for name, value in trainer.pipeline.state_dict().items()}
    losses = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        trainer.pipeline.load_state_dict(weights)
        outputs, loss, _ = trainer.pipeline.get_train_loss_dict(step=5)
        losses.append((outputs["rgb"], loss["rgb_loss"]))
    assert torch.equal(losses[0][0], losses[1][0])
    assert torch.equal(losses[0][1], losses[1][1])


def test_patches_with_lpips_train(start: Callable[..., Any], config: Any) -> None:
    given = config(reconstruct_steps=1)
    given.pipeline.model.use_lpips, given.pipeline.datamanager.patch_size = True, 4
    given.pipeline.dry_run = 1  # Setting up a dry run leaves LPIPS alone; its weights are not on this machine.
    trainer = start(config=given)
    trainer.pipeline.model.use_perceptual(lambda first, second: (first - second).square())
    trainer.pipeline.train()
    _, losses, _ = trainer.pipeline.get_train_loss_dict(step=0)
    assert "lpips_loss" not in losses
    _, losses, _ = trainer.pipeline.get_train_loss_dict(step=1)
    assert losses["lpips_loss"] > 0
