"""What a run has on disk, as tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.editors import InputError, ModelError
from maskedit.video.flow import FlowConfig, estimate_flow
from maskedit.video.flow_files import write_flow
from maskedit.video.layers import LayersConfig
from maskedit.video.options import VideoConfig
from maskedit.video.segments import SegmentConfig
from maskedit.video.stages import VideoRun
from maskedit.video.timeline import Timeline
from maskedit.video.writing import write_clip


def test_segments_are_read_when_asked_for_and_few_are_kept(finished_run: Path) -> None:
    segments = VideoRun(finished_run).files.segments
    assert len(segments) == 2 and segments[-1] is segments[1]
    assert [each.rows for each in segments] == [slice(0, 5), slice(3, 8)]
    assert [each.rows for each in segments[1:]] == [slice(3, 8)]
    with pytest.raises(IndexError):
        segments[2]


def test_the_fields_are_those_that_were_fitted(finished_run: Path, slide: torch.Tensor) -> None:
    segment = VideoRun(finished_run).files.segments[1]
    assert segment.masks is None
    assert segment.fit.psnr(slide[3:8]).min() > 28


@pytest.mark.parametrize(("start", "stop"), [(0, 8), (2, 7), (4, 6), (0, 3)])
@pytest.mark.parametrize("overlap", [0, 2])
def test_flow_of_any_frames_is_that_of_the_clip(
    tmp_path: Path,
    slide_folder: Path,
    slide: torch.Tensor,
    run_config: VideoConfig,
    start: int,
    stop: int,
    overlap: int,
) -> None:
    config = replace(run_config, segments=SegmentConfig(length=4, overlap=overlap))
    run = VideoRun(tmp_path / "run", config)
    run.prepare(slide_folder)
    found = run.files.flow_between(start, stop)
    whole = estimate_flow(slide, FlowConfig(method="dis")).between(start, stop)
    for name in ("forward", "backward", "forward_confident", "backward_confident"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name


def test_given_flow_is_cut_where_segments_do_not_overlap(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig
) -> None:
    whole = estimate_flow(slide, FlowConfig(method="dis"))
    whole.forward[:] = torch.arange(7.0).view(7, 1, 1, 1)
    write_flow(tmp_path / "flow.npz", whole)
    flow, segments = FlowConfig(files=tmp_path / "flow.npz"), SegmentConfig(length=4, overlap=0)
    run = VideoRun(tmp_path / "run", replace(run_config, flow=flow, segments=segments))
    run.prepare(slide_folder)
    assert torch.equal(run.files.flow_between(2, 7).forward, whole.forward[2:6])


def test_flow_of_the_last_segment_is_read_once(finished_run: Path) -> None:
    files = VideoRun(finished_run).files
    assert files.flow(0) is files.flow(0)
    second = files.flow(1)
    assert files.flow(1) is second
    files.forget()
    assert files.flow(1) is not second


def test_nothing_is_fetched_offline(
    tmp_path: Path, slide_folder: Path, run_config: VideoConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("it is fetched"))
    run = VideoRun(tmp_path / "run", replace(run_config, flow=FlowConfig(method="raft")), offline=True)
    with pytest.raises(ModelError, match="offline was asked for"):
        run.prepare(slide_folder)


def test_masks_come_back_as_shares(
    tmp_path: Path, slide_folder: Path, slide: torch.Tensor, run_config: VideoConfig
) -> None:
    red = (slide[:, :1] > 250).to(torch.uint8) * 255
    write_clip(tmp_path / "masks", red.expand(-1, 3, -1, -1), Timeline.steady(8, 12.0))
    run = VideoRun(tmp_path / "run", replace(run_config, layers=LayersConfig(masks=(tmp_path / "masks",))))
    run.prepare(slide_folder)
    masks = run.files.masks(slice(3, 8))
    assert masks is not None and run.files.layers == 2
    assert torch.equal(masks[1], red[3:].float() / 255) and torch.equal(masks[0], 1 - masks[1])
    with pytest.raises(InputError, match="expected frames, got none"):
        run.files.masks(slice(3, 3))


def test_edited_layers_keep_unedited_pixels_equal(finished_run: Path) -> None:
    files = VideoRun(finished_run).files
    (layer,) = files.edited(0)
    outside = (layer.mask == 0).expand(1, 3, -1, -1)
    assert torch.equal(layer.edited[outside], layer.original[outside])
    assert (layer.edited != layer.original).any() and files.edited(0) is files.edited(0)
