"""From a configuration to an editor, with its whole chain of models at small size."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    EDITORS,
    BackboneConfig,
    CaptionerConfig,
    Editor,
    EditorName,
    EditRequest,
    FoI,
    FoIConfig,
    GroundingConfig,
    InpaintConfig,
    InstructEditConfig,
    Instruction,
    IP2PConfig,
    LanguageConfig,
    ModelError,
    Tools,
    load_editor,
    make_editor,
)
from maskedit.editors.core.backbone import Backbone

Pictures = Callable[..., torch.Tensor]
RED = Instruction(text="make the red cube blue")


@pytest.fixture
def folders(ip2p_folder: Path, sd_folder: Path, inpainting_folder: Path, smartedit_checkpoint: Path) -> dict[str, Path]:
    return {
        "instruct-pix2pix": ip2p_folder,
        "text-to-image": sd_folder,
        "inpainting": inpainting_folder,
        "smartedit": smartedit_checkpoint,
    }


@pytest.mark.parametrize("name", EDITORS)
def test_each_configuration_has_its_editor(folders: dict[str, Path], name: EditorName) -> None:
    entry = EDITORS[name]
    backbone = Backbone.load(BackboneConfig(model=str(folders[entry.kind]), device="cpu"), entry.kind)
    config = entry.config(keep_outside="paper")
    editor: Any = make_editor(config, backbone)
    assert type(editor).__name__.lower() == name
    assert editor.config is config
    assert editor.backbone is backbone
    assert isinstance(editor, Editor)


@pytest.mark.parametrize("name", [name for name in EDITORS if name != "ip2p"])
def test_an_editor_goes_on_with_given_tools(folders: dict[str, Path], name: EditorName) -> None:
    entry = EDITORS[name]
    backbone = Backbone.load(BackboneConfig(model=str(folders[entry.kind]), device="cpu"), entry.kind)
    tools = Tools(backbone, language=LanguageConfig())
    editor: Any = make_editor(entry.config(), backbone, tools=tools)
    assert editor.tools is tools


def test_an_editor_loads_with_its_checkpoint(ip2p_folder: Path) -> None:
    editor = load_editor(FoIConfig(), BackboneConfig(model=str(ip2p_folder), device="cpu"))
    assert isinstance(editor, FoI)
    assert editor.settings.steps == editor.backbone.preset.instruct.steps == 100


@pytest.mark.parametrize("config", [IP2PConfig(), FoIConfig()])
def test_a_checkpoint_of_another_kind_is_refused(sd_folder: Path, config: IP2PConfig | FoIConfig) -> None:
    with pytest.raises(ModelError, match="needs an InstructPix2Pix checkpoint"):
        load_editor(config, BackboneConfig(model=str(sd_folder), device="cpu"))


@pytest.fixture
def chain(grounding_dino_folder: Path, sam_file: Path, blip2_folder: Path) -> dict[str, Any]:
    """GroundingDINO, SAM and BLIP-2, of the published classes at small random size. They find and say anything."""
    grounding = GroundingConfig(
        segmenter="grounded-sam",
        detector=str(grounding_dino_folder),
        sam=str(sam_file),
        box_threshold=0.0,
        mask_mode="merge",
    )
    captioner = CaptionerConfig(enabled=True, model=str(blip2_folder), max_new_tokens=4)
    return {"steps": 4, "grounding": grounding, "captioner": captioner}


@pytest.mark.parametrize("kind", [InstructEditConfig, InpaintConfig])
def test_the_whole_chain_of_published_classes(
    folders: dict[str, Path], chain: dict[str, Any], pictures: Pictures, kind: Any
) -> None:
    """One instruction: BLIP-2 describes, rules read, GroundingDINO finds, SAM fills in, the picture is edited."""
    model = folders["text-to-image" if kind is InstructEditConfig else "inpainting"]
    editor = load_editor(kind(**chain), BackboneConfig(model=str(model), device="cpu"))
    image = pictures(2, 48, 80)
    result = editor.edit(EditRequest(image=image, instructions=(RED,)))
    assert result.image.shape == image.shape
    outside = (result.mask == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert 0 < result.mask.mean() < 1
    trace = result.trace
    for captions, found in zip(trace.captions, trace.grounding, strict=True):
        assert " of " in captions.source
        assert "blue cube" in captions.target
        assert found[0].phrase == "red cube"
        assert len(found[0].boxes) == len(found[0].scores) > 0


def test_the_whole_chain_with_a_language_server(
    folders: dict[str, Path], chain: dict[str, Any], pictures: Pictures, chat_server: Any
) -> None:
    """What the server says is what is looked for and drawn; its key is in no trace."""
    answer = {
        "edits": [{"text": RED.text, "keyword": "red cube", "phrases": ["left red cube"]}],
        "input_caption": "painting of a red cube",
        "edited_caption": "painting of a blue cube",
    }
    message = {"role": "assistant", "content": json.dumps(answer)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    chat_server.reply = lambda asked: (200, {"id": "1", "object": "chat.completion", "choices": [choice]})
    language = LanguageConfig(provider="openai", base_url=chat_server.url)
    config = InstructEditConfig(**{**chain, "captioner": CaptionerConfig()}, language=language)
    backbone = Backbone.load(BackboneConfig(model=str(folders["text-to-image"]), device="cpu"), "text-to-image")
    editor = make_editor(config, backbone, api_key="sk-secret")
    result = editor.edit(EditRequest(image=pictures(2), instructions=(RED,)))
    assert result.trace.captions[0].target == "painting of a blue cube"
    assert result.trace.grounding[0][0].phrase == "left red cube"
    assert chat_server.keys == ["Bearer sk-secret"]
    assert "sk-secret" not in repr(result.trace)
    again = replace(editor.plan(EditRequest(image=pictures(), instructions=(RED,))), seeds=(1,))
    editor.edit(again)
    assert len(chat_server.asked) == 1
