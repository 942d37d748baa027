"""Self-attention across the pictures of a batch, as an edit of `attention_control`.

Pictures of one thing that are denoised side by side agree better when each of them reads the keys and values of the
others: extended attention over all of them (TokenFlow, arXiv 2307.10373; DGE, arXiv 2404.18929), or plain attention
mixed with attention to a few references (GaussCtrl, arXiv 2403.08733). Each guidance branch keeps to itself.

Differs from the papers: DGE and TokenFlow share among key views only and carry the result to the rest by
correspondences, GaussCtrl runs its four references again beside each chunk; here the pictures of a request share among
themselves, and every one of them is edited.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from .attention import AttentionSite, Heads, Keys
from .consistency import ViewSharing
from .types import Branch


class SharedAttention:
    """Shares self-attention among the pictures of a batch.

    Args:
        sharing: with whom.
        views: pictures of the batch.
    """

    def __init__(self, sharing: ViewSharing, views: int) -> None:
        self._stages = frozenset(sharing.stages)
        self._own = sharing.own
        self._references = None if sharing.among == "all" else sharing.reference_rows(views)
        self._qkv: Mapping[Branch, tuple[Tensor, Tensor, Tensor]] = {}

    def begin_step(self, step: int) -> None:
        """Nothing of it changes over time."""

    def wants(self, site: AttentionSite, step: int) -> bool:
        """Self-attention of the chosen stages, at every step."""
        return site.kind == "self" and site.stage in self._stages

    def edit_qkv(
        self, qkv: Mapping[Branch, tuple[Heads, Keys, Keys]], site: AttentionSite
    ) -> Mapping[Branch, tuple[Heads, Keys, Keys]]:
        """The same; they are needed again for the outputs.

        A mean of several attentions is no attention to longer keys, so the sharing is done on the outputs. Keys that
        every picture reads are then never copied for each of them, either.
        """
        self._qkv = qkv
        return qkv

    def edit_output(self, outputs: Mapping[Branch, Heads], site: AttentionSite) -> Mapping[Branch, Heads]:
        """c times the picture's own attention and 1 - c times the shared one, in every branch."""
        qkv, self._qkv = self._qkv, {}
        if self._own == 1:
            return outputs
        shared = {branch: self._share(*qkv[branch]) for branch in outputs}
        if self._own == 0:
            return shared
        return {branch: self._own * own + (1 - self._own) * shared[branch] for branch, own in outputs.items()}

    def _share(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What each picture reads from the others; (view head token width)."""
        views = len(query)
        # The queries of all pictures stand in one row, because all of them read the same keys.
        queries = _in_one_row(query)
        if self._references is None:
            read = F.scaled_dot_product_attention(queries, _in_one_row(key), _in_one_row(value))
        else:
            rows = [slice(row, row + 1) for row in self._references]
            read = F.scaled_dot_product_attention(queries, key[rows[0]], value[rows[0]])
            for row in rows[1:]:
                read = read + F.scaled_dot_product_attention(queries, key[row], value[row])
            read = read / len(rows)
        return read[0].unflatten(1, (views, -1)).transpose(0, 1)


def _in_one_row(heads: Tensor) -> Tensor:
    """(view head token width) to (1 head view*token width)."""
    return heads.transpose(0, 1).flatten(1, 2)[None]


def share_views(sharing: ViewSharing | None, views: int) -> tuple[SharedAttention, ...]:
    """The edit that shares self-attention among some pictures; () where there is nobody to share with."""
    return () if sharing is None or views == 1 else (SharedAttention(sharing, views),)
