"""What is converted: the files of published SmartEdit weights, and the words they were trained with; light."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.checkpoint import PUBLISHED
from ..core.errors import InputError, ModelError
from .conversation import VICUNA, ChatStyle
from .convert_names import Published

_CAPTION, _SLOT, _IMAGES = "[cap]", "[edit]", "[img]"


@dataclass(frozen=True, kw_only=True)
class SmartEditConversion:
    """What is converted, and where to."""

    release: Path
    """Folder of the published SmartEdit weights, such as a copy of TencentARC/SmartEdit-7B."""
    llava: Path
    """Folder of the LLaVA-1.1 of the same size, merged from its delta, in LLaMA layout."""
    output: Path
    """Folder of the checkpoint; it must not be there."""
    clip: str = "openai/clip-vit-large-patch14"
    """The CLIP that LLaVA looks through: a folder or a hub id."""
    base: str = PUBLISHED["text-to-image"]
    """Checkpoint with autoencoder, text encoder, tokenizer and scheduler: a folder or a hub id. It is not copied."""
    tokenizer: str | None = None
    """Folder or hub id of LLaMA's tokenizer; None = the one beside LLaVA."""
    steps: int | None = None
    """Steps of training of the published files, the N in LLM-N; None = the most there are."""
    templates: Path | None = None
    """Pairs of turns to talk to the language model with, lines `Human: ... [cap] ...` and `GPT: ... [img]` as published
    with SmartEdit; None = our own words."""
    system: str | None = None
    """What a conversation begins with; None = our own words."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Files of published weights after the same number of steps."""

    weights: Mapping[Published, Path]
    """`language`, `reader`, `unet`, and `interaction` unless it was trained without."""
    adapter: Path | None
    """What LoRA is like, if it says."""


def find_release(folder: Path, steps: int | None = None) -> Release:
    """Find the files of published weights.

    Args:
        folder: as published.
        steps: the N in LLM-N; None = the most there are.

    Raises:
        ModelError: if a file is missing; one line with its name.
    """
    there = {int(match[1]) for path in folder.glob("LLM-*") if (match := re.fullmatch(r"LLM-(\d+)", path.name))}
    if not there or (steps is not None and steps not in there):
        found = ", ".join(f"LLM-{n}" for n in sorted(there)) or "none"
        raise ModelError(
            f"expected a folder {'LLM-N' if steps is None else f'LLM-{steps}'} in {folder}, found {found}: name the "
            "folder of the published weights, such as a copy of TencentARC/SmartEdit-7B"
        )
    number = max(there) if steps is None else steps
    weights: dict[Published, Path] = {
        "language": folder / f"LLM-{number}" / "adapter_model.bin",
        "reader": folder / "embeddings_qformer" / f"checkpoint-{number}_embeddings_qformer.bin",
        "unet": folder / f"unet-{number}" / "adapter_model.bin",
        "interaction": folder / f"modulate-{number}" / "adapter_model.bin",
    }
    # What was trained without the interaction module has no such folder at all.
    if not weights["interaction"].parent.is_dir():
        del weights["interaction"]
    missing = [path for path in weights.values() if not path.is_file()]
    if missing:
        raise ModelError(f"expected the published weights {missing[0]}, found none: fetch the whole folder")
    options = (folder / f"LLM-{number}" / "adapter_config.json", folder / "adapter_config.json")
    return Release(weights=weights, adapter=next((path for path in options if path.is_file()), None))


def read_chat(templates: Path | None, system: str | None) -> ChatStyle:
    """How conversations are written.

    Args:
        templates: lines `Human: ... [cap] ...` and `GPT: ... [img]`; None = our own words.
        system: what a conversation begins with; None = our own words.

    Raises:
        InputError: if the file cannot be read, or does not hold such pairs.
    """
    style = VICUNA if system is None else replace(VICUNA, system=" ".join(system.split()))
    if templates is None:
        return style
    try:
        lines = [line.strip() for line in templates.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {templates} ({error}): name a file of templates") from error
    asks = [line.removeprefix("Human: ") for line in lines if line.startswith("Human: ")]
    answers = [line.removeprefix("GPT: ").partition(_IMAGES)[0].strip() for line in lines if line.startswith("GPT: ")]
    if not asks or len(asks) != len(answers) or any(ask.count(_CAPTION) != 1 for ask in asks):
        raise InputError(
            f"expected pairs of lines `Human: ... {_CAPTION} ...` and `GPT: ... {_IMAGES}` in {templates}, got "
            f"{len(asks)} and {len(answers)}: take the file of templates that is published with SmartEdit"
        )
    pairs = tuple((ask.replace(_CAPTION, _SLOT), answer) for ask, answer in zip(asks, answers, strict=True))
    return replace(style, edits=pairs)
