"""Flow: exact on known shifts, honest about what is hidden, and chains that lead where the truth does."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from maskedit.bench.blocks import Clip, optical_flow, render_clip, sample_clip
from maskedit.editors import InputError, ModelError
from maskedit.video.flow import (
    ClipFlow,
    FlowConfig,
    chain_flow,
    confident_pixels,
    estimate_flow,
    pair_flow,
    sample_flow,
    warp_points,
)

DIS = FlowConfig(method="dis")


@pytest.fixture(scope="module")
def clip() -> Clip:
    """8 frames of a moving camera and a moving block, with exact flow."""
    return render_clip(sample_clip("test", 1, frames=8), height=128)


def to_bytes(frames: torch.Tensor) -> torch.Tensor:
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def texture(height: int, width: int) -> torch.Tensor:
    """Smooth random colours, "3 height width"."""
    noise = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return to_bytes(torch.from_numpy(smooth).permute(2, 0, 1))


def sliding(height: int, width: int, *, right: int, down: int, frames: int) -> torch.Tensor:
    """A texture that moves by whole pixels a frame."""
    far_x, far_y = abs(right) * (frames - 1), abs(down) * (frames - 1)
    whole = texture(height + far_y, width + far_x)
    crops = []
    for frame in range(frames):
        left = far_x - right * frame if right >= 0 else -right * frame
        top = far_y - down * frame if down >= 0 else -down * frame
        crops.append(whole[:, top : top + height, left : left + width])
    return torch.stack(crops)


def steady(right: float, down: float, *, pairs: int, height: int, width: int) -> ClipFlow:
    """The exact flow of a shift that never ends."""
    forward = torch.tensor([right, down]).view(1, 2, 1, 1).expand(pairs, 2, height, width)
    return pair_flow(forward, -forward, FlowConfig(), method="files")


def true_flow(clip: Clip) -> ClipFlow:
    footage = clip.source
    return ClipFlow(
        forward=footage.forward,
        backward=footage.backward,
        forward_confident=~footage.forward_occluded,
        backward_confident=~footage.backward_occluded,
        method="files",
    )


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 4), (5, -1), (0, 0)])
def test_shifts_are_recovered(right: int, down: int) -> None:
    frames = sliding(120, 150, right=right, down=down, frames=3)
    flow = estimate_flow(frames, DIS)
    assert flow.method == "dis" and flow.forward.shape == (2, 2, 120, 150)
    wanted = torch.tensor([right, down]).view(1, 2, 1, 1)
    assert (flow.forward - wanted).norm(dim=1)[flow.forward_confident].mean() < 0.1
    assert (flow.backward + wanted).norm(dim=1)[flow.backward_confident].mean() < 0.1
    assert (flow.forward - wanted)[..., 10:-10, 10:-10].norm(dim=1).mean() < 0.1
    assert flow.forward_confident[:, 10:-10, 10:-10].float().mean() > 0.98
    # What leaves the frame has no place to go to.
    if right > 2:
        assert not flow.forward_confident[:, :, -(right - 1) :].any()
        assert not flow.backward_confident[:, :, : right - 1].any()


# Some of these sizes crash OpenCV's DIS as they are.
@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 300), (16, 200), (33, 65)])
def test_small_and_odd_sizes_work(height: int, width: int) -> None:
    flow = estimate_flow(sliding(height, width, right=1, down=0, frames=2), DIS)
    assert flow.forward.shape == (1, 2, height, width)
    inner = flow.forward[0, :, 4:-4, 4:-4]
    assert (inner - torch.tensor([1.0, 0.0]).view(2, 1, 1)).norm(dim=0).mean() < 0.15


def test_chunks_change_nothing() -> None:
    frames = sliding(64, 64, right=2, down=1, frames=6)
    one, two = (estimate_flow(frames, FlowConfig(method="dis", chunk=chunk)) for chunk in (1, 8))
    for name in ("forward", "backward", "forward_confident", "backward_confident"):
        assert torch.equal(getattr(one, name), getattr(two, name))


def test_a_blocks_clip_is_followed(clip: Clip) -> None:
    flow = estimate_flow(to_bytes(clip.source.frames), DIS)
    visible = ~clip.source.forward_occluded
    error = (flow.forward - clip.source.forward).norm(dim=1)
    # Half of the picture is of one plain colour; the mean way is three pixels.
    assert error[visible].median() < 0.8
    assert error[visible].mean() < 0.5 * clip.source.forward.norm(dim=1)[visible].mean()
    hidden = flow.forward_confident[clip.source.forward_occluded].float().mean()
    assert hidden < 0.6
    assert flow.forward_confident[visible].float().mean() > hidden + 0.25


def test_true_flow_passes_the_check_where_nothing_is_hidden(clip: Clip) -> None:
    truth = clip.source
    confident = confident_pixels(truth.forward, truth.backward, FlowConfig())
    hidden = truth.forward_occluded
    assert confident[~hidden].float().mean() > 0.97
    assert confident[hidden].float().mean() < 0.2


def test_the_check_has_the_stated_bounds() -> None:
    forward = torch.full((1, 2, 8, 8), 0.0)
    forward[:, 0] = 1.0
    config = FlowConfig(tolerance_share=0.1, tolerance_pixels=0.2)
    # There and back miss each other by x with lengths 1 and 1 - x: the bound is 0.1 (2 - x) + 0.2.
    for missed, trusted in ((0.35, True), (0.38, False)):
        back = torch.zeros(1, 2, 8, 8)
        back[:, 0] = missed - 1
        assert confident_pixels(forward, back, config)[0, :, :6].eq(trusted).all()
    assert not confident_pixels(forward, -forward, config)[0, :, -1].any()


def test_points_follow_flow_between_pixels() -> None:
    flow = torch.zeros(1, 2, 4, 8)
    flow[0, 0] = torch.arange(8.0)
    points = torch.tensor([[[2.5 / 8, 0.5], [3.0 / 8, 0.1], [2.0, 0.5]]])
    torch.testing.assert_close(sample_flow(flow, points), torch.tensor([[[2.0, 0.0], [2.5, 0.0], [7.0, 0.0]]]))
    # In x, a pixel is an eighth of the frame.
    torch.testing.assert_close(warp_points(points, flow)[0, 0], torch.tensor([4.5 / 8, 0.5]))
    flow = torch.zeros(1, 2, 4, 8)
    flow[0, 1] = 1.0
    torch.testing.assert_close(warp_points(points, flow)[0, 0], torch.tensor([2.5 / 8, 0.75]))


@pytest.mark.parametrize("reference", [0, 2, 4])
def test_chains_add_up_shifts(reference: int) -> None:
    chain = chain_flow(steady(3.0, -2.0, pairs=4, height=20, width=24), reference)
    for frame in range(5):
        way = (reference - frame) * torch.tensor([3.0, -2.0])
        torch.testing.assert_close(chain.displacement[frame], way.view(2, 1, 1).expand(2, 20, 24), atol=1e-4, rtol=0)
        rows, columns = torch.arange(20)[:, None] + way[1], torch.arange(24)[None] + way[0]
        stays = (rows >= 0) & (rows < 20) & (columns >= 0) & (columns < 24)
        assert torch.equal(chain.valid[frame], stays)


def test_chains_of_a_blocks_clip_lead_where_the_truth_does(clip: Clip) -> None:
    scenes, cameras = clip.spec.scenes(), clip.spec.cameras
    flow = true_flow(clip)
    for start, goal in ((0, 5), (6, 2)):
        direct = optical_flow([scenes[start]], [cameras[start]], [scenes[goal]], [cameras[goal]], height=128)
        chain = chain_flow(flow, goal)
        valid = chain.valid[start]
        error = (chain.displacement[start] - direct.flow[0]).norm(dim=0)
        assert error[valid & ~direct.occluded[0]].median() < 0.05
        assert error[valid & ~direct.occluded[0]].mean() < 0.3
        assert valid[~direct.occluded[0]].float().mean() > 0.85
        assert valid[direct.occluded[0]].float().mean() < 0.25


def test_parts_of_a_clip_chain_alike() -> None:
    flow = estimate_flow(sliding(64, 64, right=2, down=1, frames=6), DIS)
    part = flow.between(2, 6)
    assert len(part.forward) == 3
    assert torch.equal(chain_flow(part, 1).displacement[0], chain_flow(flow, 3).displacement[2])
    assert torch.equal(chain_flow(part, 1).valid[3], chain_flow(flow, 3).valid[5])


def test_auto_uses_no_network_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    frames = sliding(64, 64, right=1, down=0, frames=2)
    assert estimate_flow(frames, FlowConfig()).method == "dis"
    with pytest.raises(ModelError, match="raft_checkpoint, or choose the method dis"):
        estimate_flow(frames, FlowConfig(method="raft"), offline=True)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 frames, got 1"):
        estimate_flow(texture(64, 64)[None], DIS)
    with pytest.raises(InputError, match="reference frame from 0 to 2, got 3"):
        chain_flow(steady(1.0, 0.0, pairs=2, height=8, width=8), 3)
    for name, value in (("chunk", 0), ("raft_updates", 0), ("tolerance_share", -0.1), ("tolerance_pixels", 0.0)):
        with pytest.raises(ValueError, match=f"{name} must be .*, got {value:g}"):
            FlowConfig(**{name: value})
