"""The editor's flags, and finding out early that its checkpoint is missing."""

from pathlib import Path

import pytest

from maskedit.editors import IP2P, FoI, ModelError
from maskedit.plugin.editor import SceneEditorConfig, check_editor_is_there


def test_the_name_chooses_the_options() -> None:
    assert SceneEditorConfig(name="foi").chosen == SceneEditorConfig().foi
    assert SceneEditorConfig(name="ip2p").chosen == SceneEditorConfig().ip2p


def test_guidance_changes_for_the_chosen_editor_alone() -> None:
    config = SceneEditorConfig(name="ip2p").with_guidance(9.0, None)
    assert (config.ip2p.guidance_scale, config.ip2p.image_guidance_scale) == (9.0, None)
    assert config.foi == SceneEditorConfig().foi
    assert SceneEditorConfig().with_guidance(None, None) == SceneEditorConfig()
    with pytest.raises(ValueError, match="guidance_scale"):
        SceneEditorConfig().with_guidance(0.5, None)


@pytest.mark.parametrize(("name", "kind"), [("foi", FoI), ("ip2p", IP2P)])
def test_the_chosen_editor_is_loaded(name: str, kind: type, ip2p_folder: Path) -> None:
    editor = SceneEditorConfig(name=name, model=str(ip2p_folder), device="cpu").load()
    assert isinstance(editor, kind)


def test_a_missing_checkpoint_is_found_out_early(tmp_path: Path, ip2p_folder: Path) -> None:
    check_editor_is_there(SceneEditorConfig(model=str(ip2p_folder)), fetch=True)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        check_editor_is_there(SceneEditorConfig(model=str(tmp_path)), fetch=False)
    with pytest.raises(ModelError, match="nothing at"):
        check_editor_is_there(SceneEditorConfig(model=str(tmp_path / "nowhere")), fetch=False)


def test_the_hub_is_asked_only_when_the_first_edit_is_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = SceneEditorConfig(model="nobody/nothing", offline=True)
    check_editor_is_there(config, fetch=False)
    with pytest.raises(ModelError, match=r"can't be reached.*model-dir"):
        check_editor_is_there(config, fetch=True)
