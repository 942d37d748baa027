"""What rays meet in a blocks scene, without light.

Rays of all scenes and all objects of one shape are intersected together; there is no loop over pixels, scenes or
objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .scene import COLORS, SHAPES, Block, Mirror, Scene

SKY, GROUND, MIRROR = -3, -2, -1
"""What a ray meets where it meets no block."""
FAR = 1e4
"""Distance at which the sky begins, world units."""


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


@dataclass(frozen=True, kw_only=True)
class PackedScenes:
    """Several scenes as padded tensors."""

    blocks: PackedBlocks
    reflected: PackedBlocks
    """What the mirrors show."""
    mirrors: tuple[Mirror | None, ...]
    light_azimuth: Float[Tensor, " batch"]
    ground: Float[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class MirrorView:
    """The rays of the scenes with a mirror, and what they meet in it."""

    rows: Int[Tensor, " mirror"]
    """The scenes that have one."""
    seen: Bool[Tensor, "mirror ray"]
    """The mirror is what the ray meets first, frame and back included."""
    glass: Bool[Tensor, "mirror ray"]
    """The same, without frame and back."""
    distance: Float[Tensor, "mirror ray"]
    """To the plane of the mirror."""
    origin: Float[Tensor, "mirror ray 3"]
    """Where the reflected ray starts."""
    direction: Float[Tensor, "mirror ray 3"]
    """Of the reflected ray."""
    beyond: Float[Tensor, "mirror ray"]
    """Length of the reflected ray."""
    index: Int[Tensor, "mirror ray"]
    """What the reflected ray meets."""
    reflected: PackedBlocks


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What each ray meets. `index` holds the number of the block, or SKY, GROUND, MIRROR."""

    distance: Float[Tensor, "batch ray"]
    """To what is met first."""
    index: Int[Tensor, "batch ray"]
    reflection: Int[Tensor, "batch ray"]
    """What is met by way of a mirror, SKY where the ray meets no mirror."""
    reach: Float[Tensor, "batch ray"]
    """Length of the whole way to what is seen: `distance`, and the reflected part of the way where there is one."""
    mirrors: MirrorView | None
    """None where no scene has a mirror."""


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


def pack_scenes(scenes: Sequence[Scene], device: torch.device | str = "cpu") -> PackedScenes:
    """Stack several scenes."""
    return PackedScenes(
        blocks=pack_blocks([scene.blocks for scene in scenes], device),
        reflected=pack_blocks([s.blocks if s.reflected is None else s.reflected for s in scenes], device),
        mirrors=tuple(scene.mirror for scene in scenes),
        light_azimuth=torch.tensor([s.light_azimuth for s in scenes], device=device),
        ground=torch.tensor([s.ground for s in scenes], device=device),
    )


def trace_scenes(
    scenes: PackedScenes, origin: Float[Tensor, "#batch #ray 3"], direction: Float[Tensor, "batch ray 3"]
) -> Sight:
    """Follow rays into scenes, through one mirror at most.

    Args:
        scenes: one scene a row.
        origin: where the rays start, world units.
        direction: unit vectors.
    """
    distance, index = trace_blocks(scenes.blocks, origin, direction)
    reflection, reach = torch.full_like(index, SKY), distance
    view = _trace_mirrors(scenes, origin, direction, distance) if any(scenes.mirrors) else None
    if view is not None:
        rows = view.rows
        reach = distance.clone()
        reach[rows] = torch.where(view.seen, view.distance, reach[rows])
        reach[rows] = torch.where(view.glass, view.distance + view.beyond, reach[rows])
        distance[rows] = torch.where(view.seen, view.distance, distance[rows])
        index[rows] = torch.where(view.seen, MIRROR, index[rows])
        reflection[rows] = torch.where(view.glass, view.index, SKY)
    return Sight(distance=distance, index=index, reflection=reflection, reach=reach, mirrors=view)


def _trace_mirrors(scenes: PackedScenes, origin: Tensor, direction: Tensor, distance: Tensor) -> MirrorView:
    """Where a mirror is nearer than `distance`, and what is seen in it."""
    device = direction.device
    found = [mirror for mirror in scenes.mirrors if mirror is not None]
    rows = torch.tensor([i for i, mirror in enumerate(scenes.mirrors) if mirror is not None], device=device)
    center, normal = mirror_planes(found, device)
    along = torch.stack([-normal[:, 1], normal[:, 0], torch.zeros_like(normal[:, 0])], -1)
    extent = torch.tensor([[0.5 * m.width, 0.5 * m.height] for m in found], device=device)

    o, d = origin.expand_as(direction)[rows], direction[rows]
    slope = (d * normal[:, None]).sum(-1)
    t = ((center[:, None] - o) * normal[:, None]).sum(-1) / torch.where(slope.abs() < 1e-6, 1e-6, slope)
    hit = o + t[..., None] * d
    across = ((hit - center[:, None]) * along[:, None]).sum(-1).abs() / extent[:, None, 0]
    upward = (hit[..., 2] - center[:, None, 2]).abs() / extent[:, None, 1]
    seen = (across < 1) & (upward < 1) & (t > 1e-4) & (t < distance[rows])
    frame = (across > 0.95) | (upward > 0.93)
    back = slope > 0

    bounced = d - 2 * slope[..., None] * normal[:, None]
    reflected = PackedBlocks(**{name: value[rows] for name, value in vars(scenes.reflected).items()})
    start = hit + 1e-3 * bounced
    beyond, index = trace_blocks(reflected, start, bounced)
    return MirrorView(
        rows=rows,
        seen=seen,
        glass=seen & ~frame & ~back,
        distance=t,
        origin=start,
        direction=bounced,
        beyond=beyond,
        index=index,
        reflected=reflected,
    )


def mirror_planes(
    mirrors: Sequence[Mirror], device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "mirror 3"], Float[Tensor, "mirror 3"]]:
    """Centres of mirrors and the unit normals of their faces."""
    center = torch.tensor([[m.x, m.y, 0.5 * m.height] for m in mirrors], device=device)
    azimuth = torch.tensor([m.azimuth for m in mirrors], device=device)
    return center, torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)], -1)


def trace_blocks(
    blocks: PackedBlocks, origin: Float[Tensor, "#batch #ray 3"], direction: Float[Tensor, "batch ray 3"]
) -> tuple[Float[Tensor, "batch ray"], Int[Tensor, "batch ray"]]:
    """Distance to, and index of, what each ray hits first; mirrors are not looked for."""
    batch, rays = direction.shape[:2]
    count = blocks.shape.shape[1]
    distances = direction.new_full((batch, count + 1, rays), FAR)
    for kind, intersect in enumerate((_hit_sphere, _hit_cube, _hit_cylinder)):
        which, block = (blocks.shape == kind).nonzero(as_tuple=True)
        if not len(which):
            continue
        turn = rotation(-blocks.yaw[which, block])
        local_origin = (origin[which] - blocks.center[which, block][:, None]) @ turn.mT
        local_direction = direction[which] @ turn.mT
        distances[which, block] = intersect(local_origin, local_direction, blocks.half[which, block][:, None])
    down = -origin[..., 2] / direction[..., 2].clamp(max=-1e-6)
    distances[:, count] = torch.where(direction[..., 2] < -1e-4, down, FAR).clamp(max=FAR)
    distance, index = distances.min(1)
    index = torch.where(index == count, GROUND, index)
    index = torch.where(distance >= FAR, SKY, index)
    return distance, index


def rotation(angle: Float[Tensor, " turn"]) -> Float[Tensor, "turn 3 3"]:
    """Rotation matrices about the vertical axis."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).view(-1, 3, 3)


def _hit_sphere(origin: Tensor, direction: Tensor, half: Tensor) -> Tensor:
    b = (origin * direction).sum(-1)
    c = (origin * origin).sum(-1) - half**2
    root = b * b - c
    near = -b - root.clamp(min=0).sqrt()
    return torch.where((root > 0) & (near > 1e-4), near, FAR)


def _hit_cube(origin: Tensor, direction: Tensor, half: Tensor) -> Tensor:
    inverse = 1 / torch.where(direction.abs() < 1e-8, 1e-8, direction)
    one, two = (-half[..., None] - origin) * inverse, (half[..., None] - origin) * inverse
    near = torch.minimum(one, two).amax(-1)
    far = torch.maximum(one, two).amin(-1)
    return torch.where((near < far) & (near > 1e-4), near, FAR)


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
    return torch.where((root > 0) & (near < far) & (near > 1e-4), near, FAR)
