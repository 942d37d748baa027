"""The embedded CLIP: a small one, trained from scratch to tell which caption belongs to which picture of blocks.

Source: Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020, section 2.3, in
transformers' classes.
Differs from the paper: the picture encoder starts from the segmenter's; pictures of a batch are states of the same few
scenes, and a caption that leaves something out is no wrong answer to a picture of which it is true. Two further terms,
which are not published, ask that the way from a picture to its edited one agrees with the way between their captions,
and with the projected mean of the hidden states that the embedded editor's own text encoder makes of the instruction:
Visii reads its learned embedding that way, whose editor shares its text encoder with CLIP, as ours does not.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTextModel, CLIPTokenizer, ViTImageProcessor

from ...editors import PRESET_FILE, OptimizeConfig, OptimizeProgress, SessionError, optimize
from ..blocks.scene import COLORS, MATERIALS, SHAPES, SIZES
from .captions import caption_vocabulary, draw_caption, full_caption
from .clip_views import States, StatesRecipe, block_words, caption_needs, is_true_of, load_states, render_states
from .phrases import mirror_phrase
from .tokenizer import build_tokenizer
from .vae import blur_some

_MEAN, _STD = 0.5, 0.25
_MOST_BLOCKS = 6
_SAVE_EVERY = 100
_LARGEST_SCALE = math.log(100.0)
_KNOWS = "the blocks world (small pictures of spheres, cubes and cylinders)"


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Architecture and training of the embedded CLIP."""

    states: StatesRecipe = field(default_factory=StatesRecipe)
    patch_size: int = 8
    """Side of the squares that are one token each, pixels."""
    vision_width: int = 128
    vision_layers: int = 4
    text_width: int = 128
    """That of the embedded editor's text encoder, whose hidden states share the projection."""
    text_layers: int = 3
    text_length: int = 48
    """Tokens, start and end included."""
    heads: int = 4
    projection: int = 128
    """Width of the space that pictures and texts meet in."""
    from_segmenter: bool = True
    """Start the picture encoder from the installed segmenter's."""
    batch_scenes: int = 12
    """Scenes in a step, each in all its states."""
    blurred_share: float = 0.25
    """Share of pictures blurred as an autoencoder or a small radiance field blurs, in [0, 1]."""
    direction_scale: float = 20.0
    """Inverse temperature of the two terms on directions, above 0."""
    caption_direction_weight: float = 0.5
    """Weight of the term on the way between captions."""
    instruction_weight: float = 0.5
    """Weight of the term on the editor's hidden states of the instruction."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(
            steps=700, learning_rate=6e-4, warmup_steps=60, weight_decay=0.05, ema_decay=0.99
        )
    )

    def __post_init__(self) -> None:
        if self.states.image_size % self.patch_size:
            raise ValueError(f"patch_size must divide {self.states.image_size}, got {self.patch_size}")
        if not 0 <= self.blurred_share <= 1:
            raise ValueError(f"blurred_share must be in [0, 1], got {self.blurred_share:g}")
        if self.batch_scenes < 2:
            raise ValueError(f"batch_scenes must be at least 2, got {self.batch_scenes}")
        if self.direction_scale <= 0:
            raise ValueError(f"direction_scale must be above 0, got {self.direction_scale:g}")


@dataclass(frozen=True, kw_only=True)
class TrainedClip:
    """CLIP as it stands."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    step: int
    """Gradient steps it has seen."""


@dataclass(frozen=True, kw_only=True)
class EditorText:
    """The embedded editor's text encoder, frozen, with its tokenizer."""

    model: CLIPTextModel
    tokenizer: CLIPTokenizer

    @torch.no_grad()
    def mean_states(self, texts: Sequence[str]) -> Float[Tensor, "texts features"]:
        """Mean over all tokens, padding included, of what the editor's UNet is told."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt", max_length=self.length
        )
        return self.model(tokens.input_ids.to(self.model.device)).last_hidden_state.mean(1)

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return int(self.tokenizer.model_max_length)


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Pictures and what is said of them."""

    pictures: Float[Tensor, "batch 3 height width"]
    """State by state of each scene, the unedited one first."""
    full: list[str]
    """A caption of everything that is seen in each picture."""
    drawn: list[str]
    """A caption of a part of it."""
    fits: Bool[Tensor, "batch batch"]
    """For each picture which of the drawn captions are true of it."""
    instructions: list[str]
    """What leads to each edited state, scene by scene."""


def build_clip(recipe: ClipRecipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A new CLIP, its picture encoder from the segmenter where the recipe says so."""
    layers = {"num_attention_heads": recipe.heads, "projection_dim": recipe.projection}
    config = CLIPConfig(
        text_config={
            **layers,
            "vocab_size": len(tokenizer),
            "hidden_size": recipe.text_width,
            "intermediate_size": 4 * recipe.text_width,
            "num_hidden_layers": recipe.text_layers,
            "max_position_embeddings": recipe.text_length,
            # A text is what the encoder says at its end token, so its number must be the tokenizer's.
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **layers,
            "hidden_size": recipe.vision_width,
            "intermediate_size": 4 * recipe.vision_width,
            "num_hidden_layers": recipe.vision_layers,
            "image_size": recipe.states.image_size,
            "patch_size": recipe.patch_size,
        },
        projection_dim=recipe.projection,
    )
    model = CLIPModel(config)
    if recipe.from_segmenter:
        stored = load_file(installed_part("clipseg") / "model.safetensors")
        prefix = "clip.vision_model."
        own = {name.removeprefix(prefix): value.float() for name, value in stored.items() if name.startswith(prefix)}
        model.vision_model.load_state_dict(own)
    return model


def installed_part(name: str) -> Path:
    """Folder of a part of the installed set.

    Raises:
        SessionError: if it is not installed.
    """
    folder = Path(str(files("maskedit.editors.embedded"))) / name
    if not folder.is_dir():
        raise SessionError(f"CLIP starts from the installed set, which has no {name}: train that first, with --install")
    return folder


def load_editor_text(device: torch.device | str) -> EditorText:
    """The text encoder of the installed editor."""
    folder = installed_part("instruct-pix2pix")
    model: Any = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return EditorText(model=model.float().to(device).eval().requires_grad_(False), tokenizer=tokenizer)


def draw_clip_batch(
    recipe: ClipRecipe, states: States, generator: torch.Generator, device: torch.device | str
) -> ClipBatch:
    """Draw scenes, mirror half of them, and say what their states show."""
    rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
    chosen = rng.choice(len(states), size=recipe.batch_scenes, replace=recipe.batch_scenes > len(states))
    flips = rng.random(recipe.batch_scenes) < 0.5
    views = states.views
    rows = [int(scene) * states.each + state for scene in chosen for state in range(states.each)]
    full = [full_caption(views.scenes[row], views.visible(row)).text for row in rows]
    drawn = [
        draw_caption(
            rng, views.scenes[row], visible=views.visible(row), across=[-x if flip else x for x in views.across(row)]
        )
        for row, flip in zip(rows, np.repeat(flips, states.each), strict=True)
    ]
    pictures = views.pictures[rows]
    mirrored = torch.from_numpy(np.repeat(flips, states.each))[:, None, None, None]
    pictures = torch.where(mirrored, pictures.flip(-1), pictures).float() / 255
    seen = block_words([views.scenes[row] for row in rows], blocks=_MOST_BLOCKS)
    return ClipBatch(
        pictures=blur_some(pictures.to(device), recipe.blurred_share, generator),
        full=full,
        drawn=[caption.text for caption in drawn],
        fits=is_true_of(caption_needs(drawn, blocks=_MOST_BLOCKS), seen).to(device),
        instructions=[
            mirror_phrase(text) if flip else text
            for scene, flip in zip(chosen, flips, strict=True)
            for text in states.instructions[int(scene)]
        ],
    )


def embed_pictures(
    model: CLIPModel, pictures: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch features"]:
    """Normalised embeddings of pictures in [0, 1] of the model's own size."""
    pixels: Any = (pictures - _MEAN) / _STD
    return F.normalize(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output), dim=-1)


def embed_captions(model: CLIPModel, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Float[Tensor, "texts features"]:
    """Normalised embeddings of texts; padding comes after the end token, which sees none of it."""
    tokens: Any = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").input_ids.to(model.device)
    return F.normalize(model.text_projection(model.text_model(input_ids=tokens).pooler_output), dim=-1)


def contrast(
    first: Float[Tensor, "batch width"],
    second: Float[Tensor, "batch width"],
    scale: Float[Tensor, ""] | float,
    ignored: Bool[Tensor, "batch batch"],
) -> Float[Tensor, ""]:
    """Symmetric contrastive loss: row i of one side belongs to row i of the other, and to none that is not ignored.

    Source: CLIP, figure 3.
    """
    others = ignored & ~torch.eye(len(first), dtype=torch.bool, device=first.device)
    logits = (scale * first @ second.T).masked_fill(others, -torch.inf)
    target = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def clip_loss(
    model: CLIPModel, tokenizer: CLIPTokenizer, editor: EditorText, recipe: ClipRecipe, batch: ClipBatch, *, each: int
) -> Float[Tensor, ""]:
    """Contrast of pictures with both captions, and of the ways between states with what they are called.

    Args:
        model: CLIP.
        tokenizer: its own.
        editor: the text encoder of the embedded editor.
        recipe: scales and weights.
        batch: what is seen and said.
        each: states of a scene.
    """
    seen = embed_pictures(model, batch.pictures)
    read = embed_captions(model, tokenizer, [*batch.full, *batch.drawn])
    full, drawn = read.chunk(2)
    scale = model.logit_scale.clamp(max=_LARGEST_SCALE).exp()
    loss = contrast(seen, full, scale, _equal(batch.full, seen)) + contrast(seen, drawn, scale, batch.fits)
    seen_ways, read_ways = _ways(seen, each), _ways(full, each)
    # A block that is hidden may change without a word of the captions.
    told = read_ways.norm(dim=-1) > 1e-4
    seen_ways, read_ways = F.normalize(seen_ways[told], dim=-1), F.normalize(read_ways[told], dim=-1)
    instructions = [text for text, is_told in zip(batch.instructions, told.tolist(), strict=True) if is_told]
    states = F.normalize(model.text_projection(editor.mean_states(instructions)), dim=-1)
    same = _equal(instructions, seen)
    return (
        loss
        + recipe.caption_direction_weight * contrast(seen_ways, read_ways, recipe.direction_scale, same)
        + recipe.instruction_weight * contrast(seen_ways, states, recipe.direction_scale, same)
    )


def _ways(embeds: Float[Tensor, "batch width"], each: int) -> Float[Tensor, "edits width"]:
    """From the unedited state of each scene to each of its others."""
    states = embeds.unflatten(0, (-1, each))
    return (states[:, 1:] - states[:, :1]).flatten(0, 1)


def _equal(texts: Sequence[str], like: Tensor) -> Bool[Tensor, "texts texts"]:
    numbers = torch.tensor([texts.index(text) for text in texts], device=like.device)
    return numbers[:, None] == numbers


def train_clip(
    recipe: ClipRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Callable[[str], None] = print,
) -> TrainedClip | None:
    """Train (or resume) CLIP on states that are rendered into `folder` first; its averaged weights.

    Args:
        recipe: what to train.
        folder: where the states and the run are.
        device: where to train.
        max_seconds: length of this slice; a shard of states that has begun is finished.
        report: receives progress lines.

    Returns:
        CLIP, finished when its step is the recipe's last; None while states are missing.
    """
    end = time.monotonic() + max_seconds
    if not render_states(recipe.states, folder, report, device, deadline=end):
        return None
    tokenizer = build_tokenizer(caption_vocabulary(), length=recipe.text_length)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimize.seed)
        model = build_clip(recipe, tokenizer).to(device)  # pyright: ignore[reportArgumentType]
    editor, states = load_editor_text(device), load_states(recipe.states, folder)

    def loss_fn(step: int, generator: torch.Generator) -> Tensor:
        batch = draw_clip_batch(recipe, states, generator, device)
        return clip_loss(model, tokenizer, editor, recipe, batch, each=states.each)

    def show(progress: OptimizeProgress) -> None:
        report(f"clip {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    step, average = optimize(
        dict(model.named_parameters()),
        loss_fn,
        recipe.optimize,
        state_path=folder / "clip.state",
        identity=_fingerprint_beginning(recipe),
        save_every=_SAVE_EVERY,
        max_seconds=end - time.monotonic(),
        report=show,
    )
    model.load_state_dict({**model.state_dict(), **average})
    return TrainedClip(model=model.eval(), tokenizer=tokenizer, step=step)


def _fingerprint_beginning(recipe: ClipRecipe) -> str:
    """What of the installed set decides the result beside the recipe."""
    used = [installed_part("instruct-pix2pix") / "text_encoder" / "model.safetensors"]
    if recipe.from_segmenter:
        used.append(installed_part("clipseg") / "model.safetensors")
    return hashlib.sha1(b"".join(path.read_bytes() for path in used), usedforsecurity=False).hexdigest()


def block_phrases() -> list[str]:
    """What can be said about a block in two words or three: the vocabulary of the embedded CLIP."""
    pairs = product(COLORS, (*SHAPES, "thing"))
    sized = product(SIZES, (*SHAPES, "thing"))
    named = [f"{size} {color} {shape}" for size, color, shape in product(SIZES, COLORS, SHAPES)]
    return [*(" ".join(words) for words in (*pairs, *sized)), *(f"{m} thing" for m in MATERIALS[1:]), *named]


def export_clip(trained: TrainedClip, folder: Path) -> None:
    """Write a folder that transformers' `from_pretrained` and `--clip FOLDER` load, weights in half precision."""
    vision: Any = trained.model.config.vision_config
    processor = CLIPProcessor(
        ViTImageProcessor(
            size={"height": vision.image_size, "width": vision.image_size},
            image_mean=[_MEAN] * 3,
            image_std=[_STD] * 3,
        ),
        trained.tokenizer,
    )
    state = trained.model.state_dict()
    half = {name: torch.from_numpy(value.cpu().numpy().astype("float16")) for name, value in state.items()}
    trained.model.save_pretrained(folder, state_dict=half)
    processor.save_pretrained(folder)
    # Stored in half precision, meant to run in full.
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    settings = {"phrases": block_phrases(), "knows": _KNOWS}
    (folder / PRESET_FILE).write_text(json.dumps(settings, indent=2) + "\n")
