"""Rays against each shape and mirrors, compared with what geometry says."""

import math

import pytest
import torch

from maskedit.bench.blocks import GROUND, MIRROR, SKY, Block, Mirror, Scene, pack_blocks, pack_scenes, trace_scenes


def block(shape: str, **more) -> Block:
    return Block(**{"shape": shape, "color": "red", "size": "large", "x": 0.0, "y": 0.0, **more})


def trace(scene: Scene, origin: list[list[float]], direction: list[list[float]]):
    ways = torch.nn.functional.normalize(torch.tensor([direction]), dim=-1)
    return trace_scenes(pack_scenes([scene]), torch.tensor([origin]), ways)


@pytest.mark.parametrize("shape", ["sphere", "cube", "cylinder"])
def test_a_level_ray_meets_each_shape_at_its_half_width(shape):
    thing = block(shape)
    sight = trace(Scene(blocks=(thing,)), [[5.0, 0.0, thing.half]], [[-1.0, 0.0, 0.0]])
    assert sight.index.item() == 0
    assert sight.distance.item() == pytest.approx(5 - thing.half, abs=1e-4)
    assert sight.reach.item() == sight.distance.item()


@pytest.mark.parametrize("shape", ["sphere", "cube", "cylinder"])
def test_a_ray_from_above_meets_the_top(shape):
    thing = block(shape, z=0.3)
    sight = trace(Scene(blocks=(thing,)), [[0.0, 0.0, 4.0]], [[0.0, 0.0, -1.0]])
    assert sight.distance.item() == pytest.approx(4 - 0.3 - 2 * thing.half, abs=1e-4)


def test_a_turned_cube_shows_its_edge():
    cube = block("cube", yaw=math.pi / 4)
    sight = trace(Scene(blocks=(cube,)), [[5.0, 0.0, 0.3]], [[-1.0, 0.0, 0.0]])
    assert sight.distance.item() == pytest.approx(5 - cube.half * math.sqrt(2), abs=1e-3)


def test_hits_lie_on_the_surface_of_a_sphere():
    ball = block("sphere", x=0.4, y=-0.2)
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    ways = torch.nn.functional.normalize(torch.tensor([-5.0, 0.0, 0.0]) + 0.2 * noise, dim=-1)
    origin = torch.tensor([[[5.0, 0.0, 0.7]]])
    sight = trace_scenes(pack_scenes([Scene(blocks=(ball,))]), origin, ways[None])
    hit = (origin + sight.distance[..., None] * ways)[sight.index == 0]
    center = torch.tensor([0.4, -0.2, ball.half])
    assert len(hit) > 10
    torch.testing.assert_close((hit - center).norm(dim=-1), torch.full((len(hit),), ball.half), atol=1e-4, rtol=0)


def test_the_nearest_of_several_blocks_is_met():
    scene = Scene(blocks=(block("cube", x=-2.0), block("sphere", x=2.0), block("cylinder")))
    sight = trace(scene, [[6.0, 0.0, 0.5], [-6.0, 0.0, 0.5]], [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert sight.index.tolist() == [[1, 0]]


def test_ground_and_sky():
    sight = trace(Scene(blocks=()), [[0.0, 0.0, 2.0]] * 2, [[1.0, 0.0, -1.0], [1.0, 0.0, 0.1]])
    assert sight.index.tolist() == [[GROUND, SKY]]
    assert sight.distance[0, 0].item() == pytest.approx(2 * math.sqrt(2), abs=1e-4)


def test_a_mirror_shows_a_block_at_the_length_of_the_whole_way():
    thing = block("cube", x=0.0, y=2.0)
    scene = Scene(blocks=(thing,), mirror=Mirror(x=-2.0, y=0.0, azimuth=0.0))
    # From the place that mirrors the block, aimed at the middle of the glass, the ray meets the block on its way back.
    sight = trace(scene, [[0.0, -2.0, 0.5]], [[-1.0, 1.0, 0.0]])
    assert sight.index.item() == MIRROR
    assert sight.reflection.item() == 0
    assert sight.distance.item() == pytest.approx(2 * math.sqrt(2), abs=1e-3)
    toward = thing.half * math.sqrt(2)
    assert sight.reach.item() == pytest.approx(4 * math.sqrt(2) - toward, abs=5e-3)


def test_frame_and_back_of_a_mirror_reflect_nothing():
    scene = Scene(blocks=(block("cube"),), mirror=Mirror(x=-2.0, y=0.0, azimuth=0.0))
    sight = trace(scene, [[4.0, 0.0, 2.57], [-6.0, 0.0, 1.5]], [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert sight.index.tolist() == [[MIRROR, MIRROR]]
    assert sight.reflection.tolist() == [[SKY, SKY]]
    torch.testing.assert_close(sight.reach, sight.distance)


def test_the_reflected_blocks_are_what_the_mirror_shows():
    mirror = Mirror(x=-2.0, y=0.0, azimuth=0.0)
    scene = Scene(blocks=(block("cube", y=2.0),), mirror=mirror, reflected=())
    sight = trace(scene, [[0.0, -2.0, 0.5]], [[-1.0, 1.0, 0.0]])
    assert (sight.index.item(), sight.reflection.item()) == (MIRROR, SKY)


def test_padding_is_never_met():
    packed = pack_blocks([[], [block("cube"), block("sphere", x=2.0)]])
    assert packed.shape.tolist() == [[-1, -1], [1, 0]]
    scenes = [Scene(blocks=()), Scene(blocks=(block("cube"), block("sphere", x=2.0)))]
    ways = torch.tensor([[[-1.0, 0.0, 0.0]]] * 2)
    sight = trace_scenes(pack_scenes(scenes), torch.tensor([[[5.0, 0.0, 0.5]]] * 2), ways)
    assert sight.index.tolist() == [[SKY], [1]]
