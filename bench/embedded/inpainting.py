"""The embedded inpainting model: paints what is inside a mask, from a caption and from what is around it.

As Stable Diffusion's inpainting checkpoints were made, it starts from the text-to-image weights; its UNet reads the
mask and the latents of the masked picture beside the noisy ones, in that order, through weights that begin at zero. The
masked picture is grey where it will be painted. Masks are silhouettes, boxes and whole pictures; many lie where
nothing stands, so that the shape of a mask does not tell that something has to appear in it.
"""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from ...editors import OptimizeConfig, diffusion_loss, dilate_mask, optimize, write_tensors
from . import DISK_HINT
from .captions import EMPTY_CAPTIONS, Caption, caption_of_block, draw_caption
from .editor import EditorModel, build_scheduler
from .encoded_views import EncodedViews, Report
from .stacks import take_views
from .text_to_image import (
    TrainedText,
    build_text_model,
    drop_captions,
    encode_recipe,
    report_steps,
    tokenize_captions,
)
from .views import Views

_SHARD = 1000
_GROUP = 50
_COVERED = 0.6
"""Share of a block that must lie under a mask for the caption to name it."""


@dataclass(frozen=True, kw_only=True)
class InpaintingRecipe:
    """Training of the inpainting UNet; its architecture is the text-to-image model's."""

    batch_size: int = 16
    drop_text: float = 0.12
    """Share of samples that lose their caption, in [0, 1]."""
    masks_per_view: int = 1
    """Masked versions of each view; every other one is mirrored."""
    shards: int = 12
    """Thousands of views that are masked; fewer where there are fewer."""
    whole_share: float = 0.15
    """Share of masks that cover the whole picture, in [0, 1]."""
    inside_weight: float = 4.0
    """Weight of latents under the mask against 1 for the rest, which is known."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(steps=1600, learning_rate=5e-4, warmup_steps=50, ema_decay=0.995)
    )


@dataclass(frozen=True, kw_only=True)
class MaskedViews:
    """Masked versions of encoded views."""

    data: EncodedViews
    rows: Tensor
    """View of each version."""
    flips: Bool[Tensor, " version"]
    """Whether it is the view's mirror image."""
    masks: Bool[Tensor, "version height width"]
    """What is to be painted, on the picture as it is shown, mirrored or not."""
    masked: Float[Tensor, "version channels latent_height latent_width"]
    """Latents of the picture with grey under the mask."""


def draw_mask(
    rng: np.random.Generator, recipe: InpaintingRecipe, views: Views, row: int
) -> Bool[Tensor, "height width"]:
    """Draw what is to be painted of a view: a block, a block's shape elsewhere, a box, or everything."""
    index = views.index[row]
    height, width = index.shape
    if rng.random() < recipe.whole_share:
        return torch.ones(height, width, dtype=torch.bool)
    kind = rng.random()
    visible = list(views.visible(row))
    if kind < 0.25 or (kind < 0.8 and not visible):
        sides = rng.uniform(0.15, 0.7, 2) * (height, width)
        top, left = rng.uniform(0, 1, 2) * ((height, width) - sides)
        box = torch.zeros(height, width, dtype=torch.bool)
        box[int(top) : math.ceil(top + sides[0]), int(left) : math.ceil(left + sides[1])] = True
        return box
    if kind < 0.8:
        mask = index == visible[int(rng.integers(len(visible)))]
    else:
        # The shape of a block of another view, where this view may show nothing.
        other = int(rng.integers(len(views.scenes)))
        shapes = list(views.visible(other))
        mask = views.index[other] == shapes[0] if shapes else torch.zeros(height, width, dtype=torch.bool)
        mask = mask.roll(
            (int(rng.integers(-height // 6, height // 6)), int(rng.integers(-width // 6, width // 6))), (0, 1)
        )
    if 0.6 < kind < 0.8:
        mask = _bounding_box(mask)
    return dilate_mask(mask[None, None].float(), int(rng.integers(1, 1 + max(1, height // 16))))[0, 0] > 0


def _bounding_box(mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    box = torch.zeros_like(mask)
    box[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1] = True
    return box


def caption_mask(
    rng: np.random.Generator, views: Views, row: int, mask: Bool[Tensor, "height width"], *, flip: bool
) -> Caption:
    """Draw a caption of what a mask covers: mostly of the block that fills most of it, sometimes of the whole picture.

    Args:
        rng: source of all randomness.
        views: what the mask belongs to.
        row: the view.
        mask: on the view as it was rendered, not mirrored.
        flip: whether the caption is for the mirror image.
    """
    scene, visible = views.scenes[row], views.visible(row)
    across = [-x if flip else x for x in views.across(row)]
    covered = {i: float(((views.index[row] == i) & mask).sum()) for i in visible}
    covered = {i: n for i, n in covered.items() if n >= _COVERED * visible[i]}
    if mask.all() or rng.random() < 0.15:
        return draw_caption(rng, scene, visible=visible, across=across)
    if not covered:
        return Caption(words=tuple(EMPTY_CAPTIONS[int(rng.integers(len(EMPTY_CAPTIONS)))].split()), phrases=())
    if len(covered) > 1 and rng.random() < 0.5:
        return draw_caption(rng, scene, visible=covered, across=across)
    return caption_of_block(rng, scene, max(covered, key=lambda i: covered[i]), visible=visible, across=across)


def mask_views(
    recipe: InpaintingRecipe,
    data: EncodedViews,
    vae: AutoencoderKL,
    folder: Path,
    report: Report,
    device: torch.device | str,
    *,
    deadline: float = math.inf,
) -> MaskedViews | None:
    """Mask and encode the views that are not yet, shard by shard, and read all that are; None while there is none."""
    views, count = data.views, recipe.masks_per_view
    parts: list[dict[str, Tensor]] = []
    last = min(recipe.shards * _SHARD, len(views.scenes))
    for shard, start in enumerate(range(0, last, _SHARD)):
        path = folder / f"masked_{shard:03d}.safetensors"
        end = min(start + _SHARD, last)
        if not path.exists():
            if time.monotonic() > deadline:
                break
            shown = take_views(views, start, end)
            write_tensors(path, _mask_shard(recipe, shown, shard, vae, device), hint=DISK_HINT)
            report(f"masked views {shard + 1}/{math.ceil(last / _SHARD)}")
        stored = load_file(path)
        parts.append({**stored, "rows": torch.arange(start, end).repeat_interleave(count)})
    if not parts:
        return None
    joined = {name: torch.cat([part[name] for part in parts]).to(device) for name in parts[0]}
    return MaskedViews(data=data, **joined)


def _mask_shard(
    recipe: InpaintingRecipe, views: Views, shard: int, vae: AutoencoderKL, device: torch.device | str
) -> dict[str, Tensor]:
    rng, count = np.random.default_rng([shard, 9]), recipe.masks_per_view
    rows = [row for row in range(len(views.scenes)) for _ in range(count)]
    flips = torch.arange(len(rows)) % 2 == shard % 2
    masks = torch.stack([draw_mask(rng, recipe, views, row) for row in rows])
    masks = torch.where(flips[:, None, None], masks.flip(-1), masks)
    latents: list[Tensor] = []
    for at in range(0, len(rows), _GROUP):
        part = slice(at, at + _GROUP)
        pictures = views.pictures[rows[part]].float() / 255
        pictures = torch.where(flips[part, None, None, None], pictures.flip(-1), pictures)
        emptied = torch.where(masks[part, None], 0.5, pictures).to(device)
        with torch.no_grad():
            encoded = vae.encode((emptied * 2 - 1).contiguous(memory_format=torch.channels_last)).latent_dist.mean
        latents.append(encoded.cpu())
    return {"flips": flips, "masks": masks, "masked": torch.cat(latents).contiguous()}


def inpainting_loss(
    model: EditorModel,
    recipe: InpaintingRecipe,
    scheduler: DDIMScheduler,
    versions: MaskedViews,
    tokenizer: CLIPTokenizer,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Denoising loss of one random batch; the text encoder is not learned."""
    data, device = versions.data, versions.masked.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(device)

    batch = recipe.batch_size
    chosen = (uniform(batch) * len(versions.rows)).long()
    rows, flips, masks = versions.rows[chosen], versions.flips[chosen], versions.masks[chosen]
    rng = np.random.default_rng(int(uniform(1).double().item() * 2**24))
    upright = torch.where(flips[:, None, None], masks.flip(-1), masks).cpu()
    captions = [
        caption_mask(rng, data.views, row, upright[i], flip=bool(flips[i])) for i, row in enumerate(rows.tolist())
    ]
    ids = tokenize_captions(captions, tokenizer, data.index[rows]).ids
    clean = data.latents[rows, flips.long()]
    noise = torch.randn(clean.shape, generator=generator, device=generator.device).to(device)
    timesteps = (uniform(batch) ** 0.75 * 1000).long().clamp(0, 999)
    cells = F.interpolate(masks[:, None].float(), clean.shape[-2:])
    with torch.no_grad():
        embeds = model.text_encoder(drop_captions(ids, uniform(batch) < recipe.drop_text, tokenizer)).last_hidden_state
    return diffusion_loss(
        model.unet,
        scheduler,
        clean,
        noise=noise,
        timesteps=timesteps,
        embeds=embeds,
        condition=torch.cat([cells, versions.masked[chosen]], 1),
        weight=1 + (recipe.inside_weight - 1) * cells,
    )


def start_inpainting(text: TrainedText, device: torch.device | str) -> EditorModel:
    """A model that ignores mask and masked picture, and otherwise is the text-to-image model."""
    channels = text.vae.config.latent_channels
    _, model = build_text_model(text.recipe, text.vae, device, condition_channels=1 + channels)
    weights = {name: value.clone() for name, value in text.model.state_dict().items()}
    wide = torch.zeros_like(model.unet.conv_in.weight)
    wide[:, :channels] = weights["unet.conv_in.weight"]
    model.load_state_dict({**weights, "unet.conv_in.weight": wide})
    model.text_encoder.requires_grad_(False)
    return model


def train_inpainting(
    recipe: InpaintingRecipe,
    folder: Path,
    *,
    text: TrainedText,
    device: torch.device | str,
    max_seconds: float,
    report: Report,
) -> TrainedText | None:
    """Go on training in `folder` for one slice.

    Args:
        recipe: what to train.
        folder: where the views, their latents, their masked versions and the state live.
        text: the finished text-to-image model, with its autoencoder.
        device: where to train.
        max_seconds: length of this slice; a shard that is being encoded is finished.
        report: receives progress lines.

    Returns:
        The averaged networks as they stand, finished when the step is the recipe's last; None before any learning.
    """
    end = time.monotonic() + max_seconds
    data = encode_recipe(text.recipe, text.vae, folder, report, device, deadline=end)
    versions = None if data is None else mask_views(recipe, data, text.vae, folder, report, device, deadline=end)
    if versions is None:
        return None
    model, scheduler = start_inpainting(text, device), build_scheduler()
    step, average = optimize(
        {name: value for name, value in model.named_parameters() if value.requires_grad},
        lambda step, generator: inpainting_loss(model, recipe, scheduler, versions, text.tokenizer, generator),
        recipe.optimize,
        state_path=folder / "inpainting.state",
        max_seconds=end - time.monotonic(),
        report=report_steps("inpainting", report),
    )
    model.load_state_dict({**model.state_dict(), **average})
    return replace(text, model=model.eval(), step=step)
