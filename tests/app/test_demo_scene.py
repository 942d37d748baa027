"""The demo's scene: one real run of `ns-train maskedit`, what is measured on it, and what happens when it fails."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.demo_scene import (
    _started,
    describe_scene,
    measure_scene,
    train_command,
    write_turntable,
)
from maskedit.app.report import Clip, Gallery, Table
from maskedit.editors import BackboneConfig, ModelError


@pytest.mark.slow
def test_the_run_edits_renders_and_measures(scene_run: Any) -> None:
    result, settings = scene_run.result, scene_run.settings
    session = json.loads((scene_run.run / "maskedit_session" / "session.json").read_text())
    assert session["settings"]["instructions"] == [edit.text for edit in result.truth.edits]
    assert session["edit_start"] == settings.reconstruct_steps
    assert len(result.strips) == 2
    assert result.before.shape == result.after.shape == (4, 3, 64, 64)
    assert not torch.equal(result.before, result.after)
    assert result.turntable.stat().st_size > 1000
    log = (scene_run.folder / "train.log").read_text()
    assert "maskedit-tiny" in log.splitlines()[0]
    assert result.figures == measure_scene(result.truth, result.before, result.after)


@pytest.mark.slow
def test_the_report_shows_the_scene(scene_run: Any) -> None:
    parts = describe_scene(scene_run.result).parts
    assert [type(part) for part in parts] == [str, Clip, Table, Gallery, str, Gallery]
    assert [row[0] for row in parts[2].rows] == list(scene_run.result.figures)
    assert all(len(pictures) == 4 for _, pictures in parts[3].rows)


@pytest.mark.slow
def test_perfect_pictures_have_no_error(scene_run: Any) -> None:
    truth = scene_run.result.truth
    views = list(truth.held_out)
    figures = measure_scene(truth, truth.source[views], truth.target[views])
    assert figures["reconstruction against the scene"]["psnr_whole"] is None
    assert figures["after editing against the edited scene"]["psnr_changed"] is None
    unedited = figures["before editing against the edited scene"]["psnr_changed"]
    assert unedited is not None
    assert unedited < 20


@pytest.mark.slow
def test_the_command_is_what_a_user_would_type(scene_run: Any, tmp_path: Path) -> None:
    checkpoint = BackboneConfig(model="embedded", offline=True, model_dir=tmp_path)
    words = train_command(tmp_path, scene_run.result.truth, checkpoint, "cpu", scene_run.settings)
    assert Path(words[0]).name == "ns-train"
    assert words[1] == "maskedit-tiny"
    assert words[words.index("--pipeline.editor.model") + 1] == "embedded"
    assert words[words.index("--pipeline.editor.model-dir") + 1] == str(tmp_path)
    assert words[words.index("--max-num-iterations") + 1] == "4"


def test_a_program_that_fails_is_one_line_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('first'); print('out of teapots'); raise SystemExit(3)"]
    log = tmp_path / "log"
    with pytest.raises(ModelError, match=r"ns-train failed \(out of teapots\): see "), _started(command, log) as lines:
        assert [line.strip() for line in lines] == ["first", "out of teapots"]
    assert log.read_text().endswith("out of teapots\n")


def test_a_program_takes_as_many_threads_as_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    for given, expected in ((None, torch.get_num_threads()), ("5", 5)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        with _started(command, tmp_path / "log") as lines:
            assert [int(line) for line in lines] == [expected]


def test_a_program_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]

    def interrupt() -> None:
        with _started(command, tmp_path / "log") as lines:
            assert next(lines).strip() == "begun"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_turntable_shows_its_columns_side_by_side(tmp_path: Path) -> None:
    import cv2

    red, blue = torch.zeros(2, 3, 3, 16, 16)
    red[:, 0], blue[:, 2] = 1, 1
    write_turntable(tmp_path / "around.mp4", [red, blue])
    reader = cv2.VideoCapture(str(tmp_path / "around.mp4"))
    frames = [reader.read()[1] for _ in range(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)))]
    reader.release()
    assert len(frames) == 6
    assert frames[0].shape == (64, 128, 3)
    # OpenCV reads blue first.
    assert frames[0][32, 20].tolist() == pytest.approx([0, 0, 255], abs=12)
    assert frames[0][32, 100].tolist() == pytest.approx([255, 0, 0], abs=12)
