"""A batched ray caster for the blocks world, with exact truth beside every picture.

Rays of all pictures and all objects of one shape are intersected together; there is no loop over pixels, pictures or
objects. Cameras are pinholes in nerfstudio's convention (camera-to-world, x right, y up, looking along -z).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .scene import COLORS, SHAPES, Block, Mirror, OrbitCamera, Scene

SKY, GROUND, MIRROR = -3, -2, -1
"""Values of `Rendering.index` where no block is hit."""

_SKY_LOW, _SKY_HIGH = (0.80, 0.86, 0.93), (0.45, 0.62, 0.86)
_FAR = 1e4
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


@dataclass(frozen=True, kw_only=True)
class PackedBlocks:
    """Blocks of several scenes as padded tensors."""

    shape: Int[Tensor, "batch block"]
    """Index into SHAPES, -1 for padding."""
    color: Float[Tensor, "batch block 3"]
    center: Float[Tensor, "batch block 3"]
    half: Float[Tensor, "batch block"]
    yaw: Float[Tensor, "batch block"]
    shiny: Float[Tensor, "batch block"]


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


def pack_blocks(blocks: Sequence[Sequence[Block]], device: torch.device | str = "cpu") -> PackedBlocks:
    """Stack the blocks of several scenes, padded to the longest."""
    longest = max(1, *(len(row) for row in blocks)) if blocks else 1
    shape = torch.full((len(blocks), longest), -1, dtype=torch.long)
    values = torch.zeros(len(blocks), longest, 9)
    for i, row in enumerate(blocks):
        for j, block in enumerate(row):
            shape[i, j] = SHAPES.index(block.shape)
            values[i, j] = torch.tensor(
                [
                    *COLORS[block.color],
                    block.x,
                    block.y,
                    block.z + block.half,
                    block.half,
                    block.yaw,
                    float(block.material == "shiny"),
                ]
            )
    values = values.to(device)
    return PackedBlocks(
        shape=shape.to(device),
        color=values[..., 0:3],
        center=values[..., 3:6],
        half=values[..., 6],
        yaw=values[..., 7],
        shiny=values[..., 8],
    )


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
        ValueError: if the numbers of scenes and cameras differ.
    """
    if len(scenes) != len(cameras):
        raise ValueError(f"expected one camera per scene, got {len(scenes)} scenes and {len(cameras)} cameras")
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
    blocks = pack_blocks([scene.blocks for scene in scenes], device)
    reflected = pack_blocks([s.blocks if s.reflected is None else s.reflected for s in scenes], device)
    light = torch.tensor([s.light_azimuth for s in scenes], device=device)
    ground = torch.tensor([s.ground for s in scenes], device=device)
    mirrors = [scene.mirror for scene in scenes]

    def look(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        origin, direction = _camera_rays(pose, focal, rows, columns, height)
        distance, index = _trace(blocks, origin, direction)
        rgb = _shade(blocks, origin, direction, distance, index, light, ground)
        reflection = torch.full_like(index, SKY)
        if any(mirrors):
            _add_mirrors(mirrors, reflected, origin, direction, distance, index, reflection, rgb, light, ground)
        return origin, direction, distance, index, torch.cat([rgb, reflection[..., None].float()], -1)

    *_, fine = look(height * samples, width * samples)
    rgb = fine[..., :3].view(-1, height, samples, width, samples, 3).mean((2, 4))
    origin, direction, distance, index, coarse = look(height, width)
    forward = -pose[:, None, :3, 2]
    depth = torch.where(index == SKY, torch.inf, distance * (direction * forward).sum(-1))
    points = origin + distance[..., None] * direction
    shape = (-1, height, width)
    return Rendering(
        rgb=_to_display(rgb).permute(0, 3, 1, 2).contiguous(),
        index=index.view(shape),
        reflection=coarse[..., 3].long().view(shape),
        depth=depth.view(shape),
        points=points.view(*shape, 3),
    )


def _to_display(linear: Tensor) -> Tensor:
    return linear.clamp(0, 1) ** (1 / 1.6)


def _camera_rays(pose: Tensor, focal: Tensor, rows: int, columns: int, height: int) -> tuple[Tensor, Tensor]:
    """Origins (batch 1 3) and unit directions (batch ray 3) through the centres of rows x columns cells."""
    scale = height / rows
    v = (torch.arange(rows, device=pose.device) + 0.5 - rows / 2) * scale
    u = (torch.arange(columns, device=pose.device) + 0.5 - columns / 2) * scale
    vv, uu = torch.meshgrid(v, u, indexing="ij")
    local = torch.stack([uu, -vv, torch.zeros_like(uu)], -1).view(1, -1, 3) / focal[:, None, None]
    local = local + torch.tensor([0.0, 0.0, -1.0], device=pose.device)
    direction = torch.nn.functional.normalize(local @ pose[:, :3, :3].mT, dim=-1)
    return pose[:, None, :3, 3], direction


def _trace(blocks: PackedBlocks, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to, and index of, what each ray hits first."""
    batch, rays = direction.shape[:2]
    count = blocks.shape.shape[1]
    distances = direction.new_full((batch, count + 1, rays), _FAR)
    for kind, intersect in enumerate((_hit_sphere, _hit_cube, _hit_cylinder)):
        which, block = (blocks.shape == kind).nonzero(as_tuple=True)
        if not len(which):
            continue
        turn = _rotation(-blocks.yaw[which, block])
        local_origin = (origin[which] - blocks.center[which, block][:, None]) @ turn.mT
        local_direction = direction[which] @ turn.mT
        distances[which, block] = intersect(local_origin, local_direction, blocks.half[which, block][:, None])
    down = -origin[..., 2] / direction[..., 2].clamp(max=-1e-6)
    distances[:, count] = torch.where(direction[..., 2] < -1e-4, down, _FAR).clamp(max=_FAR)
    distance, index = distances.min(1)
    index = torch.where(index == count, GROUND, index)
    index = torch.where(distance >= _FAR, SKY, index)
    return distance, index


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).view(-1, 3, 3)


def _hit_sphere(origin: Tensor, direction: Tensor, half: Tensor) -> Tensor:
    b = (origin * direction).sum(-1)
    c = (origin * origin).sum(-1) - half**2
    root = b * b - c
    near = -b - root.clamp(min=0).sqrt()
    return torch.where((root > 0) & (near > 1e-4), near, _FAR)


def _hit_cube(origin: Tensor, direction: Tensor, half: Tensor) -> Tensor:
    inverse = 1 / torch.where(direction.abs() < 1e-8, 1e-8, direction)
    one, two = (-half[..., None] - origin) * inverse, (half[..., None] - origin) * inverse
    near = torch.minimum(one, two).amax(-1)
    far = torch.maximum(one, two).amin(-1)
    return torch.where((near < far) & (near > 1e-4), near, _FAR)


def _hit_cylinder(origin: Tensor, direction: Tensor, half: Tensor) -> Tensor:
    """An upright cylinder: where the ray is inside the infinite tube and inside the slab at once."""
    o, d = origin[..., :2], direction[..., :2]
    a = (d * d).sum(-1).clamp(min=1e-8)
    b = (o * d).sum(-1) / a
    root = b * b - ((o * o).sum(-1) - half**2) / a
    width = root.clamp(min=0).sqrt()
    inverse = 1 / torch.where(direction[..., 2].abs() < 1e-8, 1e-8, direction[..., 2])
    one, two = (-half - origin[..., 2]) * inverse, (half - origin[..., 2]) * inverse
    near = torch.maximum(-b - width, torch.minimum(one, two))
    far = torch.minimum(-b + width, torch.maximum(one, two))
    return torch.where((root > 0) & (near < far) & (near > 1e-4), near, _FAR)


def _normals(blocks: PackedBlocks, points: Tensor, which: Tensor, block: Tensor) -> Tensor:
    """Outward normals at points (hit 3) on block `block` of picture `which`."""
    turn = _rotation(-blocks.yaw[which, block])
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


def _add_mirrors(
    mirrors: Sequence[Mirror | None],
    reflected: PackedBlocks,
    origin: Tensor,
    direction: Tensor,
    distance: Tensor,
    index: Tensor,
    reflection: Tensor,
    rgb: Tensor,
    light: Tensor,
    ground: Tensor,
) -> None:
    """Replace, in place, what rays see where a mirror is nearest."""
    rows = [i for i, mirror in enumerate(mirrors) if mirror is not None]
    found = [mirror for mirror in mirrors if mirror is not None]
    at = torch.tensor(rows, device=rgb.device)
    center = torch.tensor([[m.x, m.y, 0.5 * m.height] for m in found], device=rgb.device)
    extent = torch.tensor([[0.5 * m.width, 0.5 * m.height] for m in found], device=rgb.device)
    azimuth = torch.tensor([m.azimuth for m in found], device=rgb.device)
    normal = torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)], -1)
    along = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], -1)

    o, d = origin[at], direction[at]
    slope = (d * normal[:, None]).sum(-1)
    t = ((center[:, None] - o) * normal[:, None]).sum(-1) / torch.where(slope.abs() < 1e-6, 1e-6, slope)
    hit = o + t[..., None] * d
    across = ((hit - center[:, None]) * along[:, None]).sum(-1).abs() / extent[:, None, 0]
    upward = (hit[..., 2] - center[:, None, 2]).abs() / extent[:, None, 1]
    seen = (across < 1) & (upward < 1) & (t > 1e-4) & (t < distance[at])

    bounced = d - 2 * slope[..., None] * normal[:, None]
    packed = PackedBlocks(**{name: value[at] for name, value in vars(reflected).items()})
    start = hit + 1e-3 * bounced
    far, what = _trace(packed, start, bounced)
    image = 0.92 * _shade(packed, start, bounced, far, what, light[at], ground[at])
    frame = (across > 0.95) | (upward > 0.93)
    back = slope > 0
    image = torch.where((frame | back)[..., None], rgb.new_tensor([0.30, 0.20, 0.12]), image)

    rgb[at] = torch.where(seen[..., None], image, rgb[at])
    distance[at] = torch.where(seen, t, distance[at])
    index[at] = torch.where(seen, MIRROR, index[at])
    reflection[at] = torch.where(seen & ~frame & ~back, what, SKY)
