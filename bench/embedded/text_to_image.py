"""The embedded text-to-image model: a text encoder and a UNet that draw a blocks scene from its caption.

Latent diffusion conditioned on text (arXiv 2112.10752, section 3.3), with v-prediction (arXiv 2202.00512, section 4)
and captions dropped for classifier-free guidance (arXiv 2207.12598, algorithm 1). As in the embedded editor, a second
loss asks the cross-attention of the words that name a block to cover its silhouette; it counts only where the noise
still lets the picture be seen, because before that nobody can know where a block will stand.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor
from transformers import CLIPTokenizer

from ...editors import (
    AttentionStore,
    Backbone,
    BackboneConfig,
    OptimizeConfig,
    OptimizeProgress,
    attention_control,
    diffusion_loss,
    optimize,
)
from .captions import Caption, caption_vocabulary, draw_caption
from .editor import EditorModel, NetworkRecipe, build_scheduler, localisation_losses
from .encoded_views import EncodedViews, Report, encode_views, view_latents
from .tokenizer import build_tokenizer
from .views import Views, ViewsRecipe, make_views

MOST_PHRASES = 5
_VALIDATION_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class TextToImageRecipe(NetworkRecipe):
    """Architecture and training of the text encoder and the UNet that draw from a caption."""

    block_out_channels: tuple[int, ...] = (48, 96)
    batch_size: int = 16
    drop_text: float = 0.12
    """Share of samples that lose their caption, in [0, 1]."""
    object_weight: float = 3.0
    """Weight of latents of blocks against 1 for the rest."""
    ratio_weight: float = 0.1
    """Weight of the attention mass outside a named block."""
    flat_weight: float = 0.2
    """Weight of the unevenness of attention on a named block, and its level outside."""
    least_signal: float = 0.1
    """Least `alphas_cumprod` at which attention is asked to cover the blocks, in [0, 1]."""
    stacked_shards: int = 4
    """Shards of views that are rendered a second time, with something on one of the blocks."""
    views: ViewsRecipe = field(default_factory=lambda: ViewsRecipe(shards=15))
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(steps=5300, learning_rate=8e-4, warmup_steps=200, ema_decay=0.999)
    )


@dataclass(frozen=True, kw_only=True)
class TrainedText:
    """The networks of a model that draws from captions, with or without a mask."""

    vae: AutoencoderKL
    model: EditorModel
    tokenizer: CLIPTokenizer
    recipe: TextToImageRecipe
    """What the text encoder and the UNet are; and what views it learned on."""
    step: int
    """Gradient steps it has seen."""


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """Token ids of captions, and where the words that name blocks are."""

    ids: Int[Tensor, "batch tokens"]
    keywords: Float[Tensor, "batch phrase tokens"]
    """Weights that sum to one over the words of each phrase, then over its noun alone; zeros where there is none."""
    silhouettes: Bool[Tensor, "batch phrase height width"]
    """The blocks of each phrase; nothing where there is none."""


def draw_captions(views: Views, rows: list[int], flips: list[bool], rng: np.random.Generator) -> list[Caption]:
    """A caption for each view, or for its mirror image."""
    found: list[Caption] = []
    for row, flip in zip(rows, flips, strict=True):
        across = [-x if flip else x for x in views.across(row)]
        found.append(draw_caption(rng, views.scenes[row], visible=views.visible(row), across=across))
    return found


def tokenize_captions(
    captions: list[Caption], tokenizer: CLIPTokenizer, index: Int8[Tensor, "batch height width"]
) -> CaptionBatch:
    """Token ids and named blocks of captions.

    Args:
        captions: one a picture; each of their words is one token, after the start.
        tokenizer: the model's.
        index: which block each pixel of the pictures sees.
    """
    device, length = index.device, tokenizer.model_max_length
    texts = [caption.text for caption in captions]
    ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    keywords = torch.zeros(len(captions), 2 * MOST_PHRASES, length)
    silhouettes = torch.zeros(len(captions), 2 * MOST_PHRASES, *index.shape[1:], dtype=torch.bool, device=device)
    for row, caption in enumerate(captions):
        named = [phrase for phrase in caption.phrases if phrase.words[-1] + 2 < length]
        for i, phrase in enumerate(named[:MOST_PHRASES]):
            keywords[row, i, [word + 1 for word in phrase.words]] = 1 / len(phrase.words)
            keywords[row, MOST_PHRASES + i, phrase.noun + 1] = 1
            inside = torch.isin(index[row], torch.tensor(phrase.blocks, dtype=index.dtype, device=device))
            silhouettes[row, i] = silhouettes[row, MOST_PHRASES + i] = inside
    return CaptionBatch(ids=ids.to(device), keywords=keywords.to(device), silhouettes=silhouettes)


def drop_captions(
    ids: Int[Tensor, "batch tokens"], dropped: Bool[Tensor, " batch"], tokenizer: CLIPTokenizer
) -> Int[Tensor, "batch tokens"]:
    """The ids, with those of the empty text where a caption is dropped."""
    empty = tokenizer([""], padding="max_length", max_length=ids.shape[1], return_tensors="pt").input_ids
    return torch.where(dropped[:, None], empty.to(ids.device), ids)


def text_to_image_loss(
    model: EditorModel,
    recipe: TextToImageRecipe,
    scheduler: DDIMScheduler,
    data: EncodedViews,
    tokenizer: CLIPTokenizer,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Denoising and localisation loss of one random batch."""
    device = data.latents.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(device)

    batch = recipe.batch_size
    rows = (uniform(batch) * len(data.latents)).long()
    flips = uniform(batch) < 0.5
    rng = np.random.default_rng(int(uniform(1).double().item() * 2**24))
    captions = draw_captions(data.views, rows.tolist(), flips.tolist(), rng)
    index = torch.where(flips[:, None, None], data.index[rows].flip(-1), data.index[rows])
    tokens = tokenize_captions(captions, tokenizer, index)
    dropped = uniform(batch) < recipe.drop_text
    clean = data.latents[rows, flips.long()]
    noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(device)
    # What stands where is decided at high noise, so high timesteps are drawn a little more often.
    timesteps = (uniform(batch) ** 0.75 * 1000).long().clamp(0, 999)

    size = (clean.shape[-2], clean.shape[-1])
    objects = F.adaptive_avg_pool2d((index >= 0).float()[:, None], size)
    store = AttentionStore(tokens=size[0] * size[1], stages=("up",))
    with attention_control(model.unet, [store], branches=("text",)):
        loss = diffusion_loss(
            model.unet,
            scheduler,
            clean,
            noise=noise,
            timesteps=timesteps,
            embeds=model.text_encoder(drop_captions(tokens.ids, dropped, tokenizer)).last_hidden_state,
            weight=1 + (recipe.object_weight - 1) * objects,
        )
    shown = scheduler.alphas_cumprod.to(device)[timesteps] >= recipe.least_signal
    masks = F.adaptive_avg_pool2d(tokens.silhouettes.float(), size).flatten(2)
    masks = masks * (shown & ~dropped)[:, None, None]
    for layer in store.layers:
        ratio, flat = localisation_losses(torch.einsum("bqk,bpk->bpq", layer, tokens.keywords), masks)
        loss = loss + (recipe.ratio_weight * ratio + recipe.flat_weight * flat) / len(store.layers)
    return loss


def train_text_to_image(
    recipe: TextToImageRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float,
    report: Report,
    vae: AutoencoderKL | None = None,
) -> TrainedText | None:
    """Go on training in `folder` for one slice.

    Args:
        recipe: what to train.
        folder: where the rendered views (`render_views`), their latents and the state live.
        device: where to train.
        max_seconds: length of this slice; a shard that is being encoded is finished.
        report: receives progress lines.
        vae: the set's autoencoder; None = the installed set's.

    Returns:
        The averaged networks as they stand, finished when the step is the recipe's last; None before any learning.
    """
    end = time.monotonic() + max_seconds
    vae = vae or Backbone.load(BackboneConfig(model="embedded", device=str(device), dtype="float32")).vae
    data = encode_recipe(recipe, vae, folder, report, device, deadline=end)
    if data is None:
        return None
    tokenizer, model = build_text_model(recipe, vae, device)
    scheduler = build_scheduler()
    step, average = optimize(
        dict(model.named_parameters()),
        lambda step, generator: text_to_image_loss(model, recipe, scheduler, data, tokenizer, generator),
        recipe.optimize,
        state_path=folder / "text_to_image.state",
        max_seconds=end - time.monotonic(),
        report=report_steps("text-to-image", report),
    )
    model.load_state_dict({**model.state_dict(), **average})
    return TrainedText(vae=vae, model=model.eval(), tokenizer=tokenizer, recipe=recipe, step=step)


def encode_recipe(
    recipe: TextToImageRecipe,
    vae: AutoencoderKL,
    folder: Path,
    report: Report,
    device: torch.device | str,
    *,
    deadline: float,
) -> EncodedViews | None:
    """`encode_views` of what the recipe learns on."""
    return encode_views(
        recipe.views, vae, folder, report, device, stacked_shards=recipe.stacked_shards, deadline=deadline
    )


def build_text_model(
    recipe: TextToImageRecipe, vae: AutoencoderKL, device: torch.device | str, *, condition_channels: int = 0
) -> tuple[CLIPTokenizer, EditorModel]:
    """The captions' tokenizer, and a model with random weights for the autoencoder's latents."""
    tokenizer = build_tokenizer(caption_vocabulary(), length=recipe.text_length)
    size = recipe.views.image_size // 2 ** (len(vae.config.block_out_channels) - 1)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimize.seed)
        model = EditorModel(
            recipe,
            vocabulary=len(tokenizer),
            channels=vae.config.latent_channels,
            size=size,
            condition_channels=condition_channels,
        )
    return tokenizer, model.to(device)


def report_steps(name: str, report: Report) -> Callable[[OptimizeProgress], None]:
    """Reports an optimisation as lines of text."""

    def show(progress: OptimizeProgress) -> None:
        report(f"{name} {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    return show


@torch.no_grad()
def measure_text_to_image(trained: TrainedText, device: torch.device | str, *, views: int = 256) -> float:
    """Mean squared error of the v-prediction on that many validation views: fixed captions, noise and timesteps."""
    shown = make_views(trained.recipe.views, "validation", range(views), device=device)
    latents = view_latents(trained.vae, shown, device)[:, 0].to(device)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    captions = draw_captions(shown, list(range(views)), [False] * views, rng)
    ids = tokenize_captions(captions, trained.tokenizer, shown.index).ids.to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    timesteps = ((torch.arange(len(latents)) + 0.5) * 1000 / len(latents)).long().to(device)
    losses: list[Tensor] = []
    for at in range(0, len(latents), _VALIDATION_BATCH):
        part = slice(at, at + _VALIDATION_BATCH)
        losses.append(
            diffusion_loss(
                trained.model.unet,
                build_scheduler(),
                latents[part],
                noise=noise[part],
                timesteps=timesteps[part],
                embeds=trained.model.text_encoder(ids[part]).last_hidden_state,
            )
        )
    return torch.stack(losses).mean().item()
