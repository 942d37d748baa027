"""One method on one set of SmartEdit's bench, kept: pictures with exact truth, and those of Reason-Edit.

What was made stays in a folder and is taken as it is where the method, its checkpoint and the pictures are the same. A
set of the blocks world is kept whole, exactly as the network gave it; of Reason-Edit every picture is kept by itself,
as a PNG, from which the published evaluation measures too.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..editors import (
    EditRequest,
    Image,
    InputError,
    Instruction,
    NothingFoundError,
    ParseError,
    load_image,
    make_editor,
    read_json,
    save_image,
    write_json,
    write_tensors,
)
from .blocks.pairs import EditPairs
from .outcome import Outcome, edit_all
from .smartedit_data import ReasonEdit, ReasonEditItem
from .smartedit_methods import Backbones, ReadingMethod

Report: TypeAlias = Callable[[int, int], None]
"""Receives pictures done and pictures in all."""
_HINT = "choose another --out, or remove it to begin anew"


def run_pairs(
    method: ReadingMethod,
    pairs: Sequence[EditPairs],
    place: Path,
    backbones: Backbones,
    report: Report = lambda *_: None,
) -> list[Outcome]:
    """A method on pictures with exact truth, or what is kept of it.

    Args:
        method: which.
        pairs: in batches.
        place: files to keep it in, without their endings.
        backbones: loads its checkpoint.
        report: told how far it is.

    Raises:
        InputError: if the folder cannot be written.
        ModelError: if the checkpoint does not fit.
    """
    if method.config is None:
        return [
            Outcome(raw=made, kept=made, mask=None, seconds=0.0, coded=False)
            for made in (batch.target if method.name == "truth" else batch.source for batch in pairs)
        ]
    settings = _as_json({**method.settings(), "pictures": _mark_pairs(pairs)})
    kept = _read_outcomes(place, settings, [len(batch.specs) for batch in pairs])
    if kept is not None:
        return kept
    backbone = backbones.load(method)
    outcomes = edit_all(
        pairs,
        make_editor(replace(method.config, keep_outside="paper"), backbone),
        backbone,
        lambda batch, row, seed: _request(
            batch.source[row : row + 1].to(backbone.device), batch.specs[row].instruction, seed
        ),
        has_mask=method.has_mask,
        report=report,
    )
    _write_outcomes(place, settings, outcomes)
    return outcomes


def _request(image: Image, instruction: str, seed: int) -> EditRequest:
    return EditRequest(image=image, instructions=(Instruction(text=instruction),), seeds=(seed,))


def _write_outcomes(place: Path, settings: Mapping[str, object], outcomes: Sequence[Outcome]) -> None:
    tensors = {name: torch.cat([getattr(outcome, name) for outcome in outcomes]) for name in ("raw", "kept")}
    masks = [outcome.mask for outcome in outcomes if outcome.mask is not None]
    if masks:
        tensors["mask"] = torch.cat(masks)
    sizes = [len(outcome.raw) for outcome in outcomes]
    refused = [sum(sizes[:i]) + row for i, outcome in enumerate(outcomes) for row in sorted(outcome.refused)]
    seconds = sum(size * outcome.seconds for size, outcome in zip(sizes, outcomes, strict=True)) / sum(sizes)
    write_tensors(place.with_name(f"{place.name}.safetensors"), tensors, hint=_HINT, error=InputError)
    record = {"settings": settings, "seconds": seconds, "refused": refused}
    write_json(place.with_name(f"{place.name}.json"), record, hint=_HINT, error=InputError)


def _read_outcomes(place: Path, settings: Mapping[str, object], sizes: Sequence[int]) -> list[Outcome] | None:
    """What is kept of a run with these settings, in batches of these sizes; None = nothing."""
    record, pictures = (place.with_name(f"{place.name}.{ending}") for ending in ("json", "safetensors"))
    if not record.is_file() or not pictures.is_file():
        return None
    stored = read_json(record, hint=_HINT, error=InputError)
    if stored.get("settings") != settings:
        return None
    tensors: dict[str, tuple[Tensor, ...]] = {n: t.split(list(sizes)) for n, t in load_file(pictures).items()}
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        Outcome(
            raw=tensors["raw"][i],
            kept=tensors["kept"][i],
            mask=tensors["mask"][i] if "mask" in tensors else None,
            seconds=stored["seconds"],
            refused=frozenset(row - start for row in stored["refused"] if start <= row < start + sizes[i]),
        )
        for i, start in enumerate(starts)
    ]


@dataclass(frozen=True, kw_only=True)
class KeptPhoto:
    """What a method made of a picture of Reason-Edit."""

    path: Path
    """The edited picture; of one that was refused, the picture as it was."""
    seconds: float
    refused: bool
    """Whether the method found nothing to edit, or did not understand the instruction."""


def run_photos(
    method: ReadingMethod,
    items: ReasonEdit,
    folder: Path,
    backbones: Backbones,
    report: Report = lambda *_: None,
) -> list[KeptPhoto]:
    """A method on every picture of Reason-Edit; those that are kept are not edited again.

    Args:
        method: which.
        items: the pictures; the seed of each is its number.
        folder: where FOLDER/NAME.png and a record of them are kept.
        backbones: loads the checkpoint, if any picture is to be edited.
        report: told how far it is.

    Raises:
        InputError: if a picture is broken, or the folder cannot be written.
        ModelError: if the checkpoint does not fit.
    """
    record = folder / "pictures.json"
    settings = _as_json(method.settings())
    stored: dict[str, Any] = read_json(record, hint=_HINT, error=InputError) if record.is_file() else {}
    done: dict[str, Any] = stored.get("pictures", {}) if stored.get("settings") == settings else {}
    edit: Callable[[ReasonEditItem, int], Image] | None = None
    photos: list[KeptPhoto] = []
    for seed, item in enumerate(items):
        key, path = f"{item.folder}/{item.name}", folder / item.folder / f"{item.name}.png"
        mark = _digest([item.image], [item.instruction, str(seed)])
        if done.get(key, {}).get("mark") != mark or not path.is_file():
            edit = edit or _photo_editor(method, backbones)
            image, seconds, refused = _edit_photo(edit, item, seed)
            save_image(image, path)
            done[key] = {"mark": mark, "seconds": seconds if method.config else 0.0, "refused": refused}
            write_json(record, {"settings": settings, "pictures": done}, hint=_HINT, error=InputError)
        photos.append(KeptPhoto(path=path, seconds=done[key]["seconds"], refused=done[key]["refused"]))
        report(seed + 1, len(items))
    return photos


def _photo_editor(method: ReadingMethod, backbones: Backbones) -> Callable[[ReasonEditItem, int], Image]:
    """Edits a picture with a seed."""
    if method.config is None:
        return lambda item, _: item.image
    backbone = backbones.load(method)
    editor = make_editor(replace(method.config, keep_outside="paper"), backbone)
    return lambda item, seed: editor.edit(_request(item.image.to(backbone.device), item.instruction, seed)).image.cpu()


def _edit_photo(
    edit: Callable[[ReasonEditItem, int], Image], item: ReasonEditItem, seed: int
) -> tuple[Image, float, bool]:
    """The edited picture, seconds, and whether the method refused."""
    start = time.perf_counter()
    try:
        image = edit(item, seed)
    except (NothingFoundError, ParseError):
        return item.image, time.perf_counter() - start, True
    return image, time.perf_counter() - start, False


def read_photo(photo: KeptPhoto) -> Image:
    """The edited picture."""
    return load_image(photo.path)


def _mark_pairs(pairs: Sequence[EditPairs]) -> str:
    return _digest([batch.source for batch in pairs], [spec.instruction for batch in pairs for spec in batch.specs])


def _digest(pictures: Sequence[Tensor], texts: Sequence[str]) -> str:
    """What tells pictures and words from others, in whatever batches they come."""
    digest = hashlib.sha1(usedforsecurity=False)
    for batch in pictures:
        for picture in batch:
            digest.update(f"{tuple(picture.shape)}".encode() + picture.cpu().contiguous().numpy().tobytes())
    digest.update("\n".join(texts).encode())
    return digest.hexdigest()


def _as_json(content: Mapping[str, object]) -> dict[str, Any]:
    """Settings as they are read back from a file."""

    def plain(value: Any) -> object:
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)

    return json.loads(json.dumps(content, default=plain))
