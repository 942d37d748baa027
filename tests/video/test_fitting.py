"""Fields for every segment, and the gate on their quality."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import SessionError
from maskedit.video.fit import ClipFit, FitConfig, fit_clip
from maskedit.video.fitting import FitSummary, QualityError, check_quality, fit_mark, summarize_fit
from maskedit.video.options import VideoConfig
from maskedit.video.stages import VideoRun


def test_the_summary_takes_the_worse_of_two_segments(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    for number, values in ((0, [30.0, 31.0, 32.0, 33.0, 34.0]), (1, [29.0, 35.0, 36.0, 37.0, 38.0])):
        path = folder / "fit" / f"segment_00{number}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "psnr": values}))
    summary = summarize_fit(VideoRun(folder).files, was_reused=True)
    assert summary.psnr == (30, 31, 32, 29, 34, 36, 37, 38)
    assert summary.worst == (3, 0, 1) and summary.mean_psnr == pytest.approx(33.375)


def test_records_say_how_it_was_fitted(finished_run: Path) -> None:
    first, second = json.loads((finished_run / "fit.json").read_text())["segments"]
    assert first["rows"] == [0, 5] and second["rows"] == [3, 8]
    assert first["steps"] == 30 and first["flow"] == "dis" and first["field"] == "dense" and len(first["psnr"]) == 5


def test_a_bad_fit_is_one_line_with_all_that_helps(finished_run: Path, run_config: VideoConfig) -> None:
    files = VideoRun(finished_run, replace(run_config, minimum_psnr=90.0)).files
    message = (
        r"^expected .* 90 dB or more, got \d+\.\d dB, worst in frames \d, \d, \d: try a shorter clip.*--accept-quality$"
    )
    with pytest.raises(QualityError, match=message) as refused:
        check_quality(files)
    assert len(refused.value.worst) == 3 and refused.value.minimum == 90
    check_quality(VideoRun(finished_run, replace(run_config, minimum_psnr=90.0, accept_quality=True)).files)
    check_quality(VideoRun(finished_run, run_config).files)


def test_what_decides_a_fit_is_in_its_mark(finished_run: Path, run_config: VideoConfig) -> None:
    def mark(config: VideoConfig, segment: int = 0) -> str:
        return fit_mark(VideoRun(finished_run, config).files, segment)

    assert mark(run_config) == mark(replace(run_config, minimum_psnr=1.0))
    assert len({mark(run_config), mark(run_config, 1), mark(replace(run_config, fit=FitConfig(steps=30, seed=1)))}) == 3


def test_state_of_another_fit_is_not_gone_on_with(finished_run: Path, tmp_path: Path, run_config: VideoConfig) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (folder / "fit" / "segment_000.12345678.state").write_bytes(b"of other settings")
    run = VideoRun(folder, replace(run_config, fit=FitConfig(steps=5, margin=0.2)))
    run.files.folder.value("segments")
    summary = run.fit()
    assert isinstance(summary, FitSummary) and summary.steps == 5 and not summary.was_reused
    assert not list(folder.rglob("*.state"))


def test_lost_fields_are_fitted_again(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    path = folder / "fit" / "segment_001.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert not VideoRun(folder).fit().was_reused
    assert path.read_bytes() == before


def test_an_unfinished_fit_has_no_summary(tmp_path: Path, slide_folder: Path, run_config: VideoConfig) -> None:
    run = VideoRun(tmp_path / "run", run_config)
    run.prepare(slide_folder)
    with pytest.raises(SessionError, match="not fitted to the end"):
        run.fit_summary()


@pytest.mark.parametrize(
    "name", ["fit/segment_001.safetensors", "fit/segment_001.json", "canonical/segment_001_layer_0.png"]
)
def test_empty_files_are_made_again(finished_run: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (folder / name).write_bytes(b"")
    assert not VideoRun(folder).fit().was_reused
    assert (folder / name).stat().st_size > 0 and VideoRun(folder).fit().was_reused


def test_other_fields_are_another_fit(
    finished_run: Path, tmp_path: Path, run_config: VideoConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = VideoRun(folder).files.folder.mark_of("fit")
    (folder / "fit" / "segment_001.safetensors").unlink()
    VideoRun(folder).fit()
    assert VideoRun(folder).files.folder.mark_of("fit") == before
    (folder / "fit" / "segment_001.safetensors").unlink()

    # As a GPU does: the same settings end in slightly other fields.
    def fit_otherwise(*given: Any, **options: Any) -> ClipFit:
        fit = fit_clip(*given, **options)
        with torch.no_grad():
            next(iter(fit.parameters().values())).add_(1e-3)
        return fit

    monkeypatch.setattr("maskedit.video.fitting.fit_clip", fit_otherwise)
    VideoRun(folder).fit()
    assert VideoRun(folder).files.folder.mark_of("fit") != before
