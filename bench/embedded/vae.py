"""Stage 1 of the embedded set: the autoencoder.

It bounds the quality of every later edit, so object pixels weigh more than the floor, and the penalty on the
posterior is small. Afterwards the mean and scale of the latents are folded into `quant_conv` and `post_quant_conv`, so
that latents have unit variance without a scaling factor, the unscaled condition latents included.
"""

from dataclasses import dataclass, field

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ...editors import OptimizeConfig
from ..blocks.pairs import make_pairs
from ..blocks.scene import Split


@dataclass(frozen=True, kw_only=True)
class VAERecipe:
    """Architecture and training of the autoencoder."""

    block_out_channels: tuple[int, ...] = (32, 64, 96)
    """Width of each resolution; each but the last halves the picture."""
    latent_channels: int = 4
    image_size: int = 64
    """Pixels."""
    batch_size: int = 8
    object_weight: float = 6.0
    """Weight of pixels of blocks against 1 for the rest."""
    kl_weight: float = 1e-4
    """Weight of the mean KL divergence per latent element, nats."""
    blurred_share: float = 0.2
    """Share of pictures blurred as renders of a small radiance field are, in [0, 1]."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(steps=4800, learning_rate=1.2e-3, warmup_steps=100, ema_decay=0.995)
    )


def build_vae(recipe: VAERecipe) -> AutoencoderKL:
    """A new autoencoder with random weights."""
    blocks = len(recipe.block_out_channels)
    return AutoencoderKL(
        block_out_channels=recipe.block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=16,
        sample_size=recipe.image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def vae_batch(
    recipe: VAERecipe, split: Split, start: int, generator: torch.Generator, device: torch.device | str
) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 1 height width"]]:
    """Pictures in [0, 1], half of them truly edited ones, and the weight of each pixel."""
    pairs = make_pairs(
        split,
        range(start, start + recipe.batch_size // 2),
        edits=(1, 2),
        height=recipe.image_size,
        device=device,
    )
    images = torch.cat([pairs.source, pairs.target])
    objects = torch.cat([pairs.source_objects, pairs.target_objects])
    return blur_some(images, recipe.blurred_share, generator), 1 + (recipe.object_weight - 1) * objects


def blur_some(
    images: Float[Tensor, "batch channels height width"], share: float, generator: torch.Generator
) -> Float[Tensor, "batch channels height width"]:
    """Blur a share of the pictures, with a random width and a little noise.

    Channels of one row are treated alike, so that several pictures stacked along them are blurred together.
    """
    draw = torch.rand(4, generator=generator, device=generator.device).tolist()
    count = round(share * len(images) * 2 * draw[0])
    if not count:
        return images
    order = torch.randperm(len(images), generator=generator, device=generator.device)[:count].to(images.device)
    blurred = gaussian_blur(images[order], [5, 5], [0.4 + 0.8 * draw[1]])
    noise = torch.randn(blurred.shape, generator=generator, device=generator.device).to(images.device)
    images = images.clone()
    images[order] = (blurred + 0.02 * draw[2] * noise).clamp(0, 1)
    return images


def vae_loss(
    vae: AutoencoderKL,
    recipe: VAERecipe,
    images: Float[Tensor, "batch 3 height width"],
    weights: Float[Tensor, "batch 1 height width"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Weighted reconstruction error plus the posterior's KL divergence."""
    posterior = vae.encode(images * 2 - 1).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator, device=generator.device).to(images.device)
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    error = decoded - (images * 2 - 1)
    weights = weights / weights.mean()
    reconstruction = ((error.abs() + 4 * error**2) * weights).mean()
    return reconstruction + recipe.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()


@torch.no_grad()
def fold_latent_statistics(vae: AutoencoderKL, images: Float[Tensor, "batch 3 height width"]) -> None:
    """Give each latent channel of these pictures zero mean and unit variance, in place; decoded ones stay the same."""
    latents = vae.encode(images * 2 - 1).latent_dist.mean
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    scale = torch.cat([1 / std, torch.ones_like(std)])
    shift = torch.cat([-mean / std, -2 * std.log()])
    quant.weight.mul_(scale[:, None, None, None])
    quant.bias.mul_(scale).add_(shift)
    post.bias.add_((post.weight[:, :, 0, 0] * mean).sum(1))
    post.weight.mul_(std.view(1, channels, 1, 1))
