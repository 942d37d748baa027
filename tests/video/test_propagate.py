"""Propagation: exact where the flow is, decided by the side that can be trusted, and close to the truth on blocks."""

import pytest
import torch

from maskedit.bench.blocks import optical_flow, render, sample_clip
from maskedit.video.flow import ClipFlow, FlowConfig, estimate_flow, pair_flow
from maskedit.video.propagate import propagate_masks


def steady(right: float, *, frames: int, height: int = 16, width: int = 40) -> ClipFlow:
    """Everything moves to the right."""
    forward = torch.tensor([right, 0.0]).view(1, 2, 1, 1).expand(frames - 1, 2, height, width)
    return pair_flow(forward, -forward, FlowConfig(), method="files")


def box(left: int, *, height: int = 16, width: int = 40) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, 4:12, left : left + 8] = 1
    return mask


@pytest.mark.parametrize("keys", [(0,), (9,), (3,), (0, 9), (0, 4, 9), (2, 7)])
def test_masks_move_with_the_flow(keys: tuple[int, ...]) -> None:
    known = {key: box(8 + 2 * key) for key in keys}
    (masks,) = propagate_masks([known], steady(2.0, frames=10).between, frames=10)
    for frame in range(10):
        assert torch.equal(masks[frame], (255 * box(8 + 2 * frame)).byte())


def test_layers_with_other_key_frames_do_not_mix() -> None:
    flow = steady(1.0, frames=8)
    one, two = {0: box(4), 7: box(11)}, {3: box(23)}
    both = propagate_masks([one, two], flow.between, frames=8)
    assert torch.equal(both[:1], propagate_masks([one], flow.between, frames=8))
    assert torch.equal(both[1:], propagate_masks([two], flow.between, frames=8))


def test_the_side_whose_flow_is_trusted_decides() -> None:
    flow = steady(0.0, frames=9)
    # Nothing moves, but what the first key frame says is wrong, and the flow to it is not trusted from the start.
    known = {0: box(4), 8: box(20)}
    near, _ = propagate_masks([known, known], flow.between, frames=9)
    assert torch.equal(near[1], (255 * box(4)).byte()) and torch.equal(near[7], (255 * box(20)).byte())
    flow.backward_confident[0] = False
    (masks,) = propagate_masks([known], flow.between, frames=9)
    for frame in range(1, 9):
        assert torch.equal(masks[frame], (255 * box(20)).byte())


def test_what_comes_in_from_outside_is_not_inside() -> None:
    (masks,) = propagate_masks([{0: box(0)}], steady(3.0, frames=4).between, frames=4)
    assert torch.equal(masks[3], (255 * box(9)).byte())
    (masks,) = propagate_masks([{3: box(0)}], steady(-3.0, frames=4).between, frames=4)
    assert torch.equal(masks[0], (255 * box(9)).byte())


def test_edges_between_pixels_stay_soft() -> None:
    (masks,) = propagate_masks([{0: box(8)}], steady(0.4, frames=2).between, frames=2)
    row = masks[1, 0, 8].float() / 255
    # Pixel 8 is 0.6 inside and pixel 16 is 0.4, doubled around the threshold.
    torch.testing.assert_close(row[[7, 8, 9, 16, 17]], torch.tensor([0.0, 0.7, 1.0, 0.3, 0.0]), atol=0.01, rtol=0)


def overlap(one: torch.Tensor, two: torch.Tensor) -> float:
    return ((one & two).sum() / (one | two).sum()).item()


@pytest.mark.parametrize("kind", ["estimated", "true"])
def test_masks_of_a_blocks_clip_meet_the_truth(kind: str) -> None:
    spec = sample_clip("test", 0, frames=9)
    scenes, cameras = spec.scenes(), spec.cameras
    picture = render(scenes, cameras, height=128, samples=2)
    if kind == "estimated":
        flow = estimate_flow((picture.rgb.clamp(0, 1) * 255).round().byte(), FlowConfig(method="dis"))
    else:
        there = optical_flow(scenes[:-1], cameras[:-1], scenes[1:], cameras[1:], height=128)
        back = optical_flow(scenes[1:], cameras[1:], scenes[:-1], cameras[:-1], height=128)
        flow = ClipFlow(
            forward=there.flow,
            backward=back.flow,
            forward_confident=~there.occluded,
            backward_confident=~back.occluded,
            method="files",
        )
    truth = [(picture.index == block)[:, None] for block in range(len(spec.scene.blocks))]
    known = [{frame: mask[frame].float() for frame in (0, 4, 8)} for mask in truth]
    found = propagate_masks(known, flow.between, frames=9)
    scores = [overlap(f[t] > 127, m[t]) for f, m in zip(found, truth, strict=True) for t in (1, 2, 3, 5, 6, 7)]
    still = [overlap(m[t - t % 4], m[t]) for m in truth for t in (1, 2, 3, 5, 6, 7)]
    assert sum(scores) / len(scores) > (0.95 if kind == "true" else 0.93)
    assert min(scores) > 0.85
    # A mask that merely stays where it was would not do.
    assert sum(still) / len(still) < 0.85
