"""Working frames, motion and layer masks on disk."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.optical_flow import Raft_Small_Weights

from maskedit.editors import Grounder, InputError, NothingFoundError
from maskedit.video.flow import FlowConfig, estimate_flow
from maskedit.video.flow_files import write_flow
from maskedit.video.layers import LayersConfig
from maskedit.video.options import FramesConfig, VideoConfig
from maskedit.video.preparing import RunProgress, Stopwatch, flow_mark, masks_mark
from maskedit.video.stages import VideoRun
from maskedit.video.timeline import Timeline
from maskedit.video.writing import write_clip


def test_a_stopwatch_tells_what_it_is_told() -> None:
    heard: list[RunProgress] = []
    watch = Stopwatch("fit", heard.append)
    watch.tell(3, 7, 25.0)
    assert (heard[0].stage, heard[0].done, heard[0].total, heard[0].psnr) == ("fit", 3, 7, 25.0)
    assert 0 <= heard[0].seconds <= watch.seconds
    Stopwatch("fit", None).tell(1, 2)


def test_frames_are_taken_as_asked(tmp_path: Path, slide_folder: Path, slide: torch.Tensor) -> None:
    config = VideoConfig(frames=FramesConfig(start=0.16, frames=3, stride=2), flow=FlowConfig(method="dis"))
    clip = VideoRun(tmp_path / "run", config).prepare(slide_folder)
    assert torch.equal(clip.rows(), slide[2:7:2])


def test_a_clip_that_cannot_be_read_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no such file or folder"):
        VideoRun(tmp_path / "run", VideoConfig()).prepare(tmp_path / "nowhere.mp4")
    assert not (tmp_path / "run").exists()


def test_given_flow_is_cut_into_segments(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig
) -> None:
    whole = estimate_flow(slide, FlowConfig(method="dis"))
    whole.forward[:] = 1.5
    write_flow(tmp_path / "flow.npz", whole)
    run = VideoRun(tmp_path / "run", replace(run_config, flow=FlowConfig(files=tmp_path / "flow.npz")))
    run.prepare(slide_folder)
    assert run.files.flow(1).forward.shape == (4, 2, 32, 48) and (run.files.flow(1).forward == 1.5).all()
    short = VideoRun(tmp_path / "short", replace(run.config, frames=FramesConfig(frames=6)))
    with pytest.raises(InputError, match="expected 5 flow fields"):
        short.prepare(slide_folder)


def test_marks_follow_what_decides(finished_run: Path, tmp_path: Path, run_config: VideoConfig) -> None:
    def marks(**changes: Any) -> tuple[str, str]:
        files = VideoRun(finished_run, replace(run_config, **changes)).files
        return flow_mark(files, 0), masks_mark(files, "one")

    plain = marks()
    assert marks(flow=FlowConfig(method="dis", chunk=3)) == plain
    assert marks(flow=FlowConfig(method="dis", tolerance_pixels=2.0)) == (
        marks(flow=FlowConfig(method="dis", tolerance_pixels=2.0))[0],
        plain[1],
    )
    assert marks(flow=FlowConfig(method="raft"))[0] != plain[0]
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_bytes(b"1")
    one = marks(layers=LayersConfig(masks=(tmp_path / "masks",)))
    (tmp_path / "masks" / "0.png").write_bytes(b"12")
    assert (
        one[0] == plain[0] and len({plain[1], one[1], marks(layers=LayersConfig(masks=(tmp_path / "masks",)))[1]}) == 3
    )


def test_phrases_ask_the_segmenter_once(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig, red_grounder: Grounder
) -> None:
    asked = []

    def load() -> Grounder:
        asked.append(1)
        return red_grounder

    config = replace(run_config, layers=LayersConfig(phrases=("red cube",), key_every=4))
    for about, count in (("one", 1), ("one", 1), ("other", 2)):
        run = VideoRun(tmp_path / "run", config)
        run.prepare(slide_folder, grounder=load, about_grounder=about)
        assert len(asked) == count
    masks = run.files.masks(slice(0, 8))
    assert masks is not None
    truth = (slide[:, :1] > 250).float()
    overlap = ((masks[1] > 0.5) & (truth > 0)).sum() / ((masks[1] > 0.5) | (truth > 0)).sum()
    assert overlap > 0.85


def test_a_phrase_found_nowhere_is_passed_on_and_the_run_can_go_on(
    tmp_path: Path, slide_folder: Path, run_config: VideoConfig, make_grounder: Callable[..., Grounder]
) -> None:
    config = replace(run_config, layers=LayersConfig(phrases=("green cube",)))
    with pytest.raises(NothingFoundError, match="green cube"):
        VideoRun(tmp_path / "run", config).prepare(slide_folder, grounder=lambda: make_grounder(0.0, 1.0, 0.0))
    run = VideoRun(tmp_path / "run", run_config)
    run.prepare(slide_folder)
    assert run.reused == ["frames", "flow"]


def test_a_run_whose_frames_are_lost_decodes_them_again(finished_run: Path, tmp_path: Path, slide_folder: Path) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (folder / "frames" / "frames.json").unlink()
    run = VideoRun(folder)
    run.prepare(slide_folder)
    assert run.reused == ["flow", "masks"] and run.fit().was_reused


def test_masks_mended_in_place_are_taken_once(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig
) -> None:
    red = (slide[:, :1] > 250).to(torch.uint8) * 255
    write_clip(tmp_path / "masks", red.expand(-1, 3, -1, -1), Timeline.steady(8, 12.0))
    VideoRun(tmp_path / "run", replace(run_config, layers=LayersConfig(masks=(tmp_path / "masks",)))).prepare(
        slide_folder
    )
    own = tmp_path / "run" / "masks" / "layer_1"
    mended = own / "frame_00003.png"
    shutil.copy(own / "frame_00002.png", mended)
    config = replace(run_config, layers=LayersConfig(masks=(own,)))
    for reused in (["frames", "flow"], ["frames", "flow", "masks"]):
        run = VideoRun(tmp_path / "run", config)
        run.prepare(slide_folder)
        assert run.reused == reused
    mended.unlink()
    with pytest.raises(InputError, match="expected 8 masks"):
        VideoRun(tmp_path / "run", config).prepare(slide_folder)


def test_masks_that_are_lost_are_made_again(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig
) -> None:
    red = (slide[:, :1] > 250).to(torch.uint8) * 255
    write_clip(tmp_path / "masks", red.expand(-1, 3, -1, -1), Timeline.steady(8, 12.0))
    config = replace(run_config, layers=LayersConfig(masks=(tmp_path / "masks",)))
    VideoRun(tmp_path / "run", config).prepare(slide_folder)
    (tmp_path / "run" / "masks" / "layer_1" / "frame_00003.png").write_bytes(b"")
    (tmp_path / "run" / "flow" / "segment_000.npz").write_bytes(b"")
    for reused in (["frames"], ["frames", "flow", "masks"]):
        run = VideoRun(tmp_path / "run", config)
        run.prepare(slide_folder)
        assert run.reused == reused
    # Pictures that were copied, with other times, are the same masks.
    for path in (tmp_path / "masks").iterdir():
        path.touch()
    run = VideoRun(tmp_path / "run", config)
    run.prepare(slide_folder)
    assert run.reused == ["frames", "flow", "masks"]


def test_weights_that_arrive_are_another_way_to_find_flow(
    finished_run: Path, tmp_path: Path, run_config: VideoConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def marks() -> list[str]:
        flows = (FlowConfig(method="auto"), FlowConfig(method="dis"))
        return [flow_mark(VideoRun(finished_run, replace(run_config, flow=flow)).files, 0) for flow in flows]

    before = marks()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    name = Raft_Small_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    (tmp_path / "hub" / "checkpoints" / name).touch()
    after = marks()
    assert after[0] != before[0] and after[1] == before[1]
