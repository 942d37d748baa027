"""Flow: right by geometry on every kind of surface, and pictures warped by it match."""

import math
from dataclasses import replace

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
    optical_flow,
    project_points,
    render,
    warp_back,
)
from maskedit.editors import InputError

SIZE = 64
CAMERA = OrbitCamera(azimuth=0.2, elevation=0.3)
TURNED = replace(CAMERA, azimuth=0.25)
CUBE = Block(shape="cube", color="red", size="large", x=0.8, y=0.3)
BALL = Block(shape="sphere", color="blue", size="small", x=-0.6, y=-0.7)
SCENE = Scene(blocks=(CUBE, BALL))
MIRRORED = replace(SCENE, mirror=Mirror(x=-2.4, y=0.0, azimuth=0.0))


def moved(scene: Scene, block: int, **changes) -> Scene:
    rows = list(scene.blocks)
    rows[block] = replace(rows[block], **changes)
    return replace(scene, blocks=tuple(rows))


def psnr(one, two, valid) -> float:
    error = (one - two).square().mean(1)[valid].mean()
    return -10 * math.log10(error.item())


def test_nothing_moves_without_motion():
    for scene in (SCENE, MIRRORED):
        still = optical_flow([scene], [CAMERA], [scene], [CAMERA], height=SIZE)
        assert still.flow.abs().max() < 2e-3
        assert still.occluded.float().mean() < 0.002


def test_the_sky_turns_with_the_camera_alone():
    # Where the camera stands does not matter to the sky: only its direction does.
    tilted = replace(CAMERA, elevation=0.25, azimuth=0.3)
    nearer = replace(tilted, radius=4.0)
    one = optical_flow([SCENE], [CAMERA], [SCENE], [tilted], height=SIZE)
    two = optical_flow([SCENE], [CAMERA], [SCENE], [nearer], height=SIZE)
    sky = (render([SCENE], [CAMERA], height=SIZE).index == SKY)[0]
    assert sky.sum() > 100
    torch.testing.assert_close(one.flow[0][:, sky], two.flow[0][:, sky], atol=0.05, rtol=0)
    turn = camera_to_world(tilted)[:3, :3].T @ camera_to_world(CAMERA)[:3, :3]
    row, column = sky.nonzero()[0].tolist()
    focal = focal_length(CAMERA, SIZE)
    way = turn @ torch.tensor([column + 0.5 - SIZE / 2, -(row + 0.5 - SIZE / 2), -focal])
    right, down = focal * way[0] / -way[2], -focal * way[1] / -way[2]
    expected = torch.stack([right + SIZE / 2 - column - 0.5, down + SIZE / 2 - row - 0.5])
    torch.testing.assert_close(one.flow[0][:, row, column], expected, atol=0.02, rtol=0)


def test_static_points_flow_to_their_projection():
    picture = render([SCENE], [CAMERA], height=SIZE)
    found = optical_flow([SCENE], [CAMERA], [SCENE], [TURNED], height=SIZE)
    solid = picture.index[0] >= GROUND
    pose, focal = camera_to_world(TURNED)[None], torch.tensor([focal_length(TURNED, SIZE)])
    place, _ = project_points(pose, focal, picture.points[0][solid][None], height=SIZE, width=SIZE)
    row, column = solid.nonzero().unbind(-1)
    start = torch.stack([column, row], -1) + 0.5
    near = picture.depth[0][solid] < 30
    torch.testing.assert_close(found.flow[0][:, solid].T[near], (place[0] - start)[near], atol=5e-3, rtol=0)


def test_a_sliding_block_takes_its_pixels_along_and_leaves_the_rest():
    later = moved(SCENE, 0, x=0.9, y=0.5)
    found = optical_flow([SCENE], [CAMERA], [later], [CAMERA], height=SIZE)
    picture = render([SCENE], [CAMERA], height=SIZE)
    on_cube = picture.block_mask(0)[0]
    assert found.flow[0][:, ~on_cube].abs().max() < 2e-3
    pose, focal = camera_to_world(CAMERA)[None], torch.tensor([focal_length(CAMERA, SIZE)])
    goal = picture.points[0][on_cube] + torch.tensor([0.1, 0.2, 0.0])
    place, _ = project_points(pose, focal, goal[None], height=SIZE, width=SIZE)
    row, column = on_cube.nonzero().unbind(-1)
    expected = place[0] - torch.stack([column, row], -1) - 0.5
    torch.testing.assert_close(found.flow[0][:, on_cube].T, expected, atol=5e-3, rtol=0)
    assert found.flow[0][:, on_cube].norm(dim=0).min() > 0.5


def test_occluded_is_what_the_moved_block_hides():
    later = moved(SCENE, 0, x=0.8, y=0.8)
    found = optical_flow([SCENE], [CAMERA], [later], [CAMERA], height=SIZE)
    now, then = render([SCENE, later], [CAMERA, CAMERA], height=SIZE).index
    hidden = (now == GROUND) & (then == 0)
    assert hidden.sum() > 50
    assert found.occluded[0][hidden].all()
    stays = (now == GROUND) & (then == GROUND)
    assert not found.occluded[0][stays].any()


def test_a_turning_block_hides_one_of_its_sides():
    far = optical_flow([SCENE], [CAMERA], [moved(SCENE, 0, yaw=2.0)], [CAMERA], height=SIZE)
    on_cube = render([SCENE], [CAMERA], height=SIZE).block_mask(0)[0]
    assert 0.1 < far.occluded[0][on_cube].float().mean() < 0.9


def test_a_turning_block_carries_its_pixels_around_its_axis():
    angle = 0.25
    picture = render([SCENE], [CAMERA], height=SIZE)
    found = optical_flow([SCENE], [CAMERA], [moved(SCENE, 0, yaw=angle)], [CAMERA], height=SIZE)
    on_cube = picture.block_mask(0)[0]
    offset = picture.points[0][on_cube] - torch.tensor([CUBE.x, CUBE.y, 0.0])
    x, y, z = offset.unbind(-1)
    cos, sin = math.cos(angle), math.sin(angle)
    goal = torch.stack([CUBE.x + cos * x - sin * y, CUBE.y + sin * x + cos * y, z], -1)
    pose, focal = camera_to_world(CAMERA)[None], torch.tensor([focal_length(CAMERA, SIZE)])
    place, _ = project_points(pose, focal, goal[None], height=SIZE, width=SIZE)
    row, column = on_cube.nonzero().unbind(-1)
    expected = place[0] - torch.stack([column, row], -1) - 0.5
    torch.testing.assert_close(found.flow[0][:, on_cube].T, expected, atol=5e-3, rtol=0)
    # Most of the cube still faces the camera, and is found where it went.
    assert found.occluded[0][on_cube].float().mean() < 0.1


def test_pixels_that_leave_the_picture_are_occluded():
    found = optical_flow([SCENE], [CAMERA], [SCENE], [replace(CAMERA, azimuth=0.5)], height=SIZE)
    down, right = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    place = torch.stack([right, down]) + found.flow[0]
    gone = ((place < 0) | (place > SIZE)).any(0)
    assert gone.any()
    assert found.occluded[0][gone].all()


def test_what_a_camera_turns_its_back_on_is_occluded_and_has_no_flow():
    away = replace(CAMERA, radius=0.5, azimuth=CAMERA.azimuth + math.pi)
    found = optical_flow([SCENE], [CAMERA], [SCENE], [away], height=SIZE)
    assert found.flow.isfinite().all()
    still = (found.flow == 0).all(1)
    assert still.any()
    assert found.occluded[still].all()


@pytest.mark.parametrize("scene", [SCENE, MIRRORED])
@pytest.mark.parametrize("change", [{}, {"x": 0.9, "y": 0.4, "yaw": 0.1}])
def test_there_and_back_again(scene, change):
    """The flow back, fetched where the flow there leads, undoes it."""
    later = moved(scene, 0, **change)
    there = optical_flow([scene], [CAMERA], [later], [TURNED], height=SIZE)
    back = optical_flow([later], [TURNED], [scene], [CAMERA], height=SIZE)
    left = (there.flow + warp_back(back.flow, there.flow)).norm(dim=1)
    # Beside an edge the fetched flow is blended from two surfaces; there are few such pixels.
    assert (left[~there.occluded] < 0.1).float().mean() > 0.9
    assert left[~there.occluded].median() < 0.01


def test_flow_in_a_mirror_follows_the_image():
    """A block that moves while the camera stands still moves in the mirror too, and the mirror's frame does not."""
    camera = OrbitCamera(azimuth=0.0, elevation=0.35)
    later = moved(MIRRORED, 1, x=-0.6, y=-0.5)
    found = optical_flow([MIRRORED], [camera], [later], [camera], height=SIZE)
    picture = render([MIRRORED], [camera], height=SIZE)
    image = picture.block_mask(1, reflected=True)[0]
    assert image.sum() > 10
    assert found.flow[0][:, image].norm(dim=0).min() > 0.2
    rest = (picture.index[0] == MIRROR) & ~image
    assert found.flow[0][:, rest].abs().max() < 5e-3
    # The image of +y is +y as this camera looks along -x: right in the picture, farther away than the block itself.
    assert (found.flow[0][0, image] > 0).all()
    seen = render([MIRRORED, later], [camera] * 2, height=SIZE, samples=4).rgb
    core = image & ~found.occluded[0]
    warped = warp_back(seen[1:], found.flow)
    assert (warped - seen[:1])[0][:, core].abs().mean() < 0.5 * (seen[1] - seen[0])[:, core].abs().mean()


@pytest.mark.parametrize(("size", "least"), [(64, 29.0), (128, 33.0)])
def test_warping_by_the_flow_gives_the_other_picture(size, least):
    """On what both pictures show; what is lost is the blending of pixels at edges, so twice the size gives more."""
    for scene in (SCENE, MIRRORED):
        pictures = render([scene] * 2, [CAMERA, TURNED], height=size, samples=3).rgb
        found = optical_flow([scene], [CAMERA], [scene], [TURNED], height=size)
        warped = warp_back(pictures[1:], found.flow)
        value = psnr(warped, pictures[:1], ~found.occluded)
        assert value > least
        assert value > psnr(pictures[1:], pictures[:1], ~found.occluded) + 4


def test_pairs_of_a_batch_do_not_meet():
    cameras = [CAMERA, TURNED]
    later = moved(MIRRORED, 1, x=-0.5)
    both = optical_flow([SCENE, MIRRORED], cameras, [SCENE, later], cameras[::-1], height=24, width=30)
    for i, (scene, to) in enumerate(((SCENE, SCENE), (MIRRORED, later))):
        alone = optical_flow([scene], [cameras[i]], [to], [cameras[1 - i]], height=24, width=30)
        torch.testing.assert_close(both.flow[i], alone.flow[0], atol=1e-4, rtol=0)
        assert torch.equal(both.occluded[i], alone.occluded[0])


def test_the_sky_in_a_mirror_is_hidden_by_its_frame():
    """The frame slides over the reflected sky as the camera turns; no frame may be fetched where sky was."""
    later = replace(CAMERA, azimuth=0.25, elevation=0.27)
    pictures = render([MIRRORED] * 2, [CAMERA, later], height=192, samples=3)
    found = optical_flow([MIRRORED], [CAMERA], [MIRRORED], [later], height=192)
    in_glass = (pictures.index[0] == MIRROR) & (pictures.rgb[0, 2] > 0.7) & ~found.occluded[0]
    fetched = warp_back(pictures.rgb[1:], found.flow)[0, :, in_glass]
    assert in_glass.sum() > 5000
    assert (fetched - pictures.rgb[0][:, in_glass]).abs().max() < 0.4


def test_warping_by_whole_pixels_shifts():
    images = torch.rand(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0], flow[:, 1] = 2.0, 1.0
    torch.testing.assert_close(warp_back(images, flow)[..., :-1, :-2], images[..., 1:, 2:])


def test_edits_are_no_motion():
    with pytest.raises(InputError, match="move blocks, do not edit them"):
        optical_flow([SCENE], [CAMERA], [moved(SCENE, 0, shape="sphere")], [CAMERA])
    with pytest.raises(InputError, match="as many scenes as cameras"):
        optical_flow([SCENE], [CAMERA], [SCENE, SCENE], [CAMERA])
