"""Putting learned rows in the place of the first tokens of a prompt, in the text branch alone.

InstructBrush (arXiv 2403.18660), section 4.1: K and V of every cross-attention layer have learned rows where the words
of the initial text would be; the other rows stay those of that text, whose end carries its meaning, too. Which part of
the learned tensors takes part follows from the timestep of each picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.attention import AttentionSite, attention_sites
from ..core.backbone import Backbone
from ..core.bases import fingerprint_checkpoint
from ..core.errors import InputError, ModelError
from ..core.types import Branch, PromptEmbeds, TokenIds
from .brush import EMBEDDING, Brush, BrushHeader, Rows
from .brush_options import BrushRecipe
from .tokens import word_ids

LayerRows = Mapping[str, tuple[Rows, Rows]]
"""Keys and values by the name of their layer."""
Keys = Float[Tensor, "batch head key width"]
"""Keys or values of one branch."""
Qkv = tuple[Float[Tensor, "batch head query width"], Keys, Keys]
"""Query, key and value of one branch."""


def segment_of(
    timesteps: Float[Tensor, "*any"] | Int[Tensor, "*any"], segments: int, total: int
) -> Int[Tensor, "*any"]:
    """s(t) = floor(segments * t / total) of training timesteps, which a sampler may place between whole numbers."""
    return (timesteps.double() * segments / total).floor().long().clamp(0, segments - 1)


class LearnedRows:
    """Replaces rows of keys and values of the branch `text`; an edit for `attention_control`."""

    def __init__(
        self,
        layers: LayerRows,
        *,
        first_row: int,
        segments: Int[Tensor, "steps batch"],
        dtype: torch.dtype,
    ) -> None:
        """Prepare the tensors of a run once.

        Args:
            layers: learned rows of every layer.
            first_row: where they begin.
            segments: at each step of the loop the segment of each picture, or one for all.
            dtype: what the network computes in; the rows are cast to it and stay in float32 where they are learned.
        """
        self._layers = {
            site: (keys.to(dtype), values.to(dtype)) for site, (keys, values) in layers.items() if keys.shape[1]
        }
        self._first_row, self._segments = first_row, segments
        self._now = segments[0]

    def begin_step(self, step: int) -> None:
        """Take the segments of the next UNet call."""
        self._now = self._segments[step]

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether there are rows for this layer."""
        return site.name in self._layers

    def edit_qkv(self, qkv: Mapping[Branch, Qkv], site: AttentionSite) -> Mapping[Branch, Qkv]:
        """Queries as they are; keys and values with the learned rows."""
        query, key, value = qkv["text"]
        keys, values = self._layers[site.name]
        return {**qkv, "text": (query, self._replace(key, keys), self._replace(value, values))}

    def _replace(self, rows: Keys, learned: Rows) -> Keys:
        own = learned[self._now].unflatten(-1, (rows.shape[1], -1)).transpose(1, 2).expand(len(rows), -1, -1, -1)
        after = self._first_row + own.shape[2]
        return torch.cat([rows[:, :, : self._first_row], own, rows[:, :, after:]], 2)


def layer_widths(backbone: Backbone) -> dict[str, int]:
    """Width of the keys of every cross-attention layer."""
    return {site: int(layer.to_k.out_features) for site, layer in _cross_layers(backbone)}


def project_rows(backbone: Backbone, embeds: Float[Tensor, "segments rows width"]) -> LayerRows:
    """Keys and values that every cross-attention layer makes of hidden states; gradients pass through."""
    embeds = embeds.to(backbone.device, backbone.dtype)
    return {site: (layer.to_k(embeds), layer.to_v(embeds)) for site, layer in _cross_layers(backbone)}


def layers_of(backbone: Backbone, learned: Mapping[str, Rows]) -> LayerRows:
    """Keys and values of every layer from what a brush learned, whichever of the two that is."""
    if EMBEDDING in learned:
        return project_rows(backbone, learned[EMBEDDING])
    return {
        site: (learned[f"{site}.key"].to(backbone.device), learned[f"{site}.value"].to(backbone.device))
        for site, _ in _cross_layers(backbone)
    }


def _cross_layers(backbone: Backbone) -> list[tuple[str, Any]]:
    sites = [site.name for site in attention_sites(backbone.unet) if site.kind == "cross"]
    return [(name, backbone.unet.get_submodule(name.removesuffix(".processor"))) for name in sites]


def initial_rows(backbone: Backbone, header: BrushHeader) -> dict[str, Rows]:
    """What the learning starts from: the rows that the initial text itself gives, for every segment."""
    embeds = backbone.embed_ids(prompt_ids((header.initial_text,), backbone))
    rows = slice(header.first_row, header.first_row + header.rows)
    count = header.segments
    if header.learn == "embedding":
        return {EMBEDDING: embeds[:, rows].float().repeat(count, 1, 1)}
    with torch.no_grad():
        whole = project_rows(backbone, embeds)
    found: dict[str, Rows] = {}
    for site, (key, value) in whole.items():
        found[f"{site}.key"] = key[:, rows].float().repeat(count, 1, 1)
        found[f"{site}.value"] = value[:, rows].float().repeat(count, 1, 1)
    return found


def prompt_ids(texts: Sequence[str], backbone: Backbone) -> TokenIds:
    """One row: start, the texts joined by commas, end, padding; empty texts leave nothing.

    Raises:
        InputError: if it is too long.
    """
    tokenizer, row = backbone.tokenizer, _words(texts, backbone)
    length, pad = tokenizer.model_max_length, tokenizer.pad_token_id
    if len(row) > length - 2:
        raise InputError(
            f"expected at most {length - 2} tokens of the brush's text and the instructions, got {len(row)}: shorten "
            "the instructions"
        )
    end = tokenizer.eos_token_id
    padding = [end if pad is None else pad] * (length - len(row) - 2)
    return torch.tensor([[tokenizer.bos_token_id, *row, end, *padding]])


def brush_prompt(header: BrushHeader, texts: Sequence[str], backbone: Backbone) -> tuple[str, PromptEmbeds]:
    """The prompt with a brush and further texts, and its hidden states; learned rows come in their place later.

    A brush that began from the empty text has no words to join others to: their hidden states, taken from a prompt of
    their own, follow the learned rows, as in Visii's hybrid mode.

    Raises:
        InputError: if it is too long.
    """
    first, prompt = header.initial_text, ", ".join(text for text in (header.initial_text, *texts) if text)
    if first or not texts:
        return prompt, backbone.embed_ids(prompt_ids((first, *texts), backbone))
    empty, own = (backbone.embed_ids(prompt_ids(part, backbone)) for part in (("",), texts))
    length = int(empty.shape[1])
    count = len(_words(texts, backbone)) + 1
    start = header.first_row + header.rows
    if start + count > length:
        raise InputError(
            f"expected at most {length - start - 1} tokens of instructions beside the brush, got {count - 1}: shorten "
            "the instructions"
        )
    joined = empty.clone()
    joined[:, start : start + count] = own[:, 1 : 1 + count]
    return prompt, joined


def _words(texts: Sequence[str], backbone: Backbone) -> list[int]:
    """Tokens of texts joined by commas, without start, end and padding."""
    comma = word_ids(",", backbone.tokenizer)
    parts = [word_ids(text, backbone.tokenizer) for text in texts if text]
    return [token for number, part in enumerate(parts) for token in (comma if number else []) + part]


def fit_header(header: BrushHeader, backbone: Backbone) -> BrushHeader:
    """The header with as many rows as its initial text has tokens, and the widths of a checkpoint.

    Args:
        header: its `rows` hold only where the initial text is empty.
        backbone: the checkpoint.
    """
    rows = len(word_ids(header.initial_text, backbone.tokenizer)) if header.initial_text else header.rows
    widths = layer_widths(backbone)
    if header.learn == "embedding":
        widths = {EMBEDDING: int(backbone.text_encoder.config.hidden_size)}
    return replace(header, rows=rows, widths=widths)


def begin_brush(backbone: Backbone, recipe: BrushRecipe, *, name: str) -> Brush:
    """A brush before its first step: an edit by it is one by its initial text.

    Args:
        backbone: the checkpoint it will be learned on.
        recipe: how it will be learned.
        name: what it is to be called in requests.

    Raises:
        InputError: if the initial text is too long.
    """
    preset = backbone.preset.instruct
    header = BrushHeader(
        kind=recipe.kind,
        learn=recipe.learn,
        name=name,
        initial_text=" ".join(recipe.init_text.split()).rstrip(".,;!"),
        rows=recipe.rows,
        first_row=0 if recipe.include_bos else 1,
        segments=recipe.segments,
        widths={},
        model=backbone.name,
        fingerprint=fingerprint_checkpoint(backbone.origin, "instruct-pix2pix"),
        sampler=preset.sampler,
        sampling_steps=preset.steps,
        guidance_scale=recipe.guidance_scale or preset.guidance_scale,
        image_guidance_scale=recipe.image_guidance_scale or preset.image_guidance_scale,
        recipe=asdict(recipe),
        versions=_versions(),
    )
    header = fit_header(header, backbone)
    return Brush(header, initial_rows(backbone, header))


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in ("maskedit", "torch", "diffusers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def check_fit(brush: Brush, backbone: Backbone) -> None:
    """Refuse a checkpoint whose layers have other widths than the brush.

    Raises:
        ModelError: in one line that says what the brush was made for.
    """
    wanted = fit_header(brush.header, backbone).widths
    if dict(wanted) != dict(brush.header.widths):
        ours, theirs = sorted(set(brush.header.widths.values())), sorted(set(wanted.values()))
        raise ModelError(
            f"the brush {brush.header.name!r} was made for {brush.header.model!r}, {len(brush.header.widths)} tensors "
            f"of widths {ours}, but {backbone.name!r} has {len(wanted)} of {theirs}: set --model to the former, or "
            "learn it again"
        )
