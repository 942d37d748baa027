"""Where a run begins, and errors that end the program with one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskedit.editors import FoIConfig, InputError, MaskeditError, SessionError
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.session import FOLDER, EditSession
from maskedit.plugin.start import RunStopped, continue_in_place, find_start, given_checkpoint, one_line


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
