"""Scenes: what is drawn, from which seeds, and how it is described."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from maskedit.bench.blocks import Block, Mirror, Scene, sample_camera, sample_scene, split_seed
from maskedit.editors import InputError

SPLITS = ("train", "validation", "test")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_same_seed_draws_the_same_scene_and_another_seed_another():
    assert sample_scene(rng(3)) == sample_scene(rng(3))
    assert sample_scene(rng(3)) != sample_scene(rng(4))


def test_splits_own_disjoint_seeds():
    ranges = [(split_seed(split, 0), split_seed(split, 99_999_999)) for split in SPLITS]
    assert all(a[1] < b[0] or b[1] < a[0] for a, b in itertools.combinations(ranges, 2))
    assert split_seed("train", 999_999_999) < split_seed("validation", 0)


@pytest.mark.parametrize(("split", "index"), [("train", -1), ("train", 1_000_000_000), ("test", 100_000_000)])
def test_a_seed_outside_its_split_is_refused(split, index):
    with pytest.raises(InputError, match="index must be in"):
        split_seed(split, index)


def test_scenes_hold_as_many_blocks_as_asked_apart_from_each_other_and_all_different():
    for seed in range(60):
        scene = sample_scene(rng(seed), blocks=(2, 4))
        assert 2 <= len(scene.blocks) <= 4
        assert len({(b.color, b.shape, b.size) for b in scene.blocks}) == len(scene.blocks)
        for one, two in itertools.combinations(scene.blocks, 2):
            assert math.hypot(one.x - two.x, one.y - two.y) > 1.5


def test_five_blocks_find_room_and_six_are_refused():
    assert len(sample_scene(rng(), blocks=(5, 5)).blocks) == 5
    with pytest.raises(InputError, match=r"most <= 5, got \(2, 6\)"):
        sample_scene(rng(), blocks=(2, 6))


def test_distractors_share_colour_or_shape_more_often():
    def shared(distractors: float) -> int:
        scenes = [sample_scene(rng(seed), blocks=(3, 3), distractors=distractors) for seed in range(150)]
        return sum(len({b.color for b in s.blocks}) < 3 for s in scenes)

    assert shared(1.0) > 1.3 * shared(0.0)


def test_a_mirror_faces_the_camera():
    for seed in range(20):
        source = rng(seed)
        scene = sample_scene(source, mirror=True)
        camera = sample_camera(source, scene.mirror)
        assert math.cos(camera.azimuth - scene.mirror.azimuth) > math.cos(0.71)


def test_captions_name_every_block_and_the_mirror():
    red = Block(shape="cube", color="red", size="small", material="shiny", x=0.0, y=0.0)
    blue = Block(shape="sphere", color="blue", size="large", x=1.0, y=1.0)
    mirror = Mirror(x=-2.0, y=0.0, azimuth=0.0)
    assert Scene(blocks=()).caption == "an empty floor"
    assert Scene(blocks=(red,)).caption == "a small shiny red cube"
    assert Scene(blocks=(red, blue), mirror=mirror).caption == (
        "a small shiny red cube and a large blue sphere in front of a mirror"
    )


def test_a_cube_is_a_little_lower_than_a_sphere_of_its_size():
    sphere = Block(shape="sphere", color="red", size="large", x=0.0, y=0.0)
    assert Block(shape="cube", color="red", size="large", x=0.0, y=0.0).half < sphere.half


def test_twins_share_colour_and_shape_and_sometimes_their_size():
    scenes = [sample_scene(rng(seed), twins=True) for seed in range(120)]
    alike = [Counter(b.noun for b in scene.blocks).most_common(1)[0][1] for scene in scenes]
    assert min(alike) == 2
    assert 3 in alike
    sizes = [len({b.size for b in scene.blocks[:2]}) for scene in scenes]
    assert 20 < sizes.count(1) < 100
    for scene in scenes:
        assert all(math.hypot(a.x - b.x, a.y - b.y) > 1.5 for a, b in itertools.combinations(scene.blocks, 2))


def test_twins_need_room_for_two():
    with pytest.raises(InputError, match=r"2 <= least <= most <= 5, got \(1, 4\)"):
        sample_scene(rng(), blocks=(1, 4), twins=True)


def test_scenes_without_twins_are_those_that_were_always_drawn():
    scene = sample_scene(rng(3), blocks=(3, 3))
    assert scene.caption == "a small white sphere, a small shiny green sphere and a large shiny blue cube"
    assert scene.light_azimuth == pytest.approx(3.958973485489117)
