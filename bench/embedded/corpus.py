"""Stage 2 of the embedded set: the training pairs, rendered once, then encoded once.

Both steps work shard by shard into a cache folder and skip what is already there, so that they may be cut and
resumed. Nothing here is kept in the repository.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from ...editors import write_tensors
from ..blocks.pairs import EditPairs, make_pairs
from . import DISK_HINT
from .vae import blur_some

MOST_INSTRUCTIONS = 2
_GROUP = 50


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """How many pairs, and of what kind."""

    shards: int = 24
    scenes_per_shard: int = 1000
    variants: int = 3
    """Edits of each scene."""
    image_size: int = 64
    """Pixels."""
    blurred_share: float = 0.15
    """Share of scenes blurred as renders of a small radiance field are, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Encoded pairs in memory, with what the losses need."""

    source: Float[Tensor, "scene channels latent_height latent_width"]
    target: Float[Tensor, "pair channels latent_height latent_width"]
    scene: Tensor
    """Row of `source` of each pair."""
    masks: Float[Tensor, "pair instruction latent_height latent_width"]
    """Share of each latent cell covered by the blocks of each instruction; zeros where there is none."""
    changed: Float[Tensor, "pair 1 latent_height latent_width"]
    """Share of each latent cell that truly changes."""
    texts: list[list[tuple[str, str]]]
    """(instruction, keyword) of each pair."""


def render_corpus(
    recipe: CorpusRecipe,
    folder: Path,
    report: Callable[[str], None],
    device: torch.device | str,
    *,
    deadline: float = math.inf,
) -> None:
    """Render the shards that are missing, beginning none after the deadline (of `time.monotonic`)."""
    for shard in range(recipe.shards):
        path = folder / f"pairs_{shard:03d}.safetensors"
        if path.exists() or time.monotonic() > deadline:
            continue
        start, end = shard * recipe.scenes_per_shard, (shard + 1) * recipe.scenes_per_shard
        groups = [
            make_pairs(
                "train",
                range(at, min(at + _GROUP, end)),
                edits=(1, 1, 2),
                variants=recipe.variants,
                height=recipe.image_size,
                device=device,
            )
            for at in range(start, end, _GROUP)
        ]
        texts = [[(e.text, e.keyword) for e in spec.edits] for group in groups for spec in group.specs]
        tensors = {
            "source": torch.cat([_to_bytes(group.source[:: recipe.variants]) for group in groups]),
            "target": torch.cat([_to_bytes(group.target) for group in groups]),
            "masks": torch.cat([_stack_masks(group) for group in groups]),
            "changed": torch.cat([group.changed.cpu() for group in groups]),
        }
        _save(path, tensors, {"texts": json.dumps(texts)})
        report(f"rendered shard {shard + 1}/{recipe.shards}")


def encode_corpus(
    recipe: CorpusRecipe,
    vae: AutoencoderKL,
    folder: Path,
    report: Callable[[str], None],
    device: torch.device | str,
    *,
    deadline: float = math.inf,
) -> bool:
    """Encode the rendered shards that have no latents yet; whether all shards have them now."""
    paths = [folder / f"latents_{shard:03d}.safetensors" for shard in range(recipe.shards)]
    for shard, path in enumerate(paths):
        pairs = folder / f"pairs_{shard:03d}.safetensors"
        if path.exists() or not pairs.exists() or time.monotonic() > deadline:
            continue
        with safe_open(pairs, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        generator = torch.Generator().manual_seed(shard)
        source, target = _from_bytes(stored["source"]), _from_bytes(stored["target"])
        pictures = torch.cat([source[:, None], target.unflatten(0, (len(source), recipe.variants))], 1)
        groups = pictures.split(_GROUP)
        blurred = [blur_scenes(group, recipe.blurred_share, generator) for group in groups]
        latents = torch.cat([_encode(vae, group.flatten(0, 1).to(device)).cpu() for group in blurred])
        latents = latents.unflatten(0, pictures.shape[:2])
        size = (latents.shape[-2], latents.shape[-1])
        tensors = {
            "source": latents[:, 0],
            "target": latents[:, 1:].flatten(0, 1),
            "masks": F.adaptive_avg_pool2d(stored["masks"].float(), size),
            "changed": F.adaptive_avg_pool2d(stored["changed"].float(), size),
        }
        _save(path, tensors, metadata)
        report(f"encoded shard {shard + 1}/{recipe.shards}")
    return all(path.exists() for path in paths)


def load_corpus(recipe: CorpusRecipe, folder: Path, device: torch.device | str) -> Corpus:
    """Read all encoded shards."""
    parts: dict[str, list[Tensor]] = {"source": [], "target": [], "masks": [], "changed": []}
    texts: list[list[tuple[str, str]]] = []
    for shard in range(recipe.shards):
        with safe_open(folder / f"latents_{shard:03d}.safetensors", framework="pt") as file:
            for name, rows in parts.items():
                rows.append(file.get_tensor(name).float().to(device))
            texts += [[(text, keyword) for text, keyword in pair] for pair in json.loads(file.metadata()["texts"])]
    joined = {name: torch.cat(rows) for name, rows in parts.items()}
    scene = torch.arange(len(joined["source"]), device=device).repeat_interleave(recipe.variants)
    return Corpus(**joined, scene=scene, texts=texts)


def blur_scenes(
    pictures: Float[Tensor, "scene picture 3 height width"], share: float, generator: torch.Generator
) -> Float[Tensor, "scene picture 3 height width"]:
    """Blur a source together with all its targets, so that blur is never part of the edit; noise differs.

    Args:
        pictures: the source and the targets of each scene.
        share: share of scenes that are blurred, on average, in [0, 1].
        generator: draws which ones, and how much.
    """
    stacked = pictures.flatten(1, 2)
    channels = stacked.shape[1]
    blurred = blur_some(stacked.reshape(len(stacked), channels, *stacked.shape[-2:]), share, generator)
    return blurred.view_as(pictures)


@torch.no_grad()
def _encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    return vae.encode(pictures * 2 - 1).latent_dist.mean


def _stack_masks(group: EditPairs) -> Tensor:
    height, width = group.source.shape[-2:]
    stacked = torch.zeros(len(group.masks), MOST_INSTRUCTIONS, height, width, dtype=torch.bool)
    for row, masks in enumerate(group.masks):
        stacked[row, : len(masks)] = masks.cpu()
    return stacked


def _to_bytes(pictures: Tensor) -> Tensor:
    return (pictures * 255).round().to(torch.uint8).cpu()


def _from_bytes(pictures: Tensor) -> Tensor:
    return pictures.float() / 255


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    write_tensors(path, tensors, hint=DISK_HINT, metadata=metadata)
