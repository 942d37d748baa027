"""Where an edit leads in CLIP's space, and how far a learned embedding points there.

Source: Visii (arXiv 2307.14331), section 4.2: the cosine of the projected mean of the learned hidden states with the
mean way from the pictures before to those after, which counts up to 0.5.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.types import Image
from .brush import Rows
from .brush_clip import ClipScorer

MOST_COSINE = 0.5
"""Above it a better agreement counts no more, as in the published code."""


class EditDirection:
    """The way of an edit, as a term of a loss."""

    def __init__(
        self, clip: ClipScorer, embeds: Float[Tensor, "1 tokens states"], *, first_row: int, before: Image, after: Image
    ) -> None:
        """Look at the pictures once.

        Args:
            clip: whose text encoder is the checkpoint's own.
            embeds: hidden states of the initial text, one row of a batch; the rows around the learned ones stay these.
            first_row: where the learned rows begin.
            before: one side of the pairs.
            after: the other side.

        Raises:
            ModelError: if CLIP's hidden states have another width.
        """
        way = clip.picture_features(after).mean(0) - clip.picture_features(before).mean(0)
        self.way: Float[Tensor, " features"] = F.normalize(way, dim=0)
        self._clip, self._embeds, self._first_row = clip, embeds.float(), first_row
        # A width that does not fit is refused now, not at the first step.
        clip.project_states(self._embeds[0, :1])

    def cosine(self, learned: Rows) -> Float[Tensor, ""]:
        """Agreement in [-1, 1]; gradients pass to the learned rows."""
        after = self._first_row + learned.shape[1]
        rows = torch.cat([self._embeds[:, : self._first_row], learned, self._embeds[:, after:]], 1)
        told = self._clip.project_states(rows.mean(1))
        return F.cosine_similarity(told, self.way.to(told.device)[None]).mean()

    def gain(self, learned: Rows) -> Float[Tensor, ""]:
        """The cosine as the loss takes it, up to `MOST_COSINE`."""
        return self.cosine(learned).clamp(-1, MOST_COSINE)
