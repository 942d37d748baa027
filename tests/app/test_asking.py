"""What commands make of the words, captions and presets they are given."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.asking import AskCommand
from maskedit.app.options import EditorFlags, OptionError
from maskedit.configs import PAPER_FOI
from maskedit.editors import (
    Captions,
    EditorName,
    FoIConfig,
    InputError,
    Instruction,
    ModelError,
    load_image,
    load_mask,
)

TEXT = "make the cube blue"


def test_words_belong_to_the_instruction_of_their_number() -> None:
    command = AskCommand(instruction=(TEXT, "remove the ball"), keyword=("", "ball"), strength=(1.0, 2.0), editor="foi")
    assert command.instructions() == (
        Instruction(text=TEXT),
        Instruction(text="remove the ball", keyword="ball", strength=2.0),
    )


def test_phrases_are_apart_by_commas() -> None:
    command = AskCommand(instruction=(TEXT, TEXT), phrase=("red cube, ball ,", " "), editor="instructedit")
    assert [each.phrases for each in command.instructions()] == [("red cube", "ball"), None]


def test_captions_are_of_editors_that_read_them() -> None:
    assert AskCommand(editor="mdp").captions() == ()
    given = AskCommand(editor="mdp", source_caption="a cube", target_caption="a ball")
    assert given.captions() == (Captions(source="a cube", target="a ball"),)
    assert given.instructions() == (Instruction(text="a ball"),)
    with pytest.raises(InputError, match="reads instructions and no captions"):
        replace(given, editor="foi").captions()
    with pytest.raises(InputError, match="--target-caption"):
        AskCommand(editor="mdp", source_caption="a cube").captions()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "expected an instruction, got none"),
        ({"instruction": (TEXT,), "keyword": ("", "")}, "--keyword once for each of 1 instructions, got it 2 times"),
        ({"instruction": (TEXT,), "phrase": ("cube",)}, "foi looks for no phrases"),
        ({"target_caption": "a ball", "editor": "inpaint"}, "expected an instruction, got none"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        AskCommand(**values).instructions()


def test_a_preset_is_where_flags_start_from() -> None:
    command = AskCommand.from_preset("paper-foi")
    assert (command.editor, command.preset, command.options) == ("foi", "paper-foi", PAPER_FOI.options)
    assert command.checkpoint == PAPER_FOI.checkpoint
    assert AskCommand.from_preset("no-such-preset") == AskCommand()


@pytest.mark.parametrize("editor", ["foi", "mdp"])
def test_options_are_those_of_the_chosen_editor(editor: EditorName) -> None:
    flags = EditorFlags()
    command = AskCommand(editor=editor, flags=replace(flags, foi=replace(flags.foi, boost=0.25)))
    if editor == "foi":
        assert command.options == FoIConfig(boost=0.25)
    else:
        with pytest.raises(OptionError, match=r"mdp has no --foi\.boost"):
            _ = command.options


def test_keys_are_not_shown() -> None:
    assert "sk-secret" not in repr(AskCommand(api_key="sk-secret"))


def test_a_brush_is_an_instruction(brush_file: Path) -> None:
    def ask(editor: EditorName, brush: Path | None, **values: Any) -> tuple[Instruction, ...]:
        flags = replace(EditorFlags(), shared=replace(EditorFlags().shared, brush=brush))
        return AskCommand(editor=editor, flags=flags, **values).instructions()

    assert ask("instructbrush", brush_file) == (Instruction(text=brush_file.stem),)
    assert ask("instructbrush", brush_file, instruction=(TEXT,), phrase=("cube",)) == (
        Instruction(text=TEXT, phrases=("cube",)),
    )
    with pytest.raises(InputError, match="instructbrush applies a learned instruction, got none: pass --brush FILE"):
        ask("instructbrush", None, instruction=(TEXT,))
    with pytest.raises(InputError, match="is a brush of instructbrush: pass --editor instructbrush"):
        ask("visii", brush_file)
    with pytest.raises(ModelError, match="there is no such file"):
        ask("instructbrush", brush_file.with_name("none"))
    with pytest.raises(OptionError, match="foi has no --brush"):
        ask("foi", brush_file, instruction=(TEXT,))


def test_smartedit_is_an_editor_like_any_other(
    call: Callable[..., Any], pictures: tuple[Path, ...], smartedit_checkpoint: Path, mask_file: Path, tmp_path: Path
) -> None:
    """One picture, one instruction, its language model on a device that is named."""
    few = ["--model", smartedit_checkpoint, "--output", tmp_path / "out", "--steps", 2, "--size", 32]
    own = ["--smartedit.mllm-device", "cpu", "--smartedit.drop-features", "--mask", mask_file]
    done = call("edit", pictures[0], "--editor", "smartedit", "--instruction", TEXT, *few, *own)
    assert done.code == 0, done.err
    edited, source = load_image(tmp_path / "out" / "p0_edited.png"), load_image(pictures[0])
    changed = (edited != source).any(1, keepdim=True)
    assert changed.any()
    assert not changed[load_mask(mask_file) == 0].any()
    record = json.loads((tmp_path / "out" / "p0.json").read_text())
    assert (record["editor"], record["trace"]["prompt"]) == ("smartedit", TEXT)
    assert record["options"]["drop_features"] is True
    assert torch.equal(load_mask(tmp_path / "out" / "p0_mask.png"), load_mask(mask_file))
    done = call("edit", pictures[0], "--editor", "smartedit", "--instruction", TEXT)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "convert it once with `maskedit convert smartedit`" in done.err
    done = call("mask", pictures[0], "--editor", "smartedit", "--instruction", TEXT)
    assert "smartedit has no mask of its own, it may change anything: pass --phrase with what to look for" in done.err
