"""The embedded segmenter: a small CLIPSeg, trained from scratch to find the blocks that a phrase means.

Source: Image Segmentation Using Text and Image Prompts, arXiv 2112.10003, in transformers' classes.
Differs from the paper: text encoder and picture encoder are small, know nothing beforehand and learn together with the
decoder. Left alone, they settle for masks of all blocks, whatever the phrase. So three further heads, which are not
published, ask the picture encoder what can be said about each block, comparisons ("the left red cube") included, the
text encoder's one vector which words it was made from, and the two of them together for a first guess of the mask.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, CLIPTokenizer, ViTImageProcessor

from ...editors import PRESET_FILE, OptimizeConfig, OptimizeProgress, optimize
from ..blocks.instructions import vocabulary
from .phrases import (
    ATTRIBUTES,
    HARD_FAMILIES,
    MIRRORED_ATTRIBUTES,
    WORDS,
    PhraseBook,
    draw_phrase,
    mirror_phrase,
    target_mask,
    word_table,
)
from .tokenizer import build_tokenizer
from .vae import blur_some
from .views import ViewsRecipe, load_views, render_views

_MEAN, _STD = 0.5, 0.25
_POSITION_SCALE = 0.1
_SETTINGS = {"mask_threshold": 0.5, "knows": "the blocks world (small pictures of spheres, cubes and cylinders)"}
"""What the checkpoint brings along; the threshold was chosen on validation scenes."""


@dataclass(frozen=True, kw_only=True)
class SegmenterRecipe:
    """Architecture and training of the segmenter."""

    views: ViewsRecipe = field(default_factory=lambda: ViewsRecipe(shards=40))
    patch_size: int = 8
    """Side of the squares that are one token each, pixels."""
    vision_width: int = 128
    vision_layers: int = 4
    text_width: int = 96
    text_layers: int = 2
    text_length: int = 24
    """Tokens, start and end included."""
    heads: int = 4
    decoder_width: int = 64
    extract_layers: tuple[int, ...] = (1, 2, 3)
    """Layers of the picture encoder that the decoder reads, as many as it has layers itself."""
    batch_size: int = 8
    """Pictures in a step."""
    phrases: int = 4
    """Phrases asked of each picture."""
    absent_share: float = 0.15
    """Share of phrases for what is not there, in [0, 1]."""
    easy_share: float = 0.5
    """Probability to keep a view that offers nothing to compare, in [0, 1]; else another is drawn."""
    blurred_share: float = 0.15
    """Share of pictures blurred as renders of a small radiance field are, in [0, 1]."""
    attribute_weight: float = 8.0
    """Weight of the head that says what each block is."""
    word_weight: float = 1.0
    """Weight of the head that says which words a phrase holds."""
    guess_weight: float = 2.0
    """Weight of the head that guesses the mask from what the decoder's first layer gets."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(
            steps=12_000, learning_rate=1e-3, warmup_steps=300, weight_decay=0.01, ema_decay=0.999
        )
    )

    def __post_init__(self) -> None:
        if self.views.image_size % self.patch_size:
            raise ValueError(f"patch_size must divide {self.views.image_size}, got {self.patch_size}")
        if not all(0 <= layer < self.vision_layers for layer in self.extract_layers):
            raise ValueError(f"extract_layers must be in [0, {self.vision_layers}), got {self.extract_layers}")
        for name in ("absent_share", "easy_share", "blurred_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name):g}")


@dataclass(frozen=True, kw_only=True)
class TrainedSegmenter:
    """The segmenter as it stands."""

    model: CLIPSegForImageSegmentation
    tokenizer: CLIPTokenizer
    step: int
    """Gradient steps it has seen."""


@dataclass(frozen=True, kw_only=True)
class SegmenterBatch:
    """Pictures, phrases and their truth."""

    pictures: Float[Tensor, "batch 3 height width"]
    texts: list[str]
    """As many for each picture, picture by picture."""
    masks: Float[Tensor, "batch phrases height width"]
    attributes: Float[Tensor, "batch attributes rows columns"]
    """Share of each token's square that shows a block of which the attribute holds."""


def build_segmenter(recipe: SegmenterRecipe, tokenizer: CLIPTokenizer) -> CLIPSegForImageSegmentation:
    """A new segmenter with random weights."""
    config = CLIPSegConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": recipe.text_width,
            "intermediate_size": 4 * recipe.text_width,
            "num_hidden_layers": recipe.text_layers,
            "num_attention_heads": recipe.heads,
            "max_position_embeddings": recipe.text_length,
            # The phrase is what the encoder says at its end token, so its number must be the tokenizer's.
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": recipe.vision_width,
            "intermediate_size": 4 * recipe.vision_width,
            "num_hidden_layers": recipe.vision_layers,
            "num_attention_heads": recipe.heads,
            "image_size": recipe.views.image_size,
            "patch_size": recipe.patch_size,
        },
        projection_dim=recipe.text_width,
        extract_layers=list(recipe.extract_layers),
        reduce_dim=recipe.decoder_width,
        decoder_num_attention_heads=recipe.heads,
        decoder_intermediate_size=4 * recipe.decoder_width,
    )
    model = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        # Phrases modulate what the decoder sees from the first step on, instead of blanking it out.
        model.decoder.film_mul.bias.fill_(1.0)
        for film in (model.decoder.film_mul, model.decoder.film_add):
            nn.init.normal_(film.weight, std=recipe.text_width**-0.5)
        # Few pixels answer a phrase.
        model.decoder.transposed_convolution.get_parameter("bias").fill_(-2.0)
        position = model.clip.vision_model.embeddings.position_embedding.weight
        rows = recipe.views.image_size // recipe.patch_size
        position[1:] = _POSITION_SCALE * _wave_positions(rows, recipe.vision_width)
    return model


def _wave_positions(rows: int, width: int) -> Float[Tensor, "positions width"]:
    """Sines and cosines of the row and the column, from which neighbours and sides are easy to learn."""
    frequencies = math.pi / rows * 2 ** torch.linspace(-1, math.log2(rows) - 1, width // 4)
    angles = torch.arange(rows)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    across, down = waves.repeat(rows, 1), waves.repeat_interleave(rows, 0)
    return torch.cat([across, down], 1)


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """What the networks make of pictures and phrases."""

    logits: Float[Tensor, "batch phrases height width"]
    squares: Float[Tensor, "batch positions width"]
    """The picture encoder's last word on each square of a picture."""
    condition: Float[Tensor, "all_phrases condition_width"]
    """What the text encoder tells the decoder about each phrase."""
    modulated: Float[Tensor, "all_phrases positions decoder_width"]
    """The squares as the decoder's first layer gets them, modulated by the phrase."""


def segment_phrases(
    model: CLIPSegForImageSegmentation,
    pictures: Float[Tensor, "batch 3 height width"],
    tokens: Int[Tensor, "all_phrases tokens"],
) -> Segmented:
    """Find the same number of phrases in each picture, which is looked at only once.

    What the network's own `forward` computes for one phrase a picture; unlike it, this lets both encoders learn.

    Args:
        model: the segmenter.
        pictures: RGB in [0, 1].
        tokens: the phrases, picture by picture.
    """
    count = len(tokens) // len(pictures)
    seen = model.clip.vision_model((pictures - _MEAN) / _STD, output_hidden_states=True)
    layers = [seen.hidden_states[layer + 1].repeat_interleave(count, 0) for layer in model.extract_layers]
    spoken: Any = model.clip.get_text_features(tokens)
    decoder = model.decoder
    condition = spoken.pooler_output
    logits = decoder(layers, condition).logits
    scale, shift = decoder.film_mul(condition)[:, None], decoder.film_add(condition)[:, None]
    return Segmented(
        logits=logits.view(len(pictures), count, *logits.shape[-2:]),
        squares=seen.last_hidden_state[:, 1:],
        condition=condition,
        modulated=scale * decoder.reduces[0](layers[-1][:, 1:]) + shift,
    )


def tokenize_phrases(tokenizer: CLIPTokenizer, texts: Sequence[str], device: torch.device | str) -> Tensor:
    """Token numbers, padded to the longest; padding comes after the end token, which sees none of it."""
    return tokenizer(list(texts), padding=True, return_tensors="pt").input_ids.to(device)


def draw_batch(
    recipe: SegmenterRecipe, book: PhraseBook, generator: torch.Generator, device: torch.device | str
) -> SegmenterBatch:
    """Draw views, flip half of them, and ask phrases of them."""
    rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
    views = book.views
    chosen: list[int] = []
    texts: list[str] = []
    masks: list[Tensor] = []
    tables: list[Tensor] = []
    flips = rng.random(recipe.batch_size) < 0.5
    for flip in flips:
        view = int(rng.integers(len(views.scenes)))
        while not set(HARD_FAMILIES) & set(book.phrases(view)) and rng.random() >= recipe.easy_share:
            view = int(rng.integers(len(views.scenes)))
        chosen.append(view)
        index = views.index[view].flip(-1) if flip else views.index[view]
        for _ in range(recipe.phrases):
            phrase = draw_phrase(rng, book.phrases(view), views.scenes[view], absent_share=recipe.absent_share)
            texts.append(mirror_phrase(phrase.text) if flip else phrase.text)
            masks.append(target_mask(index, phrase))
        table = book.attributes(view).float()
        tables.append(_paint(table[:, list(MIRRORED_ATTRIBUTES)] if flip else table, index))
    pictures = views.pictures[chosen]
    pictures = torch.where(torch.from_numpy(flips)[:, None, None, None], pictures.flip(-1), pictures)
    shape = (recipe.batch_size, recipe.phrases, *pictures.shape[-2:])
    return SegmenterBatch(
        pictures=blur_some((pictures.float() / 255).to(device), recipe.blurred_share, generator),
        texts=texts,
        masks=torch.stack(masks).view(shape).to(device),
        attributes=F.avg_pool2d(torch.stack(tables), recipe.patch_size).to(device),
    )


def _paint(table: Tensor, index: Tensor) -> Tensor:
    """Give each pixel (attribute height width) what holds for the block it shows."""
    rows = torch.cat([table, table.new_zeros(1, table.shape[1])])
    return rows[index.long()].permute(2, 0, 1)


class SegmenterHeads(nn.Module):
    """What is asked of the two encoders while they learn."""

    def __init__(self, recipe: SegmenterRecipe) -> None:
        """Build with random weights."""
        super().__init__()
        self.attributes = nn.Linear(recipe.vision_width, len(ATTRIBUTES))
        self.words = nn.Linear(recipe.text_width, len(WORDS))
        self.modulated = nn.Linear(recipe.decoder_width, 1)


def segmenter_loss(
    model: CLIPSegForImageSegmentation,
    heads: SegmenterHeads,
    recipe: SegmenterRecipe,
    batch: SegmenterBatch,
    tokens: Int[Tensor, "all_phrases tokens"],
) -> Float[Tensor, ""]:
    """Cross-entropy and overlap (Dice) of the masks, and cross-entropy of what the heads say."""
    segmented = segment_phrases(model, batch.pictures, tokens)
    entropy = F.binary_cross_entropy_with_logits(segmented.logits, batch.masks)
    inside = segmented.logits.sigmoid()
    shared = (inside * batch.masks).sum((2, 3))
    area = batch.masks.sum((2, 3))
    # A phrase for what is absent has no overlap to maximise; cross-entropy alone teaches it.
    dice = (1 - (2 * shared + 1) / (inside.sum((2, 3)) + area + 1)) * (area > 0)
    said = heads.attributes(segmented.squares).transpose(1, 2).reshape(batch.attributes.shape)
    attributes = F.binary_cross_entropy_with_logits(said, batch.attributes)
    guess = heads.modulated(segmented.modulated).view(*batch.masks.shape[:2], *batch.attributes.shape[2:])
    modulated = F.binary_cross_entropy_with_logits(guess, F.avg_pool2d(batch.masks, recipe.patch_size))
    words = F.binary_cross_entropy_with_logits(
        heads.words(segmented.condition), word_table(batch.texts).to(tokens.device)
    )
    return (
        4 * entropy
        + 0.5 * dice.mean()
        + recipe.attribute_weight * attributes
        + recipe.word_weight * words
        + recipe.guess_weight * modulated
    )


def train_segmenter(
    recipe: SegmenterRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Callable[[str], None] = print,
) -> TrainedSegmenter | None:
    """Train (or resume) the segmenter on views that are rendered into `folder` first; its averaged weights.

    Args:
        recipe: what to train.
        folder: where the views and the state are.
        device: where to train.
        max_seconds: length of this slice; a shard of views that has begun is finished.
        report: receives progress lines.

    Returns:
        The segmenter, finished when its step is the recipe's last; None while views are missing.
    """
    end = time.monotonic() + max_seconds
    if not render_views(recipe.views, folder, report, device, deadline=end):
        return None
    tokenizer = build_tokenizer(vocabulary(), length=recipe.text_length)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimize.seed)
        model = build_segmenter(recipe, tokenizer).to(device)  # pyright: ignore[reportArgumentType]
        heads = SegmenterHeads(recipe).to(device)
    book = PhraseBook(load_views(recipe.views, folder))

    def loss_fn(step: int, generator: torch.Generator) -> Tensor:
        batch = draw_batch(recipe, book, generator, device)
        return segmenter_loss(model, heads, recipe, batch, tokenize_phrases(tokenizer, batch.texts, device))

    def show(progress: OptimizeProgress) -> None:
        report(f"segmenter {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    parameters = {f"model.{name}": value for name, value in model.named_parameters()}
    parameters |= {f"heads.{name}": value for name, value in heads.named_parameters()}
    step, average = optimize(
        parameters,
        loss_fn,
        recipe.optimize,
        state_path=folder / "segmenter.state",
        max_seconds=end - time.monotonic(),
        report=show,
    )
    weights = {name.removeprefix("model."): value for name, value in average.items() if name.startswith("model.")}
    model.load_state_dict({**model.state_dict(), **weights})
    return TrainedSegmenter(model=model.eval(), tokenizer=tokenizer, step=step)


def export_segmenter(trained: TrainedSegmenter, folder: Path) -> None:
    """Write a folder that transformers' `from_pretrained` and `--clipseg FOLDER` load, weights in half precision."""
    vision: Any = trained.model.config.vision_config
    processor = CLIPSegProcessor(
        image_processor=ViTImageProcessor(
            size={"height": vision.image_size, "width": vision.image_size},
            image_mean=[_MEAN] * 3,
            image_std=[_STD] * 3,
        ),
        tokenizer=trained.tokenizer,
    )
    state = trained.model.state_dict()
    half = {name: torch.from_numpy(value.cpu().numpy().astype("float16")) for name, value in state.items()}
    trained.model.save_pretrained(folder, state_dict=half)
    processor.save_pretrained(folder)
    # Stored in half precision, meant to run in full.
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    (folder / PRESET_FILE).write_text(json.dumps(_SETTINGS, indent=2) + "\n")
