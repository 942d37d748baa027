"""The scene before the first edit: found, read, left alone by training, forgotten."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.plugin.lift_scene import StartScene, start_checkpoint

Start = Callable[..., Any]


@pytest.fixture
def trained(start: Start, config: Any) -> Any:
    """A run whose scene was reconstructed in it, after its last edit."""
    trainer = start(config=config())
    trainer.train()
    return trainer


def scene_of(trainer: Any) -> StartScene:
    return StartScene(trainer.pipeline.model, trainer.pipeline.datamanager, trainer.session)


def test_it_is_that_of_before_the_first_edit(trained: Any) -> None:
    scene, model = scene_of(trained), trained.pipeline.model
    assert scene.exists
    assert start_checkpoint(trained.session) == trained.session.start_checkpoint
    stored = torch.load(trained.session.start_checkpoint, weights_only=True)["pipeline"]
    was = dict(scene.get().state_dict())
    assert all(torch.equal(value, stored[f"_model.{name}"]) for name, value in was.items())
    assert not torch.equal(was["field.mlp_head.layers.0.weight"], model.state_dict()["field.mlp_head.layers.0.weight"])
    assert not any(each.requires_grad for each in scene.get().parameters())
    assert not scene.get().training


def test_it_is_read_once_until_it_is_forgotten(trained: Any) -> None:
    scene = scene_of(trained)
    first = scene.get()
    assert scene.get() is first
    scene.forget()
    assert scene.get() is not first


def test_its_rays_are_remembered_and_are_the_same(trained: Any) -> None:
    model = scene_of(trained).get()
    camera = trained.pipeline.renderer.camera(0)
    fresh = list(model.ray_weights(camera))
    votes = model.make_votes()
    votes.add(camera, torch.ones(16, 16))
    calls: list[Any] = []
    original = model._weigh
    model._weigh = lambda rays: calls.append(rays) or original(rays)
    remembered = list(votes._trace(camera))
    assert not calls
    assert all(torch.equal(one.weights, other.weights) for one, other in zip(fresh, remembered, strict=True))


def test_a_dry_run_without_a_scene_has_none(start: Start, config: Any) -> None:
    trainer = start(config=config(reconstruct_steps=0, dry_run=1))
    assert start_checkpoint(trainer.session) is None
    assert not scene_of(trainer).exists
