"""From a configuration to an editor."""

from pathlib import Path

import pytest

from maskedit.editors import (
    IP2P,
    BackboneConfig,
    Editor,
    EditorConfig,
    FoI,
    FoIConfig,
    IP2PConfig,
    ModelError,
    load_editor,
    make_editor,
)
from maskedit.editors.core.backbone import Backbone


@pytest.mark.parametrize(("config", "kind"), [(IP2PConfig(steps=3), IP2P), (FoIConfig(steps=4), FoI)])
def test_each_configuration_has_its_editor(backbone: Backbone, config: EditorConfig, kind: type) -> None:
    editor = make_editor(config, backbone)
    assert type(editor) is kind
    assert editor.config is config
    assert editor.backbone is backbone
    assert isinstance(editor, Editor)


def test_an_editor_loads_with_its_checkpoint(ip2p_folder: Path) -> None:
    editor = load_editor(FoIConfig(), BackboneConfig(model=str(ip2p_folder), device="cpu"))
    assert isinstance(editor, FoI)
    assert editor.settings.steps == editor.backbone.preset.instruct.steps == 100


@pytest.mark.parametrize("config", [IP2PConfig(), FoIConfig()])
def test_a_checkpoint_of_another_kind_is_refused(sd_folder: Path, config: EditorConfig) -> None:
    with pytest.raises(ModelError, match="needs an InstructPix2Pix checkpoint"):
        load_editor(config, BackboneConfig(model=str(sd_folder), device="cpu"))
