"""The viewer's controls: they ask, the trainer answers between two steps, and mistakes end nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement

from maskedit.editors import PRESET_FILE
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.viewer import SteeredRun, attach_controls


@pytest.fixture
def trainer(start: Callable[..., Any], config: Any) -> Any:
    given = config(reconstruct_steps=1)
    given.max_num_iterations = 20
    made = start(config=given)
    made.controls = attach_controls(made)
    return made


def press(trainer: Any, name: str) -> None:
    control = trainer.controls[name]
    control.cb_hook(control)


def test_the_viewer_finds_every_control(trainer: Any) -> None:
    assert isinstance(trainer, SteeredRun)
    found = [element for _, element in parse_object(trainer.pipeline, ViewerElement, "Custom Elements")]
    assert {id(each) for each in found} >= {id(each) for each in trainer.controls.values()}


def test_there_are_no_controls_without_a_viewer(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    assert not parse_object(pipeline, ViewerElement, "Custom Elements")


def test_nothing_happens_before_the_next_step(trainer: Any) -> None:
    trainer.controls["edit_pause"].value = True
    press(trainer, "edit_pause")
    assert trainer.session.events == ()
    trainer.train_iteration(1)
    assert [(e.kind, e.value) for e in trainer.session.events] == [("pause", True)]
    assert trainer.session.records == ()


def test_instructions_and_guidance_are_applied_from_their_step_on(trainer: Any) -> None:
    trainer.train_iteration(1)
    trainer.step = 2
    trainer.controls["edit_instructions"].value = "make it green; make it snow"
    trainer.controls["edit_guidance_scale"].value = 5.0
    press(trainer, "edit_apply")
    trainer.train_iteration(2)
    settings = trainer.pipeline.edits.settings_at(1)
    assert [i.text for i in settings.instructions] == ["make it green", "make it snow"]
    assert (settings.guidance_scale, settings.image_guidance_scale) == (5.0, None)
    assert [i.text for i in trainer.pipeline.edits.settings_at(0).instructions] == ["make the red square white"]


def test_only_what_was_changed_is_applied(trainer: Any) -> None:
    trainer.controls["edit_instructions"].value = "make it green"
    for _ in range(2):
        press(trainer, "edit_apply")
        trainer.train_iteration(1)
    assert [e.value for e in trainer.session.events] == [{"instructions": [{"text": "make it green"}]}]
    trainer.controls["edit_guidance_scale"].value = 5.0
    press(trainer, "edit_apply")
    trainer.train_iteration(2)
    assert trainer.session.events[-1].value == {"guidance_scale": 5.0}
    trainer.step = 3
    press(trainer, "edit_reset")
    press(trainer, "edit_apply")
    trainer.train_iteration(3)
    (event,) = trainer.session.events
    assert event.value == {"instructions": [{"text": "make it green"}], "guidance_scale": 5.0}


def test_the_fields_show_the_checkpoints_own_guidance(start: Callable[..., Any], config: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model_index.json").write_text("{}")
    (tmp_path / "checkpoint" / PRESET_FILE).write_text('{"instruct": {"guidance_scale": 3.0}}')
    controls = attach_controls(start(config=config(editor=SceneEditorConfig(model=str(tmp_path / "checkpoint")))))
    assert (controls["edit_guidance_scale"].value, controls["edit_image_guidance_scale"].value) == (3.0, 1.5)


def test_editors_on_captions_have_no_image_guidance(start: Callable[..., Any], config: Any, captioned: Any) -> None:
    editor_config, editor, _, _ = captioned()
    trainer = start(editor, config=config(editor=editor_config, reconstruct_steps=1))
    controls = attach_controls(trainer)
    assert controls["edit_guidance_scale"].value == 7.5
    assert "edit_image_guidance_scale" not in controls
    trainer.train_iteration(1)
    controls["edit_instructions"].value = "blorb"
    controls["edit_apply"].cb_hook(controls["edit_apply"])
    trainer.step = 2
    # What is not understood is said, and the run goes on with what it had.
    trainer.train_iteration(2)
    assert trainer.session.events == ()


def test_a_mistake_is_said_and_training_goes_on(trainer: Any, capsys: pytest.CaptureFixture) -> None:
    trainer.controls["edit_instructions"].value = " ; "
    press(trainer, "edit_apply")
    trainer.train_iteration(1)
    assert "expected an instruction" in " ".join(capsys.readouterr().out.split())
    trainer.controls["edit_instructions"].value = "make it red"
    trainer.controls["edit_guidance_scale"].value = 0.1
    press(trainer, "edit_apply")
    trainer.train_iteration(2)
    assert "guidance_scale must be above 1" in " ".join(capsys.readouterr().out.split())
    assert trainer.session.events == ()


def test_undo_and_reset_can_be_pressed(trainer: Any) -> None:
    import torch

    data = trainer.pipeline.datamanager
    trainer.train_iteration(1)
    assert not torch.equal(data.shown(0), data.original(0))
    trainer.step = 2
    press(trainer, "edit_undo")
    trainer.train_iteration(2)
    assert torch.equal(data.shown(0), data.original(0))
    trainer.step = 3
    press(trainer, "edit_reset")
    trainer.train_iteration(4)
    assert trainer.session.generation == 1
    assert trainer.session.edit_start == 3
