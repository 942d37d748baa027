"""Views in the autoencoder's latents: encoded once, shard by shard, as they are and mirrored.

What is there already is skipped, so that encoding may be cut and resumed, and training may begin with the first shards.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Int8
from safetensors.torch import load_file
from torch import Tensor

from ...editors import write_tensors
from . import DISK_HINT
from .stacks import join_views, render_scenes, stack_scenes, take_views, view_scenes
from .views import Views, ViewsRecipe, load_views

Report = Callable[[str], None]
_GROUP = 50


@dataclass(frozen=True, kw_only=True)
class EncodedViews:
    """Views as the losses need them: each picture and its mirror image in latents, and what is seen in it."""

    latents: Float[Tensor, "view flip channels latent_height latent_width"]
    """As it is, then mirrored."""
    index: Int8[Tensor, "view height width"]
    views: Views


def view_latents(
    vae: AutoencoderKL, views: Views, device: torch.device | str
) -> Float[Tensor, "view 2 channels latent_height latent_width"]:
    """Latents of each picture and of its mirror image."""
    rows: list[Tensor] = []
    for group in views.pictures.split(_GROUP):
        pictures = group.to(device).float() / 255
        both = torch.stack([pictures, pictures.flip(-1)], 1).flatten(0, 1)
        both = both.contiguous(memory_format=torch.channels_last)  # A third faster on a CPU.
        with torch.no_grad():
            latents = vae.encode(both * 2 - 1).latent_dist.mean
        rows.append(latents.unflatten(0, (-1, 2)).cpu())
    return torch.cat(rows)


def encode_views(
    recipe: ViewsRecipe,
    vae: AutoencoderKL,
    folder: Path,
    report: Report,
    device: torch.device | str,
    *,
    stacked_shards: int = 0,
    deadline: float = math.inf,
) -> EncodedViews | None:
    """Encode the rendered shards that have no latents yet, and read all that have.

    Args:
        recipe: what the views were rendered by.
        vae: the set's autoencoder.
        folder: where views and latents live.
        report: receives progress lines.
        device: where to render and encode.
        stacked_shards: how many of the shards are rendered a second time, with something on one of the blocks.
        deadline: time of `time.monotonic` after which no shard is begun.

    Returns:
        The views with latents, those with guests last; None while there is none.
    """
    views = load_views(recipe, folder, at_least=1)
    size = recipe.views_per_shard
    latents: list[Tensor] = []
    shown: list[Views] = []
    jobs = [(shard, False) for shard in range(len(views.scenes) // size)]
    jobs += [(shard, True) for shard, _ in jobs[:stacked_shards]]
    for shard, stacked in jobs:
        path = folder / f"{'stacked' if stacked else 'view'}_latents_{shard:03d}.safetensors"
        part = take_views(views, shard * size, (shard + 1) * size)
        drawn = stack_scenes(part, seed=shard) if stacked else []
        if not path.exists():
            if time.monotonic() > deadline:
                continue
            if stacked:
                part = render_scenes(drawn, size=recipe.image_size, device=device)
            stored = {"pictures": part.pictures, "index": part.index} if stacked else {}
            _save(path, {**stored, "latents": view_latents(vae, part, device)})
            report(f"encoded {'stacked ' if stacked else ''}views {shard + 1}/{recipe.shards}")
        stored = load_file(path)
        latents.append(stored["latents"])
        shown.append(view_scenes(stored["pictures"], stored["index"], drawn) if stacked else part)
    if not latents:
        return None
    joined = join_views(shown)
    return EncodedViews(latents=torch.cat(latents).to(device), index=joined.index.to(device), views=joined)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    write_tensors(path, tensors, hint=DISK_HINT)
