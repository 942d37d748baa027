"""Exact optical flow between pictures of a moving blocks scene.

`flow[0]` is to the right and `flow[1]` down, in pixels: what the centre of pixel p of one picture sees lies at
p + flow(p) in the other one.

- On a block, flow follows the point of its surface; on the ground, the ground.
- The sky is infinitely far: its flow is the rotation of the camera alone.
- In a mirror, flow follows what is seen in it, not the glass; on its frame, the frame.
- `occluded` is true where the other picture does not show that point: something hides it, it lies outside the picture
  or behind the camera (flow is 0 there). Both are decided by tracing a ray to the point's new place, not by comparing
  rounded depths.

Shadows and highlights are light, not matter: they do not follow the flow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...editors import InputError
from .camera import camera_rays, camera_to_world, focal_length, project_points
from .scene import OrbitCamera, Scene
from .trace import (
    FAR,
    PackedBlocks,
    PackedScenes,
    Sight,
    mirror_planes,
    pack_scenes,
    rotation,
    trace_scenes,
)

_SAME_POINT = 0.01
"""Two hits on the same thing are the same point where their distances differ by less than this share."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Where the pixels of some pictures go in others."""

    flow: Float[Tensor, "pair 2 height width"]
    occluded: Bool[Tensor, "pair height width"]


@torch.no_grad()
def optical_flow(
    scenes: Sequence[Scene],
    cameras: Sequence[OrbitCamera],
    to_scenes: Sequence[Scene],
    to_cameras: Sequence[OrbitCamera],
    *,
    height: int = 64,
    width: int | None = None,
    device: torch.device | str = "cpu",
) -> Flow:
    """Flow from picture i, of scene i by camera i, to picture i of the other scenes and cameras.

    Args:
        scenes: what the pictures show.
        cameras: one a scene.
        to_scenes: the same scenes at another time: the same blocks in the same order, perhaps elsewhere.
        to_cameras: one a scene.
        height: picture height in pixels.
        width: picture width in pixels; None = square.
        device: where to compute and return.

    Raises:
        InputError: if the numbers of scenes and cameras differ, or blocks or mirrors are not the same ones.
    """
    _check_same(scenes, cameras, to_scenes, to_cameras)
    width = height if width is None else width
    pose = torch.stack([camera_to_world(camera) for camera in cameras]).to(device)
    focal = torch.tensor([focal_length(camera, height) for camera in cameras], device=device)
    packed, to_packed = pack_scenes(scenes, device), pack_scenes(to_scenes, device)
    origin, direction = camera_rays(pose, focal, height, width, height)
    sight = trace_scenes(packed, origin, direction)

    to_pose = torch.stack([camera_to_world(camera) for camera in to_cameras]).to(device)
    to_focal = torch.tensor([focal_length(camera, height) for camera in to_cameras], device=device)
    to_origin = to_pose[:, None, :3, 3]
    goal = _move_points(packed, to_packed, sight, origin + sight.reach[..., None] * direction)
    # A point of the sky keeps its direction, wherever the camera goes.
    endless = (sight.reach >= FAR)[..., None]
    goal = torch.where(endless, to_origin + FAR * direction, goal)
    position, depth = project_points(to_pose, to_focal, goal, height=height, width=width)
    start, _ = project_points(pose, focal, origin + direction, height=height, width=width)

    way = goal - to_origin
    distance = way.norm(dim=-1)
    to_sight = trace_scenes(to_packed, to_origin, way / distance[..., None])
    same = (to_sight.index == sight.index) & (to_sight.reflection == sight.reflection)
    # The sky must be met as sky: in a mirror, its index does not tell it from the frame.
    both_endless = endless[..., 0] & (to_sight.reach >= FAR)
    near = ((to_sight.reach - distance).abs() <= _SAME_POINT * distance) & ~endless[..., 0]
    inside = ((position >= 0) & (position <= position.new_tensor([width, height]))).all(-1)
    ahead = depth > 0
    visible = same & (near | both_endless) & inside & ahead
    flow = torch.where(ahead[..., None], position - start, 0)
    return Flow(
        flow=flow.mT.reshape(-1, 2, height, width).contiguous(),
        occluded=~visible.view(-1, height, width),
    )


def warp_back(
    images: Float[Tensor, "pair channel height width"], flow: Float[Tensor, "pair 2 height width"]
) -> Float[Tensor, "pair channel height width"]:
    """Fetch, for every pixel p, the image at p + flow(p); places between pixels are blended linearly."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=flow.device) + 0.5
    columns = torch.arange(width, device=flow.device) + 0.5
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    place = torch.stack([right, down]) + flow
    grid = 2 * place / place.new_tensor([width, height])[:, None, None] - 1
    return torch.nn.functional.grid_sample(
        images, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )


def _check_same(
    scenes: Sequence[Scene],
    cameras: Sequence[OrbitCamera],
    to_scenes: Sequence[Scene],
    to_cameras: Sequence[OrbitCamera],
) -> None:
    counts = {len(scenes), len(cameras), len(to_scenes), len(to_cameras)}
    if len(counts) != 1:
        raise InputError(f"expected as many scenes as cameras on both sides, got {sorted(counts)}")
    for one, two in zip(scenes, to_scenes, strict=True):
        kinds = [[(b.shape, b.size) for b in scene.blocks + (scene.reflected or ())] for scene in (one, two)]
        if kinds[0] != kinds[1] or one.mirror != two.mirror:
            raise InputError("flow needs the same blocks and mirror on both sides: move blocks, do not edit them")


def _move_points(scenes: PackedScenes, to_scenes: PackedScenes, sight: Sight, points: Tensor) -> Tensor:
    """Where points (batch ray 3) that are seen go when their blocks move; those in a mirror lie behind its plane."""
    moved = _move_with_blocks(scenes.blocks, to_scenes.blocks, sight.index, points)
    if sight.mirrors is None:
        return moved
    rows = sight.mirrors.rows
    center, normal = mirror_planes([m for m in scenes.mirrors if m is not None], points.device)
    real = _mirror_points(points[rows], center, normal)
    real = _move_with_blocks(sight.mirrors.reflected, _rows(to_scenes.reflected, rows), sight.mirrors.index, real)
    image = _mirror_points(real, center, normal)
    moved[rows] = torch.where(sight.mirrors.glass[..., None], image, moved[rows])
    return moved


def _move_with_blocks(blocks: PackedBlocks, to_blocks: PackedBlocks, index: Tensor, points: Tensor) -> Tensor:
    row, ray = (index >= 0).nonzero(as_tuple=True)
    block = index[row, ray]
    turn = rotation(to_blocks.yaw[row, block] - blocks.yaw[row, block])
    local = points[row, ray] - blocks.center[row, block]
    moved = points.clone()
    moved[row, ray] = torch.einsum("hij,hj->hi", turn, local) + to_blocks.center[row, block]
    return moved


def _mirror_points(points: Tensor, center: Tensor, normal: Tensor) -> Tensor:
    height = ((points - center[:, None]) * normal[:, None]).sum(-1, keepdim=True)
    return points - 2 * height * normal[:, None]


def _rows(blocks: PackedBlocks, rows: Tensor) -> PackedBlocks:
    return PackedBlocks(**{name: value[rows] for name, value in vars(blocks).items()})
