"""Which published tensors make up each tensor of our checkpoint, decided from names and shapes alone.

Several may be the same one: the published files repeat weights of LLaVA that training left as they were. The first of
them is written, and the others must equal it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, TypeAlias

from ..core.errors import ModelError
from .architecture import SmartEditArchitecture
from .convert_names import Part, Published, Rows, places_of

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]
_SHOWN = 3
"""Names in a message."""
_EMBEDDING = "model.base_model.model.embed_tokens.weight"
_LAYER = "sd_qformer.encoder.layer."
_BLOCK = "modulate_transformer.layers."
_LORA = re.compile(r"^base_model\.model\.layers\.\d+\.")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A published tensor, or some rows of it."""

    source: Published
    name: str
    rows: Rows
    shape: Shape
    """Of those rows."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What each of our tensors is made of."""

    parts: Mapping[Part, Mapping[str, tuple[Origin, ...]]]
    """By folder and name; of each, the origin that is written, and those that must equal it."""
    unknown: tuple[str, ...] = field(default=())
    """Published names that nobody knows."""


def count_rows(shapes: Mapping[Published, Shapes], architecture: SmartEditArchitecture) -> int:
    """Rows of old tokens, which the published embedding and head begin with.

    Raises:
        ModelError: if there is no embedding, or one of too few rows.
    """
    new = architecture.image_tokens + 3
    shape = shapes["language"].get(_EMBEDDING, (0, 0))
    if shape[0] <= new:
        raise ModelError(
            f"expected {_EMBEDDING} of more than {new} rows in the published language model, got {shape[0]}: take "
            "LLM-N/adapter_model.bin as it was published after April 2024"
        )
    return shape[0] - new


def make_plan(shapes: Mapping[Published, Shapes], old: int) -> Plan:
    """Decide what each of our tensors is made of.

    Args:
        shapes: of all published tensors; what stands first is what is written.
        old: rows of old tokens.
    """
    parts: dict[Part, dict[str, list[Origin]]] = {"mllm": {}, "adapter": {}, "smartedit": {}, "unet": {}}
    unknown: list[str] = []
    for source, tensors in shapes.items():
        for name, shape in tensors.items():
            places = places_of(source, name)
            if places is None:
                unknown.append(f"{source}: {name}")
            for place in places or ():
                rows = {"all": shape, "old": (min(old, shape[0]), *shape[1:]), "new": (shape[0] - old, *shape[1:])}
                origin = Origin(source=source, name=name, rows=place.rows, shape=rows[place.rows])
                parts[place.part].setdefault(place.name, []).append(origin)
    frozen: dict[Part, Mapping[str, tuple[Origin, ...]]] = {
        part: {name: tuple(each) for name, each in found.items()} for part, found in parts.items()
    }
    return Plan(parts=frozen, unknown=tuple(unknown))


def check_plan(plan: Plan, wanted: Mapping[Part, Shapes]) -> None:
    """Make sure that a plan fills networks completely and that nothing is left over.

    Args:
        plan: what there is.
        wanted: shapes of all tensors of the networks, by folder.

    Raises:
        ModelError: if a name is left over or missing, or a shape differs; one line with how many and the first ones.
    """
    extra, missing, unlike = list(plan.unknown), list[str](), list[str]()
    for part, shapes in wanted.items():
        found = plan.parts[part]
        extra += [f"{origin.source}: {origin.name}" for name in found if name not in shapes for origin in found[name]]
        missing += [f"{part}: {name}" for name in shapes if name not in found]
        unlike += [
            f"{origin.source}: {origin.name} {origin.shape}, not {shapes[name]}"
            for name in found
            if name in shapes
            for origin in found[name]
            if origin.shape != shapes[name]
        ]
    faults = (("left over", extra), ("missing", missing), ("of another shape", unlike))
    said = [f"{len(names)} {what} ({_some(names)})" for what, names in faults if names]
    if said:
        raise ModelError(
            f"the published weights do not fit together: {'; '.join(said)}: take SmartEdit and LLaVA-1.1 of one size, "
            "as they were published"
        )


def read_architecture(shapes: Mapping[Published, Shapes], like: SmartEditArchitecture) -> SmartEditArchitecture:
    """Sizes, from the shapes of the published networks.

    Args:
        shapes: of all published tensors.
        like: has what no shape tells: numbers of heads and of image tokens.

    Raises:
        ModelError: if the QFormer is not there, or sizes make no sense.
    """
    reader, bim = shapes["reader"], shapes.get("interaction", {})
    try:
        layers = _count(_LAYER, reader)
        crossed = [i for i in range(layers) if f"{_LAYER}{i}.crossattention.output.dense.weight" in reader]
        sizes: dict[str, Any] = {
            "queries": reader["sd_query_tokens"][1],
            "context_width": reader["sd_query_tokens"][2],
            "qformer_layers": layers,
            "qformer_intermediate": reader[f"{_LAYER}0.intermediate_query.dense.weight"][0],
            "cross_every": crossed[1] if len(crossed) > 1 else layers,
            "interaction": "two-way" if bim else "none",
        }
        if bim:
            sizes |= {
                "interaction_width": bim["modulate_head.weight"][0],
                "interaction_depth": _count(_BLOCK, bim),
                "interaction_mlp": bim[f"{_BLOCK}0.mlp.lin1.weight"][0],
                "final_attention": "modulate_transformer.norm_final_attn.weight" in bim,
                "unet_width": bim["dimension_reduction_head_zeroconv.weight"][0],
            }
        return replace(like, **sizes)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"the published networks lack a part or have odd sizes ({error}): fetch all of them"
        ) from error


def adapter_shapes(plan: Plan, layers: int) -> dict[str, Shape]:
    """Names and shapes that LoRA must have: what one layer of the language model has, in every layer.

    Args:
        plan: what there is.
        layers: of the language model.
    """
    kinds = {_LORA.sub("", name): origins[0].shape for name, origins in plan.parts["adapter"].items()}
    return {f"base_model.model.layers.{i}.{kind}": shape for i in range(layers) for kind, shape in kinds.items()}


def bytes_of(shape: Shape, each: int) -> int:
    """Bytes of a tensor whose elements have `each`."""
    return prod(shape) * each


def _count(prefix: str, shapes: Shapes) -> int:
    """How many numbers follow a prefix of names."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
