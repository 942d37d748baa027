"""Edits beside training: nothing waits but copies, nothing is skipped, and what was finished stays."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import InputError
from maskedit.plugin.carrier import EditCarrier
from maskedit.plugin.scene import ViewRender
from maskedit.plugin.session import EditSession, Event
from maskedit.plugin.start import RunStopped
from maskedit.plugin.trainer import MaskeditTrainer
from maskedit.plugin.worker import EditWorker, missed

PATIENCE = 20.0


class ToyCopy:
    """A copy of the toy scene's pictures."""

    def __init__(self, scene: Any) -> None:
        self.scene, self.pictures, self.copies = scene, scene.pictures.clone(), 0

    def copy(self) -> float:
        self.copies += 1
        self.pictures = self.scene.pictures.clone()
        return 0.25

    def render(self, view: int) -> ViewRender:
        picture = self.pictures[view]
        return ViewRender(image=picture.permute(2, 0, 1)[None].clone(), points=torch.zeros_like(picture))


class Gate:
    """Holds an editor back until it is let through."""

    def __init__(self, editor: Any) -> None:
        self.entered, self._open = threading.Semaphore(0), threading.Semaphore(0)
        editor.before = self._wait

    def _wait(self, request: Any) -> None:
        self.entered.release()
        assert self._open.acquire(timeout=PATIENCE)

    def wait_for_edit(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE)

    def let_through(self, worker: EditWorker) -> None:
        self._open.release()
        assert worker._idle.wait(PATIENCE)


Bench = tuple[EditWorker, Any, Any, Gate]


@pytest.fixture
def bench(toy: Any, paint: Any, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A worker on the toy scene, `bench(**options)`: worker, edits, scene and the gate before its editor."""
    workers: list[EditWorker] = []

    def build(*, step: int = 0, folder: str = "session", **options: Any) -> Bench:
        editor = paint()
        gate = Gate(editor)
        root = tmp_path / folder
        session = (
            EditSession.open(root)
            if (root / "session.json").is_file()
            else EditSession.create(root, settings={"edit beside": True}, start_step=0, edit_start=0, source=None)
        )
        edits, scene, lines = toy(editor, session=session, **options)
        worker = EditWorker(edits, ToyCopy(scene), device="cpu", step=step, report=lines.append)
        worker.lines = lines  # type: ignore[attr-defined]
        workers.append(worker)
        return worker, edits, scene, gate

    yield build
    for worker in workers:
        gate = worker.edits._cache._fixed.before.__self__  # type: ignore[union-attr]
        gate._open.release(100)
        worker.close()


def test_training_goes_on_while_an_edit_is_made(bench: Any) -> None:
    worker, edits, scene, gate = bench()
    assert isinstance(worker, EditCarrier)
    worker.run_due(0)
    gate.wait_for_edit()
    before = scene.pictures[0].clone()
    scene.pictures += 0.01
    for step in (1, 2):
        worker.run_due(step)
    assert all(torch.equal(edits.data.shown(view), edits.data.original(view)) for view in range(4))
    assert edits.session.records == ()
    gate.let_through(worker)
    (record,) = edits.session.records
    # It starts from the scene as it was when the edit began.
    request = edits._cache._fixed.requests[0]
    torch.testing.assert_close(request.image[0], before.permute(2, 0, 1), atol=0, rtol=0)
    assert torch.equal(edits.data.shown(0), edits.data.original(0))
    worker.run_due(3)
    assert torch.equal(edits.data.shown(0), edits.session.image_of(record))
    assert (record.step, record.view, record.made) == (0, 0, 0)
    assert worker.lags == [3]


def test_turns_wait_in_their_order_and_none_is_skipped(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(6):
        worker.run_due(step)
    assert worker.waiting == 5
    for step in range(6, 12):
        gate.let_through(worker)
        worker.run_due(step)
    assert [(r.step, r.view, r.index) for r in edits.session.records] == [(i, i % 4, i) for i in range(6)]
    assert [r.made for r in edits.session.records] == [0, 6, 7, 8, 9, 10]
    assert worker.lags == [6, 6, 6, 6, 6, 6]
    assert worker.scene.copies == 7
    assert worker.waiting == 5


def test_the_edit_under_way_is_finished_at_the_end_and_the_rest_is_told(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(3):
        worker.run_due(step)
    gate._open.release()
    worker.finish()
    assert [r.step for r in edits.session.records] == [0]
    assert torch.equal(edits.data.shown(0), edits.session.image_of(edits.session.records[0]))
    line = worker.lines[-1]
    assert "edits beside training: 1 in " in line
    assert "2 turns were still waiting" in line
    assert "2.0 steps after it was due" in line
    assert worker.waited == pytest.approx(0.25, abs=0.2)
    worker.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "maskedit-edits"]


def test_an_error_ends_the_run_at_the_next_step(bench: Any) -> None:
    worker, edits, _, _ = bench()

    def fail(request: Any) -> None:
        raise InputError("expected a picture, got a riddle")

    edits._cache._fixed.before, held = fail, edits._cache._fixed.before
    worker.run_due(0)
    assert worker._idle.wait(PATIENCE)
    with pytest.raises(InputError, match="a riddle"):
        worker.run_due(1)
    edits._cache._fixed.before = held
    assert edits.session.records == ()


def test_undo_takes_back_the_edit_under_way_and_its_turn_comes_again(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(4):
        worker.run_due(step)
        gate.wait_for_edit()
        gate.let_through(worker)
    worker.run_due(4)  # Begins the second sweep.
    gate.wait_for_edit()
    worker.recall(forget=False)
    clock = edits.session.clock(5)
    assert edits.session.undo(clock) == 4
    edits.show(clock)
    gate.let_through(worker)
    assert len(edits.session.records) == 4
    worker.run_due(5)
    assert all(torch.equal(edits.data.shown(view), edits.data.original(view)) for view in range(4))
    gate.wait_for_edit()
    gate.let_through(worker)
    worker.run_due(6)
    again = edits.session.records[4]
    assert (again.index, again.step, again.made) == (4, 4, 5)
    assert edits.session.hidden(edits.session.clock(6)) == {0, 1, 2, 3}
    assert torch.equal(edits.data.shown(0), edits.session.image_of(again))


def test_an_edit_that_was_stored_and_then_undone_never_lands(bench: Any) -> None:
    worker, edits, _, gate = bench()
    worker.run_due(0)
    gate.wait_for_edit()
    gate.let_through(worker)
    assert len(edits.session.records) == 1
    # Without `recall`, as when a stopped run's session is changed by another command.
    edits.session.undo(edits.session.clock(1))
    worker.run_due(1)
    assert torch.equal(edits.data.shown(0), edits.data.original(0))


def test_a_reset_forgets_the_edit_under_way_and_those_that_wait(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(3):
        worker.run_due(step)
    gate.wait_for_edit()
    worker.recall(forget=True)
    edits.session.reset(edit_start=3)
    edits.show(0)
    gate.let_through(worker)
    assert (worker.waiting, edits.session.records) == (0, ())
    worker.run_due(0)
    gate.wait_for_edit()
    gate.let_through(worker)
    (record,) = edits.session.records
    assert str(record.image).startswith("edits-001/")
    assert (record.step, record.made) == (0, 0)


def test_settings_hold_for_turns_that_begin_after_them(bench: Any) -> None:
    worker, edits, _, gate = bench()
    worker.run_due(0)
    worker.run_due(1)
    gate.wait_for_edit()
    edits.session.add_event(
        Event(step=edits.session.clock(2), kind="settings", value={"instructions": [{"text": "make it green"}]})
    )
    gate.let_through(worker)
    worker.run_due(2)
    gate.wait_for_edit()
    gate.let_through(worker)
    assert [r.instructions for r in edits.session.records] == [("make the square red",), ("make it green",)]


def test_pause_lets_the_edit_under_way_finish_and_begins_nothing(bench: Any) -> None:
    worker, edits, _, gate = bench()
    worker.run_due(0)
    worker.run_due(1)
    gate.wait_for_edit()
    edits.session.add_event(Event(step=2, kind="pause", value=True))
    gate.let_through(worker)
    for step in (2, 3):
        worker.run_due(step)
    assert [r.step for r in edits.session.records] == [0]
    assert not torch.equal(edits.data.shown(0), edits.data.original(0))
    assert worker.waiting == 1
    edits.session.add_event(Event(step=4, kind="pause", value=False))
    worker.run_due(4)
    gate.wait_for_edit()
    gate.let_through(worker)
    # What came due during the pause is left out, as in a run that edits within its steps.
    assert [r.step for r in edits.session.records] == [0, 1]
    assert [turn.step for each in worker._queue for turn in each.turns] == [4]


def test_a_killed_run_keeps_its_edits_and_makes_what_it_missed(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(6):
        worker.run_due(step)
        if step < 2:
            gate.wait_for_edit()
            gate.let_through(worker)
    assert [r.index for r in edits.session.records] == [0, 1]
    # The scene goes on from edit step 4: the turns of the steps 2 and 3 were waiting or under way.
    worker, edits, _, gate = bench(step=4)
    edits.show(4)
    for record in edits.session.records:
        assert torch.equal(edits.data.shown(record.view), edits.session.image_of(record))
    assert [turn.index for turns in missed(edits, 4) for turn in turns] == [2, 3]
    for step in range(4, 8):
        worker.run_due(step)
        gate.wait_for_edit()
        gate.let_through(worker)
    assert [r.index for r in edits.session.records] == [0, 1, 2, 3, 4, 5]


def test_what_is_newer_than_the_checkpoint_is_not_made_again(bench: Any) -> None:
    worker, edits, _, gate = bench()
    for step in range(5):
        worker.run_due(step)
        gate.wait_for_edit()
        gate.let_through(worker)
    undone = edits.session.clock(5)
    edits.session.undo(undone)
    # The checkpoint is of step 2; the undo took back the one edit of the second sweep.
    worker, edits, _, gate = bench(step=2)
    edits.show(2)
    assert edits.session.clock(2) == undone
    assert torch.equal(edits.data.shown(0), edits.session.image_of(edits.session.records[0]))
    for step in range(2, 5):
        worker.run_due(step)
    assert worker.waiting == 0
    worker.run_due(5)
    gate.wait_for_edit()
    gate.let_through(worker)
    # The new edit counts after the undo, although the run has come back to a step before it.
    assert edits.session.records[-1].at >= undone
    assert edits.session.hidden(edits.session.clock(5)) == {4}


def test_turns_skipped_under_a_pause_stay_so_after_a_kill(bench: Any) -> None:
    worker, edits, _, gate = bench()
    worker.run_due(0)
    gate.wait_for_edit()
    gate.let_through(worker)
    # What was done last moves the clock to 6; the scene goes on from edit step 1, and editing is paused there.
    edits.session.add_event(Event(step=6, kind="settings", value={}))
    worker, edits, _, gate = bench(step=1)
    edits.session.add_event(Event(step=edits.session.clock(1), kind="pause", value=True))
    for step in (1, 2):
        worker.run_due(step)
    edits.session.add_event(Event(step=edits.session.clock(3), kind="pause", value=False))
    assert worker.waiting == 0
    _, edits, _, _ = bench(step=3)
    assert missed(edits, 3) == []
    edits.session.reset()
    assert edits.session.skipped == frozenset()


def test_an_edit_that_takes_too_long_at_the_end_is_never_stored(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskedit.plugin.worker.CLOSE_SECONDS", 0.05)
    worker, edits, _, gate = bench()
    worker.run_due(0)
    gate.wait_for_edit()
    worker.close()
    gate.let_through(worker)
    assert edits.session.records == ()
    assert not list(edits.session.root.glob("edits-*/*.json"))


def test_a_run_edits_beside_training(start: Callable[..., MaskeditTrainer], capsys: pytest.CaptureFixture[str]) -> None:
    trainer = start(edit_beside=True)
    trainer.train()
    assert trainer.session is not None
    data, records = trainer.pipeline.datamanager, trainer.session.records
    assert [(r.step, r.view) for r in records] == [(2 * i, i) for i in range(len(records))]
    assert records
    assert all(r.made is not None and r.made >= r.step for r in records)
    assert all(torch.equal(data.shown(r.view), trainer.session.image_of(r)) for r in records)
    assert "edits beside training" in capsys.readouterr().out
    assert not [thread for thread in threading.enumerate() if thread.name == "maskedit-edits"]


def test_sweeps_are_edited_beside_training(start: Callable[..., MaskeditTrainer]) -> None:
    trainer = start(edit_beside=True, schedule="sweeps", sweep_every=6)
    trainer.train()
    assert trainer.session is not None
    assert [r.index for r in trainer.session.records] == list(range(len(trainer.session.records)))
    assert trainer.session.records


def test_splats_are_edited_beside_training(start: Callable[..., MaskeditTrainer], splats: Any) -> None:
    trainer = start(config=splats(edit_beside=True))
    trainer.train()
    assert trainer.session is not None
    data, records = trainer.pipeline.datamanager, trainer.session.records
    assert records
    assert all(torch.equal(data.shown(r.view), trainer.session.image_of(r)) for r in records[-3:])


def test_an_error_beside_training_ends_the_run_with_one_line(
    start: Callable[..., MaskeditTrainer], config: Any, paint: Any
) -> None:
    editor = paint()

    def fail(request: Any) -> None:
        raise InputError("expected a picture, got a riddle")

    editor.before = fail
    with pytest.raises(RunStopped, match="a riddle") as stopped:
        start(editor, edit_beside=True).train()
    assert "\n" not in str(stopped.value)
    with pytest.raises(RunStopped, match="edit beside = True"):
        start(config=config())
