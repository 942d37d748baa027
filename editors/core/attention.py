"""Reading and editing a UNet's attention through one context manager and one processor.

Branches of a UNet call lie one after another along the batch axis (branch-major) and are found by name. Only the
sites an edit wants leave the fused kernel, and there only the branches it reads or writes; every other site keeps its
own processor object. What changes from step to step belongs in tensors of the edit, so that a compiled UNet is
recompiled at most once per set of active edits.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from .errors import ModelError
from .types import Branch

Scores: TypeAlias = Float[Tensor, "batch head query key"]
"""Scaled logits of one branch, or the probabilities after the softmax."""
Heads: TypeAlias = Float[Tensor, "batch head token width"]
"""Queries or attended values of one branch."""
Keys: TypeAlias = Float[Tensor, "batch head _ width"]
"""Keys or values of one branch; an edit may change how many there are."""
Stage = Literal["down", "mid", "up"]

ALL_BRANCHES: tuple[Branch, ...] = ("text", "image", "uncond")


@dataclass(frozen=True, kw_only=True)
class AttentionSite:
    """One attention layer of a UNet."""

    name: str
    """Key in `unet.attn_processors`."""
    kind: Literal["self", "cross"]
    stage: Stage
    index: int
    """Position among the sites of the same kind and stage, in execution order."""


@runtime_checkable
class ScoresEdit(Protocol):
    """Changes attention logits before the softmax."""

    reads: frozenset[Branch]
    """Branches whose logits it needs."""
    writes: frozenset[Branch]
    """Branches whose logits it changes."""

    def begin_step(self, step: int) -> None:
        """Told once before each UNet call."""
        ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether it acts on this site at this step of the loop."""
        ...

    def edit_scores(self, scores: Mapping[Branch, Scores], site: AttentionSite) -> Mapping[Branch, Scores]:
        """New logits of the branches in `writes`, from the logits of the branches in `reads`."""
        ...


@runtime_checkable
class ProbsReader(Protocol):
    """Reads attention probabilities and changes nothing."""

    reads: frozenset[Branch]

    def begin_step(self, step: int) -> None:
        """Told once before each UNet call."""
        ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether it reads this site at this step of the loop."""
        ...

    def read_probs(self, probs: Mapping[Branch, Scores], site: AttentionSite) -> None:
        """Receive the probabilities of the branches in `reads`."""
        ...


@runtime_checkable
class QkvEdit(Protocol):
    """Replaces queries, keys and values before the product, e.g. to add learned ones."""

    def begin_step(self, step: int) -> None:
        """Told once before each UNet call."""
        ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether it acts on this site at this step of the loop."""
        ...

    def edit_qkv(
        self, qkv: Mapping[Branch, tuple[Heads, Keys, Keys]], site: AttentionSite
    ) -> Mapping[Branch, tuple[Heads, Keys, Keys]]:
        """New (query, key, value) of every branch."""
        ...


@runtime_checkable
class OutputEdit(Protocol):
    """Changes the attended values of each branch, after the product and before the output projection."""

    def begin_step(self, step: int) -> None:
        """Told once before each UNet call."""
        ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether it acts on this site at this step of the loop."""
        ...

    def edit_output(self, outputs: Mapping[Branch, Heads], site: AttentionSite) -> Mapping[Branch, Heads]:
        """New attended values of every branch."""
        ...


AttentionEdit: TypeAlias = ScoresEdit | ProbsReader | QkvEdit | OutputEdit


def attention_sites(unet: nn.Module) -> tuple[AttentionSite, ...]:
    """Every attention layer of a UNet, in execution order (down, mid, up).

    Raises:
        ModelError: if the module has no such layers.
    """
    names = list(getattr(unet, "attn_processors", {}))
    if not names:
        raise ModelError(f"expected a UNet with attention layers, got {type(unet).__name__} without any")
    found: list[AttentionSite] = []
    for stage in ("down", "mid", "up"):
        parts: dict[Literal["self", "cross"], str] = {"self": ".attn1.", "cross": ".attn2."}
        for kind, part in parts.items():
            own = sorted((n for n in names if n.startswith(stage) and part in n), key=_numbers)
            found += [AttentionSite(name=n, kind=kind, stage=stage, index=i) for i, n in enumerate(own)]
    order: dict[Stage, int] = {"down": 0, "mid": 1, "up": 2}
    return tuple(sorted(found, key=lambda site: (order[site.stage], _numbers(site.name), site.kind == "cross")))


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def grid_size(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a layer's token grid, given the latents' height and width.

    Each down-sampling of a Stable-Diffusion UNet halves a side and rounds up.

    Raises:
        ModelError: if no number of halvings gives that many tokens.
    """
    rows, columns = height, width
    while rows * columns > tokens and max(rows, columns) > 1:
        rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
    if rows * columns != tokens:
        raise ModelError(f"{tokens} attention tokens do not fit latents of {height}x{width}: another kind of UNet?")
    return rows, columns


class _ControlledProcessor:
    """Runs the active edits of one site; with none active it is the original processor."""

    def __init__(self, site: AttentionSite, original: Any, branches: tuple[Branch, ...]) -> None:
        self.site = site
        self.original = original
        self.branches = branches
        self.active: tuple[AttentionEdit, ...] = ()
        self._explicit: tuple[Branch, ...] = ()
        self._needed: tuple[Branch, ...] = ()

    def activate(self, edits: tuple[AttentionEdit, ...]) -> None:
        """Choose the edits of the next UNet call, and which branches leave the fused kernel for them.

        A compiler cannot follow this arithmetic of sets, so it is not done during the call.
        """
        self.active = edits
        scoring: list[ScoresEdit] = self._active("edit_scores")
        reading: list[ProbsReader] = self._active("read_probs")
        explicit = frozenset[Branch]().union(*(e.writes for e in scoring), *(r.reads for r in reading))
        needed = explicit.union(*(e.reads for e in scoring))
        self._explicit = tuple(branch for branch in self.branches if branch in explicit)
        self._needed = tuple(branch for branch in self.branches if branch in needed)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if not self.active:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, **kwargs)
        other_kind = attention_mask is not None or attn.group_norm is not None or attn.residual_connection
        if other_kind or hidden_states.ndim != 3:
            raise ModelError(
                f"attention layer {self.site.name} is not of the Stable Diffusion kind: it cannot be edited"
            )
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        out = self._attend(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        count = len(self.branches)
        parts = [x.unflatten(0, (count, -1)) for x in (query, key, value)]
        qkv: dict[Branch, tuple[Tensor, Tensor, Tensor]] = {
            branch: (parts[0][i], parts[1][i], parts[2][i]) for i, branch in enumerate(self.branches)
        }
        for edit in self._active("edit_qkv"):
            qkv = dict(edit.edit_qkv(qkv, self.site))
        # Blending and the softmax run in fp32: FoI's boost is too small for half precision.
        scores: dict[Branch, Scores] = {
            branch: torch.matmul(qkv[branch][0].float(), qkv[branch][1].float().transpose(-1, -2))
            * qkv[branch][0].shape[-1] ** -0.5
            for branch in self._needed
        }
        for edit in self._active("edit_scores"):
            scores.update(edit.edit_scores({b: scores[b] for b in self._needed if b in edit.reads}, self.site))
        probs: dict[Branch, Scores] = {branch: scores[branch].softmax(-1) for branch in self._explicit}
        for reader in self._active("read_probs"):
            reader.read_probs({b: probs[b] for b in self._explicit if b in reader.reads}, self.site)
        outputs = self._mix(qkv, probs)
        for edit in self._active("edit_output"):
            outputs = dict(edit.edit_output(outputs, self.site))
        return torch.cat([outputs[branch] for branch in self.branches])

    def _active(self, method: str) -> list[Any]:
        return [edit for edit in self.active if hasattr(edit, method)]

    def _mix(
        self, qkv: Mapping[Branch, tuple[Tensor, Tensor, Tensor]], probs: Mapping[Branch, Tensor]
    ) -> dict[Branch, Tensor]:
        outputs: dict[Branch, Tensor] = {}
        left: list[Branch] = [branch for branch in self.branches if branch not in probs]
        for count in dict.fromkeys(qkv[branch][1].shape[-2] for branch in left):
            # Branches left alone share one call of the fused kernel, as long as they have as many keys.
            fused: list[Branch] = [branch for branch in left if qkv[branch][1].shape[-2] == count]
            query, key, value = (torch.cat([qkv[branch][i] for branch in fused]) for i in range(3))
            joined = F.scaled_dot_product_attention(query, key, value)
            outputs.update(zip(fused, joined.chunk(len(fused)), strict=True))
        for branch, probability in probs.items():
            value = qkv[branch][2]
            outputs[branch] = torch.matmul(probability.to(value.dtype), value)
        return outputs


class AttentionControl:
    """Handle of an active `attention_control`; the sampling loop tells it the step."""

    def __init__(
        self,
        processors: Sequence[_ControlledProcessor],
        edits: Sequence[AttentionEdit],
        branches: tuple[Branch, ...],
    ) -> None:
        self._processors = tuple(processors)
        self._edits = tuple(edits)
        self.branches = branches
        """Branches along the batch axis, in their order."""

    def set_step(self, step: int) -> None:
        """Select the edits of this step of the loop, and let those that change over time do so."""
        for edit in self._edits:
            edit.begin_step(step)
        for processor in self._processors:
            processor.activate(tuple(edit for edit in self._edits if edit.wants(processor.site, step)))


@contextmanager
def attention_control(
    unet: nn.Module, edits: Sequence[AttentionEdit], branches: tuple[Branch, ...] = ALL_BRANCHES
) -> Generator[AttentionControl]:
    """Install edits on a UNet for the length of a `with` block; the original processors always come back.

    Args:
        unet: a diffusers UNet with `attn_processors`.
        edits: run in this order.
        branches: names of the guidance branches along the batch axis, in their order.

    Raises:
        ModelError: if another control is active on this UNet, or it has no attention layers.
    """
    originals: dict[str, Any] = dict(getattr(unet, "attn_processors", {}))
    sites = {site.name: site for site in attention_sites(unet)}
    if any(isinstance(processor, _ControlledProcessor) for processor in originals.values()):
        raise ModelError(
            "attention of this UNet is already controlled: leave the first `attention_control` before a second"
        )
    controlled: dict[str, Any] = {
        name: _ControlledProcessor(sites[name], processor, branches) if name in sites else processor
        for name, processor in originals.items()
    }
    set_processors: Any = unet.set_attn_processor
    control = AttentionControl([p for p in controlled.values() if isinstance(p, _ControlledProcessor)], edits, branches)
    try:
        set_processors(dict(controlled))
        control.set_step(0)
        yield control
    finally:
        set_processors(dict(originals))


@contextmanager
def control_if_edited(
    unet: nn.Module, edits: Sequence[AttentionEdit], branches: tuple[Branch, ...]
) -> Generator[AttentionControl | None]:
    """`attention_control` where there are edits; without any the UNet is left as it is."""
    if not edits:
        yield None
        return
    with attention_control(unet, edits, branches) as control:
        yield control


class AttentionStore:
    """Keeps the mean, over the sites it was asked for and their heads, of one branch's probabilities.

    Maps stay on the device and in the graph, so that a loss may be put on them.
    """

    def __init__(
        self,
        *,
        tokens: int,
        stages: Sequence[Stage] = ("down", "mid", "up"),
        branch: Branch = "text",
        kind: Literal["self", "cross"] = "cross",
        steps: Sequence[int] = (0,),
    ) -> None:
        """Store maps of layers that have `tokens` queries, at the given steps of the loop."""
        self.reads: frozenset[Branch] = frozenset({branch})
        self.layers: list[Float[Tensor, "batch query key"]] = []
        """One map a layer, mean over heads, in execution order."""
        self._branch: Branch = branch
        self._tokens = tokens
        self._stages = frozenset(stages)
        self._kind = kind
        self._steps = frozenset(steps)

    def begin_step(self, step: int) -> None:
        """Nothing of it changes over time."""

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Whether the site is of the right kind and stage and the step is one to read."""
        return site.kind == self._kind and site.stage in self._stages and step in self._steps

    def read_probs(self, probs: Mapping[Branch, Scores], site: AttentionSite) -> None:
        """Keep the mean over heads, if the layer has the wanted number of queries."""
        own = probs[self._branch]
        if own.shape[-2] == self._tokens:
            self.layers.append(own.mean(1))

    def mean(self) -> Float[Tensor, "batch query key"]:
        """Mean over the layers read.

        Raises:
            ModelError: if no layer had the wanted number of queries.
        """
        if not self.layers:
            raise ModelError(
                f"no {self._kind}-attention layer of this UNet has {self._tokens} tokens in {sorted(self._stages)}: "
                "choose another resolution for the attention maps (--foi.mask-stride) or other --foi.mask-stages"
            )
        return torch.stack(self.layers).mean(0)
