"""Edits of the blocks world that words describe badly, each given exactly: what InstructBrush learns from pairs.

Global edits change the whole picture, local ones the blocks of one shape. The renderer or a function of the pixels, or
one after the other, makes the truth; nothing of it is drawn at random, so that it can be told from the pictures. Every
scene of a local edit also has blocks that stay as they are, apart from what the light of the sun does to them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ..editors import InputError
from .blocks import (
    Color,
    OrbitCamera,
    Rendering,
    Scene,
    Shape,
    Split,
    render,
    sample_camera,
    sample_scene,
    split_seed,
)
from .blocks.scene import Block

Scope: TypeAlias = Literal["global", "local"]
Pixels: TypeAlias = Float[Tensor, "batch 3 height width"]
Region: TypeAlias = Bool[Tensor, "batch 1 height width"]

SHRUNK = 0.6
"""Factor on the size of what the edit `shrink` makes smaller."""
_OWN_SHARE, _OTHER_SHARE = 0.02, 0.008
"""Least shares of the picture: of what an edit is about, and of a block that it leaves alone."""
_STRIPE = 0.36
"""Height of a stripe in world units."""
_GLOW = 0.5
"""Height in world units over which a light from below fades."""
_DUSK = 0.5
"""Brightness of the floor at dusk, as a share of that by day."""
_BAND_MIDDLE, _BAND_REACH = 0.62, 0.35
"""Where a picture is sharp, and how far from there it is wholly blurred, as shares of its height."""
_LUMINANCE = (0.299, 0.587, 0.114)
_RAINBOW: tuple[Color, ...] = ("red", "yellow", "green", "cyan", "blue", "purple", "red")
_NEXT: dict[Color, Color] = {**dict(pairwise(_RAINBOW)), "white": "black", "black": "white"}
_MOST_ATTEMPTS = 200


def _keep_scene(scene: Scene, camera: OrbitCamera) -> Scene:
    return scene


def _keep_pixels(image: Pixels, rendering: Rendering, region: Region) -> Pixels:
    return image


@dataclass(frozen=True, kw_only=True)
class BrushEdit:
    """One edit that is the same in every picture."""

    name: str
    scope: Scope
    instruction: str
    """The best words a person would use."""
    shape: Shape | None = None
    """The blocks it is about; None = the whole picture."""
    scene: Callable[[Scene, OrbitCamera], Scene] = _keep_scene
    """What the renderer does otherwise."""
    paint: Callable[[Pixels, Rendering, Region], Pixels] = _keep_pixels
    """What then happens to the pixels; the region is what shows blocks of its shape."""


@dataclass(frozen=True, kw_only=True)
class RenderedPairs:
    """Pairs of an edit with their truth."""

    before: Pixels
    after: Pixels
    region: Region
    """Silhouettes of the blocks it is about, before and after; everything for a global edit."""
    captions: tuple[str, ...]
    """What the pictures after the edit hold, as far as words say it."""


def render_edit(edit: BrushEdit, split: Split, count: int, *, height: int = 64) -> RenderedPairs:
    """The first pairs of an edit; more of them begin with the same ones.

    Args:
        edit: which.
        split: which range of scene seeds to draw from.
        count: how many, at least 1.
        height: side of the square pictures in pixels.

    Raises:
        InputError: if there are none to make, or scenes do not offer the edit.
    """
    if count < 1:
        raise InputError(f"expected at least one pair, got {count}")
    scenes, cameras = _draw_scenes(edit, split, count, height)
    edited = [edit.scene(scene, camera) for scene, camera in zip(scenes, cameras, strict=True)]
    before, after = render(scenes, cameras, height=height), render(edited, cameras, height=height)
    region = _region(edit, edited, after)
    return RenderedPairs(
        before=before.rgb,
        after=edit.paint(after.rgb, after, region).clamp(0, 1),
        region=region | _region(edit, scenes, before),
        captions=tuple(scene.caption for scene in edited),
    )


def _draw_scenes(edit: BrushEdit, split: Split, count: int, height: int) -> tuple[list[Scene], list[OrbitCamera]]:
    """Scenes that show what the edit is about and, for a local one, something that it leaves alone."""
    scenes: list[Scene] = []
    cameras: list[OrbitCamera] = []
    most = _MOST_ATTEMPTS + count
    for index in range(most):
        rng = np.random.default_rng(split_seed(split, index))
        scene = sample_scene(rng)
        camera = sample_camera(rng)
        if edit.shape is None or _offers(edit.shape, scene, render([scene], [camera], height=height, samples=1)):
            scenes.append(scene)
            cameras.append(camera)
        if len(scenes) == count:
            return scenes, cameras
    raise InputError(f"{len(scenes)} of {most} scenes offer {edit.name}: ask for fewer pairs than {count}")


def _offers(shape: Shape, scene: Scene, rendering: Rendering) -> bool:
    seen = [float((rendering.index == number).float().mean()) for number in range(len(scene.blocks))]
    own = [share for share, block in zip(seen, scene.blocks, strict=True) if block.shape == shape]
    others = [share for share, block in zip(seen, scene.blocks, strict=True) if block.shape != shape]
    return max(own, default=0.0) >= _OWN_SHARE and max(others, default=0.0) >= _OTHER_SHARE


def _region(edit: BrushEdit, scenes: Sequence[Scene], rendering: Rendering) -> Region:
    if edit.shape is None:
        return torch.ones_like(rendering.index[:, None], dtype=torch.bool)
    rows = [
        torch.isin(index, torch.tensor([i for i, block in enumerate(scene.blocks) if block.shape == edit.shape]))
        for index, scene in zip(rendering.index, scenes, strict=True)
    ]
    return torch.stack(rows)[:, None]


@dataclass(frozen=True, kw_only=True)
class _Shrunk(Block):
    """A block of a size that the blocks world has no name for."""

    @property
    def half(self) -> float:
        return SHRUNK * super().half


def _shrink(scene: Scene, camera: OrbitCamera) -> Scene:
    return _change(scene, "cylinder", lambda block: _Shrunk(**vars(block)))


def _sink(scene: Scene, camera: OrbitCamera) -> Scene:
    """What is left of a ball above the ground is a dome."""
    return _change(scene, "sphere", lambda block: replace(block, z=block.z - block.half))


def _change(scene: Scene, shape: Shape, change: Callable[[Block], Block]) -> Scene:
    return replace(scene, blocks=tuple(change(b) if b.shape == shape else b for b in scene.blocks))


def _swap_palette(scene: Scene, camera: OrbitCamera) -> Scene:
    """Every colour gives way to the next one of the rainbow, black and white to each other."""
    return replace(scene, blocks=tuple(replace(block, color=_NEXT[block.color]) for block in scene.blocks))


def _set_sun(scene: Scene, camera: OrbitCamera) -> Scene:
    """The sun low behind the blocks: what faces the camera is in the shade, and the floor is dark."""
    return replace(scene, light_azimuth=camera.azimuth + math.pi, ground=_DUSK * scene.ground)


def _fade(image: Pixels, rendering: Rendering, region: Region) -> Pixels:
    """Grey, and black no longer black."""
    grey = (image * image.new_tensor(_LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    return (0.36 + 0.58 * grey).expand_as(image)


def _focus_band(image: Pixels, rendering: Rendering, region: Region) -> Pixels:
    """As a miniature is photographed: sharp in a level band, more and more blurred above and below it."""
    height = image.shape[-2]
    rows = (torch.arange(height, device=image.device)[:, None] + 0.5) / height
    blur = ((rows - _BAND_MIDDLE).abs() / _BAND_REACH).clamp(0, 1)
    sigma = height / 24
    return torch.lerp(image, gaussian_blur(image, [2 * round(2 * sigma) + 1] * 2, [sigma] * 2), blur)


def _stripe(image: Pixels, rendering: Rendering, region: Region) -> Pixels:
    """Level bands of the opposite colour."""
    band = (rendering.points[..., 2] / _STRIPE).floor().remainder(2) == 1
    return torch.where(region & band[:, None], 1 - image, image)


def _light_from_below(image: Pixels, rendering: Rendering, region: Region) -> Pixels:
    """No sun, and a lamp on the ground: each its own colour at its brightest at the foot, and dim at the top."""
    glow = torch.exp(-rendering.points[..., 2].clamp(min=0) / _GLOW)[:, None]
    hue = image / image.amax(1, keepdim=True).clamp(min=0.05)
    lit = hue * (0.15 + 0.85 * glow)
    return torch.where(region, lit, image)


EDITS: dict[str, BrushEdit] = {
    edit.name: edit
    for edit in (
        BrushEdit(name="faded", scope="global", instruction="make it a faded black and white print", paint=_fade),
        BrushEdit(
            name="dusk", scope="global", instruction="make it dusk with the sun behind the blocks", scene=_set_sun
        ),
        BrushEdit(
            name="miniature",
            scope="global",
            instruction="blur all but a band across the middle",
            paint=_focus_band,
        ),
        BrushEdit(
            name="palette",
            scope="global",
            instruction="change every color to the next one of the rainbow",
            scene=_swap_palette,
        ),
        BrushEdit(name="stripes", scope="local", instruction="paint stripes on the cubes", shape="cube", paint=_stripe),
        BrushEdit(
            name="domes",
            scope="local",
            instruction="sink the spheres halfway into the floor",
            shape="sphere",
            scene=_sink,
        ),
        BrushEdit(
            name="shrink", scope="local", instruction="make the cylinders smaller", shape="cylinder", scene=_shrink
        ),
        BrushEdit(
            name="lamp",
            scope="local",
            instruction="light the spheres from below",
            shape="sphere",
            paint=_light_from_below,
        ),
    )
}
"""The edits by name."""
