"""From the language model's states at the image tokens to the context that the UNet reads.

Queries that were learned look at the states and at each other, as in BLIP-2 (arXiv 2301.12597, section 3.1); SmartEdit
calls it Q_beta (arXiv 2312.06739, section 4.1). There is no text in it, so no feed-forward part of one either.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from .architecture import SmartEditArchitecture

_INITIAL_STD = 0.02
"""Of the queries and of all weights, as in BERT."""


class QFormer(nn.Module):
    """Reads as many rows as there are queries out of any number of states."""

    def __init__(self, architecture: SmartEditArchitecture, llm_width: int, *, dropout: float = 0.1) -> None:
        """Build it with random weights.

        Args:
            architecture: number and width of the queries, layers, heads.
            llm_width: width of the language model.
            dropout: share of activations left out while it is in training mode.
        """
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, architecture.queries, architecture.context_width))
        nn.init.normal_(self.queries, std=_INITIAL_STD)
        self.layers = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=architecture.context_width,
                num_hidden_layers=architecture.qformer_layers,
                num_attention_heads=architecture.qformer_heads,
                intermediate_size=architecture.qformer_intermediate,
                cross_attention_frequency=architecture.cross_every,
                encoder_hidden_size=llm_width,
                initializer_range=_INITIAL_STD,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
        )

    def forward(
        self, states: Float[Tensor, "batch tokens llm_width"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch queries context_width"]:
        """The context of each row of states.

        Args:
            states: of the language model.
            mask: which of them to look at, at least one in each row; None = at all.
        """
        queries = self.queries.expand(len(states), -1, -1)
        return self.layers(
            query_embeds=queries, encoder_hidden_states=states.to(queries.dtype), encoder_attention_mask=mask
        ).last_hidden_state
