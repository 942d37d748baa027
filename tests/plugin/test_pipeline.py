"""The pipeline: settings that are checked, renders, and an editor that only training loads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    FoIConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    IP2PConfig,
    LanguageConfig,
    ModelError,
    load_brush,
)
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.pipeline import MaskeditPipeline, MaskeditPipelineConfig
from maskedit.plugin.session import Event


def test_settings_that_cannot_work_are_refused(config: Any, ip2p_folder: Path) -> None:
    with pytest.raises(InputError, match=r"pipeline.instructions"):
        MaskeditPipelineConfig().check()
    pipeline = config().pipeline
    pipeline.editor = SceneEditorConfig(model="nowhere")
    with pytest.raises(ModelError, match="nowhere"):
        pipeline.check()
    editor = SceneEditorConfig(model=str(ip2p_folder))
    config(reconstruct_steps=0, editor=editor).pipeline.check()
    pipeline = config(lower_bound=0.01, reconstruct_steps=0, editor=editor).pipeline
    with pytest.raises(InputError, match=r"--pipeline.lower-bound 0.02"):
        pipeline.check()
    pipeline = config(reconstruct_steps=0, editor=editor).pipeline
    pipeline.model.use_lpips = True
    with pytest.raises(InputError, match="patch-size is 1"):
        pipeline.check()


def test_the_noise_levels_must_suit_the_sampler(config: Any, ip2p_folder: Path) -> None:
    def check(sampler: Any, **options: Any) -> None:
        editor = SceneEditorConfig(model=str(ip2p_folder), foi=FoIConfig(sampler=sampler, steps=20))
        config(editor=editor, reconstruct_steps=0, **options).pipeline.check()

    check("euler_ancestral", lower_bound=0.01)
    check("euler_ancestral", edit_count=3, lower_bound=0.5, upper_bound=0.5)
    check("ddim", edit_count=3)
    with pytest.raises(InputError, match=r"--pipeline.editor.foi.sampler ddim or --pipeline.edit-count 1"):
        check("euler_ancestral", edit_count=3)


def test_editors_that_invert_the_picture_need_no_noise_levels(config: Any, captioned: Any) -> None:
    for name in ("instructedit", "diffedit", "mdp"):
        editor, *_ = captioned(name, steps=50)
        config(editor=editor, reconstruct_steps=0, lower_bound=0.01, edit_count=3).pipeline.check()
    editor, *_ = captioned(steps=None, encoding_ratio=0.01)
    with pytest.raises(InputError, match=r"--pipeline.editor.instructedit.encoding-ratio 0.02 or more"):
        config(editor=editor, reconstruct_steps=0).pipeline.check()


def test_inpainting_draws_noise_levels(config: Any, inpainting_folder: Path) -> None:
    editor = SceneEditorConfig(model=str(inpainting_folder), name="inpaint")
    config(editor=editor, reconstruct_steps=0).pipeline.check()
    with pytest.raises(InputError, match=r"--pipeline.lower-bound 0.02"):
        config(editor=editor, reconstruct_steps=0, lower_bound=0.01).pipeline.check()


def test_settings_of_a_session_hold_no_key(config: Any, sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    options = InstructEditConfig(language=LanguageConfig(provider="openai", base_url="http://127.0.0.1:1/v1"))
    editor = SceneEditorConfig(model=str(sd_folder), name="instructedit", instructedit=options)
    settings = config(editor=editor).pipeline.session_settings(0)
    assert settings["editor options"]["language"]["provider"] == "openai"
    assert settings["editor options"]["language"]["api_key_variable"] == "OPENAI_API_KEY"
    assert "sk-secret" not in json.dumps(settings, default=str)


def test_a_session_belongs_to_what_a_brush_holds(
    config: Any, ip2p_folder: Path, brush_file: Path, tmp_path: Path
) -> None:
    """Another brush in the same file is another setting."""
    file = tmp_path / "stroke.safetensors"
    marks: list[Any] = []
    for changes in (0, 0, 1):
        brush = load_brush(brush_file)
        for rows in brush.tensors.values():
            rows.add_(changes)
        options = InstructBrushConfig(brush=brush.save(file))
        editor = SceneEditorConfig(model=str(ip2p_folder), name="instructbrush", instructbrush=options)
        marks.append(config(editor=editor).pipeline.session_settings(0)["brush"])
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit_count": 0}, "edit-count"),
        ({"dry_run": -1}, "dry-run"),
        ({"reconstruct_steps": -1}, "reconstruct-steps"),
        ({"instructions": ("a", "b"), "keywords": ("a",)}, "one of keywords"),
        ({"instructions": ("make it red",), "strengths": (99.0,)}, "strength"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskeditPipelineConfig(**options)


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
    edits._editor, edits._fixed_editor = None, False
    trainer.train_iteration(0)
    assert not edits.has_editor
    trainer.train_iteration(1)
    assert edits.has_editor
    assert "diffusers" in sys.modules
    assert not [name for name in trainer.pipeline.state_dict() if "unet" in name or "vae" in name]
    before = edits._editor
    edits.run_due(0)
    assert edits._editor is before
    trainer.session.add_event(Event(step=0, kind="settings", value={"guidance_scale": 3.0}))
    edits.run_due(0)
    assert edits._editor.settings.guidance_scale == 3.0
    # The weights were not read again.
    assert edits._editor.backbone is before.backbone
    with pytest.raises(InputError, match="shorten the text"):
        edits.check_event(Event(step=0, kind="settings", value={"instructions": [{"text": "cube " * 100}]}))


def test_a_render_is_the_scene_at_the_view_and_leaves_training_on(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    pipeline.train()
    first, again, other = pipeline.render_view(0), pipeline.render_view(0), pipeline.render_view(1)
    assert first.shape == (1, 3, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert pipeline.model.training
    assert not first.requires_grad


def test_a_render_uses_the_optimised_pose(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    before = pipeline.render_view(0)
    assert pipeline.model.camera_optimizer.config.mode == "SO3xR3"
    with torch.no_grad():
        pipeline.model.camera_optimizer.pose_adjustment[1] += 0.3
    assert torch.equal(pipeline.render_view(0), before)
    with torch.no_grad():
        pipeline.model.camera_optimizer.pose_adjustment[0] += 0.3
    assert not torch.equal(pipeline.render_view(0), before)
    poses = pipeline.datamanager.train_dataset.cameras.camera_to_worlds.clone()
    pipeline.render_view(0)
    assert torch.equal(pipeline.datamanager.train_dataset.cameras.camera_to_worlds, poses)


def test_a_scene_of_nan_is_not_edited(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    with torch.no_grad():
        next(iter(pipeline.model.field.parameters())).fill_(float("nan"))
        for parameter in pipeline.model.field.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        pipeline.render_view(0)


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
