"""A caption of pictures that nobody wrote: words whose CLIP embedding is closest to theirs, found by gradient.

Source: Hard Prompts Made Easy (PEZ), arXiv 2302.03668, algorithm 1: soft embeddings are learned, each step is taken
where their nearest tokens are, and the best tokens met are the caption. Visii (arXiv 2307.14331) starts from one of the
pictures after an edit, which InstructBrush calls the content-oriented initialisation and leaves out.
Differs from the paper: only tokens that end a word and can be printed are taken, so that the caption, read again, is
the same tokens.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..core.optimize import OptimizeConfig, optimize
from ..core.types import Image
from .brush_clip import ClipScorer
from .brush_options import CaptionSearchConfig

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that are no text."""


def search_caption(image: Image, clip: ClipScorer, config: CaptionSearchConfig | None = None) -> str:
    """The caption of pictures that CLIP agrees with most.

    Args:
        image: what it is to describe; each step looks at one of them.
        clip: judges.
        config: how many tokens, and how long to search.
    """
    best = _search(image, clip, config or CaptionSearchConfig()).best
    return " ".join(clip.processor.tokenizer.decode(best.tolist()).split())


def _search(image: Image, clip: ClipScorer, config: CaptionSearchConfig) -> "_Search":
    search = _Search(image, clip, config)
    optimize(
        {"soft": search.soft},
        search,
        OptimizeConfig(
            steps=config.steps,
            learning_rate=config.learning_rate,
            final_share=1.0,
            warmup_steps=0,
            weight_decay=config.weight_decay,
            max_grad_norm=math.inf,
            ema_decay=0.0,
            seed=config.seed,
        ),
    )
    return search


class _Search:
    """The loss of the soft tokens, and the best hard ones it has met."""

    def __init__(self, image: Image, clip: ClipScorer, config: CaptionSearchConfig) -> None:
        self._clip, self._tokenizer = clip, clip.processor.tokenizer
        self._wanted = clip.embed_images(image)
        self._table: Tensor = clip.network.text_model.get_input_embeddings().weight.detach()
        self._allowed = torch.tensor(_readable_words(self._tokenizer, len(self._table)), device=self._table.device)
        candidates = self._allowed.nonzero()[:, 0]
        generator = torch.Generator().manual_seed(config.seed)
        chosen = torch.randint(len(candidates), (config.tokens,), generator=generator)
        self.best: Int[Tensor, " tokens"] = candidates[chosen.to(candidates.device)]
        self._best_cosine: Float[Tensor, ""] = torch.full((), -torch.inf, device=self._table.device)
        self.soft = self._table[self.best].float().clone().requires_grad_()

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        """1 - cosine with one of the pictures, at the nearest tokens; the gradient goes to the soft ones."""
        with torch.no_grad():
            found = F.normalize(self.soft, dim=-1) @ F.normalize(self._table.float(), dim=-1).T
            tokens = found.masked_fill(~self._allowed, -torch.inf).argmax(1)
        hard = self._table[tokens].float()
        told = self._tell(tokens, self.soft + (hard - self.soft).detach())
        cosines = self._wanted @ told
        better = cosines.mean() > self._best_cosine
        self._best_cosine = torch.where(better, cosines.mean().detach(), self._best_cosine)
        self.best = torch.where(better, tokens, self.best)
        row = torch.randint(len(cosines), (), generator=generator, device=generator.device).to(cosines.device)
        return 1 - cosines[row]

    def _tell(
        self, tokens: Int[Tensor, " tokens"], embeds: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, " features"]:
        """What CLIP makes of a caption whose tokens have these embeddings."""
        network, tokenizer = self._clip.network, self._tokenizer
        ends = torch.tensor([tokenizer.bos_token_id, tokenizer.eos_token_id], device=tokens.device)
        ids = torch.cat([ends[:1], tokens, ends[1:]])[None]
        with _embedded_as(network.text_model.get_input_embeddings(), embeds):
            read = network.text_model(input_ids=ids).pooler_output
        return F.normalize(network.text_projection(read).float(), dim=-1)[0]


def _readable_words(tokenizer: Any, count: int) -> list[bool]:
    """Which tokens end a word and are text by themselves; single bytes of longer characters are none."""
    # A start or an end in the middle would cut the caption; neither ends a word.
    ends = [token.endswith("</w>") for token in tokenizer.convert_ids_to_tokens(range(count))]
    texts = tokenizer.batch_decode([[number] for number in range(count)])
    return [
        end and bool(text.strip()) and text.isprintable() and _UNREADABLE not in text
        for end, text in zip(ends, texts, strict=True)
    ]


@contextmanager
def _embedded_as(layer: Any, embeds: Float[Tensor, "tokens width"]) -> Iterator[None]:
    """Let a layer give these embeddings for what stands between the start and the end."""

    def replace_rows(_: Any, __: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], embeds[None].to(output), output[:, 1 + len(embeds) :]], 1)

    hook = layer.register_forward_hook(replace_rows)
    try:
        yield
    finally:
        hook.remove()
