"""Cameras: poses, rays and projection agree with each other and with nerfstudio."""

import itertools
import math

import pytest
import torch

from maskedit.bench.blocks import (
    Mirror,
    OrbitCamera,
    camera_rays,
    camera_to_world,
    focal_length,
    orbit_cameras,
    project_points,
)
from maskedit.editors import InputError

CAMERA = OrbitCamera(azimuth=0.7, elevation=0.5)


def test_poses_are_right_handed_rotations_that_look_at_the_target():
    for camera in orbit_cameras(7):
        pose = camera_to_world(camera)
        turn = pose[:3, :3]
        torch.testing.assert_close(turn.T @ turn, torch.eye(3), atol=1e-6, rtol=0)
        assert torch.det(turn).item() == pytest.approx(1, abs=1e-5)
        assert turn[2, 1] > 0, "up in the picture is up in the world"
        ahead = pose[:3, 3] - camera.radius * turn[:, 2]
        torch.testing.assert_close(ahead, torch.tensor(camera.target), atol=1e-5, rtol=0)


def test_projecting_a_point_on_a_ray_gives_the_centre_of_its_pixel():
    pose, focal = camera_to_world(CAMERA)[None], torch.tensor([focal_length(CAMERA, 6)])
    origin, direction = camera_rays(pose, focal, 6, 8, 6)
    position, depth = project_points(pose, focal, origin + 3 * direction, height=6, width=8)
    down, right = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    torch.testing.assert_close(position[0], torch.stack([right, down], -1).view(-1, 2), atol=1e-4, rtol=0)
    assert (depth > 0).all()


def test_points_behind_the_camera_have_negative_depth():
    pose, focal = camera_to_world(CAMERA)[None], torch.tensor([1.0])
    behind = pose[:, None, :3, 3] + pose[:, None, :3, 2]
    _, depth = project_points(pose, focal, behind, height=4, width=4)
    assert depth.item() == pytest.approx(-1, abs=1e-5)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_rays_equal_those_of_nerfstudio():
    from nerfstudio.cameras.cameras import Cameras

    pose, focal = camera_to_world(CAMERA), focal_length(CAMERA, 6)
    cameras = Cameras(camera_to_worlds=pose[None, :3], fx=focal, fy=focal, cx=4.0, cy=3.0, width=8, height=6)
    down, right = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    rays = cameras.generate_rays(
        torch.zeros(48, 1, dtype=torch.long), coords=torch.stack([down, right], -1).view(-1, 2)
    )
    origin, direction = camera_rays(pose[None], torch.tensor([focal]), 6, 8, 6)
    torch.testing.assert_close(rays.directions, direction[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(rays.origins, origin[0].expand(48, 3), atol=1e-5, rtol=0)


def test_an_orbit_is_spread_evenly_and_in_the_range_of_elevations():
    cameras = orbit_cameras(12, elevation=(0.3, 0.6))
    gaps = {round(b.azimuth - a.azimuth, 6) for a, b in itertools.pairwise(cameras)}
    assert gaps == {round(2 * math.pi / 12, 6)}
    assert all(0.3 <= camera.elevation <= 0.6 for camera in cameras)
    assert max(c.elevation for c in cameras) - min(c.elevation for c in cameras) > 0.2


def test_with_a_mirror_all_cameras_stand_before_its_face():
    mirror = Mirror(x=-2.0, y=1.0, azimuth=2.0)
    assert all(abs(camera.azimuth - 2.0) <= 0.7 for camera in orbit_cameras(9, mirror=mirror))


def test_no_views_are_refused():
    with pytest.raises(InputError, match="at least 1, got 0"):
        orbit_cameras(0)
