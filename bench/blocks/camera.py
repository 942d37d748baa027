"""Pinhole cameras around a blocks scene: poses, rays and projection.

Poses are camera-to-world in nerfstudio's convention (x right, y up, looking along -z). A picture position is measured
in pixels from the top left corner, so that the centre of pixel (row, column) lies at (column + 0.5, row + 0.5).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ...editors import InputError
from .scene import Mirror, OrbitCamera

_GOLDEN = (math.sqrt(5) - 1) / 2
_MIRROR_ARC = 0.7


def camera_to_world(camera: OrbitCamera) -> Float[Tensor, "4 4"]:
    """Camera-to-world matrix in nerfstudio's convention."""
    cos_e = math.cos(camera.elevation)
    backward = torch.tensor(
        [cos_e * math.cos(camera.azimuth), cos_e * math.sin(camera.azimuth), math.sin(camera.elevation)]
    )
    right = torch.tensor([-math.sin(camera.azimuth), math.cos(camera.azimuth), 0.0])
    up = torch.linalg.cross(backward, right)
    pose = torch.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, up, backward
    pose[:3, 3] = torch.tensor(camera.target) + camera.radius * backward
    return pose


def focal_length(camera: OrbitCamera, height: int) -> float:
    """Focal length in pixels of a picture of the given height."""
    return 0.5 * height / math.tan(0.5 * camera.fov)


def camera_rays(
    pose: Float[Tensor, "batch 4 4"], focal: Float[Tensor, " batch"], rows: int, columns: int, height: int
) -> tuple[Float[Tensor, "batch 1 3"], Float[Tensor, "batch ray 3"]]:
    """Origins and unit directions of the rays through the centres of rows x columns cells, row by row.

    Args:
        pose: camera-to-world matrices.
        focal: focal lengths in pixels of a picture of the given height.
        rows: cells from top to bottom.
        columns: cells from left to right; cells are square.
        height: picture height in pixels.
    """
    scale = height / rows
    v = (torch.arange(rows, device=pose.device) + 0.5 - rows / 2) * scale
    u = (torch.arange(columns, device=pose.device) + 0.5 - columns / 2) * scale
    vv, uu = torch.meshgrid(v, u, indexing="ij")
    local = torch.stack([uu, -vv, torch.zeros_like(uu)], -1).view(1, -1, 3) / focal[:, None, None]
    local = local + torch.tensor([0.0, 0.0, -1.0], device=pose.device)
    direction = torch.nn.functional.normalize(local @ pose[:, :3, :3].mT, dim=-1)
    return pose[:, None, :3, 3], direction


def project_points(
    pose: Float[Tensor, "batch 4 4"],
    focal: Float[Tensor, " batch"],
    points: Float[Tensor, "batch point 3"],
    *,
    height: int,
    width: int,
) -> tuple[Float[Tensor, "batch point 2"], Float[Tensor, "batch point"]]:
    """Picture positions (right, down) in pixels of world points, and their depths along the optical axis.

    A position means something only where the depth is positive.
    """
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    depth = -local[..., 2]
    safe = torch.where(depth.abs() < 1e-6, 1e-6, depth)[..., None]
    flat = torch.stack([local[..., 0], -local[..., 1]], -1) / safe * focal[:, None, None]
    return flat + flat.new_tensor([0.5 * width, 0.5 * height]), depth


def orbit_cameras(
    views: int,
    *,
    radius: float = 5.5,
    elevation: tuple[float, float] = (math.radians(20), math.radians(42)),
    start: float = 0.0,
    mirror: Mirror | None = None,
) -> tuple[OrbitCamera, ...]:
    """Cameras spread evenly around the scene or, with a mirror, along an arc before its face.

    Args:
        views: number of cameras.
        radius: distance to the middle of the scene, world units.
        elevation: lowest and highest elevation in radians; the cameras are spread between them.
        start: azimuth of the first camera in radians; with a mirror, measured from the middle of its arc.
        mirror: the mirror to look into.
    """
    if views < 1:
        raise InputError(f"views must be at least 1, got {views}")
    low, high = elevation
    if mirror is None:
        azimuths = [start + 2 * math.pi * k / views for k in range(views)]
    else:
        azimuths = [mirror.azimuth + start + _MIRROR_ARC * (2 * (k + 0.5) / views - 1) for k in range(views)]
    # Steps of the golden ratio fill the range of elevations without a rhythm that a regular choice of views could meet.
    heights = [low + (high - low) * (k * _GOLDEN % 1) for k in range(views)]
    return tuple(OrbitCamera(azimuth=a, elevation=e, radius=radius) for a, e in zip(azimuths, heights, strict=True))
