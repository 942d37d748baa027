"""The scene before the first edit: found, read, left alone by training, let go."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.editors import SessionError
from maskedit.plugin.lift_scene import StartScene, start_checkpoint
from maskedit.plugin.replica import SceneReplica

Start = Callable[..., Any]


@pytest.fixture
def trained(start: Start, config: Any) -> Any:
    """A run whose scene was reconstructed in it, after its last edit."""
    trainer = start(config=config())
    trainer.train()
    return trainer


def scene_of(trainer: Any) -> StartScene:
    return StartScene(trainer.pipeline.model, trainer.pipeline.datamanager, trainer.session)


def test_it_is_that_of_before_the_first_edit(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The weights that train are large and would be copied for nothing.
    monkeypatch.setattr(SceneReplica, "copy", None)
    start, model = scene_of(trained), trained.pipeline.model
    assert start.exists
    assert start_checkpoint(trained.session) == trained.session.start_checkpoint
    stored = torch.load(trained.session.start_checkpoint, weights_only=True)["pipeline"]
    model.proposal_sampler.set_anneal(0.3)
    with start.lend() as scene:
        was = dict(scene.state_dict())
        assert all(torch.equal(value, stored[f"_model.{name}"]) for name, value in was.items())
        assert not torch.equal(
            was["field.mlp_head.layers.0.weight"], model.state_dict()["field.mlp_head.layers.0.weight"]
        )
        assert not any(each.requires_grad for each in scene.parameters())
        assert not scene.training
        # Its rays are those of the scene that trains but for the weights.
        assert scene.proposal_sampler._anneal == 0.3


def test_each_who_asks_has_one_of_its_own(trained: Any) -> None:
    start = scene_of(trained)
    with start.lend() as one, start.lend() as other:
        one.train()
        assert other is not one
        assert not other.training
        places = [{each.data_ptr() for each in scene.parameters() if each.numel()} for scene in (one, other)]
        assert not places[0] & places[1]


def test_threads_do_not_build_at_the_same_time(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model is built classes of nerfstudio are exchanged, and each puts back what it came upon."""
    start, inside, most = scene_of(trained), list[int](), list[int]()
    build = SceneReplica.__init__

    def listen(self: SceneReplica, *given: Any) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.1)
        build(self, *given)
        inside.pop()

    monkeypatch.setattr(SceneReplica, "__init__", listen)

    def ask() -> None:
        with start.lend():
            pass

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


def test_its_rays_are_remembered_and_are_the_same(trained: Any) -> None:
    with scene_of(trained).lend() as model:
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


def test_its_rays_are_freed_without_waiting_for_python(trained: Any) -> None:
    gc.disable()
    try:
        with scene_of(trained).lend() as model:
            votes = model.make_votes()
            votes.add(trained.pipeline.renderer.camera(0), torch.ones(16, 16))
            ((_, parts),) = votes._trace._kept.values()
            kept = weakref.ref(parts[0].points)
            del votes, parts
            assert kept() is not None
        assert kept() is None
    finally:
        gc.enable()


def test_a_scene_that_is_gone_is_an_error_of_one_line(trained: Any) -> None:
    trained.session.start_checkpoint.unlink()
    gone = r"the scene before the first edit is gone .*start\.ckpt"
    with pytest.raises(SessionError, match=gone), scene_of(trained).lend():
        pass
    with pytest.raises(SessionError, match=gone):
        trained._restore_start()


def test_a_dry_run_without_a_scene_has_none(start: Start, config: Any) -> None:
    trainer = start(config=config(reconstruct_steps=0, dry_run=1))
    assert start_checkpoint(trainer.session) is None
    assert not scene_of(trainer).exists
