"""Several processes: each view is edited once, and every one of them goes on with the same photos, events and plans."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import InputError, NothingFoundError
from maskedit.plugin.carrier import EditCarrier
from maskedit.plugin.checkpoint import read_checkpoint
from maskedit.plugin.ranks import (
    FollowingSession,
    RankEdits,
    Ranks,
    check_ranks,
    describe_error,
    follow_first,
    meets,
)
from maskedit.plugin.session import EditSession
from maskedit.plugin.session_records import Event
from maskedit.plugin.start import RunStopped
from maskedit.plugin.trainer import MaskeditTrainer

# One process imports everything and splits into the ranks. nerfstudio has no CPU to train on several of, so its two
# words about CUDA devices are passed over; the processes, their gradients and everything else are real.
RANKS = """
import importlib.util, json, os, sys, traceback
from pathlib import Path
import torch, torch.distributed as dist
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
import maskedit.plugin.options as options
import nerfstudio.pipelines.base_pipeline as base
from maskedit.plugin.ranks import RankEdits, Ranks, follow_first, meets
from maskedit.plugin.session import EditSession, Event
options.check_editor_is_there = lambda *given, **kept: None
SCENE, OUT = Path(sys.argv[2]), Path(sys.argv[3])
wait = dist.barrier
dist.barrier = lambda device_ids=None: wait()


class CpuDDP(base.DDP):
    def __init__(self, model, device_ids, **kept):
        super().__init__(model, **kept)


base.DDP = CpuDDP


def edit_toy(ranks, name):
    root = OUT / name / "session"
    session = ranks.share_session(lambda: EditSession.create(
        root, settings={}, start_step=0, edit_start=0, source=None))
    data = toys.tiny_config(SCENE, OUT / name).pipeline.datamanager.setup(
        device="cpu", test_mode="val", world_size=1, local_rank=0)
    scene, editor, lines = toys.ToyScene(data), toys.PaintEditor(blind_to=("make it fly",)), []
    edits = toys.SceneEdits(
        data=data, session=session, editor_config=toys.SceneEditorConfig(), render=scene.render, report=lines.append,
        schedule=toys.EditSchedule(views=4, rate=1, count=3, lower=0.02, upper=0.98, seed=0),
        settings=toys.Settings(instructions=toys.RED), masks=toys.FoundMasks(session))
    edits.use_editor(editor)
    carrier = RankEdits(edits, ranks) if ranks.size > 1 else edits
    for step in range(9):
        if ranks.is_first and step == 4:
            session.undo(step)
            edits.show(step)
        if ranks.is_first and step in (5, 6):
            text = "make it fly" if step == 5 else "make it green"
            session.add_event(Event(step=step, kind="settings", value={"instructions": [{"text": text}]}))
        if meets(ranks, edits, step):
            follow_first(ranks, edits, step, lambda: None)
        carrier.run_due(step)
        scene.train()
    seen = [len(request.seeds) for request in editor.requests]
    shown = [data.shown(view).tolist() for view in range(4)]
    (OUT / f"{name}-{ranks.rank}.json").write_text(json.dumps([shown, seen, len(lines)]))
    for bad in range(ranks.size):
        # An error of one rank is everyone's.
        def fail(request):
            raise ValueError(f"rank {bad} broke")
        editor.before = fail if ranks.rank == bad else lambda request: None
        if ranks.size > 1:
            try:
                carrier.run_due(9 + bad)
            except Exception as error:
                (OUT / f"{name}-error{bad}-{ranks.rank}").write_text(str(error))


def train(ranks, name):
    config = toys.tiny_config(SCENE, OUT / name, edit_count=2)
    editor = toys.PaintEditor()
    trainer = toys.MaskeditTrainer(config, local_rank=ranks.rank, world_size=2)
    trainer.setup()
    trainer.pipeline.edits.use_editor(editor)
    asked = {2: trainer.undo, 3: trainer.reset}
    def ask(request):
        if ranks.is_first and len(editor.requests) in asked:
            trainer.requests.put(asked[len(editor.requests)])
    editor.before = ask
    trainer.train()
    weights = {key: value.tolist() for key, value in trainer.pipeline.model.state_dict().items()}
    shown = [trainer.pipeline.datamanager.shown(view).tolist() for view in range(4)]
    records = [(r.step, r.view, r.index) for r in trainer.session.records]
    told = [shown, records, len(editor.requests), trainer.session.generation, weights]
    (OUT / f"{name}-{ranks.rank}.json").write_text(json.dumps(told))


def run(rank, size):
    try:
        if size > 1:
            dist.init_process_group("gloo", init_method=f"file://{OUT}/meeting", rank=rank, world_size=size)
            ranks = Ranks.join(size)
            edit_toy(ranks, "toy2")
            train(ranks, "run2")
            dist.destroy_process_group()
        else:
            edit_toy(Ranks(), "toy1")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def split(*shares):
    children = []
    for share in shares:
        child = os.fork()
        if not child:
            run(*share)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


sys.exit(any([*split((0, 1)), *split((0, 2), (1, 2))]))
"""


@pytest.fixture(scope="module")
def ranks_folder(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks made, and what one made of the same."""
    out = tmp_path_factory.mktemp("ranks")
    toys = str(Path(__file__).with_name("conftest.py"))
    command = [sys.executable, "-W", "ignore", "-c", RANKS, toys, str(scene), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return out


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_two_ranks_make_the_session_of_one(ranks_folder: Path) -> None:
    expected = files(ranks_folder / "toy1" / "session")
    assert len(expected) > 40
    assert files(ranks_folder / "toy2" / "session") == expected
    one, first, second = (
        json.loads((ranks_folder / f"{name}.json").read_text()) for name in ("toy1-0", "toy2-0", "toy2-1")
    )
    # The working set is the same everywhere, byte for byte.
    assert first[0] == one[0] == second[0]
    # Of three views that are due together one rank edits two; nobody edits what another does.
    assert one[1] == [3] * 8
    assert (first[1], second[1]) == ([2] * 8, [1] * 8)
    assert first[2] == one[2] == 27
    assert second[2] == 0


@pytest.mark.slow
def test_an_error_of_one_rank_ends_all(ranks_folder: Path) -> None:
    for bad in range(2):
        for rank in range(2):
            said = (ranks_folder / f"toy2-error{bad}-{rank}").read_text()
            assert said.endswith(f"rank {bad} broke")


@pytest.mark.slow
def test_a_run_on_two_ranks(ranks_folder: Path, start: Callable[..., MaskeditTrainer], config: Any) -> None:
    first, second = (json.loads((ranks_folder / f"run2-{rank}.json").read_text()) for rank in range(2))
    # Photos, records, generation and, by way of the averaged gradients, weights are equal on both.
    assert first[:2] == second[:2]
    assert first[3:] == second[3:]
    # Of two views a time either edited one; undo and reset reached the second rank as well.
    assert first[2] == second[2]
    assert first[3] == 1
    assert [record[2] for record in first[1]] == list(range(8))
    (folder,) = (ranks_folder / "run2").glob("toy/maskedit-tiny/*")
    newest = max((folder / "nerfstudio_models").glob("*.ckpt"))
    assert not [name for name in read_checkpoint(newest)["pipeline"] if ".module." in name]
    # One device goes on with it.
    given = config(ranks_folder / "run2", edit_count=2)
    given.max_num_iterations = 10
    trainer = start(config=given)
    trainer.train()
    assert trainer.session is not None
    assert [r.index for r in trainer.session.records] == list(range(10))


def test_one_rank_has_nobody_to_talk_to(toy: Any, paint: Any) -> None:
    edits, _, _ = toy(paint())
    ranks = Ranks()
    assert (ranks.gather(3), ranks.broadcast("a"), ranks.first(lambda: 5)) == ([3], "a", 5)
    assert ranks.share((1, 2, 3)) == (1, 2, 3)
    assert all(meets(ranks, edits, step) for step in range(5))
    carrier = RankEdits(edits, ranks)
    assert isinstance(carrier, EditCarrier)
    assert [each.record.view for each in carrier.run_due(0)] == [0]
    assert torch.equal(edits.data.shown(0), edits.session.image_of(edits.session.records[0]))


def test_views_are_divided_without_rest() -> None:
    shares = [turns[rank::3] for rank in range(3) for turns in [tuple(range(8))]]
    assert sorted(index for share in shares for index in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_following_session_writes_nothing(toy: Any, paint: Any, tmp_path: Path) -> None:
    edits, _, _ = toy(paint())
    for step in range(3):
        edits.run_due(step)
    follower = FollowingSession.open(edits.session.root)
    assert [r.image for r in follower.records] == [r.image for r in edits.session.records]
    before = files(edits.session.root)
    follower.undo(3)
    assert follower.roll_back(1) == 2
    follower.save_record(edits.session.records[2])
    assert files(edits.session.root) == before
    assert [r.index for r in follower.records] == [0, 2]
    edits.session.reset(edit_start=7)
    follower.follow()
    assert (follower.generation, follower.edit_start, follower.records, follower.events) == (1, 7, (), ())
    assert isinstance(EditSession.open(edits.session.root), EditSession)


class FirstSaid(Ranks):
    """A rank that has been told something."""

    told: Any = None

    def broadcast(self, value: Any) -> Any:
        if self.told is None:
            self.told = value
        return self.told


def test_a_following_session_learns_of_events_in_the_place_of_others(
    toy: Any, paint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EditSession.create(tmp_path / "told", settings={}, start_step=0, edit_start=0, source=None)
    first.add_event(Event(step=50, kind="undo"))
    follower, shown = FollowingSession.open(first.root), list[int]()
    first.add_event(Event(step=45, kind="undo"))
    ranks = FirstSaid()
    for session in (first, follower, follower):
        edits, _, _ = toy(paint(), session=session)
        monkeypatch.setattr(edits, "show", shown.append)
        follow_first(ranks, edits, 46, lambda: None)
    assert [event.step for event in follower.events] == [45]
    assert shown == [46]


def test_errors_travel_as_their_line() -> None:
    assert describe_error(InputError("expected a cat, got a dog")) == "expected a cat, got a dog"
    assert describe_error(KeyError("x")) == "KeyError: 'x'"
    assert "cube" in describe_error(NothingFoundError("the cube", score=0.1, threshold=0.5))


@pytest.mark.parametrize(
    ("machine", "pipeline", "words"),
    [
        ({"num_devices": 2}, {}, "expected CUDA devices to train on 2"),
        ({"num_devices": 2, "num_machines": 2}, {}, "one machine, got 2"),
        ({"num_devices": 2, "device_type": "gpu"}, {"edit_beside": True}, "edit-beside False"),
        ({"num_devices": 3, "device_type": "gpu"}, {"dry_run": 1}, "dry run, got 3"),
    ],
)
def test_devices_that_cannot_work_together_are_refused(
    config: Any, machine: dict[str, Any], pipeline: dict[str, Any], words: str
) -> None:
    given = config(**pipeline)
    check_ranks(given)
    for name, value in machine.items():
        setattr(given.machine, name, value)
    with pytest.raises(InputError, match=words) as refused:
        check_ranks(given)
    assert "--machine.num-devices 1" in str(refused.value)
    with pytest.raises(RunStopped, match=words):
        given.save_config()
