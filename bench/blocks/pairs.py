"""Image pairs of the blocks world: a picture, an instruction, the truly edited picture and exact masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...editors import InputError
from .instructions import (
    DEFAULT_KINDS,
    DEFAULT_REFERENCES,
    BlockEdit,
    EditKind,
    Reference,
    apply_edits,
    draw_edits,
)
from .render import Rendering, render
from .scene import OrbitCamera, Scene, Split, sample_camera, sample_scene, split_seed

CHANGED_THRESHOLD = 4 / 255
"""A pixel is truly changed where any channel differs by more than this between the source and the truth."""
_MOST_ATTEMPTS = 400
_SMALLEST_TARGET = 0.008
"""Least share of the picture a target must fill to be named."""


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """Everything that defines one pair, without its pixels."""

    scene: Scene
    edited: Scene
    camera: OrbitCamera
    edits: tuple[BlockEdit, ...]
    edited_index: tuple[tuple[int, ...], ...]
    """For each edit, its blocks in the edited scene."""

    @property
    def instruction(self) -> str:
        """All instructions in one sentence."""
        return ", ".join(edit.text for edit in self.edits)


@dataclass(frozen=True, kw_only=True)
class EditPairs:
    """A batch of pairs with their pixels."""

    specs: tuple[PairSpec, ...]
    source: Float[Tensor, "batch 3 height width"]
    target: Float[Tensor, "batch 3 height width"]
    masks: tuple[Bool[Tensor, "_ height width"], ...]
    """For each pair one mask per edit: the silhouettes of its blocks before and after. What a mirror shows of them
    belongs to the mask only where the instruction names the image in the mirror; `changed` has both."""
    changed: Bool[Tensor, "batch 1 height width"]
    """Pixels that truly change, shadows included."""
    source_objects: Bool[Tensor, "batch 1 height width"]
    """Pixels of any block in the source."""
    target_objects: Bool[Tensor, "batch 1 height width"]
    """Pixels of any block in the target."""

    @property
    def mask(self) -> Bool[Tensor, "batch 1 height width"]:
        """Union of each pair's masks."""
        return torch.stack([mask.any(0, keepdim=True) for mask in self.masks])


def make_pairs(
    split: Split,
    indices: Sequence[int],
    *,
    edits: int | tuple[int, ...] = 1,
    variants: int = 1,
    height: int = 64,
    kinds: Mapping[EditKind, float] | None = None,
    references: Mapping[Reference, float] | None = None,
    mirror: bool = False,
    twins: bool = False,
    distractors: float = 0.5,
    samples: int = 2,
    device: torch.device | str = "cpu",
) -> EditPairs:
    """Draw and render pairs; the same arguments give the same pairs.

    Args:
        split: which range of scene seeds to draw from.
        indices: scene numbers within the split.
        edits: instructions per pair, or the numbers to draw from.
        variants: pairs with different edits that share one source picture (which is rendered once).
        height: side of the square pictures in pixels.
        kinds: shares of the kinds of edit.
        references: shares of the reference families.
        mirror: whether a mirror stands in every scene.
        twins: whether blocks of every scene share colour and shape, which the reference family "twin" needs.
        distractors: see `sample_scene`.
        samples: anti-aliasing, rays per pixel along each axis.
        device: where to render.

    Raises:
        InputError: if there are no indices, or if scenes do not offer the edits that were asked for.
    """
    if not len(indices):
        raise InputError("expected at least one scene index, got none")
    if not edits or min((edits,) if isinstance(edits, int) else edits) < 1:
        raise InputError(f"expected at least one edit per pair, got edits={edits}")
    attempts = dict.fromkeys(indices, 0)
    done: dict[int, list[PairSpec]] = {}
    sources: dict[int, Rendering] = {}
    counts = (edits,) if isinstance(edits, int) else edits
    while attempts:
        rngs = {i: np.random.default_rng([split_seed(split, i), attempt]) for i, attempt in attempts.items()}
        blocks = (max(2, *counts), max(4, *counts))
        scenes = [
            sample_scene(rng, blocks=blocks, distractors=distractors, mirror=mirror, twins=twins)
            for rng in rngs.values()
        ]
        cameras = [sample_camera(r, s.mirror) for r, s in zip(rngs.values(), scenes, strict=True)]
        rendering = render(scenes, cameras, height=height, samples=samples, device=device)
        for row, (index, rng) in enumerate(rngs.items()):
            specs = _draw_specs(rng, scenes[row], cameras[row], rendering, row, counts, variants, kinds, references)
            if len(specs) < variants:
                attempts[index] += 1
                if attempts[index] == _MOST_ATTEMPTS:
                    raise InputError(_hopeless_message(index, counts, kinds, references, mirror, twins))
                continue
            done[index] = specs
            sources[index] = _row(rendering, row)
            del attempts[index]
    specs = [spec for index in indices for spec in done[index]]
    truth = render([s.edited for s in specs], [s.camera for s in specs], height=height, samples=samples, device=device)
    source = torch.cat([sources[index].rgb for index in indices for _ in done[index]])
    before = [sources[index] for index in indices for _ in done[index]]
    return EditPairs(
        specs=tuple(specs),
        source=source,
        target=truth.rgb,
        masks=tuple(
            edit_masks(spec.edits, spec.edited_index, before[i], _row(truth, i))[:, 0] for i, spec in enumerate(specs)
        ),
        changed=((source - truth.rgb).abs() > CHANGED_THRESHOLD).any(1, keepdim=True),
        source_objects=torch.cat([rendering.index[:, None] >= 0 for rendering in before]),
        target_objects=truth.index[:, None] >= 0,
    )


def _hopeless_message(
    index: int,
    counts: tuple[int, ...],
    kinds: Mapping[EditKind, float] | None,
    references: Mapping[Reference, float] | None,
    mirror: bool,
    twins: bool,
) -> str:
    asked = f"{max(counts)} edits of kinds {list(kinds or DEFAULT_KINDS)} by {list(references or DEFAULT_REFERENCES)}"
    return (
        f"{_MOST_ATTEMPTS} scenes in a row did not offer {asked} (mirror={mirror}, twins={twins}, scene {index}): "
        "ask for fewer edits, more kinds or more references"
    )


def _row(rendering: Rendering, row: int) -> Rendering:
    return Rendering(**{name: value[row : row + 1] for name, value in vars(rendering).items()})


def _draw_specs(
    rng: np.random.Generator,
    scene: Scene,
    camera: OrbitCamera,
    rendering: Rendering,
    row: int,
    counts: tuple[int, ...],
    variants: int,
    kinds: Mapping[EditKind, float] | None,
    references: Mapping[Reference, float] | None,
) -> list[PairSpec]:
    least = _SMALLEST_TARGET * rendering.index[row].numel()
    visible = _visible_blocks(rendering.index[row], len(scene.blocks), least)
    shown = len(scene.blocks if scene.reflected is None else scene.reflected)
    reflected = _visible_blocks(rendering.reflection[row], shown, least) if scene.mirror else {}
    specs: list[PairSpec] = []
    for _ in range(variants):
        count = counts[int(rng.integers(len(counts)))]
        edits = draw_edits(
            rng,
            scene,
            visible=visible,
            across=[horizontal_position(camera, block.x, block.y) for block in scene.blocks],
            reflected_visible=reflected,
            count=count,
            kinds=kinds,
            references=references,
        )
        if len(edits) < count:
            return specs
        edited, where = apply_edits(scene, edits)
        specs.append(PairSpec(scene=scene, edited=edited, camera=camera, edits=edits, edited_index=where))
    return specs


def _visible_blocks(index: Tensor, count: int, least: float) -> dict[int, float]:
    pixels = torch.bincount(index[index >= 0].flatten(), minlength=count).tolist()
    return {i: float(n) for i, n in enumerate(pixels) if n >= least}


def edit_masks(
    edits: Sequence[BlockEdit], edited_index: Sequence[tuple[int, ...]], before: Rendering, after: Rendering
) -> Bool[Tensor, "edit batch height width"]:
    """For each edit and picture: the silhouettes of the edit's blocks before and after.

    Args:
        edits: the edits that lead from one scene to the other.
        edited_index: for each edit, its blocks in the edited scene, as `apply_edits` returns it.
        before: pictures of the scene.
        after: pictures of the edited scene from the same cameras.
    """
    masks = torch.zeros(len(edits), *before.index.shape, dtype=torch.bool, device=before.index.device)
    for number, (edit, where) in enumerate(zip(edits, edited_index, strict=True)):
        reflected = edit.named.reflected
        for target in edit.named.targets if edit.kind != "add" else ():
            masks[number] |= before.block_mask(target, reflected=reflected)
        for block in where:
            masks[number] |= after.block_mask(block, reflected=reflected)
    return masks


def horizontal_position(camera: OrbitCamera, x: float, y: float) -> float:
    """About where a point on the ground appears, as a share of the picture's half height right of the middle.

    Depth is measured along the ground, which stretches positions a little and hardly ever changes their order.
    """
    forward = (-math.cos(camera.azimuth), -math.sin(camera.azimuth))
    right = (-math.sin(camera.azimuth), math.cos(camera.azimuth))
    away = camera.radius * math.cos(camera.elevation) + x * forward[0] + y * forward[1]
    return (x * right[0] + y * right[1]) / (away * math.tan(0.5 * camera.fov))
