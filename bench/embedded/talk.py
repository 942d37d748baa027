"""Pictures of the blocks world to be asked about: the segmenter's views, and as many more with a mirror.

Rendered shard by shard into a cache folder and skipped where they are already there; the scenes are drawn anew from
their seeds.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int8, UInt8
from safetensors import safe_open
from torch import Tensor

from ...editors import SessionError, write_tensors
from ..blocks import OrbitCamera, Scene, Seen, Split, look_at, render, sample_camera, sample_scene, split_seed
from . import DISK_HINT
from .views import Views, ViewsRecipe, load_views, render_views

_FIRST_MIRROR = 60_000_000
"""Far from the scenes of the training pairs, which count from 0, and from those of the views."""
_GROUP = 50


@dataclass(frozen=True, kw_only=True)
class TalkRecipe:
    """How many pictures are asked about."""

    views: ViewsRecipe = field(default_factory=ViewsRecipe)
    """Those without a mirror, which the segmenter looks at, too."""
    mirror_shards: int = 3
    """Shards of as many pictures each, all with a mirror."""

    def __post_init__(self) -> None:
        if self.mirror_shards < 1:
            raise ValueError(f"mirror_shards must be at least 1, got {self.mirror_shards}")


@dataclass(frozen=True, kw_only=True)
class Album:
    """Pictures in memory, with what they show."""

    pictures: UInt8[Tensor, "picture 3 height width"]
    index: Int8[Tensor, "picture height width"]
    """Which block of its scene the centre of each pixel sees, -1 = none."""
    reflection: Int8[Tensor, "picture height width"]
    """The same in the mirror."""
    scenes: tuple[tuple[Scene, OrbitCamera], ...]
    _seen: dict[int, Seen] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def seen(self, picture: int) -> Seen:
        """What a picture shows, found when first asked for."""
        if picture not in self._seen:
            scene, camera = self.scenes[picture]
            self._seen[picture] = look_at(scene, camera, self.index[picture], self.reflection[picture])
        return self._seen[picture]


def render_album(
    recipe: TalkRecipe,
    folder: Path,
    report: Callable[[str], None],
    device: torch.device | str,
    *,
    deadline: float = math.inf,
) -> bool:
    """Render the missing shards, none begun after the deadline (of `time.monotonic`); whether all are there now."""
    all_views = render_views(recipe.views, folder, report, device, deadline=deadline)
    for shard in range(recipe.mirror_shards):
        path = _path(folder, shard)
        if path.exists() or time.monotonic() > deadline:
            continue
        album = make_mirrors(recipe, "train", _shard_scenes(recipe, shard), device=device)
        tensors = {name: getattr(album, name) for name in ("pictures", "index", "reflection")}
        write_tensors(path, tensors, hint=DISK_HINT, metadata=_fingerprint(recipe))
        report(f"rendered mirrors {shard + 1}/{recipe.mirror_shards}")
    return all_views and all(_path(folder, shard).exists() for shard in range(recipe.mirror_shards))


def load_album(recipe: TalkRecipe, folder: Path) -> Album:
    """Read the rendered pictures.

    Raises:
        SessionError: if some are missing, or were rendered by another recipe.
    """
    albums = [album_of(load_views(recipe.views, folder))]
    for shard in range(recipe.mirror_shards):
        path = _path(folder, shard)
        if not path.exists():
            raise SessionError(
                f"expected {recipe.mirror_shards} shards of mirrors in {folder}, got {shard}: render them"
            )
        with safe_open(path, framework="pt") as file:
            if file.metadata() != _fingerprint(recipe):
                raise SessionError(f"{path} was rendered by another recipe: remove it to render it anew")
            scenes = tuple(_draw("train", number) for number in _shard_scenes(recipe, shard))
            albums.append(
                Album(
                    pictures=file.get_tensor("pictures"),
                    index=file.get_tensor("index"),
                    reflection=file.get_tensor("reflection"),
                    scenes=scenes,
                )
            )
    return join_albums(albums)


def make_mirrors(recipe: TalkRecipe, split: Split, indices: Sequence[int], *, device: torch.device | str) -> Album:
    """Draw and render pictures with a mirror of any split; the same arguments give the same pictures."""
    drawn = tuple(_draw(split, number) for number in indices)
    albums: list[Album] = []
    for at in range(0, len(drawn), _GROUP):
        group = drawn[at : at + _GROUP]
        rendering = render([s for s, _ in group], [c for _, c in group], height=recipe.views.image_size, device=device)
        albums.append(
            Album(
                pictures=(rendering.rgb * 255).round().to(torch.uint8).cpu(),
                index=rendering.index.clamp(min=-1).to(torch.int8).cpu(),
                reflection=rendering.reflection.clamp(min=-1).to(torch.int8).cpu(),
                scenes=group,
            )
        )
    return join_albums(albums)


def album_of(views: Views) -> Album:
    """Pictures without a mirror."""
    return Album(
        pictures=views.pictures,
        index=views.index,
        reflection=torch.full_like(views.index, -1),
        scenes=tuple(zip(views.scenes, views.cameras, strict=True)),
    )


def join_albums(albums: Sequence[Album]) -> Album:
    """All pictures of some albums, one after another."""
    return Album(
        pictures=torch.cat([album.pictures for album in albums]),
        index=torch.cat([album.index for album in albums]),
        reflection=torch.cat([album.reflection for album in albums]),
        scenes=tuple(scene for album in albums for scene in album.scenes),
    )


def _draw(split: Split, number: int) -> tuple[Scene, OrbitCamera]:
    rng = np.random.default_rng(split_seed(split, number))
    scene = sample_scene(rng, mirror=True)
    return scene, sample_camera(rng, scene.mirror)


def _shard_scenes(recipe: TalkRecipe, shard: int) -> range:
    first = _FIRST_MIRROR + shard * recipe.views.views_per_shard
    return range(first, first + recipe.views.views_per_shard)


def _path(folder: Path, shard: int) -> Path:
    return folder / f"mirrors_{shard:03d}.safetensors"


def _fingerprint(recipe: TalkRecipe) -> dict[str, str]:
    return {"recipe": json.dumps([recipe.views.views_per_shard, recipe.views.image_size])}
