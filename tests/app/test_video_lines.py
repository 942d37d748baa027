"""What is told of a clip on its way."""

from dataclasses import replace
from pathlib import Path

import pytest

from maskedit.app.video_lines import stage_bar, tell_clip, tell_edit, tell_fit, tell_result
from maskedit.video.fitting import FitSummary
from maskedit.video.preparing import RunProgress
from maskedit.video.rendering import RenderSummary
from maskedit.video.stages import EditSummary
from maskedit.video.stored import StoredClip
from maskedit.video.timeline import ClipInfo, Timeline, select_frames

CLIP = Path("dog.mp4")
RESULT = RenderSummary(
    output=Path("out/dog_edited.mp4"),
    strip=Path("run/strip.png"),
    side_by_side=None,
    codec="h264",
    sound="left out",
    warnings=(),
    frames=4,
    psnr=31.0,
    masked=0.081,
    changed_outside=0.0,
    warp_error_source=0.01,
    warp_error_edited=0.02,
    seconds=12.0,
)


def test_a_clip_is_told_with_both_of_its_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = StoredClip(folder=tmp_path, timeline=Timeline.steady(4, 12), height=48, width=64)
    tell_clip(CLIP, made)
    times = tuple(number / 12 for number in range(4))
    info = ClipInfo(path=CLIP, kind="video", height=480, width=640, times=times, end=4 / 12)
    tell_clip(CLIP, replace(made, timeline=select_frames(info)))
    assert capsys.readouterr().out.splitlines() == [
        "dog.mp4: 4 frames of 64x48 pixels",
        "dog.mp4: 4 frames of 640x480 pixels, worked on at 64x48",
    ]


def test_a_fit_is_told_with_its_worst_frame(capsys: pytest.CaptureFixture[str]) -> None:
    fit = FitSummary(psnr=(31.0, 29.0, 33.0), steps=9, segments=1, seconds=42.0, was_reused=False)
    tell_fit(fit)
    tell_fit(replace(fit, segments=2, was_reused=True))
    assert capsys.readouterr().out.splitlines() == [
        "fit: 31.0 dB, at worst 29.0 dB in frame 1; 42 s",
        "fit: 31.0 dB, at worst 29.0 dB in frame 1, 2 segments; reused",
    ]


def test_an_edit_is_told_with_its_words_and_warnings_once(capsys: pytest.CaptureFixture[str]) -> None:
    captions, found = {"source": "a red cube", "target": "a blue cube"}, {"phrase": "red cube", "scores": (0.5,)}
    trace = {"captions": [captions], "region_captions": [], "grounding": [[found, found]], "warnings": ["odd"]}
    regions = trace | {"region_captions": [[captions, captions | {"target": "a ball"}]], "grounding": []}
    traces = (trace, trace, regions, {"captions": [], "grounding": [], "warnings": []})
    edit = EditSummary(traces=traces, masked=0.25, sheet=Path("run/edit/sheet.png"), seconds=1.0, was_reused=False)
    tell_edit(edit)
    tell_edit(replace(edit, masked=1.0, traces=()))
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "a red cube -> a blue cube; looked for: red cube",
        "a red cube -> a blue cube | a ball",
        "edit: 25.0% of the canonical image masked; 1.0 s -> run/edit",
        "edit: the whole canonical image may have changed; 1.0 s -> run/edit",
    ]
    assert err == "maskedit: warning: odd\n"


def test_a_result_is_told_with_what_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    tell_result(CLIP, RESULT)
    assert capsys.readouterr().out.splitlines() == [
        "dog.mp4: 8.1% masked, outside changed: nothing, along the motion 5.10 of 255 change, 2.55 in the source; "
        "12 s -> out/dog_edited.mp4",
        "before and after: run/strip.png",
    ]
    changed = replace(
        RESULT, changed_outside=0.5, warp_error_source=None, warnings=("no sound",), side_by_side=Path("run/both.mp4")
    )
    tell_result(CLIP, changed)
    assert capsys.readouterr().out.splitlines() == [
        "dog.mp4: 8.1% masked, outside changed: 127.50 of 255 on average; 12 s -> out/dog_edited.mp4",
        "note: no sound",
        "before and after: run/strip.png",
        "side by side: run/both.mp4",
    ]


def test_bars_tell_fidelity_and_speed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with stage_bar() as report:
        report(RunProgress(stage="fit", done=3, total=9, seconds=1.0, psnr=28.25))
    assert "fitting, 28.2 dB" in capsys.readouterr().err
    with stage_bar() as report:
        report(RunProgress(stage="render", done=8, total=9, seconds=2.0))
    assert "rendering, 4.0 frames/s" in capsys.readouterr().err
