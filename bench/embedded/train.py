"""Trains the embedded set, stage by stage, in slices that resume: autoencoder, latents, editor, export."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from ...editors import OptimizeProgress, optimize
from .vae import VAERecipe, build_vae, fold_latent_statistics, vae_batch, vae_loss

_VALIDATION_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class EmbeddedRecipe:
    """Everything that decides the weights of the embedded set."""

    vae: VAERecipe = field(default_factory=VAERecipe)


Report = Callable[[str], None]


def train_vae(
    recipe: VAERecipe, folder: Path, *, device: torch.device | str, max_seconds: float, report: Report
) -> AutoencoderKL | None:
    """Train (or resume) the autoencoder; None while unfinished.

    Args:
        recipe: architecture and training.
        folder: where state and result live; a finished result is loaded, not trained again.
        device: where to train.
        max_seconds: length of this slice.
        report: receives progress lines.
    """
    torch.manual_seed(recipe.optimize.seed)
    vae = build_vae(recipe).to(device, memory_format=torch.channels_last)
    finished = folder / "vae.safetensors"
    if finished.exists():
        vae.load_state_dict(load_file(finished))
        return vae.eval()
    parameters = {name: p for name, p in vae.named_parameters()}

    def loss_fn(step: int, generator: torch.Generator) -> torch.Tensor:
        images, weights = vae_batch(recipe, "train", step * recipe.batch_size // 2, generator, device)
        return vae_loss(vae, recipe, images, weights, generator)

    def show(progress: OptimizeProgress) -> None:
        report(f"vae {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    step, average = optimize(
        parameters, loss_fn, recipe.optimize, state_path=folder / "vae.state", max_seconds=max_seconds, report=show
    )
    vae.load_state_dict({**vae.state_dict(), **average})
    vae.eval()
    for line in measure_vae(vae, recipe, device).items():
        report("vae {}: {:.2f} dB".format(*line))
    if step < recipe.optimize.steps:
        return None
    generator = torch.Generator(device).manual_seed(0)
    images = torch.cat(
        [vae_batch(recipe, "train", 10_000_000 + i * recipe.batch_size, generator, device)[0] for i in range(32)]
    )
    fold_latent_statistics(vae, images)
    save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, finished)
    return vae


@torch.no_grad()
def measure_vae(vae: AutoencoderKL, recipe: VAERecipe, device: torch.device | str) -> dict[str, float]:
    """PSNR in dB of the round trip on validation pictures: whole, on blocks, elsewhere."""
    errors, objects = [], []
    generator = torch.Generator(device).manual_seed(1)
    for start in range(0, _VALIDATION_PICTURES, recipe.batch_size):
        images, weights = vae_batch(recipe, "validation", start, generator, device)
        decoded = vae.decode(vae.encode(images * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
        errors.append((decoded - images).pow(2).mean(1, keepdim=True))
        objects.append(weights > 1)
    error, inside = torch.cat(errors), torch.cat(objects)
    parts = {"psnr": error.mean(), "psnr_objects": error[inside].mean(), "psnr_rest": error[~inside].mean()}
    return {name: -10 * value.log10().item() for name, value in parts.items()}
