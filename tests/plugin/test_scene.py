"""Renders of the current scene: as the working set's cameras see it, and where its surface lies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors import ModelError
from maskedit.plugin.scene import SceneModel


def test_a_render_is_the_scene_at_the_view_and_leaves_training_on(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    pipeline.train()
    first, again, other = *(pipeline.renderer.render(0).image for _ in range(2)), pipeline.renderer.render(1).image
    assert first.shape == (1, 3, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert pipeline.model.training
    assert not first.requires_grad


def test_a_render_uses_the_optimised_pose(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    before = pipeline.renderer.render(0).image
    assert pipeline.model.camera_optimizer.config.mode == "SO3xR3"
    with torch.no_grad():
        pipeline.model.camera_optimizer.pose_adjustment[1] += 0.3
    assert torch.equal(pipeline.renderer.render(0).image, before)
    with torch.no_grad():
        pipeline.model.camera_optimizer.pose_adjustment[0] += 0.3
    assert not torch.equal(pipeline.renderer.render(0).image, before)
    poses = pipeline.datamanager.train_dataset.cameras.camera_to_worlds.clone()
    pipeline.renderer.render(0)
    assert torch.equal(pipeline.datamanager.train_dataset.cameras.camera_to_worlds, poses)


def test_a_scene_of_nan_is_not_edited(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    with torch.no_grad():
        next(iter(pipeline.model.field.parameters())).fill_(float("nan"))
        for parameter in pipeline.model.field.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        pipeline.renderer.render(0)


def test_points_lie_on_the_rays_of_their_pixels(start: Callable[..., Any]) -> None:
    pipeline = start().pipeline
    assert isinstance(pipeline.scene_model, SceneModel)
    points = pipeline.renderer.render(1).points
    rays = pipeline.renderer.camera(1).generate_rays(camera_indices=0, keep_shape=True)
    depth = (points - rays.origins).norm(dim=-1, keepdim=True)
    assert points.shape == (16, 16, 3)
    assert (depth > 0).all()
    torch.testing.assert_close(points, rays.origins + depth * rays.directions, atol=1e-3, rtol=1e-4)
