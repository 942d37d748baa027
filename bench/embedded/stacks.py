"""Views in which something small stands on a block: what "a cube with a red sphere on top" looks like.

Scenes are drawn with everything on the ground, and only edits put blocks on others. A model that draws from captions
has to have seen the result, so some of the views are rendered a second time with a guest.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int8, UInt8
from torch import Tensor

from ..blocks.render import render
from ..blocks.scene import COLORS, SHAPES, Block, Color, OrbitCamera, Scene
from .views import Views

_GROUP = 50


def stack_scenes(views: Views, *, seed: int) -> list[tuple[Scene, OrbitCamera]]:
    """The scenes of the views, each with a small block on one of its visible cubes or cylinders, and their cameras.

    Views that show neither are left out.

    Args:
        views: where to put guests.
        seed: decides on which block, and what stands there.
    """
    drawn = [_put_guest(views, row, np.random.default_rng([seed, row])) for row in range(len(views.scenes))]
    return [(scene, camera) for scene, camera in zip(drawn, views.cameras, strict=True) if scene is not None]


def render_scenes(drawn: Sequence[tuple[Scene, OrbitCamera]], *, size: int, device: torch.device | str) -> Views:
    """Square pictures of given scenes, from given cameras.

    Args:
        drawn: what to render.
        size: pixels.
        device: where to render.
    """
    pictures: list[Tensor] = [torch.zeros(0, 3, size, size, dtype=torch.uint8)]
    index: list[Tensor] = [torch.zeros(0, size, size, dtype=torch.int8)]
    for at in range(0, len(drawn), _GROUP):
        scenes, cameras = zip(*drawn[at : at + _GROUP], strict=True)
        rendering = render(scenes, cameras, height=size, device=device)
        pictures.append((rendering.rgb * 255).round().to(torch.uint8).cpu())
        index.append(rendering.index.clamp(min=-1).to(torch.int8).cpu())
    return view_scenes(torch.cat(pictures), torch.cat(index), drawn)


def view_scenes(
    pictures: UInt8[Tensor, "view 3 height width"],
    index: Int8[Tensor, "view height width"],
    drawn: Sequence[tuple[Scene, OrbitCamera]],
) -> Views:
    """Pictures that are rendered already, with their scenes and cameras."""
    return Views(
        pictures=pictures,
        index=index,
        scenes=tuple(scene for scene, _ in drawn),
        cameras=tuple(camera for _, camera in drawn),
    )


def join_views(parts: Sequence[Views]) -> Views:
    """All views of several sets, in order."""
    return Views(
        pictures=torch.cat([part.pictures for part in parts]),
        index=torch.cat([part.index for part in parts]),
        scenes=tuple(scene for part in parts for scene in part.scenes),
        cameras=tuple(camera for part in parts for camera in part.cameras),
    )


def take_views(views: Views, start: int, end: int) -> Views:
    """Some of the views."""
    return Views(
        pictures=views.pictures[start:end],
        index=views.index[start:end],
        scenes=views.scenes[start:end],
        cameras=views.cameras[start:end],
    )


def _put_guest(views: Views, row: int, rng: np.random.Generator) -> Scene | None:
    scene = views.scenes[row]
    hosts = [i for i in views.visible(row) if scene.blocks[i].shape != "sphere"]
    if not hosts:
        return None
    host = scene.blocks[hosts[int(rng.integers(len(hosts)))]]
    colors: list[Color] = [color for color in COLORS if color != host.color]
    guest = Block(
        shape=SHAPES[int(rng.integers(len(SHAPES)))],
        color=colors[int(rng.integers(len(colors)))],
        size="small",
        x=host.x,
        y=host.y,
        z=host.z + 2 * host.half,
        yaw=host.yaw,
    )
    return replace(scene, blocks=(*scene.blocks, guest))
