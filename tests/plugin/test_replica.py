"""A replica renders exactly what the scene rendered when it was copied, whatever the scene does afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from maskedit.plugin.replica import SceneReplica, copy_model


@pytest.fixture
def pipeline(start: Callable[..., Any]) -> Any:
    return start(reconstruct_steps=1).pipeline


def test_a_replica_renders_what_was_copied_and_no_more(pipeline: Any) -> None:
    model = pipeline.scene_model
    model.proposal_sampler.set_anneal(0.3)
    model.set_editing(True)
    replica = SceneReplica(model, pipeline.datamanager, "cpu")
    before = pipeline.renderer.render(1)
    assert not torch.equal(replica.render(1).image, before.image)
    assert replica.copy() > 0
    for got, expected in zip(vars(replica.render(1)).values(), vars(before).values(), strict=True):
        assert torch.equal(got, expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    model.proposal_sampler.set_anneal(0.9)
    assert torch.equal(replica.render(1).image, before.image)
    replica.copy()
    assert torch.equal(replica.render(1).image, pipeline.renderer.render(1).image)
    assert not torch.equal(replica.render(1).image, before.image)


def test_a_replica_follows_the_optimised_cameras(pipeline: Any) -> None:
    replica = SceneReplica(pipeline.scene_model, pipeline.datamanager, "cpu")
    with torch.no_grad():
        pipeline.scene_model.camera_optimizer.pose_adjustment.add_(0.1)
    replica.copy()
    assert torch.equal(replica.render(2).image, pipeline.renderer.render(2).image)


def test_copying_leaves_training_alone(pipeline: Any) -> None:
    model = pipeline.scene_model
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    replica = SceneReplica(model, pipeline.datamanager, "cpu")
    replica.copy()
    replica.render(0)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.field.parameters())
    assert not any(parameter.requires_grad for parameter in replica.replica.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


class Points(nn.Module):
    """A scene whose number of parts changes, as Gaussians do."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.parts = nn.ParameterDict({"means": nn.Parameter(torch.rand(count, 3))})
        self.register_buffer("seen", torch.rand(count))
        self.step = count


def test_parts_that_were_split_are_copied_in_their_number() -> None:
    source, target = Points(5), Points(3)
    target.requires_grad_(False)
    copy_model(source, target)
    assert torch.equal(source.parts["means"], target.parts["means"])
    assert torch.equal(source.seen, target.seen)
    assert (target.step, target.parts["means"].requires_grad) == (5, False)
    with torch.no_grad():
        source.parts["means"].zero_()
    assert target.parts["means"].abs().sum() > 0
