"""The tensor vocabulary of the core.

`step` is a loop index, `timestep` a training time in 0..999, `strength` a share in [0, 1] and every mask has
1 = may change. Pixels are `height width`, latents `latent_height latent_width`.
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Image: TypeAlias = Float[Tensor, "batch 3 height width"]
"""RGB in [0, 1]."""
Mask: TypeAlias = Float[Tensor, "batch 1 height width"]
"""In [0, 1]; 1 = may change."""
Latents: TypeAlias = Float[Tensor, "batch channels latent_height latent_width"]
"""Scaled latents, about unit variance, where the diffusion runs."""
LatentMask: TypeAlias = Float[Tensor, "batch 1 latent_height latent_width"]
"""A mask at the resolution of the latents."""
PromptEmbeds: TypeAlias = Float[Tensor, "batch tokens width"]
"""Hidden states of the text encoder, one row per token."""
TokenIds: TypeAlias = Int[Tensor, "batch tokens"]
"""Token ids padded to the length of the text encoder."""
Timesteps: TypeAlias = Float[Tensor, " steps"] | Int[Tensor, " steps"]
"""Training times in the order in which they are visited (descending when denoising)."""

Branch: TypeAlias = str
"""A guidance branch, picked by name. InstructPix2Pix has `text` = both conditions, `image` = image condition and empty
text, `uncond` = neither; DiffEdit compares `text` with `source`, the caption of the picture as it is."""
