"""`maskedit demo`: its files, what it replaces, and what is left when a part fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskedit.app import demo
from maskedit.app.demo import MARK, start_folder
from maskedit.editors import InputError, ModelError


@pytest.fixture
def fast(ip2p_folder: Path, tmp_path: Path) -> list[object]:
    return ["--model", ip2p_folder, "--output", tmp_path / "demo", "--pictures", 1, "--clip.fit-steps", 3]


@pytest.mark.slow
def test_the_demo_writes_report_summary_and_pictures(
    call: Callable[..., Any], fast: list[object], tmp_path: Path, scene_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run itself takes a minute and is tested where it is made.
    monkeypatch.setattr(demo, "edit_scene", lambda *_: scene_run.result)
    done = call("demo", *fast)
    assert done.code == 0, done.err
    assert done.err == ""
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    for number in ("one", "two"):
        for method in ("unedited", "ip2p", "foi"):
            assert {"psnr_inside", "psnr_outside"} <= summary["pictures"][number][method].keys()
    assert summary["scene"]["instruction"] == scene_run.result.truth.instruction
    assert summary["scene_error"] is None
    assert summary["video"]["instruction"] == "turn the large blue sphere yellow"
    assert summary["video"]["canonical image"]["psnr_truth"] > 0
    assert summary["video_error"] is None
    assert sum(summary["seconds"][part] for part in ("pictures", "video", "scene")) == pytest.approx(
        summary["seconds"]["all"], abs=0.1
    )
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count("data:video/mp4") == 2
    assert "Not measured" in report
    assert len(list((tmp_path / "demo" / "scene" / "held_out").glob("*.png"))) == 4
    assert str(tmp_path / "demo" / "report.html") in done.out


def test_a_scene_that_fails_leaves_the_pictures(
    call: Callable[..., Any], fast: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ModelError("ns-train failed (no memory): see train.log")

    monkeypatch.setattr(demo, "edit_scene", fail)
    done = call("demo", *fast, "--no-video")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "maskedit: error: ns-train failed (no memory): see train.log"
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert "no memory" in summary["scene_error"]
    assert summary["pictures"]["one"]["foi"]["psnr_inside"]
    assert "no memory" in (tmp_path / "demo" / "report.html").read_text()


def test_a_clip_that_fails_leaves_the_rest(
    call: Callable[..., Any], fast: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InputError("no room for the clip")

    monkeypatch.setattr(demo, "edit_video", fail)
    done = call("demo", *fast, "--no-scene")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "maskedit: error: no room for the clip"
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert (summary["video"], summary["video_error"]) == (None, "no room for the clip")
    assert "It failed: no room for the clip" in (tmp_path / "demo" / "report.html").read_text()


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    start_folder(folder)
    (folder / "scene" / "data").mkdir(parents=True)
    (folder / "video" / "run").mkdir(parents=True)
    (folder / "report.html").touch()
    (folder / "notes.txt").touch()
    start_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MARK, "notes.txt"]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not an earlier demo"):
        start_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_demo_is_refused(call: Callable[..., Any], fast: list[object]) -> None:
    done = call("demo", *fast, "--pictures", 0)
    assert done.code == 2
    assert "--pictures must be at least 1" in done.err
