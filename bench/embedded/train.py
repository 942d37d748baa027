"""Trains the embedded set, part by part, in slices that resume.

The editor comes first (autoencoder, pairs, editor); the other parts learn on single views, and CLIP on scenes before
and after edits. Where the folder has no finished autoencoder, they take the installed set's; CLIP always starts from
the installed editor and segmenter.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, assert_never, get_args

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from ...editors import OptimizeProgress, SessionError, optimize, write_tensors
from ..blocks.instructions import vocabulary
from . import DISK_HINT
from .clip import ClipRecipe, TrainedClip, train_clip
from .corpus import CorpusRecipe, encode_corpus, load_corpus, render_corpus
from .editor import EditorModel, EditorRecipe, build_scheduler, editor_loss, tokenize_corpus
from .inpainting import InpaintingRecipe, train_inpainting
from .llava import LlavaRecipe, TrainedLlava, train_llava
from .segmenter import SegmenterRecipe, TrainedSegmenter, train_segmenter
from .smartedit import EmbeddedSmartEditRecipe, TrainedSmartEdit, train_smartedit
from .text_to_image import TextToImageRecipe, TrainedText, train_text_to_image
from .tokenizer import build_tokenizer
from .vae import VAERecipe, build_vae, fold_latent_statistics, vae_batch, vae_loss
from .views import render_views

_VALIDATION_PICTURES = 256
_STATISTICS_BATCHES = 32
Report = Callable[[str], None]
Part = Literal["instruct", "text-to-image", "inpainting", "segmenter", "clip", "llava", "smartedit"]
"""One checkpoint of the set."""
PARTS: tuple[Part, ...] = get_args(Part)
"""In the order in which they are trained."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedRecipe:
    """Everything that decides the weights of the embedded set."""

    vae: VAERecipe = field(default_factory=VAERecipe)
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    editor: EditorRecipe = field(default_factory=EditorRecipe)
    text_to_image: TextToImageRecipe = field(default_factory=TextToImageRecipe)
    inpainting: InpaintingRecipe = field(default_factory=InpaintingRecipe)
    segmenter: SegmenterRecipe = field(default_factory=SegmenterRecipe)
    clip: ClipRecipe = field(default_factory=ClipRecipe)
    llava: LlavaRecipe = field(default_factory=LlavaRecipe)
    smartedit: EmbeddedSmartEditRecipe = field(default_factory=EmbeddedSmartEditRecipe)

    def steps(self, part: Part) -> int:
        """Gradient steps of the network a part ends with; for SmartEdit, of all its stages."""
        if part == "smartedit":
            return self.smartedit.steps
        parts = {
            "instruct": self.editor,
            "text-to-image": self.text_to_image,
            "inpainting": self.inpainting,
            "segmenter": self.segmenter,
            "clip": self.clip,
            "llava": self.llava,
        }
        return parts[part].optimize.steps


@dataclass(frozen=True, kw_only=True)
class TrainedSet:
    """The networks of an embedded set."""

    vae: AutoencoderKL
    model: EditorModel
    tokenizer: CLIPTokenizer
    step: int
    """Gradient steps the editor has seen."""


Trained: TypeAlias = TrainedSet | TrainedText | TrainedSegmenter | TrainedClip | TrainedLlava | TrainedSmartEdit
"""A part as it stands; its `step` says how far it is."""


def train_part(
    part: Part,
    recipe: EmbeddedRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Report = print,
) -> Trained | None:
    """Go on training one part in `folder` for one slice; arguments as in `train_embedded`.

    Returns:
        The part as it stands; None before its last network has begun to learn.

    Raises:
        SessionError: if it is `inpainting` and the text-to-image part, from which it starts, is not finished; or
            `smartedit` and the LLaVA, on which it stands, is not.
    """
    if part == "instruct":
        return train_embedded(recipe, folder, device=device, max_seconds=max_seconds, report=report)
    if part == "clip":
        return train_clip(recipe.clip, folder, device=device, max_seconds=max_seconds, report=report)
    if part == "llava":
        return train_llava(recipe.llava, folder, device=device, max_seconds=max_seconds, report=report)
    if part == "smartedit":
        return _train_reader(recipe, folder, device=device, max_seconds=max_seconds, report=report)
    end = time.monotonic() + max_seconds
    views = recipe.segmenter.views if part == "segmenter" else recipe.text_to_image.views
    render_views(views, folder, report, device, deadline=end)
    if not all((folder / f"views_{shard:03d}.safetensors").exists() for shard in range(views.shards)):
        return None
    if part == "segmenter":
        left = end - time.monotonic()
        return train_segmenter(recipe.segmenter, folder, device=device, max_seconds=left, report=report)
    finished = (folder / "vae.safetensors").exists()
    vae = train_vae(recipe.vae, folder, device=device, max_seconds=0.0, report=report) if finished else None
    left = end - time.monotonic() if part == "text-to-image" else 0.0
    text = train_text_to_image(recipe.text_to_image, folder, device=device, max_seconds=left, report=report, vae=vae)
    if part == "text-to-image":
        return text
    if part == "inpainting":
        if text is None or text.step < recipe.steps("text-to-image"):
            raise SessionError(
                f"inpainting starts from the finished text-to-image part, which {folder} does not have: train "
                "--part text-to-image first"
            )
        left = end - time.monotonic()
        return train_inpainting(recipe.inpainting, folder, text=text, device=device, max_seconds=left, report=report)
    assert_never(part)


def _train_reader(
    recipe: EmbeddedRecipe, folder: Path, *, device: torch.device | str, max_seconds: float, report: Report
) -> TrainedSmartEdit | None:
    """Go on with SmartEdit, on the LLaVA as it was finished."""
    end = time.monotonic() + max_seconds
    is_begun = (folder / "llava.state").exists()
    llava = train_llava(recipe.llava, folder, device=device, max_seconds=0.0, report=report) if is_begun else None
    if llava is None or llava.step < recipe.steps("llava"):
        raise SessionError(
            f"smartedit stands on the finished llava part, which {folder} does not have: train --part llava first"
        )
    left = end - time.monotonic()
    return train_smartedit(recipe.smartedit, llava, folder, device=device, max_seconds=left, report=report)


def train_embedded(
    recipe: EmbeddedRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Report = print,
) -> TrainedSet | None:
    """Go on training the editor in `folder` for one slice.

    Args:
        recipe: what to train.
        folder: where data, state and results live; every stage skips what is done.
        device: where to train.
        max_seconds: length of this slice; shards of data that have begun are finished.
        report: receives progress lines.

    Returns:
        The set as it stands once the editor has begun to learn, finished when its step is the recipe's last; None
        before.
    """
    end = time.monotonic() + max_seconds
    vae = train_vae(recipe.vae, folder, device=device, max_seconds=max_seconds, report=report)
    if vae is None:
        return None
    render_corpus(recipe.corpus, folder, report, device, deadline=end)
    if not encode_corpus(recipe.corpus, vae, folder, report, device, deadline=end):
        return None
    return train_editor(recipe, vae, folder, device=device, max_seconds=end - time.monotonic(), report=report)


def train_vae(
    recipe: VAERecipe, folder: Path, *, device: torch.device | str, max_seconds: float, report: Report
) -> AutoencoderKL | None:
    """Train (or resume) the autoencoder; None while unfinished. A finished one is loaded, not trained again."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimize.seed)
        vae = build_vae(recipe).to(device, memory_format=torch.channels_last)
    finished = folder / "vae.safetensors"
    if finished.exists():
        vae.load_state_dict(load_file(finished))
        return vae.eval()

    def loss_fn(step: int, generator: torch.Generator) -> torch.Tensor:
        images, weights = vae_batch(recipe, "train", step * recipe.batch_size // 2, generator, device)
        return vae_loss(vae, recipe, images, weights, generator)

    step, average = optimize(
        dict(vae.named_parameters()),
        loss_fn,
        recipe.optimize,
        state_path=folder / "vae.state",
        max_seconds=max_seconds,
        report=_reporter("vae", report),
    )
    vae.load_state_dict({**vae.state_dict(), **average})
    vae.eval()
    for name, value in measure_vae(vae, recipe, device).items():
        report(f"vae {name}: {value:.2f} dB")
    if step < recipe.optimize.steps:
        return None
    generator = torch.Generator(device).manual_seed(0)
    starts = range(10_000_000, 10_000_000 + _STATISTICS_BATCHES * recipe.batch_size, recipe.batch_size)
    images = torch.cat([vae_batch(recipe, "train", start, generator, device)[0] for start in starts])
    fold_latent_statistics(vae, images)
    write_tensors(finished, vae.state_dict(), hint=DISK_HINT)
    return vae


def train_editor(
    recipe: EmbeddedRecipe,
    vae: AutoencoderKL,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float,
    report: Report,
) -> TrainedSet:
    """Train (or resume) text encoder and UNet on the encoded pairs; returns their averaged weights."""
    tokenizer = build_tokenizer(vocabulary(), length=recipe.editor.text_length)
    size = recipe.corpus.image_size // 2 ** (len(recipe.vae.block_out_channels) - 1)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.editor.optimize.seed)
        model = EditorModel(
            recipe.editor, vocabulary=len(tokenizer), channels=recipe.vae.latent_channels, size=size
        ).to(device)
    scheduler = build_scheduler()
    corpus = load_corpus(recipe.corpus, folder, device)
    tokens = tokenize_corpus(corpus, tokenizer, device)
    step, average = optimize(
        dict(model.named_parameters()),
        lambda step, generator: editor_loss(model, recipe.editor, scheduler, corpus, tokens, generator),
        recipe.editor.optimize,
        state_path=folder / "editor.state",
        max_seconds=max_seconds,
        report=_reporter("editor", report),
    )
    model.load_state_dict({**model.state_dict(), **average})
    return TrainedSet(vae=vae, model=model.eval(), tokenizer=tokenizer, step=step)


def _reporter(name: str, report: Report) -> Callable[[OptimizeProgress], None]:
    def show(progress: OptimizeProgress) -> None:
        report(f"{name} {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    return show


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
