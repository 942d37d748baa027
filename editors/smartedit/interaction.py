"""What the language model said and the features of the picture change each other before the UNet reads both.

Bidirectional interaction module, SmartEdit, arXiv 2312.06739, section 4.2. Differs from the paper: its figure shows one
attention each way, the released networks are SAM's two-way transformer with two blocks and a final attention; both can
be built (`interaction_depth`, `final_attention`). Both outputs start at zero: a module that was never trained changes
nothing.
"""

from math import isqrt

import torch
from jaxtyping import Float
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import Attention, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional

from ..core.errors import ModelError
from .architecture import SmartEditArchitecture

_DOWNSAMPLE = 2
"""By how much attention between the two is narrower than they are, as in SAM."""


class Interaction(nn.Module):
    """From context and picture features to the context and the input features of the UNet."""

    def __init__(self, architecture: SmartEditArchitecture) -> None:
        """Build it with random weights and outputs of zero.

        Raises:
            ValueError: if the heads do not divide half of the width.
        """
        super().__init__()
        self.architecture = architecture
        self.kind = architecture.interaction
        if self.kind == "none":
            return
        width, heads = architecture.interaction_width, architecture.interaction_heads
        if width % (_DOWNSAMPLE * heads):
            raise ValueError(f"interaction_width must be a multiple of {_DOWNSAMPLE} x {heads} heads, got {width}")
        self.context_in = nn.Linear(architecture.context_width, width)
        self.positions = PositionEmbeddingRandom(width // 2)
        if self.kind == "two-way":
            self.transformer = TwoWayTransformer(
                depth=architecture.interaction_depth,
                embedding_dim=width,
                num_heads=heads,
                mlp_dim=architecture.interaction_mlp,
                attention_downsample_rate=_DOWNSAMPLE,
            )
            if not architecture.final_attention:
                del self.transformer.final_attn_token_to_image, self.transformer.norm_final_attn
            self.context_out = _zero(nn.Linear(width, architecture.context_width))
        else:
            self.attention = Attention(width, heads, downsample_rate=_DOWNSAMPLE)
            self.norm = nn.LayerNorm(width)
        self.features_out = _zero(nn.Conv2d(width, architecture.unet_width, kernel_size=1))

    def forward(
        self,
        context: Float[Tensor, "batch queries context_width"],
        picture: Float[Tensor, "batch patches width"],
        size: tuple[int, int],
    ) -> tuple[
        Float[Tensor, "batch queries context_width"],
        Float[Tensor, "batch unet_width latent_height latent_width"] | None,
    ]:
        """Let both change each other.

        Args:
            context: f, of the QFormer.
            picture: v, features of the patches of a square grid, row by row.
            size: rows and columns of the UNet's latents.

        Returns:
            f' and v'; None instead of v' where there is no interaction.

        Raises:
            ModelError: if the patches form no square, or their width is not the architecture's.

        Source: SmartEdit, section 4.2, in the released form; rows and columns are not swapped.
        """
        if self.kind == "none":
            return context, None
        grid = self._grid(picture)
        read = self.context_in(context)
        if self.kind == "two-way":
            said, seen = self._meet(read, grid)
            context = context + self.architecture.residual_scale * self.context_out(said)
        else:
            keys, places = grid.flatten(2).mT, self.positions((grid.shape[-2], grid.shape[-1])).flatten(1).mT[None]
            seen = self.norm(keys + self.attention(q=keys + places, k=read, v=read))
        # [batch, patches, width] -> [batch, width, rows, columns]
        spread = functional.interpolate(seen.mT.reshape(grid.shape), size=size, mode="bilinear", align_corners=False)
        return context, self.features_out(spread)

    def _grid(self, picture: Tensor) -> Tensor:
        batch, patches, width = picture.shape
        side = isqrt(patches)
        if side**2 != patches or width != self.architecture.interaction_width:
            raise ModelError(
                f"expected features of a square of patches of width {self.architecture.interaction_width}, got "
                f"{patches} of width {width}: use the language model that the checkpoint was made for"
            )
        return picture.to(self.context_in.weight.dtype).mT.reshape(batch, width, side, side)

    def _meet(self, read: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        places = self.positions((grid.shape[-2], grid.shape[-1])).expand(len(grid), -1, -1, -1)
        if self.architecture.final_attention:
            return self.transformer(grid, places, read)
        said, seen = read, grid.flatten(2).mT
        for block in self.transformer.layers:
            said, seen = block(queries=said, keys=seen, query_pe=read, key_pe=places.flatten(2).mT)
        return said, seen


def _zero(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    for parameter in layer.parameters():
        with torch.no_grad():
            parameter.zero_()
    return layer
