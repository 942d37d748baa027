"""What the embedded CLIP learns from: scenes in several states, one unedited and the others edited, with their words.

Pictures that differ in one block are what tells a caption of one from that of another. They are rendered shard by
shard into a cache folder; the scenes are drawn anew from their seeds, as in `views.py`.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int8, UInt8
from safetensors import safe_open
from torch import Tensor

from ...editors import SessionError, write_tensors
from ..blocks.instructions import DEFAULT_KINDS, DEFAULT_REFERENCES, apply_edits, draw_edits
from ..blocks.pairs import horizontal_position
from ..blocks.render import render
from ..blocks.scene import (
    COLORS,
    MATERIALS,
    SHAPES,
    SIZES,
    OrbitCamera,
    Scene,
    Split,
    sample_camera,
    sample_scene,
    split_seed,
)
from . import DISK_HINT
from .captions import Caption
from .views import Views

WORDS: tuple[str, ...] = (*COLORS, *SHAPES, *SIZES, *MATERIALS)
"""What a word of a caption can say about a block by itself."""
_SAME_WORDS = {"smaller": "small", "larger": "large", "bigger": "large"}
_FIRST_SCENE = 60_000_000
"""Far from the scenes of the training pairs and of the views."""
_GROUP = 25
_MOST_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True)
class StatesRecipe:
    """How many scenes, and in how many states."""

    shards: int = 6
    scenes_per_shard: int = 400
    edits: int = 3
    """Edited states of each scene, beside the unedited one."""
    image_size: int = 64
    """Pixels."""

    def __post_init__(self) -> None:
        for name in ("shards", "scenes_per_shard", "edits", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class States:
    """Scenes in memory, state by state: the unedited one of a scene first, then the edited ones."""

    views: Views
    each: int
    """States of a scene."""
    instructions: tuple[tuple[str, ...], ...]
    """For each scene, what leads to each of its edited states."""

    def __len__(self) -> int:
        return len(self.instructions)


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    scenes: tuple[Scene, ...]
    camera: OrbitCamera
    instructions: tuple[str, ...]


def render_states(
    recipe: StatesRecipe,
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
        states = make_states(recipe, "train", _shard_scenes(recipe, shard), device=device)
        tensors = {"pictures": states.views.pictures, "index": states.views.index}
        write_tensors(path, tensors, hint=DISK_HINT, metadata=_fingerprint(recipe))
        report(f"rendered states {shard + 1}/{recipe.shards}")
    return all(_path(folder, shard).exists() for shard in range(recipe.shards))


def load_states(recipe: StatesRecipe, folder: Path) -> States:
    """Read the rendered shards.

    Raises:
        SessionError: if some are missing, or were rendered by another recipe.
    """
    pictures: list[Tensor] = []
    index: list[Tensor] = []
    drawn: list[_Drawn] = []
    for shard in range(recipe.shards):
        path = _path(folder, shard)
        if not path.exists():
            raise SessionError(f"expected {recipe.shards} shards of states in {folder}, found no {path.name}")
        with safe_open(path, framework="pt") as file:
            if file.metadata() != _fingerprint(recipe):
                raise SessionError(f"{path} was rendered by another recipe: remove it to render it anew")
            pictures.append(file.get_tensor("pictures"))
            index.append(file.get_tensor("index"))
        drawn += [_draw(recipe, "train", number) for number in _shard_scenes(recipe, shard)]
    return _states(torch.cat(pictures), torch.cat(index), drawn)


def make_states(recipe: StatesRecipe, split: Split, indices: Sequence[int], *, device: torch.device | str) -> States:
    """Draw and render scenes of any split; the same arguments give the same states."""
    drawn = [_draw(recipe, split, number) for number in indices]
    pictures: list[Tensor] = []
    index: list[Tensor] = []
    for at in range(0, len(drawn), _GROUP):
        group = drawn[at : at + _GROUP]
        scenes = [scene for each in group for scene in each.scenes]
        cameras = [each.camera for each in group for _ in each.scenes]
        rendering = render(scenes, cameras, height=recipe.image_size, device=device)
        pictures.append((rendering.rgb * 255).round().to(torch.uint8).cpu())
        index.append(rendering.index.clamp(min=-1).to(torch.int8).cpu())
    return _states(torch.cat(pictures), torch.cat(index), drawn)


def caption_needs(captions: Sequence[Caption], *, blocks: int) -> Bool[Tensor, "captions blocks words"]:
    """For each caption the words that each of its phrases asks one block to be; no words where phrases are fewer.

    Args:
        captions: what is said.
        blocks: room for so many phrases of one caption.
    """
    needs = torch.zeros(len(captions), blocks, len(WORDS), dtype=torch.bool)
    for row, caption in enumerate(captions):
        for place, phrase in enumerate(caption.phrases[:blocks]):
            for at in phrase.words:
                word = caption.words[at]
                for form in (_SAME_WORDS.get(word, word), word.removesuffix("s")):
                    if form in WORDS:
                        needs[row, place, WORDS.index(form)] = True
    return needs


def block_words(scenes: Sequence[Scene], *, blocks: int) -> Bool[Tensor, "scenes blocks words"]:
    """For each scene what can be said about each of its blocks; nothing where blocks are fewer."""
    table = torch.zeros(len(scenes), blocks, len(WORDS), dtype=torch.bool)
    for row, scene in enumerate(scenes):
        for place, block in enumerate(scene.blocks[:blocks]):
            for word in (block.color, block.shape, block.size, block.material):
                table[row, place, WORDS.index(word)] = True
    return table


def is_true_of(
    needs: Bool[Tensor, "captions phrases words"], scenes: Bool[Tensor, "scenes blocks words"]
) -> Bool[Tensor, "scenes captions"]:
    """Whether each phrase of a caption fits some block of a scene; sides and comparisons count as fitting."""
    lacks = torch.einsum("cpw,sbw->scpb", needs.float(), (~scenes).float())
    return (lacks == 0).any(3).all(2)


def _states(
    pictures: UInt8[Tensor, "state 3 height width"],
    index: Int8[Tensor, "state height width"],
    drawn: Sequence[_Drawn],
) -> States:
    views = Views(
        pictures=pictures,
        index=index,
        scenes=tuple(scene for each in drawn for scene in each.scenes),
        cameras=tuple(each.camera for each in drawn for _ in each.scenes),
    )
    return States(views=views, each=len(drawn[0].scenes), instructions=tuple(each.instructions for each in drawn))


def _draw(recipe: StatesRecipe, split: Split, number: int) -> _Drawn:
    """A scene and its edits, hidden blocks included; a scene that offers too few is drawn anew."""
    for attempt in range(_MOST_ATTEMPTS):
        rng = np.random.default_rng([split_seed(split, _FIRST_SCENE + number), attempt])
        scene, camera = sample_scene(rng, blocks=(1, 4)), sample_camera(rng)
        across = [horizontal_position(camera, block.x, block.y) for block in scene.blocks]
        states: dict[Scene, str] = {}
        for _ in range(4 * recipe.edits):
            edits = draw_edits(
                rng,
                scene,
                visible=dict.fromkeys(range(len(scene.blocks)), 1.0),
                across=across,
                kinds={**DEFAULT_KINDS, "material": 0.05},
                references=DEFAULT_REFERENCES,
            )
            if edits:
                states.setdefault(apply_edits(scene, edits)[0], edits[0].text)
            if len(states) == recipe.edits:
                return _Drawn(scenes=(scene, *states), camera=camera, instructions=tuple(states.values()))
    raise SessionError(f"{_MOST_ATTEMPTS} scenes in a row did not offer {recipe.edits} edits: ask for fewer")


def _shard_scenes(recipe: StatesRecipe, shard: int) -> range:
    return range(shard * recipe.scenes_per_shard, (shard + 1) * recipe.scenes_per_shard)


def _path(folder: Path, shard: int) -> Path:
    return folder / f"states_{shard:03d}.safetensors"


def _fingerprint(recipe: StatesRecipe) -> dict[str, str]:
    names = ("scenes_per_shard", "edits", "image_size")
    return {"recipe": json.dumps({name: getattr(recipe, name) for name in names})}
