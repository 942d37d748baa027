"""The embedded SmartEdit: a QFormer and an interaction between the embedded LLaVA and the embedded editor's UNet.

Source: SmartEdit, arXiv 2312.06739, sections 4.1 to 4.3. The UNet starts from the embedded InstructPix2Pix.
Differs from the paper: its first stage reads captions alone, ours also pictures with instructions, and is told what the
embedded editor's text encoder makes of the same instruction in plain words ("the larger cube" is "the red cube" in this
picture). The language model's LoRA learns along, since its own states are of no use to anybody at that size.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...editors import (
    Backbone,
    BackboneConfig,
    CheckpointPreset,
    InstructPreset,
    LoraOptions,
    Mixture,
    OptimizeConfig,
    OptimizeProgress,
    SampleSource,
    SmartEditArchitecture,
    SmartEditModel,
    SmartEditRecipe,
    SmartEditRun,
    SmartEditStage,
    begin_smartedit,
    caption_conversation,
    learn_smartedit,
    optimize,
    read_style,
    save_smartedit,
)
from .clip import installed_part
from .fingerprints import fingerprint_settings, fingerprint_weights, identity_for
from .llava import TrainedLlava, export_llava
from .reading_corpus import SORTS, ReadingCorpusRecipe, ReadingPairs, Talks, load_reading, render_reading
from .talk import Album, TalkRecipe, load_album

SMARTEDIT_PRESET = CheckpointPreset(
    instruct=InstructPreset(sampler="ddim", steps=10, guidance_scale=1.6, image_guidance_scale=1.1),
    knows="the blocks world (small pictures of spheres, cubes and cylinders)",
)
"""Those of the embedded editor."""
BASE = "../instruct-pix2pix"
"""What the installed checkpoint builds on."""
_SAVE_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How often each sort of sample is drawn in the second stage; the published ablations leave some out."""

    plain: float = 0.25
    """Edits that need no reader."""
    understanding: float = 0.3
    """Synthetic edits by side, size, mirror, colour and number."""
    reasoning: float = 0.15
    """Synthetic edits by what things can do or look like."""
    segmentation: float = 0.15
    """Something painted over, as an edit."""
    talk: float = 0.15
    """Questions and answers."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value:g}")
        if not any((self.plain, self.understanding, self.reasoning, self.segmentation)):
            raise ValueError("shares must leave some sort of edit in, got 0 for all of them")


@dataclass(frozen=True, kw_only=True)
class AlignRecipe:
    """The first stage."""

    batch_size: int = 32
    captions: float = 0.2
    """Share of samples that are plain instructions without a picture, as in the paper, in [0, 1]."""
    talk_weight: float = 0.1
    """Factor on what the language model's words cost; they are always the same."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(steps=3000, learning_rate=1e-3, warmup_steps=100, ema_decay=0.995)
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.captions <= 1:
            raise ValueError(f"captions must be in [0, 1], got {self.captions:g}")
        if not 0 <= self.talk_weight < math.inf:
            raise ValueError(f"talk_weight must be at least 0, got {self.talk_weight:g}")


def _second(steps: int) -> SmartEditRecipe:
    return SmartEditRecipe(
        steps=steps,
        batch=16,
        micro_batch=16,
        learning_rate=3e-4,
        schedule="cosine",
        warmup_share=0.05,
        ema_decay=0.995,
        size=64,
        talk_weight=0.1,
        drop_share=0.06,
        dropout=False,
        high_noise=True,
        changed_weight=3.0,
        keep_without_text=True,
    )


@dataclass(frozen=True, kw_only=True)
class EmbeddedSmartEditRecipe:
    """Architecture and training of the embedded SmartEdit."""

    corpus: ReadingCorpusRecipe = field(default_factory=ReadingCorpusRecipe)
    talk: TalkRecipe = field(default_factory=TalkRecipe)
    """Pictures to be asked about; those that the embedded LLaVA learned from."""
    architecture: SmartEditArchitecture = field(
        default_factory=lambda: SmartEditArchitecture(
            image_tokens=8,
            queries=48,
            context_width=128,
            qformer_layers=4,
            qformer_heads=4,
            qformer_intermediate=256,
            interaction_width=128,
            interaction_heads=4,
            interaction_mlp=256,
            unet_width=64,
        )
    )
    """Sizes; `--...interaction none` or `image-only` are the published ablations."""
    lora: LoraOptions = field(default_factory=lambda: LoraOptions(rank=32, alpha=64, dropout=0.0))
    """A larger share of so narrow a language model than of the published one."""
    shares: Shares = field(default_factory=Shares)
    align: AlignRecipe = field(default_factory=AlignRecipe)
    first: SmartEditRecipe = field(default_factory=lambda: _second(600))
    """Learning to edit without the interaction (2a)."""
    second: SmartEditRecipe = field(default_factory=lambda: _second(1800))
    """The same with it (2b)."""

    @property
    def steps(self) -> int:
        """Gradient steps of all stages."""
        return self.align.optimize.steps + self.first.steps + self.second.steps


@dataclass(frozen=True, kw_only=True)
class TrainedSmartEdit:
    """SmartEdit as it stands."""

    model: SmartEditModel
    unet: UNet2DConditionModel
    step: int
    """Gradient steps of all stages it has seen."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What the first stage learns from: instructions with a picture, and what they are to be read as."""

    pairs: tuple[ReadingPairs, ...]
    rows: tuple[tuple[int, int], ...]
    """Sort and row of each pair that can be said in plain words."""

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, str, str]:
        """A picture, an instruction and the same in plain words."""
        sort, row = self.rows[int(rng.integers(len(self.rows)))]
        pairs = self.pairs[sort]
        return pairs.source[row].float() / 255, pairs.texts[row], pairs.plain[row]


def begin_embedded(
    recipe: EmbeddedSmartEditRecipe, llava: Path, *, device: torch.device | str
) -> tuple[SmartEditModel, Backbone]:
    """An untrained SmartEdit on an exported LLaVA, and the installed editor, whose UNet is to learn."""
    config = BackboneConfig(model=str(installed_part("instruct-pix2pix")), device=str(device), dtype="float32")
    backbone = Backbone.load(config)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.align.optimize.seed)
        model = begin_smartedit(
            str(llava),
            config,
            recipe.architecture,
            style=read_style("plain"),
            lora=recipe.lora,
            mllm_device=str(device),
        )
    return model, backbone


def find_alignment(pairs: Mapping[str, ReadingPairs]) -> Alignment:
    """All pairs of some sorts whose instruction can be said in plain words."""
    kept = tuple(each for each in pairs.values() if any(each.plain))
    rows = tuple((sort, row) for sort, each in enumerate(kept) for row, plain in enumerate(each.plain) if plain)
    return Alignment(pairs=kept, rows=rows)


def align_loss(
    model: SmartEditModel,
    backbone: Backbone,
    recipe: AlignRecipe,
    alignment: Alignment,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Distance of what is read to what the text encoder makes of the plain words, and of the language model's words.

    Source: SmartEdit, section 4.3, stage 1; with pictures, which differs from the paper.
    """
    rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
    drawn = [alignment.draw(rng) for _ in range(recipe.batch_size)]
    alone = int(rng.binomial(recipe.batch_size, recipe.captions))
    total = torch.zeros((), device=model.device)
    for group, has_picture in ((drawn[:alone], False), (drawn[alone:], True)):
        if not group:
            continue
        plain = [words for _, _, words in group]
        if has_picture:
            reading = model.read(torch.stack([picture for picture, _, _ in group]), [text for _, text, _ in group])
        else:
            reading = model.read_conversations([caption_conversation(model.mllm.tokenizer, t) for t in plain], None)
        distance = (reading.contexts - backbone.embed(plain)).pow(2).mean((1, 2))
        total = total + (distance + recipe.talk_weight * reading.talk_loss).sum() / recipe.batch_size
    return total


def train_smartedit(
    recipe: EmbeddedSmartEditRecipe,
    llava: TrainedLlava,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Callable[[str], None] = print,
) -> TrainedSmartEdit | None:
    """Train (or resume) SmartEdit, stage by stage, on pairs that are rendered into `folder` first.

    Args:
        recipe: what to train.
        llava: the finished LLaVA it stands on.
        folder: where the pairs and the run are.
        device: where to train.
        max_seconds: length of this slice; a shard of pairs that has begun is finished.
        report: receives progress lines.

    Returns:
        SmartEdit with averaged weights, finished when its step is the recipe's last; None while pairs are missing.

    Raises:
        SessionError: if the folder holds the run of another recipe.
    """
    end = time.monotonic() + max_seconds
    place = folder / "smartedit"
    export_llava(llava, place / "mllm")
    model, backbone = begin_embedded(recipe, place / "mllm", device=device)
    album = load_album(recipe.talk, folder)
    origin = fingerprint_settings(recipe.talk, fingerprint_weights([installed_part("instruct-pix2pix") / "vae"]))
    if not render_reading(recipe.corpus, backbone, album, folder, report, device, origin=origin, deadline=end):
        return None
    pairs = {sort: load_reading(recipe.corpus, folder, sort, origin=origin) for sort in SORTS}
    aligned = fingerprint_settings(
        fingerprint_beginning(place / "mllm"),
        recipe.corpus,
        recipe.talk,
        recipe.architecture,
        recipe.lora,
        recipe.align,
    )
    step = train_alignment(
        model,
        backbone,
        recipe.align,
        find_alignment(pairs),
        place / "align.state",
        identity=identity_for(place / "align.state", aligned),
        max_seconds=end - time.monotonic(),
        report=report,
    )
    if step == recipe.align.optimize.steps:
        mixture = mix_samples(recipe.shares, pairs, album)
        stages: tuple[tuple[str, SmartEditStage, SmartEditRecipe, tuple[SmartEditRecipe, ...]], ...] = (
            ("first", "2a", recipe.first, ()),
            ("second", "2b", recipe.second, (recipe.first,)),
        )
        for name, stage, settings, before in stages:
            taken = learn_smartedit(
                model,
                backbone,
                mixture,
                settings,
                stage=stage,
                folder=place / name,
                base=str(installed_part("instruct-pix2pix")),
                preset=SMARTEDIT_PRESET,
                run=SmartEditRun(save_every=_SAVE_EVERY, workers=0),
                identity=fingerprint_settings(aligned, recipe.shares, *before),
                max_seconds=end - time.monotonic(),
                report=lambda each, name=name: report(
                    f"smartedit {name} {each.step}/{each.steps} diffusion {each.diffusion:.4f} talk {each.talk:.4f}"
                ),
            )
            step += taken
            if taken < settings.steps:
                break
    return TrainedSmartEdit(model=model, unet=backbone.unet, step=step)


def train_alignment(
    model: SmartEditModel,
    backbone: Backbone,
    recipe: AlignRecipe,
    alignment: Alignment,
    state: Path,
    *,
    identity: str,
    max_seconds: float,
    report: Callable[[str], None],
) -> int:
    """Go on with the first stage; the model has the averaged weights afterwards.

    Args:
        model: all before the UNet.
        backbone: has the text encoder that is aligned with.
        recipe: what is trained.
        alignment: what from.
        state: file to resume from and to save to.
        identity: of everything else that decides the result.
        max_seconds: stop (and save) after this long.
        report: receives progress lines.

    Returns:
        The number of steps taken in all.
    """
    parameters: dict[str, nn.Parameter] = model.trainable("2a")

    def show(progress: OptimizeProgress) -> None:
        report(f"smartedit align {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    step, average = optimize(
        parameters,
        lambda step, generator: align_loss(model, backbone, recipe, alignment, generator),
        recipe.optimize,
        state_path=state,
        identity=identity,
        save_every=_SAVE_EVERY,
        max_seconds=max_seconds,
        report=show,
    )
    with torch.no_grad():
        for name, value in average.items():
            parameters[name].copy_(value)
    model.requires_grad_(False)
    return step


def mix_samples(shares: Shares, pairs: Mapping[str, ReadingPairs], album: Album) -> Mixture:
    """What the second stage learns from."""
    sources: dict[str, SampleSource] = {**pairs, "talk": Talks(album)}
    return Mixture(sources, {name: share for name, share in asdict(shares).items() if share})


def fingerprint_beginning(llava: Path) -> str:
    """What decides the result beside the recipe: the LLaVA and the embedded editor."""
    base = installed_part("instruct-pix2pix")
    return fingerprint_weights([llava / "model.safetensors", base / "unet", base / "text_encoder", base / "vae"])


def export_smartedit(trained: TrainedSmartEdit, folder: Path) -> None:
    """Write a folder that `--model FOLDER` loads beside the embedded editor, weights in half precision."""
    save_smartedit(trained.model, trained.unet, folder, base=BASE, preset=SMARTEDIT_PRESET, whole=True)
    for path in folder.rglob("*.safetensors"):
        halve_weights(path)
    # Stored in half precision, meant to run in full.
    config = folder / "mllm" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")


def halve_weights(path: Path) -> None:
    """Store the weights of a safetensors file in half precision."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    stored = load_file(path)
    half = {name: torch.from_numpy(each.float().numpy().astype("float16")) for name, each in stored.items()}
    save_file(half, path, metadata=metadata)
