"""Fields of the viewer: what differs from what holds is applied, and editors that could not be used are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import PRESET_FILE, InputError, Instruction, ModelError
from maskedit.plugin.checkpoint import read_checkpoint
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.editor_cache import EditorCache
from maskedit.plugin.session_records import Event
from maskedit.plugin.slot import Settings
from maskedit.plugin.trainer import MaskeditTrainer
from maskedit.plugin.viewer import EditControls
from maskedit.plugin.viewer_fields import ROWS, EditFields


@pytest.fixture
def fields(config: Any) -> EditFields:
    return EditFields(
        config(
            instructions=("make the red square white", "add snow"),
            keywords=("red", ""),
            strengths=(2.0, 1.0),
            editor=SceneEditorConfig(model="embedded", device="cpu", offline=True),
        ).pipeline
    )


def test_the_fields_show_what_the_command_line_said(fields: EditFields) -> None:
    shown = fields.elements
    assert [shown[f"instruction{i}"].value for i in range(3)] == ["make the red square white", "add snow", ""]
    assert [shown[f"strength{i}"].value for i in range(3)] == [2.0, 1.0, 1.0]
    assert [shown[f"instruction{i}"].visible for i in range(4)] == [True, True, True, False]
    assert shown["editor"].value == "foi"
    assert fields.changed() == {}


def test_the_fields_show_the_checkpoints_own_guidance(config: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model_index.json").write_text("{}")
    (tmp_path / "checkpoint" / PRESET_FILE).write_text('{"instruct": {"guidance_scale": 3.0}}')
    fields = EditFields(config(editor=SceneEditorConfig(model=str(tmp_path / "checkpoint"))).pipeline)
    assert (fields.guidance.value, fields.image_guidance.value) == (3.0, 1.5)


def test_editors_on_captions_have_no_image_guidance(config: Any, sd_folder: Path) -> None:
    editor = SceneEditorConfig(name="diffedit", model=str(sd_folder), device="cpu")
    fields = EditFields(config(editor=editor).pipeline)
    assert fields.guidance.value == 7.5
    assert fields.image_guidance.visible is False


def test_known_instructions_keep_their_keyword(fields: EditFields) -> None:
    fields.elements["strength0"].value = 3.0
    fields.elements["instruction1"].value = " make it rain "
    assert fields.changed() == {
        "instructions": [
            {"text": "make the red square white", "keyword": "red", "strength": 3.0},
            {"text": "make it rain", "keyword": None, "strength": 1.0},
        ]
    }
    assert fields.settings.instructions[1] == Instruction(text="make it rain")
    fields.mark_applied()
    assert fields.changed() == {}
    fields.forget()
    assert len(fields.changed()["instructions"]) == 2


def test_strengths_out_of_range_and_no_instructions_are_refused(fields: EditFields) -> None:
    fields.elements["strength0"].value = 11.0
    with pytest.raises(ValueError, match="strength"):
        fields.changed()
    for number in range(2):
        fields.elements[f"instruction{number}"].value = ""
    with pytest.raises(InputError, match="expected an instruction"):
        fields.changed()


def test_rows_are_added_until_there_is_no_more_room(fields: EditFields) -> None:
    for _ in range(ROWS - 3):
        fields.add_row()
    assert all(fields.elements[f"instruction{i}"].visible for i in range(ROWS))
    with pytest.raises(InputError, match=f"at most {ROWS} instructions"):
        fields.add_row()


def test_another_editor_begins_with_its_own_guidance(fields: EditFields) -> None:
    fields.guidance.value = 3.0
    fields.mark_applied()
    fields.editor.value = "ip2p"
    assert fields.changed() == {"editor": "ip2p", "guidance_scale": None, "image_guidance_scale": None}
    fields.mark_applied()
    assert fields.guidance.value != 3.0
    fields.editor.value = "foi"
    fields.guidance.value = 4.0
    assert fields.changed() == {"editor": None, "guidance_scale": 4.0, "image_guidance_scale": None}
    fields.editor.value = "diffedit"
    fields.image_guidance.value = 2.0
    assert fields.changed()["image_guidance_scale"] is None


def test_settings_that_were_gone_back_to_are_shown(fields: EditFields) -> None:
    settings = Settings(instructions=(Instruction(text="make it blue", strength=0.5),), editor="diffedit")
    fields.show(settings)
    assert (fields.elements["instruction0"].value, fields.elements["strength0"].value) == ("make it blue", 0.5)
    assert fields.elements["instruction1"].value == ""
    assert (fields.editor.value, fields.image_guidance.visible) == ("diffedit", False)
    assert fields.changed() == {}


def test_a_resumed_run_shows_what_holds(
    start: Callable[..., Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(reconstruct_steps=1)
    first = start(config=given)
    value = {"instructions": [{"text": "make it green"}], "editor": "ip2p", "guidance_scale": 5.0}
    first.session.add_event(Event(step=2, kind="settings", value=value))
    first.train()

    def with_controls(self: Any) -> Any:
        # As with a viewer, whose server is not needed here.
        self.controls = EditControls(self)
        return super(MaskeditTrainer, self).setup_optimizers()

    monkeypatch.setattr(MaskeditTrainer, "setup_optimizers", with_controls)
    given.max_num_iterations = 9
    again = start(config=given)
    elements = again.controls.elements
    assert (elements["instruction0"].value, elements["editor"].value) == ("make it green", "ip2p")
    assert elements["guidance_scale"].value == 5.0
    assert elements["instruction"].options[1:] == ["make it green"]
    assert again.controls.fields.changed() == {}


def test_a_resumed_run_goes_back_again(start: Callable[..., Any], config: Any, paint: Any) -> None:
    given = config()
    given.save_only_latest_checkpoint = False
    editor = paint()
    trainer = start(editor, config=given)

    def steer(request: Any) -> None:
        if len(editor.requests) == 2:
            value = {"instructions": [{"text": "make it green"}]}
            trainer.requests.put(lambda: trainer.session.add_event(Event(step=3, kind="settings", value=value)))
        if len(editor.requests) == 3:
            trainer.requests.put(lambda: trainer.undo(to=3))

    editor.before = steer
    trainer.train()
    assert [event.kind for event in trainer.session.events] == ["settings", "undo", "settings"]
    assert trainer.session.hidden(8) == {2}
    last = max(trainer.checkpoint_dir.glob("*.ckpt"))
    expected, texts = read_checkpoint(last)["pipeline"], [r.instructions for r in trainer.session.records]
    assert texts == [("make the red square white",)] * 2 + [("make it green",), ("make the red square white",)]
    for path in trainer.checkpoint_dir.glob("*.ckpt"):
        if path.name > "step-000000004.ckpt":
            path.unlink()
    again = start(config=given)
    assert again.edit_step == 2
    again.train()
    found = read_checkpoint(last)["pipeline"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [r.instructions for r in again.session.records] == texts


@pytest.mark.slow
def test_an_editor_is_loaded_when_it_is_chosen_and_refused_when_it_is_missing(
    start: Callable[..., Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = SceneEditorConfig(model="embedded", device="cpu", offline=True)
    trainer = start(config=config(editor=editor))
    edits = trainer.pipeline.edits
    edits._cache = EditorCache(editor)
    fields = EditFields(trainer.config.pipeline)
    fields.check(edits, Event(step=0, kind="settings", value={"editor": "ip2p"}))
    assert edits.has_editor
    with pytest.raises(InputError, match="no image guidance"):
        fields.check(edits, Event(step=0, kind="settings", value={"editor": "diffedit", "image_guidance_scale": 2.0}))
    monkeypatch.undo()
    with pytest.raises(InputError, match="visii applies a learned instruction, got none"):
        fields.check(edits, Event(step=0, kind="settings", value={"editor": "visii"}))
    named = SceneEditorConfig(model=str(Path(__file__).parent), device="cpu", offline=True)
    fields._config.editor, edits._cache = named, EditorCache(named)
    with pytest.raises(ModelError, match="stable-diffusion"):
        fields.check(edits, Event(step=0, kind="settings", value={"editor": "mdp"}))
