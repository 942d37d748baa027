"""The viewer's controls: they ask, the trainer answers between two steps, and mistakes end nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement

from maskedit.editors import InputError
from maskedit.plugin import viewer
from maskedit.plugin.session import EditSession
from maskedit.plugin.viewer import EditControls, SteeredRun


@pytest.fixture
def trainer(start: Callable[..., Any], config: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(viewer, "INTERVAL", 0.0)
    given = config(reconstruct_steps=1)
    given.max_num_iterations = 20
    made = start(config=given)
    made.controls = EditControls(made)
    return made


def press(trainer: Any, name: str) -> None:
    control = trainer.controls.elements[name]
    control.cb_hook(control)


def fill(trainer: Any, **values: Any) -> None:
    for name, value in values.items():
        trainer.controls.elements[name].value = value


def test_the_viewer_finds_every_control_in_its_folder(trainer: Any) -> None:
    assert isinstance(trainer, SteeredRun)
    found = parse_object(trainer.pipeline, ViewerElement, "Custom Elements")
    assert {id(each) for _, each in found} == {id(each) for each in trainer.controls.elements.values()}
    folders = {path.split("/")[1] for path, _ in found}
    assert folders == {"Edit", "Preview", "Region", "Undo"}
    # The order in which they were made is the order in which they are shown.
    edit = [each for path, each in found if path.split("/")[1] == "Edit"]
    assert edit[0] is trainer.controls.status.element
    assert [each.name for each in edit[1:3]] == ["Instruction 1", "Strength 1"]


def test_controls_change_nothing_that_is_saved(trainer: Any, start: Callable[..., Any], config: Any) -> None:
    names = set(trainer.pipeline.state_dict())
    assert not [name for name in names if name.startswith(("Edit", "Preview", "Region", "Undo"))]


def test_there_are_no_controls_without_a_viewer(start: Callable[..., Any]) -> None:
    made = start()
    assert made.controls is None
    assert not parse_object(made.pipeline, ViewerElement, "Custom Elements")


def test_nothing_happens_before_the_next_step(trainer: Any) -> None:
    press(trainer, "pause")
    assert trainer.session.events == ()
    trainer.train_iteration(1)
    assert [(e.kind, e.value) for e in trainer.session.events] == [("pause", True)]
    assert trainer.session.records == ()
    elements = trainer.controls.elements
    assert (elements["start"].visible, elements["pause"].visible) == (True, False)
    trainer.step = 3
    press(trainer, "start")
    trainer.train_iteration(3)
    assert [r.step for r in trainer.session.records] == [2]
    assert (elements["start"].visible, elements["pause"].visible) == (False, True)


@pytest.mark.parametrize("state", ["paused", "completed"])
def test_while_training_rests_the_answer_comes_at_once(trainer: Any, state: str) -> None:
    trainer.step = 1
    trainer.train_iteration(1)
    trainer.training_state = state
    press(trainer, "sweep")
    assert trainer.requests.empty()
    # A run that is over counts the step it has made last, and undoes that as well.
    assert len(trainer.session.hidden(5)) == (state == "completed")


def test_instructions_and_guidance_are_applied_from_their_step_on(trainer: Any) -> None:
    trainer.train_iteration(1)
    trainer.step = 2
    fill(trainer, instruction0="make it green", instruction1="make it snow", strength1=2.0, guidance_scale=5.0)
    press(trainer, "apply")
    trainer.train_iteration(2)
    settings = trainer.pipeline.edits.settings_at(1)
    assert [(i.text, i.strength) for i in settings.instructions] == [("make it green", 1.0), ("make it snow", 2.0)]
    assert (settings.guidance_scale, settings.image_guidance_scale) == (5.0, None)
    assert [i.text for i in trainer.pipeline.edits.settings_at(0).instructions] == ["make the red square white"]
    assert "make it green; make it snow" in trainer.controls.status.text


def test_only_what_was_changed_is_applied(trainer: Any) -> None:
    fill(trainer, instruction0="make it green")
    for _ in range(2):
        press(trainer, "apply")
        trainer.train_iteration(1)
    green = {"instructions": [{"text": "make it green", "keyword": None, "strength": 1.0}]}
    assert [e.value for e in trainer.session.events] == [green]
    assert "nothing to apply" in trainer.controls.status.text
    fill(trainer, guidance_scale=5.0)
    press(trainer, "apply")
    trainer.train_iteration(2)
    assert trainer.session.events[-1].value == {"guidance_scale": 5.0}
    trainer.step = 3
    press(trainer, "reset")
    press(trainer, "apply")
    trainer.train_iteration(3)
    (event,) = trainer.session.events
    assert event.value == {**green, "guidance_scale": 5.0}


def test_what_is_not_understood_is_said_and_the_run_goes_on(
    start: Callable[..., Any], config: Any, captioned: Any
) -> None:
    editor_config, editor, _, _ = captioned()
    trainer = start(editor, config=config(editor=editor_config, reconstruct_steps=1))
    trainer.controls = EditControls(trainer)
    trainer.train_iteration(1)
    fill(trainer, instruction0="blorb")
    press(trainer, "apply")
    trainer.step = 2
    trainer.train_iteration(2)
    assert trainer.session.events == ()
    assert "Not done" in trainer.controls.status.text


def test_a_mistake_is_said_and_training_goes_on(trainer: Any, capsys: pytest.CaptureFixture) -> None:
    fill(trainer, instruction0="  ")
    press(trainer, "apply")
    trainer.train_iteration(1)
    assert "expected an instruction" in " ".join(capsys.readouterr().out.split())
    fill(trainer, instruction0="make it red", guidance_scale=0.1)
    press(trainer, "apply")
    trainer.train_iteration(2)
    assert "guidance_scale must be above 1" in " ".join(capsys.readouterr().out.split())
    assert trainer.session.events == ()
    assert "must be above 1" in trainer.controls.status.text.replace("\\", "")


def test_undo_and_reset_can_be_pressed(trainer: Any) -> None:
    data = trainer.pipeline.datamanager
    trainer.train_iteration(1)
    assert not torch.equal(data.shown(0), data.original(0))
    trainer.step = 2
    press(trainer, "sweep")
    trainer.train_iteration(2)
    assert torch.equal(data.shown(0), data.original(0))
    trainer.step = 3
    press(trainer, "reset")
    trainer.train_iteration(4)
    assert trainer.session.generation == 1
    assert trainer.session.edit_start == 3


def test_an_earlier_instruction_can_be_gone_back_to(trainer: Any) -> None:
    data, elements = trainer.pipeline.datamanager, trainer.controls.elements
    trainer.train_iteration(1)
    trainer.step = 2
    fill(trainer, instruction0="make it green")
    press(trainer, "apply")
    for step in (2, 3, 4, 5):
        trainer.step = step
        trainer.train_iteration(step)
    assert [r.instructions[0] for r in trainer.session.records] == ["make the red square white"] + 2 * ["make it green"]
    assert elements["earlier"].options == ["the photos, before every edit", "1. make the red square white"]
    elements["earlier"].value = "1. make the red square white"
    trainer.step = 6
    press(trainer, "back")
    trainer.train_iteration(6)
    assert {view: r.index for view, r in trainer.session.working_set(6).items()} == {0: 0}
    assert torch.equal(data.shown(1), data.original(1))
    assert elements["instruction0"].value == "make the red square white"
    # A run that is continued comes to the same.
    again = EditSession.open(trainer.session.root)
    assert again.working_set(6).keys() == {0}
    assert again.history(6)[-1].describe() == "make the red square white"


def test_nothing_can_be_gone_back_to_before_the_first_edit(trainer: Any) -> None:
    press(trainer, "back")
    trainer.train_iteration(1)
    assert "nothing to go back to" in trainer.controls.status.text


def test_the_status_tells_how_far_the_run_is(start: Callable[..., Any], config: Any, trainer: Any) -> None:
    trainer.controls.refresh()
    assert "Reconstructing, 1 steps before the first edit" in trainer.controls.status.text
    trainer.step = 1
    trainer.train_iteration(1)
    assert "Edit step 1 of 20, editing" in trainer.controls.status.text


def test_controls_wait_for_the_run(trainer: Any) -> None:
    edits, trainer.pipeline.edits = trainer.pipeline.edits, None
    with pytest.raises(InputError, match="not begun"):
        _ = trainer.controls.step
    trainer.pipeline.edits = edits
