"""What carries edits loses none of them: runs that are killed ten times, within their steps or beside them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.plugin.carrier import EditCarrier, NoEdits
from maskedit.plugin.checkpoint import read_checkpoint

# One process imports everything; each run is a child of it that is killed, or, for the last time, completes. A run is
# killed between its second and its sixth step, a random share of a step after that one began, so always elsewhere:
# while it trains, edits, writes a picture, writes a checkpoint or moves a file to its place.
KILLS = """
import importlib.util, json, os, random, signal, sys, threading, time, traceback
from pathlib import Path
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
import torch
import maskedit.plugin.options as options
options.check_editor_is_there = lambda *given, **kept: None
SCENE, OUT, BESIDE, KILLS = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "beside", 10
draw = random.Random(7)


def run(folder, kill=None):
    config = toys.tiny_config(SCENE, folder, edit_beside=BESIDE)
    config.max_num_iterations, config.steps_per_save = 60, 2
    trainer = toys.MaskeditTrainer(config)
    trainer.setup()
    edits, data = trainer.pipeline.edits, trainer.pipeline.datamanager
    edits.use_editor(toys.PaintEditor())
    working_set = edits.session.working_set(10**9)
    shown = all(bool((data.shown(v) == edits.session.image_of(r)).all()) for v, r in working_set.items())
    known = sorted(f"{r.step:07d}-{r.view:05d}" for r in edits.session.records)
    (folder / "begun.json").write_text(json.dumps([known, shown, trainer.step]))
    train, began = trainer.train_iteration, []

    def step(number):
        began.append(time.monotonic())
        if kill is not None and len(began) == kill[0]:
            wait = kill[1] * (began[-1] - began[-2])
            threading.Timer(wait, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return train(number)

    trainer.train_iteration = step
    trainer.train()


def child(*given):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        run(*given)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def edits_of(folder):
    return sorted(path.stem for path in folder.glob("toy/*/run/maskedit_session/edits-*/*.json"))


for folder in (OUT / "whole", OUT / "killed"):
    folder.mkdir()
if not BESIDE and child(OUT / "whole"):
    sys.exit("the unbroken run failed")
killed, story = 0, []
while killed < KILLS:
    before = edits_of(OUT / "killed")
    ended = child(OUT / "killed", (draw.randint(2, 6), draw.uniform(0, 1)))
    if ended != signal.SIGKILL:
        sys.exit(f"expected a kill, the run ended with {ended} after {killed} kills")
    killed += 1
    story.append([before, *json.loads((OUT / "killed" / "begun.json").read_text())])
before = edits_of(OUT / "killed")
if child(OUT / "killed"):
    sys.exit("the last run failed")
story.append([before, *json.loads((OUT / "killed" / "begun.json").read_text())])
(OUT / "story.json").write_text(json.dumps(story))
"""


def kill_ten_times(scene: Path, out: Path, how: str) -> list[Any]:
    """For each start of a run: edits on the disk before it, edits it knew of, whether it showed them, its step."""
    toys = str(Path(__file__).with_name("conftest.py"))
    command = [sys.executable, "-W", "ignore", "-c", KILLS, toys, str(scene), str(out), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "story.json").read_text())


def session_files(folder: Path) -> dict[str, bytes]:
    """Every file of the only session under a folder but the checkpoint, whose bytes tell when it was written."""
    (root,) = folder.glob("toy/*/run/maskedit_session")
    kept = (path for path in sorted(root.rglob("*")) if path.suffix in {".png", ".json"})
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def newest(folder: Path) -> dict[str, Any]:
    (models,) = folder.glob("toy/*/run/nerfstudio_models")
    return read_checkpoint(max(models.glob("*.ckpt")))


@pytest.mark.slow
def test_ten_kills_leave_the_run_as_if_it_had_never_been_broken(scene: Path, tmp_path: Path) -> None:
    story = kill_ten_times(scene, tmp_path, "within")
    assert len(story) == 11
    assert all(shown for _, _, shown, _ in story)
    # It moved on from kill to kill, and edits that were newer than the checkpoint were made again.
    steps = [step for *_, step in story]
    assert steps == sorted(steps)
    assert steps[-1] > 10
    assert any(len(known) < len(before) for before, known, _, _ in story)
    whole, killed = session_files(tmp_path / "whole"), session_files(tmp_path / "killed")
    assert len([name for name in whole if name.endswith("-strip.png")]) == 30
    assert killed == whole
    expected, got = newest(tmp_path / "whole"), newest(tmp_path / "killed")
    assert got["step"] == expected["step"] == 62
    assert got["pipeline"].keys() == expected["pipeline"].keys()
    assert all(torch.equal(got["pipeline"][name], expected["pipeline"][name]) for name in expected["pipeline"])


@pytest.mark.slow
def test_ten_kills_lose_no_edit_that_was_made_beside_training(scene: Path, tmp_path: Path) -> None:
    story = kill_ten_times(scene, tmp_path, "beside")
    for before, known, shown, _ in story:
        assert known == before
        assert shown
    (folder,) = (tmp_path / "killed").glob("toy/*/run/maskedit_session/edits-000")
    records = sorted((json.loads(path.read_text()) for path in folder.glob("*.json")), key=lambda r: r["index"])
    # None was skipped and none was made twice, whatever was under way at a kill.
    assert [r["index"] for r in records] == list(range(len(records)))
    assert [(r["step"], r["view"]) for r in records] == [(2 * i, i % 4) for i in range(len(records))]
    assert [r["made"] for r in records] == sorted(r["made"] for r in records)
    assert len(records) > len(story[-1][0])


def test_nothing_is_carried_where_training_is_by_itself(toy: Callable[..., Any], paint: Any) -> None:
    edits, _, _ = toy(paint())
    carrier = NoEdits()
    carrier.run_due(0)
    carrier.recall(forget=True)
    carrier.finish()
    carrier.close()
    assert edits.session.records == ()
    assert all(isinstance(each, EditCarrier) for each in (carrier, edits))
