"""Pictures and their truth: repeatable, independent of the batch, and consistent with the geometry."""

import pytest
import torch

from maskedit.bench.blocks import (
    GROUND,
    MIRROR,
    SKY,
    Block,
    Mirror,
    OrbitCamera,
    Scene,
    camera_to_world,
    focal_length,
    orbit_cameras,
    project_points,
    render,
)
from maskedit.editors import InputError

BLOCKS = (
    Block(shape="sphere", color="red", size="large", x=0.9, y=0.0),
    Block(shape="cube", color="blue", size="small", material="shiny", x=-0.9, y=0.5, yaw=0.4),
    Block(shape="cylinder", color="green", size="small", x=0.0, y=-1.1),
)
SCENE = Scene(blocks=BLOCKS)
MIRRORED = Scene(blocks=BLOCKS, mirror=Mirror(x=-2.4, y=0.0, azimuth=0.0))
CAMERA = OrbitCamera(azimuth=0.3, elevation=0.45)


def test_sizes_and_ranges():
    low = OrbitCamera(azimuth=0.3, elevation=0.3)
    picture = render([SCENE, MIRRORED], [low, low], height=24, width=32)
    assert picture.rgb.shape == (2, 3, 24, 32)
    assert picture.points.shape == (2, 24, 32, 3)
    assert 0 <= picture.rgb.min() and picture.rgb.max() <= 1
    assert set(picture.index.unique().tolist()) == {SKY, GROUND, MIRROR, 0, 1, 2}
    assert (picture.depth[picture.index == SKY] == torch.inf).all()
    assert picture.depth[picture.index != SKY].isfinite().all()


def test_a_picture_does_not_depend_on_its_batch():
    scenes = [SCENE, MIRRORED, Scene(blocks=BLOCKS[:1])]
    cameras = orbit_cameras(3, start=0.2)
    together = render(scenes, cameras, height=24)
    for i in range(3):
        alone = render(scenes[i : i + 1], cameras[i : i + 1], height=24)
        for name in ("rgb", "index", "reflection", "depth", "points"):
            assert torch.equal(getattr(together, name)[i], getattr(alone, name)[0]), name


def test_large_batches_are_rendered_in_parts_with_the_same_result(monkeypatch):
    import sys

    whole = render([SCENE] * 3, orbit_cameras(3), height=16)
    monkeypatch.setattr(sys.modules["maskedit.bench.blocks.render"], "_TRACE_CHUNK", 1)
    assert torch.equal(render([SCENE] * 3, orbit_cameras(3), height=16).rgb, whole.rgb)


@pytest.mark.parametrize("scene", [SCENE, MIRRORED])
def test_points_of_one_view_project_into_another_onto_the_same_surface(scene):
    """World points seen by one camera are where a second camera says they are, wherever nothing hides them."""
    cameras = (CAMERA, OrbitCamera(azimuth=0.55, elevation=0.6))
    size = 96
    pair = render([scene] * 2, cameras, height=size)
    pose, focal = camera_to_world(cameras[1])[None], torch.tensor([focal_length(cameras[1], size)])
    solid = pair.index[0] != SKY
    points = pair.points[0][solid]
    position, depth = project_points(pose, focal, points[None], height=size, width=size)
    column, row = position[0].floor().long().unbind(-1)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    seen = pair.depth[1][row[inside], column[inside]]
    visible = (seen - depth[0, inside]).abs() < 0.03 * depth[0, inside]
    assert visible.float().mean() > 0.85
    same = pair.index[1][row[inside], column[inside]] == pair.index[0][solid][inside]
    assert same[visible].float().mean() > 0.97
    # And never does a point lie clearly before what the second camera sees, except within a pixel of an edge.
    assert (depth[0, inside] < 0.93 * seen).float().mean() < 0.02


def test_depth_is_measured_along_the_optical_axis():
    picture = render([SCENE], [CAMERA], height=32)
    pose = camera_to_world(CAMERA)
    solid = picture.index[0] != SKY
    along = ((picture.points[0][solid] - pose[:3, 3]) * -pose[:3, 2]).sum(-1)
    torch.testing.assert_close(picture.depth[0][solid], along, atol=1e-3, rtol=1e-4)


def test_a_mirror_shows_the_blocks_from_behind():
    picture = render([MIRRORED], [OrbitCamera(azimuth=0.0, elevation=0.35)], height=64)
    glass = picture.index == MIRROR
    for number in range(3):
        assert (picture.block_mask(number, reflected=True) & ~glass).sum() == 0
    assert picture.block_mask(1, reflected=True).sum() > 20
    assert not (picture.block_mask(1) & picture.block_mask(1, reflected=True)).any()


def test_colours_look_like_their_names():
    for color, channel in (("red", 0), ("green", 1), ("blue", 2)):
        ball = Block(shape="sphere", color=color, size="large", x=0.0, y=0.0)
        picture = render([Scene(blocks=(ball,))], [CAMERA], height=32)
        mean = picture.rgb[0][:, picture.block_mask(0)[0]].mean(1)
        assert mean.argmax() == channel
        assert mean[channel] > 1.5 * mean.sum().sub(mean[channel]) / 2


def test_antialiasing_keeps_the_mean_and_softens_edges():
    rough = render([SCENE], [CAMERA], height=32, samples=1).rgb
    fine = render([SCENE], [CAMERA], height=32, samples=3).rgb
    assert (rough.mean() - fine.mean()).abs() < 0.01
    assert fine.diff(dim=-1).abs().amax() <= rough.diff(dim=-1).abs().amax()


def test_a_camera_is_needed_for_each_scene():
    with pytest.raises(InputError, match="2 scenes and 1 cameras"):
        render([SCENE, SCENE], [CAMERA])


@pytest.mark.gpu
def test_the_gpu_draws_the_same_picture():
    cpu = render([SCENE, MIRRORED], [CAMERA, CAMERA], height=32)
    gpu = render([SCENE, MIRRORED], [CAMERA, CAMERA], height=32, device="cuda")
    assert ((cpu.rgb - gpu.rgb.cpu()).abs() < 1e-3).float().mean() > 0.99
    assert (cpu.index == gpu.index.cpu()).float().mean() > 0.99
