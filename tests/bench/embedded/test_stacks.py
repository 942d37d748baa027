"""Views with a guest: who stands where, and that nothing else of the scene changes."""

import pytest
import torch

from maskedit.bench.embedded.stacks import join_views, render_scenes, stack_scenes, take_views
from maskedit.bench.embedded.views import Views, ViewsRecipe, make_views

RECIPE = ViewsRecipe(shards=1, views_per_shard=24, image_size=32)


@pytest.fixture(scope="module")
def views() -> Views:
    return make_views(RECIPE, "train", range(24), device="cpu")


@pytest.fixture(scope="module")
def stacked(views: Views) -> Views:
    return render_scenes(stack_scenes(views, seed=1), size=32, device="cpu")


def test_a_small_guest_stands_on_a_visible_block_that_can_carry_it(views: Views, stacked: Views):
    assert 0 < len(stacked.scenes) < len(views.scenes)
    for scene in stacked.scenes:
        *others, guest = scene.blocks
        (host,) = [b for b in others if (b.x, b.y) == (guest.x, guest.y)]
        assert host.shape != "sphere"
        assert host.color != guest.color
        assert (guest.size, guest.z) == ("small", host.z + 2 * host.half)


def test_the_rest_of_the_scene_and_the_camera_stay(views: Views, stacked: Views):
    before = {scene.blocks: camera for scene, camera in zip(views.scenes, views.cameras, strict=True)}
    assert all(before[s.blocks[:-1]] == c for s, c in zip(stacked.scenes, stacked.cameras, strict=True))


def test_the_truth_shows_the_guests(stacked: Views):
    seen = [len(scene.blocks) - 1 in index for scene, index in zip(stacked.scenes, stacked.index, strict=True)]
    assert sum(seen) > 0.9 * len(seen)


def test_the_seed_decides(views: Views, stacked: Views):
    scenes = [[scene for scene, _ in stack_scenes(views, seed=seed)] for seed in (1, 2)]
    assert scenes[0] == list(stacked.scenes)
    assert scenes[1] != scenes[0]


def test_nothing_to_stand_on_gives_no_views(views: Views):
    balls = next(row for row, scene in enumerate(views.scenes) if all(b.shape == "sphere" for b in scene.blocks))
    drawn = stack_scenes(take_views(views, balls, balls + 1), seed=1)
    assert drawn == []
    assert render_scenes(drawn, size=32, device="cpu").pictures.shape == (0, 3, 32, 32)


def test_scenes_are_rendered_as_the_views_are(views: Views):
    drawn = list(zip(views.scenes, views.cameras, strict=True))
    again = render_scenes(drawn, size=32, device="cpu")
    assert torch.equal(again.pictures, views.pictures)
    assert torch.equal(again.index, views.index)


def test_joined_views_keep_their_order(views: Views, stacked: Views):
    joined = join_views([views, stacked])
    assert joined.scenes == views.scenes + stacked.scenes
    assert joined.cameras == views.cameras + stacked.cameras
    assert torch.equal(joined.pictures, torch.cat([views.pictures, stacked.pictures]))
    assert torch.equal(joined.index, torch.cat([views.index, stacked.index]))
