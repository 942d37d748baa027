"""What the embedded SmartEdit learns from: pairs of pictures of four sorts, rendered and encoded once, and questions.

Plain edits are those of the embedded editor; the edits that need a reader stand for SmartEdit's synthetic data, with
known phrasings and combinations alone (`bench/blocks/reading.py`); segmentation as editing lays a colour half over
whatever a phrase names (arXiv 2312.06739, section 4.3). Everything works shard by shard and skips what is there.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor

from ...editors import Backbone, EncodedSample, Sample, SessionError, write_tensors
from ..blocks import COLORS, EditPairs, combination_of, make_pairs, make_reading_pairs, name_plainly
from ..blocks.questions import draw_question, refer
from ..blocks.reading import reword_edit
from ..smartedit_data.painting import COLORS as PAINTS
from ..smartedit_data.painting import paint
from . import DISK_HINT
from .talk import Album

Sort: TypeAlias = Literal["plain", "understanding", "reasoning", "segmentation"]
"""What an edit asks of who reads it."""
SORTS: tuple[Sort, ...] = get_args(Sort)

_FIRST_PLAIN = 70_000_000
_GROUP = 50
_PAINTINGS = ("color {} with {}", "put the color {1} on top of {0}")
_PAINTED = ("plain", "color", "left_right", "size", "multiple", "mirror", "reasoning")


@dataclass(frozen=True, kw_only=True)
class ReadingCorpusRecipe:
    """How many pairs of each sort."""

    plain: int = 6
    """Shards of plain edits."""
    understanding: int = 12
    reasoning: int = 8
    segmentation: int = 6
    pairs_per_shard: int = 500
    image_size: int = 64
    """Pixels."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class ReadingPairs:
    """Pairs of one sort in memory."""

    source: UInt8[Tensor, "pair 3 height width"]
    target: UInt8[Tensor, "pair 3 height width"]
    source_latents: Float[Tensor, "pair channels latent_height latent_width"]
    target_latents: Float[Tensor, "pair channels latent_height latent_width"]
    texts: tuple[str, ...]
    plain: tuple[str, ...]
    """The same instruction in the words of the embedded editor; empty where it has none."""

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.texts)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """One of them as a sample of an edit."""
        return EncodedSample(
            text=self.texts[index],
            image=self.source[index].float() / 255,
            target=self.target[index].float() / 255,
            image_latents=self.source_latents[index].float(),
            target_latents=self.target_latents[index].float(),
        )


class Talks:
    """Questions about pictures, one for each visit, with known phrasings alone, as in the edits beside them.

    None asks what an instruction means: the words are those of an edit, and what the two are answered with differs.
    """

    def __init__(self, album: Album) -> None:
        """Ask about the pictures of an album."""
        self._album = album

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._album)

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        """A question about a picture; where it offers none, about the next one that does."""
        while True:
            seen = self._album.seen(index % len(self._album))
            question = draw_question(rng, seen, only_known=True, without=("meaning",))
            if question is not None:
                picture = self._album.pictures[index % len(self._album)].float() / 255
                return Sample(text=question.text, image=picture, answer=question.answer)
            index += 1


def render_reading(
    recipe: ReadingCorpusRecipe,
    backbone: Backbone,
    album: Album,
    folder: Path,
    report: Callable[[str], None],
    device: torch.device | str,
    *,
    origin: str | None = None,
    deadline: float = math.inf,
) -> bool:
    """Render and encode the shards that are missing; whether all of them are there now.

    Args:
        recipe: how many.
        backbone: encodes the pictures.
        album: pictures whose things are to be painted over.
        folder: where to.
        report: receives progress lines.
        device: where to render.
        origin: fingerprint of the autoencoder and the album, kept in the shards.
        deadline: of `time.monotonic`; no shard is begun after it.
    """
    for sort in SORTS:
        for shard in range(getattr(recipe, sort)):
            path = _path(folder, sort, shard)
            if path.exists() or time.monotonic() > deadline:
                continue
            source, target, texts, plain = _make_shard(recipe, sort, shard, album, device)
            tensors = {"source": source, "target": target}
            for name in ("source", "target"):
                latents = [backbone.encode(group.float() / 255, keep=False) for group in tensors[name].split(_GROUP)]
                tensors[f"{name}_latents"] = torch.cat(latents).cpu()
            metadata = {"texts": json.dumps([texts, plain]), "recipe": _fingerprint(recipe)}
            if origin is not None:
                metadata["origin"] = origin
            write_tensors(path, tensors, hint=DISK_HINT, metadata=metadata)
            report(f"rendered {sort} pairs {shard + 1}/{getattr(recipe, sort)}")
    return all(_path(folder, sort, shard).exists() for sort in SORTS for shard in range(getattr(recipe, sort)))


def load_reading(recipe: ReadingCorpusRecipe, folder: Path, sort: Sort, *, origin: str | None = None) -> ReadingPairs:
    """Read all pairs of a sort.

    Args:
        recipe: how many.
        folder: where they are.
        sort: which.
        origin: what the shards must be made from; those that keep nothing of it pass. None = anything.

    Raises:
        SessionError: if some are missing, or were rendered by another recipe or from something else.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in ("source", "target", "source_latents", "target_latents")}
    texts: list[str] = []
    plain: list[str] = []
    for shard in range(getattr(recipe, sort)):
        path = _path(folder, sort, shard)
        if not path.exists():
            raise SessionError(f"expected {getattr(recipe, sort)} shards of {sort} pairs in {folder}: render them")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["recipe"] != _fingerprint(recipe):
                raise SessionError(f"{path} was rendered by another recipe: remove it to render it anew")
            if origin is not None and metadata.get("origin", origin) != origin:
                raise SessionError(f"{path} was made with another autoencoder or album: remove it to make it anew")
            for name, parts in rows.items():
                parts.append(file.get_tensor(name))
            own, plainly = json.loads(metadata["texts"])
            texts += own
            plain += plainly
    return ReadingPairs(
        **{name: torch.cat(parts) for name, parts in rows.items()}, texts=tuple(texts), plain=tuple(plain)
    )


def painted_pairs(
    album: Album, pictures: Sequence[int]
) -> tuple[UInt8[Tensor, "pair 3 height width"], UInt8[Tensor, "pair 3 height width"], list[str]]:
    """Pictures, the same with something painted over, and what asks for it; a picture always gives the same pair."""
    sources: list[Tensor] = []
    targets: list[Tensor] = []
    texts: list[str] = []
    for picture in pictures:
        rng = np.random.default_rng([picture, 3])
        drawn = refer(rng, album.seen(picture), _PAINTED, only_known=True)
        if drawn is None:
            continue
        phrase, named = drawn
        shown = album.reflection if named.reflected else album.index
        mask = torch.isin(shown[picture], torch.tensor(named.targets, dtype=torch.int8))
        words = [color for color in PAINTS if color in COLORS]
        color = words[int(rng.integers(len(words)))]
        source = album.pictures[picture]
        sources.append(source)
        targets.append((paint(source.float() / 255, mask, color) * 255).round().to(torch.uint8))
        texts.append(_PAINTINGS[int(rng.integers(len(_PAINTINGS)))].format(phrase, color))
    return torch.stack(sources), torch.stack(targets), texts


def plain_instruction(pairs: EditPairs, row: int) -> str:
    """The instruction of a pair in the words of the embedded editor; empty where it has none."""
    spec = pairs.specs[row]
    edit = spec.edits[0]
    phrase = name_plainly(spec.scene, edit.named, range(len(spec.scene.blocks)))
    return "" if phrase is None else reword_edit(edit, phrase).text


def _make_shard(
    recipe: ReadingCorpusRecipe, sort: Sort, shard: int, album: Album, device: torch.device | str
) -> tuple[Tensor, Tensor, list[str], list[str]]:
    start = shard * recipe.pairs_per_shard
    numbers = range(start, start + recipe.pairs_per_shard)
    if sort == "segmentation":
        rng = np.random.default_rng([shard, 4])
        source, target, texts = painted_pairs(album, rng.integers(len(album), size=len(numbers)).tolist())
        return source, target, texts, [""] * len(texts)
    sources: list[Tensor] = []
    targets: list[Tensor] = []
    texts: list[str] = []
    plain: list[str] = []
    for at in range(0, len(numbers), _GROUP):
        group = numbers[at : at + _GROUP]
        if sort == "plain":
            first = [_FIRST_PLAIN + number for number in group]
            pairs = make_pairs("train", first, height=recipe.image_size, device=device)
        else:
            pairs = make_reading_pairs("train", group, which=sort, height=recipe.image_size, device=device)
        # Held-out combinations are held out in plain words, too.
        kept = [row for row, spec in enumerate(pairs.specs) if combination_of(spec) == "known"]
        sources.append((pairs.source[kept] * 255).round().to(torch.uint8).cpu())
        targets.append((pairs.target[kept] * 255).round().to(torch.uint8).cpu())
        texts += [pairs.specs[row].instruction for row in kept]
        plain += [pairs.specs[row].instruction if sort == "plain" else plain_instruction(pairs, row) for row in kept]
    return torch.cat(sources), torch.cat(targets), texts, plain


def _path(folder: Path, sort: Sort, shard: int) -> Path:
    return folder / f"reading_{sort}_{shard:03d}.safetensors"


def _fingerprint(recipe: ReadingCorpusRecipe) -> str:
    return json.dumps([recipe.pairs_per_shard, recipe.image_size])
