"""Votes about places: exact shares on rays that are known, from any camera, and where nobody looked."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from nerfstudio.cameras.cameras import Cameras

from maskedit.editors import InputError
from maskedit.plugin.votes import PRIOR, RayWeights, SceneVotes, VoxelVotes, contract, corners

CELL = 4 / 64


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    one, other = first >= 0.5, second >= 0.5
    return float((one & other).sum() / (one | other).sum())


def one_pixel() -> Cameras:
    return Cameras(torch.eye(4)[None, :3], 1.0, 1.0, 0.5, 0.5, width=1, height=1)


def votes_on(points: list[list[float]], weights: list[float], **options: Any) -> VoxelVotes:
    """Votes of a one-pixel camera whose only ray has these samples."""

    def trace(camera: Cameras) -> Iterator[RayWeights]:
        yield RayWeights(points=torch.tensor([points]), weights=torch.tensor([weights]))

    return VoxelVotes(trace, device="cpu", **{"resolution": 64} | options)


def centre_of(cell: float) -> float:
    """Coordinate of the middle of a cell that lies that many cells from the origin."""
    return (cell + 0.5) * CELL


def test_masks_of_many_cameras_come_back_from_any(ball: Any) -> None:
    votes = ball.make_votes()
    assert isinstance(votes, SceneVotes)
    for camera in ball.cameras():
        votes.add(camera, ball.mask(camera))
    for camera in (ball.camera(0.0), ball.camera(0.4), ball.camera(1.0, side=40, elevation=0.9)):
        share = votes.project(camera)
        assert share.shape == (int(camera.height), int(camera.width))
        assert 0 <= float(share.min())
        assert float(share.max()) <= 1
        assert overlap(share, ball.mask(camera)) > 0.9


def test_shares_are_those_of_the_votes_and_their_surroundings() -> None:
    place = [[centre_of(3), centre_of(-2), centre_of(7)]]
    votes = votes_on(place, [0.8])
    for _ in range(300):
        votes.add(one_pixel(), torch.ones(1, 1))
    votes.add(one_pixel(), torch.zeros(1, 1), weight=100.0)
    # The prior is drawn to the share of the coarser cells, which hold the same votes, and in the end to 0.
    yes, every, share = 300 * 0.8, 400 * 0.8, 0.0
    for level in range(4):
        share = (yes + PRIOR * share) / (every + PRIOR)
        assert level or share < yes / every
    near = votes.share_at(torch.tensor(place))
    assert math.isclose(float(near), yes / every, abs_tol=0.01)
    torch.testing.assert_close(votes.project(one_pixel()), 0.8 * near[None])


def test_samples_of_a_ray_vote_by_their_weights() -> None:
    glass, wall = [centre_of(0)] * 3, [centre_of(12)] * 3
    votes = votes_on([glass, wall], [0.25, 0.75])
    for _ in range(4000):
        votes.add(one_pixel(), torch.ones(1, 1))
    state = votes.state()
    assert math.isclose(float(state["all"].sum()), 4000, rel_tol=1e-3)
    assert math.isclose(float(state["all"].max()), 3000, rel_tol=1e-3)
    torch.testing.assert_close(votes.project(one_pixel()), torch.ones(1, 1), atol=5e-3, rtol=0)


def test_pixels_without_weight_abstain(ball: Any) -> None:
    camera = ball.camera(0.0)
    votes = ball.make_votes()
    votes.add(camera, ball.mask(camera))
    before = votes.project(camera)
    votes.add(camera, 1 - ball.mask(camera), weight=torch.zeros(24, 24))
    votes.add(camera, 1 - ball.mask(camera), weight=0.0)
    torch.testing.assert_close(votes.project(camera), before)
    corner = torch.zeros(24, 24)
    corner[:4, :4] = 50.0
    votes.add(camera, torch.ones(24, 24), weight=corner)
    after = votes.project(camera)
    assert float(after[:3, :3].min()) > 0.9
    torch.testing.assert_close(after[10:], before[10:], atol=0.02, rtol=0)


def test_nobody_voted_for_what_nobody_saw(ball: Any) -> None:
    votes = ball.make_votes()
    assert float(votes.project(ball.camera(0.0)).max()) == 0
    votes.add(ball.camera(0.0), torch.ones(24, 24))
    assert float(votes.share_at(torch.tensor([[0.0, 0.0, 30.0]]))) == 0


def test_votes_are_stored_and_read_back(ball: Any) -> None:
    votes, other = ball.make_votes(), VoxelVotes(ball.ray_weights, device="cpu", resolution=32)
    votes.add(ball.camera(0.0), ball.mask(ball.camera(0.0)))
    other.restore(votes.state())
    assert torch.equal(other.project(ball.camera(0.3)), votes.project(ball.camera(0.3)))
    assert other.resolution == 64


def test_a_region_has_a_margin() -> None:
    votes = votes_on([[centre_of(0)] * 3], [1.0])
    votes.add(one_pixel(), torch.ones(1, 1), weight=1000.0)
    assert int(votes.region(0.99, margin=0).sum()) == 1
    assert int(votes.region(0.99, margin=2).sum()) == 5**3


def test_all_of_space_is_in_the_grid() -> None:
    points = torch.tensor([[0.5, -0.5, 1.0], [2.0, 0.0, -4.0], [1e6, 0.0, 0.0]])
    contracted = contract(points)
    torch.testing.assert_close(contracted[0], points[0])
    torch.testing.assert_close(contracted[1], torch.tensor([0.875, 0.0, -1.75]))
    assert float(contracted.abs().max()) <= 2
    from nerfstudio.field_components.spatial_distortions import SceneContraction

    torch.testing.assert_close(contracted, SceneContraction(order=float("inf"))(points))


def test_corners_share_a_point_and_meet_in_it() -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    cells, shares = corners(points, 64)
    torch.testing.assert_close(shares.sum(-1), torch.ones(50))
    place = torch.stack([cells // 64**2, cells // 64 % 64, cells % 64], -1).float()
    middle = (shares[..., None] * ((place + 0.5) * CELL - 2)).sum(1)
    torch.testing.assert_close(middle, points, atol=1e-5, rtol=0)


def test_corners_are_copied_to_a_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    corners(torch.zeros(2, 3), 64)
    monkeypatch.setattr(torch, "tensor", None)
    cells, _ = corners(torch.zeros(2, 3), 64)
    assert cells[0].tolist() == [
        (31 + x) * 64**2 + (31 + y) * 64 + 31 + z for x in (0, 1) for y in (0, 1) for z in (0, 1)
    ]


def test_what_does_not_fit_is_refused(ball: Any) -> None:
    with pytest.raises(InputError, match="mask of 24x24 pixels"):
        ball.make_votes().add(ball.camera(0.0), torch.zeros(12, 12))
    with pytest.raises(InputError, match="multiple of 8"):
        VoxelVotes(ball.ray_weights, device="cpu", resolution=20)
    with pytest.raises(TypeCheckError):
        ball.make_votes().add(ball.camera(0.0), torch.zeros(24, 24, 1))
