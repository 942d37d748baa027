"""Votes of Gaussians: the rasteriser's own shares, exactly, and handed on to those that are born."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from maskedit.editors import InputError
from maskedit.plugin.splat_model import MaskeditSplatModel
from maskedit.plugin.splat_votes import GaussianVotes, rasterize_values
from maskedit.plugin.votes import SceneVotes


@pytest.fixture
def model(splats: Any) -> MaskeditSplatModel:
    """Thirty opaque Gaussians around the origin."""
    torch.manual_seed(3)
    config = splats().pipeline.model
    model = config.setup(scene_box=None, num_train_data=4, metadata={}, seed_points=None)
    model.gauss_params["opacities"].data += 3
    model.gauss_params["scales"].data -= 1.5
    return model


@pytest.fixture
def camera(model: MaskeditSplatModel) -> Callable[[float], Cameras]:
    def at(distance: float = 3.0, side: int = 12) -> Cameras:
        pose = torch.eye(4)[None, :3]
        pose[:, 2, 3] = distance
        return Cameras(camera_to_worlds=pose, fx=12.0, fy=12.0, cx=6.0, cy=6.0, width=side, height=side)

    return at


def shares(model: MaskeditSplatModel, camera: Cameras) -> torch.Tensor:
    """Share of each Gaussian in each pixel: what is rendered when it alone has a value."""
    count = model.num_points
    with torch.no_grad():
        return torch.cat([rasterize_values(model, camera, one[:, None]) for one in torch.eye(count)], dim=-1)


def test_a_vote_is_the_sum_of_shares_that_say_yes_over_all_shares(model: Any, camera: Any) -> None:
    votes = model.make_votes()
    assert isinstance(votes, SceneVotes)
    generator = torch.Generator().manual_seed(0)
    yes, every = torch.zeros(40), torch.zeros(40)
    for distance, weight in ((3.0, 1.0), (4.0, 0.5), (2.5, torch.rand(12, 12, generator=generator))):
        mask = torch.rand(12, 12, generator=generator)
        votes.add(camera(distance), mask, weight=weight)
        share = shares(model, camera(distance))
        yes += (share * (mask * weight)[..., None]).sum((0, 1))
        every += (share * torch.as_tensor(weight).expand(12, 12)[..., None]).sum((0, 1))
    expected = torch.where(every > 0, yes / every, 0.0)
    torch.testing.assert_close(votes.share(), expected, rtol=1e-4, atol=1e-5)
    assert 0 < float(expected[every > 0].min()) and float(expected.max()) < 1
    assert all(each.grad is None for each in model.parameters())


def test_masks_of_one_and_zero_are_unanimous_and_the_unseen_say_nothing(model: Any, camera: Any) -> None:
    model.gauss_params["means"].data[0] = torch.tensor([0.0, 0.0, 50.0])
    for value in (0.0, 1.0):
        votes = model.make_votes()
        votes.add(camera(), torch.full((12, 12), value))
        seen = shares(model, camera()).sum((0, 1)) > 0
        assert seen.sum() > 20 and not seen[0]
        torch.testing.assert_close(votes.share(), value * seen.float())


def test_votes_are_seen_from_any_camera(model: Any, camera: Any) -> None:
    votes = model.make_votes()
    mask = torch.zeros(12, 12)
    mask[:, :6] = 1
    with torch.no_grad():
        votes.add(camera(), mask)
    seen = votes.project(camera())
    assert seen.shape == (12, 12)
    expected = (shares(model, camera()) * votes.share()).sum(-1).clamp(0, 1)
    torch.testing.assert_close(seen, expected)
    assert seen[:, :4].mean() > 2 * seen[:, 8:].mean()
    assert votes.project(camera(side=20)).shape == (20, 20)
    assert not votes.project(camera()).requires_grad


def test_children_inherit_and_files_of_another_time_are_understood(model: Any, camera: Any) -> None:
    votes = model.make_votes()
    votes.add(camera(), torch.rand(12, 12, generator=torch.Generator().manual_seed(1)))
    before, stored = votes.share(), votes.state()
    rows = torch.tensor([*range(5, 40), 7, 8, 8])
    for name, value in model.gauss_params.items():
        model.gauss_params[name] = torch.nn.Parameter(value.data[rows])
    model.lineage.follow(rows)
    assert torch.equal(votes.share(), before[rows])
    other = GaussianVotes(model)
    assert not other.share().any()
    other.restore(stored)
    assert torch.equal(other.share(), before[rows])
    votes.add(camera(), torch.ones(12, 12))
    assert (votes.share() >= before[rows]).all()


def test_masks_of_another_size_are_refused(model: Any, camera: Any) -> None:
    with pytest.raises(InputError, match="12x12 pixels, as the camera has"):
        model.make_votes().add(camera(), torch.zeros(6, 6))
