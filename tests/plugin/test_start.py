"""Where a run begins, and errors that end the program with one line."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import FoIConfig, InputError, MaskeditError, SessionError
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.session import FOLDER, EditSession
from maskedit.plugin.session_lock import _held, release_session
from maskedit.plugin.start import (
    RunStopped,
    continue_in_place,
    find_start,
    given_checkpoint,
    one_line,
    pictures_left,
    remove_newer,
)


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """What a test has begun to go on with is free again after it."""
    yield
    for path in list(_held):
        release_session(path.parent)


def make_run(config: Any, *, steps: tuple[int, ...] = ()) -> EditSession:
    settings = config.pipeline.session_settings(config.machine.seed)
    root = config.get_base_dir() / FOLDER
    session = EditSession.create(root, settings=settings, start_step=0, edit_start=0, source="there.ckpt")
    config.get_checkpoint_dir().mkdir()
    for step in steps:
        (config.get_checkpoint_dir() / f"step-{step:09d}.ckpt").touch()
    return session


def test_an_expected_error_ends_the_program_with_its_line() -> None:
    with pytest.raises(SystemExit) as stopped, one_line():
        raise InputError("say what to change")
    assert stopped.value.code == "maskedit: say what to change"
    assert isinstance(stopped.value, MaskeditError)
    with pytest.raises(RunStopped, match=r"^maskedit: once$"), one_line(), one_line():
        raise InputError("once")
    with pytest.raises(ZeroDivisionError), one_line():
        raise ZeroDivisionError


def test_checkpoints_are_named_by_folder_or_file(config: Any, tmp_path: Path) -> None:
    given = config()
    assert given_checkpoint(given) is None
    given.load_checkpoint = tmp_path / "step.ckpt"
    with pytest.raises(InputError, match="--load-checkpoint"):
        given_checkpoint(given)
    (tmp_path / "step.ckpt").touch()
    assert given_checkpoint(given) == tmp_path / "step.ckpt"


def test_a_run_of_its_own_goes_on_from_its_newest_checkpoint(config: Any) -> None:
    given = config()
    make_run(given, steps=(3, 12))
    start = find_start(given)
    assert start.session is not None
    assert start.checkpoint is not None
    assert start.checkpoint.name == "step-000000012.ckpt"
    # --load-step of the scene the run began with must not be taken for one of its own.
    given.load_dir, given.load_step = Path("elsewhere"), 3
    assert find_start(given).checkpoint == start.checkpoint
    given.load_dir = given.get_checkpoint_dir()
    assert find_start(given).checkpoint.name == "step-000000003.ckpt"  # type: ignore[union-attr]


def test_a_run_without_checkpoints_goes_on_from_its_source(config: Any) -> None:
    given = config()
    make_run(given)
    assert find_start(given).checkpoint == Path("there.ckpt")


def test_a_run_of_the_previous_version_goes_on(config: Any) -> None:
    """It stored the model's name, FoI's options without `split` and `language`, and no fingerprint."""
    given = config(editor=SceneEditorConfig())
    session = make_run(given, steps=(3,))
    path = session.root / "session.json"
    state = json.loads(path.read_text())
    settings = state["settings"]
    del settings["checkpoint"], settings["editor options"]["split"], settings["editor options"]["language"]
    settings["model"] = "timbrooks/instruct-pix2pix"
    path.write_text(json.dumps(state))
    assert find_start(given).session is not None
    for changed, name in (
        (SceneEditorConfig(model="owner/other"), "model"),
        (SceneEditorConfig(foi=FoIConfig(sampler="ddim", steps=30)), "editor options: steps = 20"),
    ):
        with pytest.raises(SessionError, match=f"began with {name}"):
            find_start(config(editor=changed))


def test_the_folder_of_a_maskedit_checkpoint_is_gone_on_in(config: Any, tmp_path: Path) -> None:
    make_run(config(), steps=(3,))
    later = config()
    later.timestamp, later.load_dir = "later", config().get_checkpoint_dir()
    assert continue_in_place(later).get_base_dir().resolve() == config().get_base_dir().resolve()
    later.pipeline.resume = False
    assert continue_in_place(later) is later
    later.pipeline.resume, later.pipeline.dry_run = True, 2
    assert continue_in_place(later) is later


def test_only_a_fresh_folder_is_removed(config: Any) -> None:
    make_run(config(), steps=(3,))
    later = config()
    later.timestamp, later.load_dir = "later", config().get_checkpoint_dir()
    later.get_base_dir().mkdir()
    (later.get_base_dir() / "config.yml").touch()
    (later.get_base_dir() / "notes.txt").touch()
    continue_in_place(later)
    assert (later.get_base_dir() / "config.yml").exists()
    (later.get_base_dir() / "notes.txt").unlink()
    continue_in_place(later)
    assert not later.get_base_dir().exists()


def test_a_session_is_held_before_it_is_read(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session, held = make_run(config(), steps=(3,)), list[bool]()
    read = EditSession.open

    def watched(root: Path) -> EditSession:
        held.append((root.resolve() / "in_use") in _held)
        return read(root)

    monkeypatch.setattr(EditSession, "open", watched)
    find_start(config())
    assert held == [True]
    release_session(session.root)
    with pytest.raises(SessionError, match="instructions"):
        find_start(config(instructions=("make it green",)))
    assert not _held


def test_newer_checkpoints_are_removed(config: Any) -> None:
    make_run(config(), steps=(3, 12, 20))
    folder = config().get_checkpoint_dir()
    remove_newer(folder / "step-000000012.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000003.ckpt", "step-000000012.ckpt"]


def test_a_checkpoint_of_no_session_has_left_no_pictures(config: Any) -> None:
    session = make_run(config(), steps=(3,))
    assert pictures_left(None, 0, {}) == {}
    assert pictures_left(session.root / "x" / "step-000000003.ckpt", 0, {}) == {}
    assert pictures_left(config().get_checkpoint_dir() / "step-000000003.ckpt", 4, {}) == {}
    with pytest.raises(SessionError, match="seed"):
        pictures_left(config().get_checkpoint_dir() / "step-000000003.ckpt", 4, {"seed": -1})


def test_an_older_checkpoint_is_gone_on_from_at_once(start: Any, config: Any) -> None:
    """A kill right after must not leave the scene of a later step beside the edits of an earlier one."""
    given = config()
    given.save_only_latest_checkpoint = False
    start(config=given).train()
    again = replace(given, load_dir=given.get_checkpoint_dir(), load_step=4)
    assert len(list(given.get_checkpoint_dir().iterdir())) > 1
    trainer = start(config=again)
    assert [path.name for path in given.get_checkpoint_dir().iterdir()] == ["step-000000004.ckpt"]
    assert [r.step for r in trainer.session.records] == [0]


def test_the_same_command_leaves_the_options_of_a_run_as_they_are(start: Any, config: Any) -> None:
    given = config()
    given.save_config()
    start(config=given).train()
    path = given.get_base_dir() / "config.yml"
    was = path.read_text()
    same = config()
    same.pipeline.model.far_plane = 77.0
    same.save_config()
    assert path.read_text() == was
    path.unlink()
    same.save_config()
    assert "77.0" in path.read_text()


def test_every_end_of_a_run_lets_go_of_its_session(start: Any, config: Any) -> None:
    start().train()
    complete = start(config=config())
    assert len(_held) == 1
    complete.train()
    assert not _held
    start(dry_run=1).train()
    assert not _held


def test_the_resets_of_another_run_are_not_this_runs(start: Any, config: Any, paint: Any, tmp_path: Path) -> None:
    editor = paint()
    first = start(editor)
    editor.before = lambda request: first.requests.put(first.reset) if len(editor.requests) == 3 else None
    first.train()
    assert first.session.generation == 1
    later = config(tmp_path / "later", reconstruct_steps=0, resume=False)
    later.load_dir = first.checkpoint_dir
    trainer = start(config=later)
    assert trainer.session.generation == 0
    assert trainer.step == 16
    # The weights are those of the edited scene, and not its first ones.
    weights, wanted = trainer.pipeline.model.state_dict(), first.pipeline.model.state_dict()
    assert all(weights[name].equal(wanted[name]) for name in wanted if name.startswith("field."))


def test_a_reset_during_reconstruction_is_refused(start: Any) -> None:
    trainer = start()
    assert trainer.edit_step < 0
    with pytest.raises(InputError, match="nothing to reset"):
        trainer.reset()
    assert trainer.session.generation == 0


def test_a_reset_that_the_disk_refuses_leaves_the_scene(
    start: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start().train()
    trainer = start(config=config())

    def refuse(*given: object, **options: object) -> None:
        raise SessionError("free some space")

    before = {name: value.clone() for name, value in trainer.pipeline.model.state_dict().items()}
    monkeypatch.setattr("maskedit.plugin.session.write_json", refuse)
    with pytest.raises(SessionError, match="free some space"):
        trainer.reset()
    assert trainer.session.generation == 0
    assert all(value.equal(before[name]) for name, value in trainer.pipeline.model.state_dict().items())


def test_the_scene_is_saved_although_the_last_edit_failed(start: Any, paint: Any) -> None:
    trainer = start(paint(), edit_beside=True)

    def fail() -> None:
        raise InputError("expected a picture, got a riddle")

    trainer._carrier.finish = fail
    with pytest.raises(RunStopped, match="a riddle"):
        trainer.train()
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000010.ckpt"]


def test_who_goes_on_need_not_repeat_the_reconstruction(config: Any) -> None:
    given = config(reconstruct_steps=3)
    make_run(given, steps=(4,))
    given.pipeline.reconstruct_steps = 0
    assert find_start(given).checkpoint == given.get_checkpoint_dir() / "step-000000004.ckpt"
    release_session(given.get_base_dir() / FOLDER)
    given.pipeline.reconstruct_steps = 5
    with pytest.raises(SessionError, match="reconstruct steps = 3, this command has 5"):
        find_start(given)
