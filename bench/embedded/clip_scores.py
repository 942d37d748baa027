"""How well the embedded CLIP tells pictures, captions and edits apart, on scenes that it has not learned from."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..blocks.scene import Split
from .captions import full_caption
from .clip import EditorText, TrainedClip, embed_captions, embed_pictures
from .clip_views import States, StatesRecipe, make_states

_FIRST_SCENE = 5_000_000
_AT_ONCE = 64
_RANKED = 8


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Results over many scenes."""

    scenes: int
    caption_of_picture: float
    """Share of unedited pictures whose own caption is the closest of all different ones."""
    picture_of_caption: float
    """Share of captions whose own picture is the closest of all with different captions."""
    state_of_scene: float
    """Share of pictures whose own caption is the closest among those of all states of their scene."""
    ranked: int
    """Edits among which the true one is looked for, fewer where edits cannot be told apart by captions."""
    edits: int
    """Edits that were ranked."""
    caption_first: float
    """Share of edits whose way between captions agrees best with the way between pictures."""
    caption_rank: float
    """Mean rank of the true edit by it, 1 = always the first."""
    caption_cosine: float
    """Mean cosine of the two ways."""
    other_cosine: float
    """The same with the ways of the other edits."""
    instruction_first: float
    """As `caption_first`, by the editor's projected hidden states of the instruction."""
    instruction_rank: float
    """As `caption_rank`, by them."""


@torch.no_grad()
def measure_clip(
    trained: TrainedClip,
    editor: EditorText,
    recipe: StatesRecipe,
    *,
    device: torch.device | str,
    split: Split = "validation",
    count: int = 200,
) -> ClipScores:
    """Look at `count` scenes of a split in nine states each; the same ones every time."""
    wide = StatesRecipe(shards=1, scenes_per_shard=count, edits=_RANKED, image_size=recipe.image_size)
    states = make_states(wide, split, range(_FIRST_SCENE, _FIRST_SCENE + count), device=device)
    pictures, texts = states.views.pictures, _captions(states)
    seen = torch.cat(
        [embed_pictures(trained.model, part.to(device).float() / 255) for part in pictures.split(_AT_ONCE)]
    )
    read = torch.cat(
        [
            embed_captions(trained.model, trained.tokenizer, texts[i : i + _AT_ONCE])
            for i in range(0, len(texts), _AT_ONCE)
        ]
    )
    first, second = _retrieval(seen[:: states.each], read[:: states.each], texts[:: states.each])
    own: list[float] = []
    by_caption: list[tuple[int, float, float]] = []
    by_instruction: list[int] = []
    for scene in range(count):
        rows = slice(scene * states.each, (scene + 1) * states.each)
        here, said, words = seen[rows], read[rows], texts[rows]
        own += _first_place(here @ said.T, words).tolist()
        kept = [i for i in range(1, states.each) if words[i] not in (words[0], *words[1:i])]
        if len(kept) < 2:
            continue
        ways = F.normalize(here[kept] - here[0], dim=-1)
        cosines = ways @ F.normalize(said[kept] - said[0], dim=-1).T
        ranks = rank_of_own(cosines).tolist()
        others = (cosines.sum(1) - cosines.diagonal()) / (len(kept) - 1)
        by_caption += list(zip(ranks, cosines.diagonal().tolist(), others.tolist(), strict=True))
        asked = editor.mean_states([states.instructions[scene][i - 1] for i in kept])
        told = F.normalize(trained.model.text_projection(asked), dim=-1)
        by_instruction += rank_of_own(ways @ told.T).tolist()
    edits = len(by_caption)
    return ClipScores(
        scenes=count,
        caption_of_picture=first,
        picture_of_caption=second,
        state_of_scene=sum(own) / len(own),
        ranked=_RANKED,
        edits=edits,
        caption_first=sum(rank == 1 for rank, _, _ in by_caption) / edits,
        caption_rank=sum(rank for rank, _, _ in by_caption) / edits,
        caption_cosine=sum(cosine for _, cosine, _ in by_caption) / edits,
        other_cosine=sum(cosine for _, _, cosine in by_caption) / edits,
        instruction_first=sum(rank == 1 for rank in by_instruction) / edits,
        instruction_rank=sum(by_instruction) / edits,
    )


def rank_of_own(cosines: Float[Tensor, "rows rows"]) -> Int[Tensor, " rows"]:
    """For each row the rank of its own column, 1 = the largest; equal ones share the worst rank."""
    return (cosines >= cosines.diagonal()[:, None]).sum(1)


def _captions(states: States) -> list[str]:
    views = states.views
    return [full_caption(scene, views.visible(row)).text for row, scene in enumerate(views.scenes)]


def _first_place(cosines: Float[Tensor, "rows rows"], texts: list[str]) -> Float[Tensor, " rows"]:
    """Whether no row with another text is closer than a row's own."""
    other = torch.tensor([[a != b for b in texts] for a in texts], device=cosines.device)
    best = cosines.masked_fill(~other, -torch.inf).amax(1)
    return (cosines.diagonal() > best).float()


def _retrieval(
    seen: Float[Tensor, "rows width"], read: Float[Tensor, "rows width"], texts: list[str]
) -> tuple[float, float]:
    cosines = seen @ read.T
    return float(_first_place(cosines, texts).mean()), float(_first_place(cosines.T, texts).mean())
