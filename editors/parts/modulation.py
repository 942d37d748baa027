"""FoI's cross-condition attention modulation (arXiv 2312.10113, Eq. 3-7) as edits of the attention processor.

Outside its mask each instruction's columns take the logits of the empty instruction; inside they keep their own, with a
boost towards the largest logit that fades as the noise does.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.attention import AttentionSite, Heads, Scores
from ..core.errors import ModelError
from ..core.types import Branch, LatentMask
from .masks import mask_to_grid


def boost_at(time: Float[Tensor, "*any"], boost: float) -> Float[Tensor, "*any"]:
    """xi(t) = boost * t^4 for t in [0, 1] (Eq. 7)."""
    return boost * time**4


def modulate(
    text: Scores,
    image: Scores,
    mask: Float[Tensor, "batch 1 query key"],
    lift: Float[Tensor, "#batch 1 1 key"],
    *,
    over: Literal["query", "space", "all"] = "query",
) -> Scores:
    """(X + dX) M + Y (1 - M), with dX = lift * (max X - X) (Eq. 3-6).

    Args:
        text: logits X of the prompt.
        image: logits Y of the empty instruction.
        mask: M, for every query and key.
        lift: alpha * xi of every key.
        over: what the maximum runs over: the keys of a query, the queries of a key, or both.
    """
    axes = {"query": -1, "space": -2, "all": (-2, -1)}[over]
    boosted = text + lift * (text.amax(axes, keepdim=True) - text)
    return boosted * mask + image * (1 - mask)


class MaskedAttention:
    """The modulation of one run. Masks may be set late, from maps the run itself has read."""

    def __init__(
        self,
        *,
        segments: Sequence[int],
        strengths: Sequence[float],
        times: Float[Tensor, "steps batch"],
        boost: float,
        over: Literal["query", "space", "all"],
        special: Literal["union", "ones", "zeros"],
        resize: Literal["nearest", "bilinear"],
        swap_values: bool,
        steps: range,
    ) -> None:
        """Prepare the modulation.

        Args:
            segments: owner of each token, from `TokenLayout`.
            strengths: alpha of each instruction.
            times: t of every step in [0, 1], one column for all pictures or one per picture.
            boost: xi(1).
            over: see `modulate`.
            special: where special tokens keep the prompt's logits.
            resize: how masks reach each layer's grid.
            swap_values: whether outputs outside the union are the empty instruction's.
            steps: steps of the loop at which it acts.
        """
        device = times.device
        owner = torch.tensor(segments, device=device)
        alphas = torch.tensor([*strengths, 0.0], device=device)  # The last entry serves SPECIAL = -1.
        self._alpha = alphas[owner]
        self._owner = owner
        self._xi = boost_at(times.float(), boost)
        self._lift = (self._alpha * self._xi[0][:, None])[:, None, None]
        self._over: Literal["query", "space", "all"] = over
        self._special, self._resize = special, resize
        self._swap_values, self._steps = swap_values, steps
        self._masks: Tensor | None = None
        self._grids: dict[int, Tensor] = {}
        self.reads: frozenset[Branch] = frozenset({"text", "image"})
        self.writes: frozenset[Branch] = frozenset({"text"})

    def set_masks(self, masks: Sequence[LatentMask]) -> None:
        """Set one mask per instruction, at latent resolution, and bring them to the grid of every layer.

        All grids are made here: filling them during a UNet call would make a compiled UNet compile again.
        """
        joined = torch.cat(list(masks), 1)
        self._masks, self._grids = joined, {}
        rows, columns = joined.shape[-2:]
        while rows * columns not in self._grids:
            self._grids[rows * columns] = self._on_grid(joined, rows, columns)
            rows, columns = -(-rows // 2), -(-columns // 2)

    def begin_step(self, step: int) -> None:
        """Set the boost of a step."""
        self._lift.copy_((self._alpha * self._xi[step][:, None])[:, None, None])

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Every cross-attention layer, once masks are known."""
        return self._masks is not None and site.kind == "cross" and step in self._steps

    def edit_scores(self, scores: Mapping[Branch, Scores], site: AttentionSite) -> Mapping[Branch, Scores]:
        """Modulated logits of the text branch."""
        text, image = scores["text"], scores["image"]
        mask = self._token_masks(text.shape[-2])
        return {"text": modulate(text, image, mask, self._lift, over=self._over)}

    def edit_output(self, outputs: Mapping[Branch, Heads], site: AttentionSite) -> Mapping[Branch, Heads]:
        """With `swap_values`, the empty instruction's output outside the union."""
        if not self._swap_values:
            return outputs
        inside = self._instruction_masks(outputs["text"].shape[-2]).amax(-1, keepdim=True)[:, None]
        inside = inside.to(outputs["text"].dtype)
        return {**outputs, "text": outputs["text"] * inside + outputs["image"] * (1 - inside)}

    def _on_grid(
        self, masks: Float[Tensor, "batch instruction rows columns"], rows: int, columns: int
    ) -> Float[Tensor, "batch query instruction"]:
        if self._resize == "nearest":
            grid = mask_to_grid(masks.flatten(0, 1)[:, None], rows, columns).view(*masks.shape[:2], rows, columns)
        else:
            grid = F.interpolate(masks, (rows, columns), mode="bilinear", align_corners=False)
        return grid.flatten(2).mT.contiguous()

    def _instruction_masks(self, tokens: int) -> Float[Tensor, "batch query instruction"]:
        if self._masks is None:
            raise RuntimeError("masks are read before they were set")
        if tokens not in self._grids:
            height, width = self._masks.shape[-2:]
            raise ModelError(f"{tokens} attention tokens do not fit latents of {height}x{width}: another kind of UNet?")
        return self._grids[tokens]

    def _token_masks(self, tokens: int) -> Float[Tensor, "batch 1 query key"]:
        own = self._instruction_masks(tokens)
        special = {
            "union": own.amax(-1, keepdim=True),
            "ones": torch.ones_like(own[..., :1]),
            "zeros": torch.zeros_like(own[..., :1]),
        }[self._special]
        # SPECIAL = -1 picks the last column.
        return torch.cat([own, special], -1)[..., self._owner][:, None]
