"""Holding a field outside a region: what is compared, what is left free, and that holding works."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames

from maskedit.plugin.lift_options import ProtectConfig
from maskedit.plugin.protect import FieldHold, WatchedField, opacity, transmittance
from maskedit.plugin.votes import RayWeights, VoxelVotes

CONFIG = ProtectConfig(margin=0, photos=0.25)


@pytest.fixture
def field(config: Callable[..., Any]) -> WatchedField:
    from nerfstudio.data.scene_box import SceneBox

    torch.manual_seed(0)
    box = SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    options = config().pipeline.model
    model = options.setup(scene_box=box, num_train_data=2, metadata={}, device="cpu", grad_scaler=None)
    assert isinstance(model.field, WatchedField)
    return model.field


def samples(rays: int = 3, count: int = 6) -> RaySamples:
    """Along z from the origin, rays beside each other in x."""
    starts = torch.linspace(0.1, 0.6, count).expand(rays, count)[..., None]
    origins = torch.zeros(rays, count, 3)
    origins[..., 0] = torch.linspace(-0.5, 0.5, rays)[:, None]
    frustums = Frustums(
        origins=origins,
        directions=torch.tensor([0.0, 0.0, 1.0]).expand(rays, count, 3),
        starts=starts,
        ends=starts + 0.1,
        pixel_area=torch.ones(rays, count, 1),
    )
    indices = torch.zeros(rays, count, 1, dtype=torch.long)
    return RaySamples(frustums=frustums, camera_indices=indices, deltas=torch.full((rays, count, 1), 0.1))


def region(points: list[list[float]]) -> VoxelVotes:
    """Votes for some places alone; no place gives a region without anything."""

    def trace(camera: Cameras) -> Iterator[RayWeights]:
        yield RayWeights(points=torch.tensor([points]), weights=torch.ones(1, len(points)))

    votes = VoxelVotes(trace, device="cpu", resolution=64)
    camera = Cameras(torch.eye(4)[None, :3], 1.0, 1.0, 0.5, 0.5, width=1, height=1)
    if points:
        votes.add(camera, torch.ones(1, 1), weight=1e4)
    return votes


def changed(outputs: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
    density = 3 * outputs[FieldHeadNames.DENSITY] + 1
    return {FieldHeadNames.DENSITY: density, FieldHeadNames.RGB: 1 - outputs[FieldHeadNames.RGB]}


def test_an_unchanged_field_costs_nothing_and_pulls_nowhere(field: WatchedField) -> None:
    asked = samples()
    hold = FieldHold(copy.deepcopy(field), region([]), CONFIG)
    held = hold.compare(asked, field.forward(asked))
    assert float(held.loss.detach()) == 0
    held.loss.backward()
    assert all(each.grad is None or float(each.grad.abs().max()) == 0 for each in field.parameters())
    # No ray meets a region that is nowhere.
    torch.testing.assert_close(held.trust, torch.full((3, 1), 0.25))


def test_the_loss_is_its_formula(field: WatchedField) -> None:
    asked = samples()
    with torch.no_grad():
        before = field.forward(asked)
    after = changed(before)
    held = FieldHold(copy.deepcopy(field), region([]), ProtectConfig(weight=2.0)).compare(asked, after)
    total = 0.0
    for ray in range(3):
        through = 1.0
        for at in range(6):
            alpha0, alpha = (1 - math.exp(-0.1 * float(o[FieldHeadNames.DENSITY][ray, at])) for o in (before, after))
            colours = (before[FieldHeadNames.RGB][ray, at] - after[FieldHeadNames.RGB][ray, at]).abs().mean()
            total += through * (abs(alpha - alpha0) + alpha0 * float(colours))
            through *= 1 - alpha0
    assert math.isclose(float(held.loss), 2 * total / 3, rel_tol=1e-4)


def test_inside_the_region_everything_is_free(field: WatchedField) -> None:
    asked = samples(rays=1)
    with torch.no_grad():
        before = field.forward(asked)
    places = asked.frustums.get_positions()[0].tolist()
    near = ProtectConfig(margin=2)
    assert float(FieldHold(copy.deepcopy(field), region(places), near).compare(asked, changed(before)).loss) < 1e-6
    assert float(FieldHold(copy.deepcopy(field), region([]), near).compare(asked, changed(before)).loss) > 0.01


def test_what_was_hidden_is_free(field: WatchedField) -> None:
    asked = samples(rays=1)
    wall = copy.deepcopy(field)
    kept = {FieldHeadNames.DENSITY: torch.zeros(1, 6, 1), FieldHeadNames.RGB: torch.full((1, 6, 3), 0.5)}
    kept[FieldHeadNames.DENSITY][0, 1] = 1e4
    wall.forward = lambda ray_samples, compute_normals=False: kept  # type: ignore[method-assign]
    hold = FieldHold(copy.deepcopy(field), region([]), CONFIG)
    hold._field = wall
    behind = {name: value.clone() for name, value in kept.items()}
    behind[FieldHeadNames.DENSITY][0, 3:] = 50.0
    assert float(hold.compare(asked, behind).loss) == 0
    before = {name: value.clone() for name, value in kept.items()}
    before[FieldHeadNames.DENSITY][0, 0] = 50.0
    assert math.isclose(float(hold.compare(asked, before).loss), 1 - math.exp(-5), rel_tol=1e-5)


def test_rays_that_meet_the_region_now_or_met_it_before_learn_in_full(field: WatchedField) -> None:
    asked = samples(rays=2)
    opaque = {FieldHeadNames.DENSITY: torch.zeros(2, 6, 1), FieldHeadNames.RGB: torch.full((2, 6, 3), 0.5)}
    opaque[FieldHeadNames.DENSITY][:, 2] = 1e4
    empty = {**opaque, FieldHeadNames.DENSITY: torch.zeros(2, 6, 1)}
    hold = FieldHold(
        copy.deepcopy(field), region([asked.frustums.get_positions()[0, 2].tolist()]), ProtectConfig(margin=1)
    )
    for then, now in ((opaque, empty), (empty, opaque)):
        hold._field.forward = lambda ray_samples, compute_normals=False, then=then: then  # type: ignore[method-assign]
        trust = hold.compare(asked, now).trust
        torch.testing.assert_close(trust, torch.tensor([[1.0], [0.1]]), atol=1e-4, rtol=0)


def test_holding_brings_a_moved_field_back(field: WatchedField) -> None:
    asked = samples()
    hold = FieldHold(copy.deepcopy(field), region([]), CONFIG)
    torch.manual_seed(1)
    with torch.no_grad():
        for each in field.parameters():
            each.add_(0.3 * torch.randn_like(each))
    optimizer = torch.optim.Adam(field.parameters(), lr=0.01)
    losses: list[float] = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = hold.compare(asked, field.forward(asked)).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_opacity_and_transmittance_give_the_weights_of_rendering() -> None:
    asked = samples()
    density = 20 * torch.rand(3, 6, 1, generator=torch.Generator().manual_seed(0))
    alpha = opacity(asked, density)
    torch.testing.assert_close(transmittance(alpha) * alpha, asked.get_weights(density))


def test_a_field_is_watched_on_request_alone(field: WatchedField) -> None:
    asked = samples()
    field.forward(asked)
    assert field.seen is None
    field.watch = True
    outputs = field.forward(asked)
    assert field.seen is not None
    assert field.seen[1] is outputs
