"""The embedded LLaVA: a small one, trained from scratch to answer questions about pictures of blocks.

Source: Visual Instruction Tuning, arXiv 2304.08485, section 4, in transformers' classes.
Differs from the paper: everything learns together, since there is no language model to begin with; the picture encoder
starts from the embedded CLIP's and learns, too, because that one has never seen a mirror. All questions about a picture
go through the network behind one copy of it, none of them seeing the others.
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
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from ...editors import PRESET_FILE, OptimizeConfig, OptimizeProgress, optimize
from ..blocks import Question, draw_question, question_vocabulary
from ..blocks.questions import QUESTION_SHARES, QuestionFamily
from .captions import caption_vocabulary
from .clip import installed_part
from .fingerprints import fingerprint_settings, fingerprint_weights, identity_for
from .talk import Album, TalkRecipe, album_of, join_albums, load_album, make_mirrors, render_album
from .tokenizer import build_tokenizer
from .views import make_views

USER, ASSISTANT, DONE = "user", "assistant", "done"
"""The words of the chat, those of the plain style."""
_MEAN, _STD = 0.5, 0.25
_SAVE_EVERY = 100
_VALIDATION_VIEWS, _VALIDATION_MIRRORS = 60, 20
_MOST_GAP = 3
_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class LlavaRecipe:
    """Architecture and training of the embedded LLaVA."""

    talk: TalkRecipe = field(default_factory=TalkRecipe)
    width: int = 128
    """Width of the language model."""
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    length: int = 256
    """Most tokens of a conversation, those of the picture included."""
    from_clip: bool = True
    """Start the picture encoder from the installed CLIP's; else from random weights, for pictures of any size."""
    batch_size: int = 16
    """Pictures in a step."""
    questions: int = 10
    """Questions about each of them."""
    mirrors: float = 0.25
    """Share of pictures with a mirror, in [0, 1]."""
    optimize: OptimizeConfig = field(
        default_factory=lambda: OptimizeConfig(
            steps=5000, learning_rate=1e-3, warmup_steps=100, weight_decay=0.02, ema_decay=0.995
        )
    )

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "feed_forward", "length", "batch_size", "questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.mirrors <= 1:
            raise ValueError(f"mirrors must be in [0, 1], got {self.mirrors:g}")


@dataclass(frozen=True, kw_only=True)
class TrainedLlava:
    """LLaVA as it stands."""

    model: LlavaForConditionalGeneration
    tokenizer: CLIPTokenizer
    step: int
    """Gradient steps it has seen."""


@dataclass(frozen=True, kw_only=True)
class TalkBatch:
    """Pictures, each with several questions behind it."""

    pictures: Float[Tensor, "batch 3 height width"]
    ids: Int[Tensor, "batch length"]
    """What stands behind the picture, question by question."""
    labels: Int[Tensor, "batch length"]
    """What the token at each place is followed by, where that is part of an answer."""
    group: Int[Tensor, "batch length"]
    """Which question a token belongs to; -1 = padding."""
    positions: Int[Tensor, "batch length"]
    """Place of each token in its own conversation, counted from the end of the picture."""


def talk_vocabulary() -> list[str]:
    """Every word that the embedded LLaVA knows, sorted."""
    return sorted({*question_vocabulary(), *caption_vocabulary(), USER, ASSISTANT, DONE})


def build_llava(recipe: LlavaRecipe, tokenizer: CLIPTokenizer) -> LlavaForConditionalGeneration:
    """A new LLaVA around a picture encoder of the installed CLIP's form and, where the recipe says so, its weights."""
    clip: Any = CLIPModel.from_pretrained(installed_part("clip"))
    vision: Any = CLIPVisionConfig(**{**clip.config.vision_config.to_dict(), "dtype": "float32"})
    start, end = _ends(tokenizer)
    if not recipe.from_clip:
        vision.image_size = recipe.talk.views.image_size
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.width,
                intermediate_size=recipe.feed_forward,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                max_position_embeddings=recipe.length,
                bos_token_id=start,
                eos_token_id=end,
                pad_token_id=end,
            ),
            # No token stands for the picture in a text; its rows are put in by whoever calls.
            image_token_index=len(tokenizer),
            image_seq_length=(vision.image_size // vision.patch_size) ** 2,
            vision_feature_layer=-1,
        )
    )
    if recipe.from_clip:
        model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    return model


def draw_talks(
    recipe: LlavaRecipe, album: Album, tokenizer: CLIPTokenizer, generator: torch.Generator, device: torch.device | str
) -> TalkBatch:
    """Draw pictures and questions about them."""
    rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
    plain = len(album) - recipe.talk.mirror_shards * recipe.talk.views.views_per_shard
    rows = [
        int(rng.integers(plain, len(album)) if rng.random() < recipe.mirrors else rng.integers(plain))
        for _ in range(recipe.batch_size)
    ]
    drawn = [[draw_question(rng, album.seen(row)) for _ in range(recipe.questions)] for row in rows]
    asked = [[question for question in questions if question is not None] for questions in drawn]
    return lay_out_talks(album.pictures[rows].float() / 255, asked, tokenizer, device=device, rng=rng)


def lay_out_talks(
    pictures: Float[Tensor, "batch 3 height width"],
    questions: Sequence[Sequence[Question]],
    tokenizer: CLIPTokenizer,
    *,
    device: torch.device | str,
    rng: np.random.Generator | None = None,
) -> TalkBatch:
    """Lay questions out behind their picture.

    Args:
        pictures: in [0, 1].
        questions: several for each.
        tokenizer: the language model's.
        device: where to.
        rng: widens the gap between the picture and each question a little, as an edit's new tokens do later; None =
            no gap.
    """
    table: dict[str, list[list[int]]] = {"ids": [], "labels": [], "group": [], "positions": []}
    for row in questions:
        lines: dict[str, list[int]] = {name: [] for name in table}
        for number, question in enumerate(row):
            asked, said = _encode(tokenizer, f"{question.text} {ASSISTANT}"), _encode(tokenizer, question.answer)
            ids = [*asked, *said, _ends(tokenizer)[1]]
            first = 0 if rng is None else int(rng.integers(_MOST_GAP + 1))
            lines["ids"] += ids
            lines["labels"] += [_IGNORED] * (len(asked) - 1) + ids[len(asked) :] + [_IGNORED]
            lines["group"] += [number] * len(ids)
            lines["positions"] += range(first, first + len(ids))
        for name, values in lines.items():
            table[name].append(values)
    length = max(1, *(len(values) for values in table["ids"]))
    fill = {"ids": _ends(tokenizer)[1], "labels": _IGNORED, "group": -1, "positions": 0}
    padded = {
        name: torch.tensor([values + [fill[name]] * (length - len(values)) for values in rows], device=device)
        for name, rows in table.items()
    }
    return TalkBatch(pictures=pictures.to(device), **padded)


def _encode(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _ends(tokenizer: CLIPTokenizer) -> tuple[int, int]:
    """What a conversation begins with and an answer ends with."""
    ends: Any = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return ends


def answer_logits(
    model: LlavaForConditionalGeneration, tokenizer: CLIPTokenizer, batch: TalkBatch
) -> Float[Tensor, "answered words"]:
    """What LLaVA expects at each place of an answer, row by row."""
    inner = model.model
    pixels: Any = (batch.pictures - _MEAN) / _STD
    seen = inner.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    rows = inner.multi_modal_projector(seen)
    embed = inner.get_input_embeddings()
    opening = torch.tensor([_ends(tokenizer)[0], *_encode(tokenizer, USER)], device=batch.ids.device)
    start = embed(opening).expand(len(rows), -1, -1)
    embeds = torch.cat([start, rows, embed(batch.ids)], 1)
    before = start.shape[1] + rows.shape[1]
    shared = torch.arange(before, device=batch.ids.device).expand(len(rows), -1)
    hidden = inner.language_model(
        inputs_embeds=embeds,
        attention_mask=talk_mask(batch.group, before)[:, None],
        position_ids=torch.cat([shared, batch.positions + before], 1),
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[:, before:][batch.labels != _IGNORED])


def talk_mask(group: Int[Tensor, "batch length"], before: int) -> Bool[Tensor, "batch total total"]:
    """Who may look at whom: everybody at what is before in the shared part, and in their own question.

    Args:
        group: question of each token; -1 = padding.
        before: tokens that all questions share.
    """
    shared = group.new_full((len(group), before), -2)
    owner = torch.cat([shared, group], 1)
    causal = torch.ones(owner.shape[1], owner.shape[1], dtype=torch.bool, device=group.device).tril()
    return causal & ((owner[:, None] == owner[:, :, None]) | (owner[:, None] == -2))


def talk_loss(model: LlavaForConditionalGeneration, tokenizer: CLIPTokenizer, batch: TalkBatch) -> Float[Tensor, ""]:
    """Cross-entropy of the words of the answers."""
    return F.cross_entropy(answer_logits(model, tokenizer, batch), batch.labels[batch.labels != _IGNORED])


@torch.no_grad()
def measure_answers(
    model: LlavaForConditionalGeneration,
    tokenizer: CLIPTokenizer,
    pictures: Float[Tensor, "batch 3 height width"],
    questions: Sequence[Sequence[Question]],
) -> list[list[bool]]:
    """Whether each question is answered word for word, always saying the most likely word."""
    batch = lay_out_talks(pictures, questions, tokenizer, device=model.device)
    # Where all words are the most likely ones behind the right beginning, saying them one by one gives the same.
    said = batch.labels != _IGNORED
    right = ~said
    right[said] = answer_logits(model, tokenizer, batch).argmax(-1) == batch.labels[said]
    return [
        [bool(right[row][batch.group[row] == number].all()) for number in range(len(asked))]
        for row, asked in enumerate(questions)
    ]


def measure_llava(trained: TrainedLlava, recipe: LlavaRecipe) -> dict[QuestionFamily, float]:
    """Share of the questions about pictures of the validation split that are answered word for word, by family."""
    device = trained.model.device
    views = make_views(recipe.talk.views, "validation", range(_VALIDATION_VIEWS), device=device)
    mirrors = make_mirrors(recipe.talk, "validation", range(_VALIDATION_MIRRORS), device=device)
    album, rng = join_albums([album_of(views), mirrors]), np.random.default_rng(0)
    right: dict[QuestionFamily, list[bool]] = {family: [] for family in QUESTION_SHARES}
    for picture in range(len(album)):
        drawn = [draw_question(rng, album.seen(picture)) for _ in range(recipe.questions)]
        asked = [question for question in drawn if question is not None]
        pixels = album.pictures[picture : picture + 1].float() / 255
        (answers,) = measure_answers(trained.model, trained.tokenizer, pixels, [asked])
        for question, answer in zip(asked, answers, strict=True):
            right[question.family].append(answer)
    return {family: sum(answers) / len(answers) for family, answers in right.items() if answers}


def train_llava(
    recipe: LlavaRecipe,
    folder: Path,
    *,
    device: torch.device | str,
    max_seconds: float = math.inf,
    report: Callable[[str], None] = print,
) -> TrainedLlava | None:
    """Train (or resume) LLaVA on pictures that are rendered into `folder` first; its averaged weights.

    What it knows is reported when the last step has been taken.

    Args:
        recipe: what to train.
        folder: where the pictures and the run are.
        device: where to train.
        max_seconds: length of this slice; a shard of pictures that has begun is finished.
        report: receives progress lines.

    Returns:
        LLaVA, finished when its step is the recipe's last; None while pictures are missing.

    Raises:
        SessionError: if the folder holds the run of another recipe.
    """
    end = time.monotonic() + max_seconds
    if not render_album(recipe.talk, folder, report, device, deadline=end):
        return None
    model, tokenizer = _begin(recipe, device)
    album = load_album(recipe.talk, folder)
    taken: list[int] = []

    def loss_fn(step: int, generator: torch.Generator) -> Tensor:
        return talk_loss(model, tokenizer, draw_talks(recipe, album, tokenizer, generator, device))

    def show(progress: OptimizeProgress) -> None:
        taken.append(progress.step)
        report(f"llava {progress.step}/{progress.steps} loss {progress.loss:.4f} ({progress.seconds:.0f} s)")

    state = folder / "llava.state"
    begun = fingerprint_weights([installed_part("clip")] if recipe.from_clip else [])
    step, average = optimize(
        dict(model.named_parameters()),
        loss_fn,
        recipe.optimize,
        state_path=state,
        identity=identity_for(state, fingerprint_settings(recipe, begun)),
        save_every=_SAVE_EVERY,
        max_seconds=end - time.monotonic(),
        report=show,
    )
    model.load_state_dict({**model.state_dict(), **average})
    trained = TrainedLlava(model=model.eval(), tokenizer=tokenizer, step=step)
    if recipe.optimize.steps in taken:
        for family, share in measure_llava(trained, recipe).items():
            report(f"llava answers {share:.0%} of the validation questions of the family {family}")
    return trained


def _begin(recipe: LlavaRecipe, device: torch.device | str) -> tuple[LlavaForConditionalGeneration, CLIPTokenizer]:
    tokenizer = build_tokenizer(talk_vocabulary(), length=recipe.length)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimize.seed)
        return build_llava(recipe, tokenizer).to(device), tokenizer  # pyright: ignore[reportArgumentType]


def export_llava(trained: TrainedLlava, folder: Path) -> None:
    """Write a folder that transformers' `from_pretrained` loads, weights in half precision, tokenizer and processor."""
    vision: Any = trained.model.config.vision_config
    size = int(vision.image_size)
    processor = CLIPImageProcessor(
        size={"height": size, "width": size},
        do_center_crop=False,
        image_mean=[_MEAN] * 3,
        image_std=[_STD] * 3,
    )
    state = trained.model.state_dict()
    half = {name: torch.from_numpy(value.cpu().numpy().astype("float16")) for name, value in state.items()}
    trained.model.save_pretrained(folder, state_dict=half)
    trained.tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    # Stored in half precision, meant to run in full.
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    settings = {"knows": "the blocks world (small pictures of spheres, cubes and cylinders)"}
    (folder / PRESET_FILE).write_text(json.dumps(settings, indent=2) + "\n")
