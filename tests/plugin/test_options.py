"""What a run is asked for: settings that are checked before anything is loaded, and kept in the session."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import (
    FoIConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    LanguageConfig,
    ModelError,
    load_brush,
)
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.options import MaskeditPipelineConfig


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
