"""Stage 3 of the embedded set: the text encoder and the InstructPix2Pix UNet, trained together from scratch.

The denoising loss is InstructPix2Pix's (arXiv 2211.09800, section 3.2, with its dropping of conditions for guidance).
Differs from the paper: a sample that loses only its text has its own source as the target, because a small world is
edited so much that "any edit" would otherwise be what the empty instruction means.
At this size, attention does not localise by itself, so a second loss asks the cross-attention maps of the named object
to cover its true mask (TokenCompose's ratio term, arXiv 2312.03626, equation 3, and a flatness term). Localisation
of the embedded set is thus trained in, and says nothing about the real model's.
"""

from dataclasses import dataclass, field

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...editors import (
    AttentionStore,
    Instruction,
    OptimizeConfig,
    attention_control,
    compose_instructions,
    diffusion_loss,
)
from .corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """Architecture of a text encoder and the UNet that learns with it."""

    block_out_channels: tuple[int, ...] = (64, 128)
    layers_per_block: int = 1
    attention_heads: int = 4
    text_width: int = 128
    text_layers: int = 3
    text_length: int = 48
    """Tokens, start and end included."""


@dataclass(frozen=True, kw_only=True)
class EditorRecipe(NetworkRecipe):
    """Architecture and training of the text encoder and the UNet."""

    batch_size: int = 16
    drop_text: float = 0.06
    """Share of samples that lose their text; as many lose their picture, and as many both. A sample that loses its text
    alone has to come back unchanged: the empty instruction changes nothing."""
    changed_weight: float = 3.0
    """Extra weight of latents that truly change."""
    ratio_weight: float = 0.1
    """Weight of the attention mass outside the true mask."""
    flat_weight: float = 0.4
    """Weight of the unevenness of attention inside the true mask, and its level outside."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(steps=6000, learning_rate=6e-4, warmup_steps=200, ema_decay=0.999)
    )


class EditorModel(nn.Module):
    """The two networks that learn together."""

    def __init__(
        self, recipe: NetworkRecipe, *, vocabulary: int, channels: int, size: int, condition_channels: int | None = None
    ) -> None:
        """Build with random weights, for latents of `channels` x `size` x `size`.

        The UNet reads further `condition_channels` beside them; None = as many, those of a condition picture.
        """
        super().__init__()
        levels = len(recipe.block_out_channels)
        self.unet = UNet2DConditionModel(
            sample_size=size,
            in_channels=channels + (channels if condition_channels is None else condition_channels),
            out_channels=channels,
            block_out_channels=recipe.block_out_channels,
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            layers_per_block=recipe.layers_per_block,
            cross_attention_dim=recipe.text_width,
            attention_head_dim=recipe.attention_heads,
            norm_num_groups=16,
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=recipe.text_width,
                intermediate_size=4 * recipe.text_width,
                num_hidden_layers=recipe.text_layers,
                num_attention_heads=4,
                max_position_embeddings=recipe.text_length,
                projection_dim=recipe.text_width,
                bos_token_id=vocabulary - 2,
                eos_token_id=vocabulary - 1,
                pad_token_id=vocabulary - 1,
            )
        )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, predicting v."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


@dataclass(frozen=True, kw_only=True)
class TokenizedCorpus:
    """Token ids of every pair, and which of them name the object of each instruction."""

    ids: Int[Tensor, "pair tokens"]
    keywords: Float[Tensor, "pair phrase tokens"]
    """Weights that sum to one over the keyword of each instruction, then over its last word alone; zeros where there
    is none."""
    empty: Int[Tensor, "1 tokens"]
    """Ids of the empty text."""


def tokenize_corpus(corpus: Corpus, tokenizer: CLIPTokenizer, device: torch.device | str) -> TokenizedCorpus:
    """Tokenise every pair with the same layout the editors use."""
    length = tokenizer.model_max_length
    most = corpus.masks.shape[1]
    ids = torch.zeros(len(corpus.texts), length, dtype=torch.long)
    keywords = torch.zeros(len(corpus.texts), 2 * most, length)
    for row, pair in enumerate(corpus.texts):
        layout = compose_instructions([Instruction(text=t, keyword=k) for t, k in pair], tokenizer)
        ids[row] = layout.ids[0]
        for i, columns in enumerate(layout.keyword_columns):
            keywords[row, i, list(columns)] = 1 / len(columns)
            keywords[row, most + i, columns[-1]] = 1
    empty = tokenizer([""], padding="max_length", max_length=length, return_tensors="pt").input_ids
    return TokenizedCorpus(ids=ids.to(device), keywords=keywords.to(device), empty=empty.to(device))


def localisation_losses(
    maps: Float[Tensor, "batch phrase cell"], masks: Float[Tensor, "batch phrase cell"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How much attention misses the mask, and how uneven it is.

    Args:
        maps: attention of each phrase over the picture, >= 0.
        masks: share of each cell that belongs to the phrase's object; all zeros = no phrase.

    Returns:
        The ratio term (1 - share of attention inside the mask)^2, and the flatness term: squared deviation from the
        mean level inside, plus squared relative level outside, each averaged over its own area.
    """
    there = (masks.sum(-1) > 0).float()
    inside = masks.sum(-1).clamp(min=1e-6)
    outside = (1 - masks).sum(-1).clamp(min=1e-6)
    level = ((maps * masks).sum(-1) / inside).clamp(min=1e-6)
    share = (maps * masks).sum(-1) / maps.sum(-1).clamp(min=1e-6)
    relative = maps / level[..., None]
    uneven = ((relative - 1).clamp(max=3) ** 2 * masks).sum(-1) / inside
    spill = (relative.clamp(max=3) ** 2 * (1 - masks)).sum(-1) / outside
    count = there.sum().clamp(min=1)
    return ((1 - share) ** 2 * there).sum() / count, ((uneven + spill) * there).sum() / count


def editor_loss(
    model: EditorModel,
    recipe: EditorRecipe,
    scheduler: DDIMScheduler,
    corpus: Corpus,
    tokens: TokenizedCorpus,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Denoising and localisation loss of one random batch."""
    device = corpus.target.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(device)

    batch = recipe.batch_size
    rows = (uniform(batch) * len(corpus.target)).long()
    target, condition = corpus.target[rows], corpus.source[corpus.scene[rows]]
    drop = uniform(batch)
    no_text = (drop < recipe.drop_text) | ((drop > 2 * recipe.drop_text) & (drop < 3 * recipe.drop_text))
    no_image = (drop > recipe.drop_text) & (drop < 3 * recipe.drop_text)
    unchanged = no_text & ~no_image
    target = torch.where(unchanged[:, None, None, None], condition, target)
    ids = torch.where(no_text[:, None], tokens.empty, tokens.ids[rows])
    condition = torch.where(no_image[:, None, None, None], 0.0, condition)

    # Instructions are decided at high noise, so high timesteps are drawn more often.
    timesteps = (uniform(batch).sqrt() * 1000).long().clamp(0, 999)
    noise = torch.randn(target.shape, generator=generator, device=generator.device).to(device)

    cells = target.shape[-2] * target.shape[-1]
    store = AttentionStore(tokens=cells, stages=("up",))
    embeds = model.text_encoder(ids).last_hidden_state
    with attention_control(model.unet, [store], branches=("text",)):
        loss = diffusion_loss(
            model.unet,
            scheduler,
            target,
            noise=noise,
            timesteps=timesteps,
            embeds=embeds,
            condition=condition,
            weight=1 + recipe.changed_weight * corpus.changed[rows] * ~unchanged[:, None, None, None],
        )

    named = tokens.keywords[rows] * (~(no_text | no_image))[:, None, None]
    masks = corpus.masks[rows].flatten(2).repeat(1, 2, 1)
    masks = masks * (named.sum(-1, keepdim=True) > 0)
    for layer in store.layers:
        ratio, flat = localisation_losses(torch.einsum("bqk,bpk->bpq", layer, named), masks)
        share = 1 / len(store.layers)
        loss = loss + share * (recipe.ratio_weight * ratio + recipe.flat_weight * flat)
    return loss
