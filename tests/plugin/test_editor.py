"""The editor's flags, and what they leave to the checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    EDITORS,
    IP2P,
    MDP,
    PRESET_FILE,
    DiffEdit,
    EditRequest,
    FoI,
    Inpaint,
    InputError,
    InstructBrush,
    InstructEdit,
    InstructEditConfig,
    Instruction,
    IP2PConfig,
    SmartEdit,
    Visii,
)
from maskedit.plugin.editor import SCENE_STEPS, SceneEditorConfig


def test_the_name_chooses_the_options() -> None:
    assert SceneEditorConfig(name="foi").chosen == SceneEditorConfig().foi
    for name, entry in EDITORS.items():
        config = SceneEditorConfig(name=name)
        assert isinstance(config.chosen, entry.config)
        assert (config.kind, config.draws_noise) == (entry.kind, entry.draws_noise)


def test_guidance_changes_for_the_chosen_editor_alone() -> None:
    config = SceneEditorConfig(name="ip2p").with_guidance(9.0, None)
    assert (config.ip2p.guidance_scale, config.ip2p.image_guidance_scale) == (9.0, None)
    assert config.foi == SceneEditorConfig().foi
    assert SceneEditorConfig().with_guidance(None, None) == SceneEditorConfig()
    with pytest.raises(ValueError, match="guidance_scale"):
        SceneEditorConfig().with_guidance(0.5, None)


@pytest.mark.parametrize(
    ("name", "kind", "folder"),
    [
        ("foi", FoI, "ip2p_folder"),
        ("ip2p", IP2P, "ip2p_folder"),
        ("instructedit", InstructEdit, "sd_folder"),
        ("diffedit", DiffEdit, "sd_folder"),
        ("mdp", MDP, "sd_folder"),
        ("inpaint", Inpaint, "inpainting_folder"),
        ("instructbrush", InstructBrush, "ip2p_folder"),
        ("visii", Visii, "ip2p_folder"),
        ("smartedit", SmartEdit, "smartedit_checkpoint"),
    ],
)
def test_the_chosen_editor_is_loaded(name: str, kind: type, folder: str, request: pytest.FixtureRequest) -> None:
    config = SceneEditorConfig(name=name, model=str(request.getfixturevalue(folder)), device="cpu")
    backbone = config.load_backbone()
    editor = config.make(backbone)
    assert isinstance(editor, kind)
    if isinstance(editor, InstructBrush | Visii):
        # Their settings are the brush's, which `test_brush_editor.py` looks at.
        return
    # Other guidance is another editor on the same weights, and the same segmenter and language model.
    other = config.with_guidance(3.0, None).make(backbone, like=editor)
    assert (type(other), other.settings.guidance_scale) == (kind, 3.0)  # type: ignore[attr-defined]
    if not isinstance(editor, IP2P):
        assert other.tools is editor.tools  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["instructedit", "diffedit", "mdp"])
def test_other_guidance_keeps_the_inversions_of_photos(captioned: Any, name: str) -> None:
    config, editor, _, _ = captioned(name)
    render, photo = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    mask = torch.ones(1, 1, 16, 16).index_fill(-1, torch.arange(8), 0)
    half = Instruction(text="make the cube red", mask=mask)
    request = EditRequest(image=render, condition=photo, instructions=(half,))
    editor.edit(request)
    calls: list[int] = []
    handle = editor.backbone.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    editor.edit(request)
    known, _ = len(calls), calls.clear()
    config.with_guidance(3.0, None).make(editor.backbone, like=editor).edit(request)
    again, _ = len(calls), calls.clear()
    config.with_guidance(3.0, None).make(editor.backbone).edit(request)
    handle.remove()
    assert again == known < len(calls)


def test_what_the_options_leave_open_is_the_checkpoints(ip2p_folder: Path, tmp_path: Path) -> None:
    config = SceneEditorConfig(model=str(ip2p_folder), name="ip2p", ip2p=IP2PConfig())
    assert (config.resolved("sampler"), config.resolved("steps")) == ("euler_ancestral", 100)
    scene = SceneEditorConfig(model=str(ip2p_folder))
    assert (scene.resolved("sampler"), scene.resolved("steps")) == ("ddim", 20)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / PRESET_FILE).write_text('{"instruct": {"sampler": "ddim", "steps": 7}}')
    config = replace(config, model=str(tmp_path))
    assert [config.resolved(name) for name in ("sampler", "steps", "guidance_scale")] == ["ddim", 7, 7.5]


def test_there_is_image_guidance_only_with_a_condition_picture() -> None:
    assert [name for name in EDITORS if SceneEditorConfig(name=name).has_image_guidance] == [
        "foi",
        "ip2p",
        "instructbrush",
        "visii",
        "smartedit",
    ]
    config = SceneEditorConfig(name="mdp")
    assert config.with_guidance(4.0, None).mdp.guidance_scale == 4.0
    with pytest.raises(InputError, match="mdp has no image guidance"):
        config.with_guidance(4.0, 1.5)


def test_editors_on_captions_take_what_is_open_from_their_part_of_the_preset(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / PRESET_FILE).write_text('{"caption": {"steps": 30, "encoding_ratio": 0.6}, "instruct": {"steps": 7}}')
    config = SceneEditorConfig(name="instructedit", model=str(tmp_path))
    assert (config.resolved("sampler"), config.resolved("steps"), config.encoding_ratio) == ("ddim", 30, 0.6)
    given = replace(config, instructedit=InstructEditConfig(steps=10, encoding_ratio=0.8))
    assert (given.resolved("steps"), given.encoding_ratio) == (10, 0.8)
    assert replace(config, name="mdp").encoding_ratio == 1.0
    assert replace(config, name="inpaint").resolved("steps") == SCENE_STEPS
