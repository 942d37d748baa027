"""The viewer's controls: they ask, the trainer answers between two steps, and mistakes end nothing."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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
    assert "Asked" in trainer.controls.status.text
    trainer.train_iteration(1)
    assert "Asked" not in trainer.controls.status.text
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


def test_what_was_asked_before_training_rests_is_answered_first(trainer: Any) -> None:
    trainer.train_iteration(1)
    press(trainer, "pause")
    trainer.training_state = "paused"
    press(trainer, "start")
    assert [(e.kind, e.value) for e in trainer.session.events] == [("pause", True), ("pause", False)]
    assert "Asked" not in trainer.controls.status.text


def test_several_devices_answer_together_even_while_training_rests(trainer: Any) -> None:
    # The others would wait for it in a step of theirs.
    trainer.ranks.size = 2
    trainer.training_state = "paused"
    press(trainer, "pause")
    assert trainer.session.events == ()
    trainer.training_state = "completed"
    press(trainer, "start")
    assert len(trainer.session.events) == 2


def test_what_was_asked_during_the_last_step_is_answered_at_the_end(start: Callable[..., Any], paint: Any) -> None:
    editor = paint()
    trainer = start(editor)
    trainer.controls = EditControls(trainer)
    editor.before = lambda request: press(trainer, "sweep") if len(editor.requests) == 4 else None
    trainer.config.max_num_iterations = trainer._edit_steps = 7
    trainer.train()
    assert trainer.requests.empty()
    # By the same clock as what is asked once the run is over.
    assert [(e.kind, e.step) for e in trainer.session.events] == [("undo", 7)]


def test_there_is_nothing_to_reset_before_the_first_edit(trainer: Any) -> None:
    fill(trainer, instruction0="make it green")
    press(trainer, "apply")
    trainer.step = 0
    press(trainer, "reset")
    trainer.train_iteration(0)
    assert "nothing to reset" in trainer.controls.status.text
    assert trainer.session.generation == 0
    assert trainer.controls.fields.changed() == {}


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


PATIENCE = 600
"""Seconds; a machine that is busy with other things takes minutes to import nerfstudio."""
SMALL = {
    "pipeline.datamanager.train-num-rays-per-batch": 128,
    "pipeline.model.implementation": "torch",
    "pipeline.model.camera-optimizer.mode": "off",
    "pipeline.model.max-res": 32,
    "pipeline.model.num-levels": 4,
    "pipeline.model.log2-hashmap-size": 10,
    "pipeline.model.hidden-dim": 16,
    "pipeline.model.hidden-dim-color": 16,
    "pipeline.model.num-nerf-samples-per-ray": 8,
    "pipeline.model.num-proposal-samples-per-ray": 8,
    "pipeline.model.num-proposal-iterations": 1,
}


@pytest.fixture
def chromium() -> str:
    """A browser of this machine."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no browser is installed")
    return found[0]


@pytest.fixture
def run_on_blocks(tmp_path: Path) -> Iterator[tuple[int, Path, subprocess.Popen[bytes]]]:
    """A real `ns-train` on a scene of blocks with the embedded model: its viewer's port, its session, its process."""
    from maskedit.bench.blocks import make_pairs, write_multiview

    spec = make_pairs("test", [859], kinds={"recolor": 1.0}, references={"plain": 1.0}).specs[0]
    write_multiview(tmp_path / "data", spec.scene, spec.edits, views=6, held_out=1, size=64)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {
        "data": tmp_path / "data",
        "output-dir": tmp_path / "runs",
        "experiment-name": "blocks",
        "timestamp": "run",
        "vis": "viewer",
        "viewer.websocket-port": port,
        "viewer.websocket-host": "127.0.0.1",
        "machine.device-type": "cpu",
        "max-num-iterations": 100000,
        "logging.local-writer.enable": False,
        "pipeline.reconstruct-steps": 20,
        "pipeline.edit-rate": 10,
        "pipeline.lower-bound": 0.7,
        "pipeline.editor.model": "embedded",
        "pipeline.editor.foi.steps": 4,
        **SMALL,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["--pipeline.instructions", "paint the red sphere yellow"]
    command = [str(Path(sys.executable).with_name("ns-train")), "maskedit-tiny", *words]
    command += ["nerfstudio-data", "--downscale-factor", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    log = (tmp_path / "train.log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            yield port, tmp_path / "runs" / "blocks" / "maskedit-tiny" / "run" / "maskedit_session", process
        finally:
            process.kill()


def wait_until(claim: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Look again and again; edits of a busy machine take their time."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, f"still waiting until {what}"
        time.sleep(0.3)


@pytest.mark.slow
def test_a_scene_is_edited_from_a_browser(chromium: str, run_on_blocks: Any) -> None:
    from playwright.sync_api import Error, expect, sync_playwright

    port, root, process = run_on_blocks

    def session() -> EditSession:
        return EditSession.open(root)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})

        def is_open() -> bool:
            assert process.poll() is None, "the run has ended"
            try:
                return page.goto(f"http://127.0.0.1:{port}") is not None
            except Error:
                return False

        def click(name: str) -> None:
            page.get_by_role("button", name=name, exact=True).click()

        wait_until(is_open, "the viewer answers")
        expect(page.get_by_text("Custom Elements")).to_be_visible(timeout=1000 * PATIENCE)
        wait_until((root / "session.json").is_file, "the session has begun")

        row = page.get_by_text("Instruction 1", exact=True).locator("xpath=ancestor::div[.//input][1]")
        row.locator("input").fill("turn the red sphere blue")
        click("Apply")
        wait_until(lambda: bool(session().events), "the instruction is applied")
        assert session().events[0].value["instructions"][0]["text"] == "turn the red sphere blue"
        expect(page.get_by_text("turn the red sphere blue").first).to_be_visible(timeout=1000 * PATIENCE)

        click("Preview the edit")
        picture = page.locator('img[src^="data:image/jpeg"]')
        expect(picture).to_be_visible(timeout=1000 * PATIENCE)
        # before | mask | after
        assert picture.evaluate("image => image.naturalWidth / image.naturalHeight") > 2.9

        def edited() -> list[Any]:
            return [r for r in session().records if r.instructions == ("turn the red sphere blue",) and r.image]

        wait_until(lambda: bool(edited()), "a view is edited")
        click("Show its last edit")
        expect(page.get_by_text("last edit of").first).to_be_visible(timeout=1000 * PATIENCE)

        click("Pause editing")
        wait_until(lambda: session().events[-1].kind == "pause", "editing is paused")
        made = len(session().records)
        click("Undo the last sweep")
        wait_until(lambda: session().events[-1].kind == "undo", "the sweep is taken back")
        step = session().events[-1].step
        assert session().hidden(step)
        expect(page.get_by_text("edits taken back").first).to_be_visible(timeout=1000 * PATIENCE)
        assert len(session().records) == made

        click("Reset photos and scene")
        wait_until(lambda: session().generation == 1, "the scene is reset")
        assert session().working_set(0) == {}
        browser.close()
