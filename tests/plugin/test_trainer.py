"""Whole runs: step counts, starting points, exact resumption, reset and undo."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.plugin.checkpoint import read_checkpoint
from maskedit.plugin.session import EditSession
from maskedit.plugin.start import RunStopped
from maskedit.plugin.trainer import MaskeditTrainer

Start = Callable[..., MaskeditTrainer]


def newest(trainer: MaskeditTrainer) -> dict[str, Any]:
    return read_checkpoint(max(trainer.checkpoint_dir.glob("*.ckpt")))


def pictures(trainer: MaskeditTrainer) -> dict[str, str]:
    """Everything a session shows, by name."""
    assert trainer.session is not None
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(trainer.session.root.rglob("*.png"))}


def same_weights(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def unbroken(
    scene: Path, tmp_path_factory: pytest.TempPathFactory, paint: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """The checkpoint and the pictures of a run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskedit.plugin.options.check_editor_is_there", lambda *given, **options: None)
        trainer = MaskeditTrainer(paint.config_of(scene, tmp_path_factory.mktemp("unbroken")))
        trainer.setup()
        assert trainer.pipeline.edits is not None
        trainer.pipeline.edits.use_editor(paint())
        trainer.train()
    return newest(trainer), pictures(trainer)


def test_a_run_reconstructs_then_edits_as_often_as_planned(start: Start, paint: Any) -> None:
    editor = paint()
    trainer = start(editor)
    originals = [trainer.pipeline.datamanager.original(view) for view in range(4)]
    trainer.train()
    assert trainer.session is not None
    records = trainer.session.records
    # 3 steps of reconstruction, then 8 edit steps with an edit at 0, 2, 4 and 6.
    assert [(r.step, r.view) for r in records] == [(0, 0), (2, 1), (4, 2), (6, 3)]
    assert newest(trainer)["step"] == 10
    assert trainer.session.start_checkpoint.is_file()
    assert read_checkpoint(trainer.session.start_checkpoint)["step"] == 2
    for view, record in enumerate(records):
        data = trainer.pipeline.datamanager
        assert torch.equal(data.original(view), originals[view])
        assert torch.equal(data.shown(view), trainer.session.image_of(record))
        outside = trainer.session.mask_at(str(record.mask)) == 0
        assert torch.equal(data.shown(view)[outside], originals[view][outside])
        assert not torch.equal(data.shown(view), originals[view])


RUN_AND_DIE = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
import maskedit.plugin.options as options
options.check_editor_is_there = lambda *given, **options: None
trainer = toys.MaskeditTrainer(toys.tiny_config(Path(sys.argv[2]), Path(sys.argv[3])))
trainer.setup()
editor = toys.PaintEditor()
editor.before = lambda request: os.kill(os.getpid(), signal.SIGKILL) if len(editor.requests) == 3 else None
trainer.pipeline.edits.use_editor(editor)
trainer.train()
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(
    start: Start, config: Any, scene: Path, tmp_path: Path, unbroken: Any
) -> None:
    # It dies in its third edit: after the first checkpoint, with a second edit that is newer than that.
    toys = str(Path(__file__).with_name("conftest.py"))
    command = [sys.executable, "-W", "ignore", "-c", RUN_AND_DIE, toys, str(scene), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    trainer = start(config=config())
    assert trainer.session is not None
    assert trainer.edit_step == 2
    assert [r.step for r in trainer.session.records] == [0]
    trainer.train()
    state, shown = unbroken
    assert pictures(trainer) == shown
    assert newest(trainer)["step"] == state["step"]
    assert same_weights(newest(trainer)["pipeline"], state["pipeline"])


def test_a_torn_edit_and_a_torn_checkpoint_do_not_count(start: Start, config: Any, paint: Any, unbroken: Any) -> None:
    editor = paint()

    def stop(request: Any) -> None:
        if len(editor.requests) == 3:
            raise KeyboardInterrupt

    editor.before = stop
    trainer = start(editor)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.session is not None
    folder = trainer.session.root / "edits-000"
    (folder / "0000004-00002.png").write_bytes(b"half a picture")
    (folder / "0000004-00002.json.partial").write_text('{"step"')
    (trainer.base_dir / "checkpoint.partial").write_bytes(b"half a checkpoint")
    again = start(config=config())
    again.train()
    state, shown = unbroken
    assert pictures(again) == shown
    assert same_weights(newest(again)["pipeline"], state["pipeline"])


def test_a_broken_run_of_an_editor_on_captions_resumes_to_the_same_result(
    start: Start, config: Any, captioned: Any, tmp_path: Path
) -> None:
    def prepare(folder: Path, stop_at: int = 0) -> tuple[MaskeditTrainer, Any, Any]:
        editor_config, editor, language, grounder = captioned()
        trainer = start(editor, config=config(folder, editor=editor_config))
        edit, made = editor.edit, []

        def stop(request: Any) -> Any:
            made.append(request)
            if len(made) == stop_at:
                raise KeyboardInterrupt
            return edit(request)

        editor.edit = stop
        return trainer, language, grounder

    whole, language, grounder = prepare(tmp_path / "whole")
    whole.train()
    assert (len(language.asked), len(grounder.asked)) == (1, 4)
    broken, *_ = prepare(tmp_path / "broken", stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed, language, grounder = prepare(tmp_path / "broken")
    resumed.train()
    # The plan was kept; the masks of the edits that were lost with the scene are found again.
    assert (len(language.asked), len(grounder.asked)) == (0, 3)
    assert pictures(resumed) == pictures(whole)
    assert same_weights(newest(resumed)["pipeline"], newest(whole)["pipeline"])


def test_an_instruction_that_is_not_understood_ends_the_run_with_one_line(
    start: Start, config: Any, captioned: Any
) -> None:
    editor_config, editor, _, _ = captioned()
    trainer = start(editor, config=config(editor=editor_config, instructions=("blorb",)))
    with pytest.raises(RunStopped, match="expected a request to edit") as stopped:
        trainer.train()
    assert "\n" not in str(stopped.value)
    assert trainer.session is not None
    assert trainer.session.records == ()


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    start: Start, config: Any, paint: Any, unbroken: Any
) -> None:
    editor = paint()

    def stop(request: Any) -> None:
        raise KeyboardInterrupt

    editor.before = stop
    with pytest.raises(KeyboardInterrupt):
        start(editor).train()
    trainer = start(config=config())
    assert trainer.edit_step == -3
    trainer.train()
    assert pictures(trainer) == unbroken[1]
    assert same_weights(newest(trainer)["pipeline"], unbroken[0]["pipeline"])


def test_edit_steps_count_from_zero_whatever_the_checkpoint_carries(start: Start, config: Any, tmp_path: Path) -> None:
    first = start()
    first.train()
    later = config(tmp_path / "later", reconstruct_steps=0, resume=False, edit_rate=3)
    later.load_dir, later.max_num_iterations = first.checkpoint_dir, 5
    trainer = start(config=later)
    assert trainer.edit_step == 0
    assert trainer.step == 11
    trainer.train()
    assert trainer.session is not None
    assert [(r.step, r.view) for r in trainer.session.records] == [(0, 0), (3, 1)]
    assert newest(trainer)["step"] == 15
    # What the first run made of the photos is what the second one keeps.
    assert first.session is not None
    assert torch.equal(trainer.pipeline.datamanager.original(2), first.session.image_of(first.session.records[2]))


def test_load_dir_of_a_run_goes_on_in_its_folder(
    start: Start, config: Any, paint: Any, tmp_path: Path, unbroken: Any
) -> None:
    editor = paint()

    def stop(request: Any) -> None:
        if len(editor.requests) == 3:
            raise KeyboardInterrupt

    editor.before = stop
    first = start(editor)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    given = config()
    given.timestamp, given.load_dir = "another", first.checkpoint_dir
    given.save_config()
    trainer = start(config=given)
    assert trainer.base_dir.resolve() == first.base_dir.resolve()
    assert not (tmp_path / "toy" / "maskedit-tiny" / "another").exists()
    trainer.train()
    assert pictures(trainer) == unbroken[1]


def test_a_finished_run_is_left_alone_and_can_be_prolonged(start: Start, config: Any) -> None:
    start().train()
    again = start(config=config())
    before = newest(again)
    again.train()
    assert newest(again)["step"] == before["step"]
    longer = config()
    longer.max_num_iterations = 10
    prolonged = start(config=longer)
    prolonged.train()
    assert newest(prolonged)["step"] == 12
    assert prolonged.session is not None
    assert [r.view for r in prolonged.session.records] == [0, 1, 2, 3, 0]


def test_other_settings_are_refused_when_a_run_is_continued(start: Start, config: Any) -> None:
    start().train()
    with pytest.raises(RunStopped, match="instructions"):
        start(config=config(instructions=("make it green",)))


def test_reset_goes_back_to_the_photos_and_the_first_scene(
    start: Start, config: Any, paint: Any, unbroken: Any
) -> None:
    editor = paint()
    trainer = start(editor)
    editor.before = lambda request: trainer.requests.put(trainer.reset) if len(editor.requests) == 3 else None
    trainer.train()
    assert trainer.session is not None
    assert trainer.session.generation == 1
    assert [(r.step, r.view) for r in trainer.session.records] == [(0, 0), (2, 1), (4, 2), (6, 3)]
    # Editing began anew at step 8 of the loop, and the first edit saw the first scene again.
    assert newest(trainer)["step"] == 15
    torch.testing.assert_close(editor.requests[3].image, editor.requests[0].image, atol=5e-3, rtol=0)
    assert not torch.allclose(editor.requests[2].image, editor.requests[0].image, atol=5e-3)


def test_reset_of_a_stopped_run_is_carried_out_when_it_goes_on(start: Start, config: Any, unbroken: Any) -> None:
    trainer = start()
    trainer.train()
    assert trainer.session is not None
    trainer.session.reset()
    again = start(config=config())
    assert again.edit_step == 0
    for view in range(4):
        assert torch.equal(again.pipeline.datamanager.shown(view), again.pipeline.datamanager.original(view))
    again.train()
    assert same_weights(newest(again)["pipeline"], unbroken[0]["pipeline"])


def test_undo_is_repeated_by_a_resumed_run(start: Start, config: Any, paint: Any, tmp_path: Path) -> None:
    def run(folder: Path, stop_at: int | None) -> MaskeditTrainer:
        editor = paint()
        given = config(folder)
        given.max_num_iterations, given.steps_per_save = 14, 9
        trainer = start(editor, given)

        def act(request: Any) -> None:
            if len(editor.requests) == 5:  # Edit step 8, the first edit of the second sweep.
                trainer.requests.put(trainer.undo)
            if len(editor.requests) == stop_at:
                raise KeyboardInterrupt

        editor.before = act
        if stop_at is None:
            trainer.train()
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        return trainer

    whole = run(tmp_path / "whole", None)
    assert whole.session is not None
    assert whole.session.hidden(14) == {4}
    run(tmp_path / "broken", 7)
    given = config(tmp_path / "broken")
    given.max_num_iterations, given.steps_per_save = 14, 9
    resumed = start(config=given)
    resumed.train()
    data, expected = resumed.pipeline.datamanager, whole.pipeline.datamanager
    assert all(torch.equal(data.shown(view), expected.shown(view)) for view in range(4))
    assert pictures(resumed) == pictures(whole)
    assert same_weights(newest(resumed)["pipeline"], newest(whole)["pipeline"])


def test_checkpoints_hold_the_scene_alone(start: Start, unbroken: Any) -> None:
    names = list(unbroken[0]["pipeline"])
    assert names
    assert all(
        name.startswith(("_model.field.", "_model.proposal_networks.", "_model.camera", "_model.device"))
        for name in names
    )


def test_a_dry_run_edits_a_few_views_and_does_not_train(start: Start, tmp_path: Path) -> None:
    trainer = start(dry_run=2, reconstruct_steps=0)
    trainer.train()
    assert trainer.session is not None
    assert [r.view for r in trainer.session.records] == [0, 2]
    assert all((trainer.session.root / str(r.strip)).is_file() for r in trainer.session.records)
    assert not trainer.checkpoint_dir.exists()
    assert not EditSession.exists(trainer.base_dir)


def test_a_full_disk_ends_with_one_line_and_keeps_what_was_saved(
    start: Start, config: Any, paint: Any, unbroken: Any
) -> None:
    import resource

    editor = paint()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(request: Any) -> None:
        if len(editor.requests) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))

    editor.before = fill
    trainer = start(editor)
    try:
        with pytest.raises(RunStopped, match="free some space") as stopped:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(stopped.value)
    again = start(config=config())
    again.train()
    assert pictures(again) == unbroken[1]


def test_a_folder_that_cannot_be_written_is_refused_at_once(start: Start, config: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunStopped, match="cannot write"):
        start(config=config(tmp_path / "file"))
    with pytest.raises(RunStopped, match="cannot write"):
        config(tmp_path / "file").save_config()


def test_no_scene_is_refused(start: Start) -> None:
    with pytest.raises(RunStopped, match="reconstruct-steps"):
        start(reconstruct_steps=0)
    with pytest.raises(RunStopped, match=r"pipeline.instructions"):
        start(instructions=())


def test_the_model_of_the_checkpoint_is_taken_over(start: Start, config: Any, tmp_path: Path) -> None:
    first = start()
    first.train()
    from maskedit.plugin.model import MaskeditModelConfig

    later = config(tmp_path / "later", reconstruct_steps=0, resume=False)
    later.load_dir = first.checkpoint_dir
    later.pipeline.model = MaskeditModelConfig(use_lpips=False, num_nerf_samples_per_ray=6)
    trainer = start(config=later)
    assert trainer.config.pipeline.model.hidden_dim == 8
    assert trainer.config.pipeline.model.num_nerf_samples_per_ray == 6
    later = config(tmp_path / "other", reconstruct_steps=0, resume=False)
    later.load_dir = first.checkpoint_dir
    later.pipeline.model.hidden_dim = 24
    with pytest.raises(RunStopped, match="has shape"):
        start(config=later)
