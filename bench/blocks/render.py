"""Pictures of the blocks world, with exact truth beside every picture.

All pictures of a call are traced and shaded together (`trace.py`), from cameras in nerfstudio's convention
(`camera.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...editors import InputError
from .camera import camera_rays, camera_to_world, focal_length
from .scene import OrbitCamera, Scene
from .trace import GROUND, SKY, MirrorView, PackedBlocks, PackedScenes, Sight, pack_scenes, rotation, trace_scenes

_SKY_LOW, _SKY_HIGH = (0.80, 0.86, 0.93), (0.45, 0.62, 0.86)
_MIRROR_SHARE, _MIRROR_FRAME = 0.92, (0.30, 0.20, 0.12)
_TRACE_CHUNK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Pictures and their truth. `index` holds the number of the block, or SKY, GROUND, MIRROR."""

    rgb: Float[Tensor, "batch 3 height width"]
    index: Int[Tensor, "batch height width"]
    """What the centre of each pixel sees first."""
    reflection: Int[Tensor, "batch height width"]
    """What the centre of each pixel sees in a mirror, `SKY` where it looks at no mirror."""
    depth: Float[Tensor, "batch height width"]
    """Distance along the optical axis in world units, infinite on the sky."""
    points: Float[Tensor, "batch height width 3"]
    """World position of the first hit."""

    def block_mask(self, block: int, *, reflected: bool = False) -> Bool[Tensor, "batch height width"]:
        """Pixels whose centre sees the given block (directly, or in the mirror)."""
        return (self.reflection if reflected else self.index) == block


@torch.no_grad()
def render(
    scenes: Sequence[Scene],
    cameras: Sequence[OrbitCamera],
    *,
    height: int = 64,
    width: int | None = None,
    samples: int = 2,
    device: torch.device | str = "cpu",
) -> Rendering:
    """Render scene i from camera i.

    Args:
        scenes: one scene a picture.
        cameras: one camera a picture.
        height: picture height in pixels.
        width: picture width in pixels; None = square.
        samples: anti-aliasing, rays per pixel along each axis.
        device: where to compute and return.

    Raises:
        InputError: if the numbers of scenes and cameras differ.
    """
    if len(scenes) != len(cameras):
        raise InputError(f"expected one camera per scene, got {len(scenes)} scenes and {len(cameras)} cameras")
    width = height if width is None else width
    chunk = max(1, _TRACE_CHUNK // (height * width * samples * samples * 4))
    parts = [
        _render_chunk(scenes[i : i + chunk], cameras[i : i + chunk], height, width, samples, device)
        for i in range(0, len(scenes), chunk)
    ]
    return Rendering(
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("rgb", "index", "reflection", "depth", "points")
        }
    )


def _render_chunk(
    scenes: Sequence[Scene],
    cameras: Sequence[OrbitCamera],
    height: int,
    width: int,
    samples: int,
    device: torch.device | str,
) -> Rendering:
    pose = torch.stack([camera_to_world(camera) for camera in cameras]).to(device)
    focal = torch.tensor([focal_length(camera, height) for camera in cameras], device=device)
    packed = pack_scenes(scenes, device)

    origin, direction = camera_rays(pose, focal, height * samples, width * samples, height)
    rgb = _shade_sight(packed, origin, direction, trace_scenes(packed, origin, direction))
    rgb = rgb.view(-1, height, samples, width, samples, 3).mean((2, 4))
    origin, direction = camera_rays(pose, focal, height, width, height)
    sight = trace_scenes(packed, origin, direction)
    forward = -pose[:, None, :3, 2]
    depth = torch.where(sight.index == SKY, torch.inf, sight.distance * (direction * forward).sum(-1))
    points = origin + sight.distance[..., None] * direction
    shape = (-1, height, width)
    return Rendering(
        rgb=_to_display(rgb).permute(0, 3, 1, 2).contiguous(),
        index=sight.index.view(shape),
        reflection=sight.reflection.view(shape),
        depth=depth.view(shape),
        points=points.view(*shape, 3),
    )


def _to_display(linear: Tensor) -> Tensor:
    return linear.clamp(0, 1) ** (1 / 1.6)


def _normals(blocks: PackedBlocks, points: Tensor, which: Tensor, block: Tensor) -> Tensor:
    """Outward normals at points (hit 3) on block `block` of picture `which`."""
    turn = rotation(-blocks.yaw[which, block])
    half = blocks.half[which, block]
    local = torch.einsum("hij,hj->hi", turn, points - blocks.center[which, block]) / half[:, None]
    kind = blocks.shape[which, block]
    largest = local.abs().argmax(-1, keepdim=True)
    cube = torch.zeros_like(local).scatter(-1, largest, local.gather(-1, largest).sign())
    side = torch.cat([local[:, :2], torch.zeros_like(local[:, :1])], -1)
    cap = torch.cat([torch.zeros_like(local[:, :2]), local[:, 2:].sign()], -1)
    on_cap = local[:, 2].abs() > local[:, :2].norm(dim=-1)
    cylinder = torch.where(on_cap[:, None], cap, side)
    normal = torch.where((kind == 0)[:, None], local, torch.where((kind == 1)[:, None], cube, cylinder))
    return torch.einsum("hji,hj->hi", turn, torch.nn.functional.normalize(normal, dim=-1))


def _shade_sight(scenes: PackedScenes, origin: Tensor, direction: Tensor, sight: Sight) -> Tensor:
    """Linear RGB (batch ray 3) of what rays meet."""
    light, ground = scenes.light_azimuth, scenes.ground
    rgb = _shade(scenes.blocks, origin, direction, sight.distance, sight.index, light, ground)
    if sight.mirrors is not None:
        _shade_mirrors(scenes, sight.mirrors, rgb)
    return rgb


def _shade(
    blocks: PackedBlocks,
    origin: Tensor,
    direction: Tensor,
    distance: Tensor,
    index: Tensor,
    light_azimuth: Tensor,
    ground: Tensor,
) -> Tensor:
    """Linear RGB (batch ray 3): Lambert and ambient light, a highlight on shiny blocks, soft contact shadows."""
    low, high = direction.new_tensor(_SKY_LOW), direction.new_tensor(_SKY_HIGH)
    rgb = low + (high - low) * direction[..., 2:].clamp(0, 0.5) * 2
    points = origin + distance[..., None] * direction

    floor = _shade_ground(blocks, points, ground)
    haze = (distance / 14).clamp(0, 1)[..., None] ** 2
    rgb = torch.where((index == GROUND)[..., None], floor * (1 - haze) + low * haze, rgb)

    which, ray = (index >= 0).nonzero(as_tuple=True)
    block = index[which, ray]
    normal = _normals(blocks, points[which, ray], which, block)
    azimuth = light_azimuth[which]
    toward = torch.stack([0.6 * azimuth.cos(), 0.6 * azimuth.sin(), torch.full_like(azimuth, 0.8)], -1)
    diffuse = (normal * toward).sum(-1).clamp(min=0)
    sky_share = 0.5 + 0.5 * normal[:, 2]
    lit = blocks.color[which, block] * (0.24 + 0.22 * sky_share + 0.62 * diffuse)[:, None]
    view = -direction[which, ray]
    halfway = torch.nn.functional.normalize(view + toward, dim=-1)
    shine = blocks.shiny[which, block] * (normal * halfway).sum(-1).clamp(min=0) ** 40
    rgb[which, ray] = lit + 0.7 * shine[:, None]
    return rgb


def _shade_ground(blocks: PackedBlocks, points: Tensor, ground: Tensor) -> Tensor:
    """Faint checks of one world unit, darker close under a block."""
    checks = ((points[..., 0].floor() + points[..., 1].floor()) % 2) * 0.10 - 0.05
    level = ground[:, None] + checks
    offset = points[:, None, :, :2] - blocks.center[:, :, None, :2]
    reach = (offset.norm(dim=-1) / blocks.half.clamp(min=1e-3)[..., None]).clamp(max=4)
    lifted = (blocks.center[..., 2] - blocks.half).clamp(min=0)
    weight = 0.45 * torch.exp(-2.0 * lifted) * (blocks.shape >= 0)
    shadow = (1 - weight[..., None] * torch.sigmoid(10 * (1.12 - reach))).prod(1)
    return torch.stack([level * 1.02, level * 0.98, level * 0.92], -1) * shadow[..., None]


def _shade_mirrors(scenes: PackedScenes, view: MirrorView, rgb: Tensor) -> None:
    """Replace, in place, what rays see where a mirror is nearest."""
    rows = view.rows
    light, ground = scenes.light_azimuth[rows], scenes.ground[rows]
    image = _shade(view.reflected, view.origin, view.direction, view.beyond, view.index, light, ground)
    image = torch.where(view.glass[..., None], _MIRROR_SHARE * image, rgb.new_tensor(_MIRROR_FRAME))
    rgb[rows] = torch.where(view.seen[..., None], image, rgb[rows])
