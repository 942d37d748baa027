"""Single pictures of the blocks world with what is seen in them, for networks that look at scenes but edit nothing.

Rendered once, shard by shard, into a cache folder, and skipped where they are already there; training may begin while
later shards are still missing. Only pixels are stored: the scenes are drawn anew from their seeds.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int8, UInt8
from safetensors import safe_open
from torch import Tensor

from ...editors import SessionError, write_tensors
from ..blocks.pairs import horizontal_position
from ..blocks.render import render
from ..blocks.scene import OrbitCamera, Scene, Split, sample_camera, sample_scene, split_seed
from . import DISK_HINT

SMALLEST_SHARE = 0.008
"""Least share of the picture a block must fill to be named, as in `make_pairs`."""
_FIRST_SCENE = 50_000_000
"""Far from the scenes of the training pairs, which count from 0."""
_EMPTY_SHARE = 0.03
_GROUP = 50


@dataclass(frozen=True, kw_only=True)
class ViewsRecipe:
    """How many pictures, and of what kind of scenes."""

    shards: int = 20
    views_per_shard: int = 1000
    image_size: int = 64
    """Pixels."""
    twins_share: float = 0.35
    """Share of scenes with blocks of the same colour and shape, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.twins_share <= 1:
            raise ValueError(f"twins_share must be in [0, 1], got {self.twins_share:g}")
        for name in ("shards", "views_per_shard", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Views:
    """Pictures in memory, with the scenes they show."""

    pictures: UInt8[Tensor, "view 3 height width"]
    index: Int8[Tensor, "view height width"]
    """Which block of its scene the centre of each pixel sees, -1 = none."""
    scenes: tuple[Scene, ...]
    cameras: tuple[OrbitCamera, ...]

    def across(self, view: int) -> list[float]:
        """Horizontal picture position of each block's centre, as `name_blocks` asks for it."""
        return [horizontal_position(self.cameras[view], b.x, b.y) for b in self.scenes[view].blocks]

    def visible(self, view: int) -> dict[int, float]:
        """Visible pixel count of each block that fills enough of the picture to be named."""
        index = self.index[view]
        counts = torch.bincount(index[index >= 0].int(), minlength=len(self.scenes[view].blocks)).tolist()
        return {i: float(n) for i, n in enumerate(counts) if n >= SMALLEST_SHARE * index.numel()}


def render_views(
    recipe: ViewsRecipe,
    folder: Path,
    report: Callable[[str], None],
    device: torch.device | str,
    *,
    deadline: float = math.inf,
) -> bool:
    """Render the missing shards, none begun after the deadline (of `time.monotonic`); whether all are there now."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(recipe.shards):
        path = _path(folder, shard)
        if path.exists() or time.monotonic() > deadline:
            continue
        views = make_views(recipe, "train", _shard_scenes(recipe, shard), device=device)
        tensors = {"pictures": views.pictures, "index": views.index}
        write_tensors(path, tensors, hint=DISK_HINT, metadata=_fingerprint(recipe))
        report(f"rendered views {shard + 1}/{recipe.shards}")
    return all(_path(folder, shard).exists() for shard in range(recipe.shards))


def load_views(recipe: ViewsRecipe, folder: Path, *, at_least: int | None = None) -> Views:
    """Read the rendered shards.

    Args:
        recipe: what they were rendered by.
        folder: where they are.
        at_least: how many of them suffice, the first ones without a gap; None = all.

    Raises:
        SessionError: if fewer are there, or if they were rendered by another recipe.
    """
    present = 0
    while present < recipe.shards and _path(folder, present).exists():
        present += 1
    needed = recipe.shards if at_least is None else at_least
    if present < needed or not present:
        raise SessionError(
            f"expected at least {max(1, needed)} shards of views in {folder}, got {present}: render them"
        )
    pictures: list[Tensor] = []
    index: list[Tensor] = []
    drawn: list[tuple[Scene, OrbitCamera]] = []
    for shard in range(present):
        with safe_open(_path(folder, shard), framework="pt") as file:
            if file.metadata() != _fingerprint(recipe):
                raise SessionError(
                    f"{_path(folder, shard)} was rendered by another recipe: remove it to render it anew"
                )
            pictures.append(file.get_tensor("pictures"))
            index.append(file.get_tensor("index"))
        drawn += [_draw(recipe, "train", number) for number in _shard_scenes(recipe, shard)]
    return Views(
        pictures=torch.cat(pictures),
        index=torch.cat(index),
        scenes=tuple(scene for scene, _ in drawn),
        cameras=tuple(camera for _, camera in drawn),
    )


def make_views(recipe: ViewsRecipe, split: Split, indices: Sequence[int], *, device: torch.device | str) -> Views:
    """Draw and render views of any split; the same arguments give the same views."""
    drawn = [_draw(recipe, split, number) for number in indices]
    pictures: list[Tensor] = []
    index: list[Tensor] = []
    for at in range(0, len(drawn), _GROUP):
        scenes, cameras = zip(*drawn[at : at + _GROUP], strict=True)
        rendering = render(scenes, cameras, height=recipe.image_size, device=device)
        pictures.append((rendering.rgb * 255).round().to(torch.uint8).cpu())
        index.append(rendering.index.clamp(min=-1).to(torch.int8).cpu())
    return Views(
        pictures=torch.cat(pictures),
        index=torch.cat(index),
        scenes=tuple(scene for scene, _ in drawn),
        cameras=tuple(camera for _, camera in drawn),
    )


def _draw(recipe: ViewsRecipe, split: Split, number: int) -> tuple[Scene, OrbitCamera]:
    rng = np.random.default_rng(split_seed(split, number))
    twins = rng.random() < recipe.twins_share
    empty = not twins and rng.random() < _EMPTY_SHARE
    blocks = (2, 4) if twins else (0, 0) if empty else (1, 4)
    scene = sample_scene(rng, blocks=blocks, twins=twins)
    return scene, sample_camera(rng)


def _shard_scenes(recipe: ViewsRecipe, shard: int) -> range:
    first = _FIRST_SCENE + shard * recipe.views_per_shard
    return range(first, first + recipe.views_per_shard)


def _path(folder: Path, shard: int) -> Path:
    return folder / f"views_{shard:03d}.safetensors"


def _fingerprint(recipe: ViewsRecipe) -> dict[str, str]:
    names = ("views_per_shard", "image_size", "twins_share")
    return {"recipe": json.dumps({name: getattr(recipe, name) for name in names})}
