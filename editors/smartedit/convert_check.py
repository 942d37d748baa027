"""Whether a SmartEdit checkpoint and the language model that it reads with belong together, before anybody edits.

LLaVA-1.1 is published as a difference to LLaMA, which everybody adds up alone. Where that goes wrong nothing fails: the
language model says other tokens than it should, and edits come out bad. So a conversion leaves a record, a few numbers
of each tensor of the LLaVA that SmartEdit learned on, and a loaded model can be asked how well it foretells the image
tokens of its own answer: near 0 each where it is right, about the logarithm of the vocabulary where it is not. A wrong
one may still know that image tokens are due and mix them up, so the limit is half of what guessing among them costs.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch

from ..core.bases import locate_part
from ..core.checkpoint import BackboneConfig
from ..core.errors import ModelError
from ..core.files import read_json
from ..parts.places import find_in_cache, locate_pretrained
from .architecture import SmartEditArchitecture
from .conversation import ChatTokenizer
from .convert_files import WeightFiles, find_weights
from .files import load_tokenizer, read_description
from .places import find_mllm

RECORD = "origin.json"
"""Beside the weights of QFormer and interaction."""
_SAMPLES = 4
_ROUNDING = 2.0**-7
"""How far a number may be from its record, as a share of it: as much as rounding to bfloat16 moves it, twice."""
_NEAR_ZERO = 1e-6
_CANONICAL = (
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^(?:model\.)?vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
)
"""Names of LLaVA's weights in files of other versions of transformers."""
_AGAIN = "convert anew with the LLaVA-1.1 of the same size, its delta merged anew"
_INSTRUCTION = "make it red"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one look at a checkpoint showed."""

    what: str
    """What was looked at."""
    fits: bool
    note: str
    """What was found or, where it does not fit, what to do; one line."""


def record_rows(llava: WeightFiles) -> dict[str, list[float]]:
    """A few numbers of each tensor of a LLaVA, by its name."""
    return {_canonical(name): llava.sample(name, _SAMPLES) for name in llava.shapes}


def check_smartedit(folder: Path, config: BackboneConfig, *, load: bool) -> tuple[Finding, ...]:
    """Look whether a checkpoint and its language model belong together; later looks need the earlier ones to fit.

    Args:
        folder: the checkpoint.
        config: where a language model outside of it is looked up, and where to load it.
        load: also load it and ask it; False = only files are read.
    """
    stages: dict[str, Callable[[], str]] = {}
    seen: dict[str, Any] = {}

    def files() -> str:
        seen["architecture"], _, where = read_description(folder)
        seen["place"] = _find_llava(folder, where, config)
        seen["llava"] = _rename(WeightFiles(find_weights(seen["place"])))
        seen["own"] = WeightFiles([_require(folder / "smartedit" / "model.safetensors")])
        seen["adapter"] = WeightFiles([_require(folder / "adapter" / "adapter_model.safetensors")])
        _require(folder / "unet" / "config.json")
        base, _ = locate_part(folder, "vae", config)
        return f"all there, the language model in {seen['place']}, the autoencoder in {base}"

    stages["files"] = files
    stages["sizes"] = lambda: _check_sizes(seen["architecture"], seen["llava"], seen["own"], seen["adapter"])
    stages["tokens"] = lambda: _check_tokens(folder, seen["place"], seen["llava"])
    stages["language model"] = lambda: _check_record(folder, seen["llava"])
    if load:
        stages["answer"] = lambda: _check_answer(folder, config)
    findings: list[Finding] = []
    for what, look in stages.items():
        try:
            findings.append(Finding(what=what, fits=True, note=look()))
        except ModelError as error:
            return (*findings, Finding(what=what, fits=False, note=" ".join(str(error).split())))
    return tuple(findings)


@dataclass(frozen=True)
class _Renamed:
    """Weights by the names that this version of transformers has for them."""

    files: WeightFiles
    names: Mapping[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, or nothing if it is not there."""
        return self.files.shapes[self.names[name]] if name in self.names else ()


def _rename(files: WeightFiles) -> _Renamed:
    return _Renamed(files, {_canonical(name): name for name in files.shapes})


def _canonical(name: str) -> str:
    for pattern, to in _CANONICAL:
        name, count = re.subn(pattern, to, name)
        if count:
            break
    return name


def _require(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"expected {path}, found none: fetch or convert the whole checkpoint")
    return path


def _find_llava(folder: Path, where: str, config: BackboneConfig) -> Path:
    own = find_mllm(folder, where)
    if isinstance(own, Path):
        return own
    location = locate_pretrained(own, role="language model", model_dir=config.model_dir)
    found = location if isinstance(location, Path) else find_in_cache(location, "config.json")
    if found is None:
        raise ModelError(f"the language model {where} is not on this machine: fetch it with `hf download {where}`")
    return found


def _check_sizes(architecture: SmartEditArchitecture, llava: _Renamed, own: WeightFiles, adapter: WeightFiles) -> str:
    rows, width = llava.shape("model.language_model.embed_tokens.weight") or (0, 0)
    layers = len({n.split(".")[3] for n in llava.names if n.startswith("model.language_model.layers.")})
    head = llava.shape("lm_head.weight") or (rows, width)
    new = (architecture.image_tokens + 3, width)
    keys = own.shapes.get("qformer.layers.encoder.layer.0.crossattention.attention.key.weight", (0, 0))
    inner = [shape[1] for name, shape in adapter.shapes.items() if ".lora_A" in name]
    adapted = {name.split(".layers.")[-1].split(".")[0] for name in adapter.shapes}
    sees = (llava.shape("model.vision_tower.post_layernorm.weight") or (0,))[0]
    claims = (
        ("rows and width of the head", head, (rows, width)),
        ("rows and width of the new tokens' inputs", own.shapes.get("new_inputs"), new),
        ("rows and width of the new tokens' outputs", own.shapes.get("new_outputs"), new),
        ("width that the QFormer reads", keys[1], width),
        ("widths that LoRA reads", set(inner), {width}),
        ("layers that have LoRA", len(adapted), layers),
    )
    for what, found, wanted in claims:
        if found != wanted:
            raise ModelError(f"{what}: expected {wanted} for this language model, got {found}: {_AGAIN}")
    if architecture.interaction != "none" and sees != architecture.interaction_width:
        raise ModelError(
            f"width of the picture's features: expected {architecture.interaction_width} for this checkpoint, got "
            f"{sees}: {_AGAIN}"
        )
    return f"{layers} layers of width {width}, {rows} rows and {new[0]} new ones"


def _check_tokens(folder: Path, place: Path, llava: _Renamed) -> str:
    from ..core.loading import quiet_loading

    architecture, style, _ = read_description(folder)
    with quiet_loading():
        base = load_tokenizer(place, BackboneConfig(model=str(place), offline=True))
    rows = llava.shape("model.language_model.embed_tokens.weight")[0]
    chat = ChatTokenizer(base, rows=rows, image_tokens=architecture.image_tokens, style=style)
    check_words(chat, str(place))
    return f"{rows} of the language model, and {len(chat.new_tokens)} new ones"


def check_words(chat: ChatTokenizer, place: str) -> None:
    """Make sure that a tokenizer says only what its language model has rows for.

    Args:
        chat: the tokenizer, with the style of the chat.
        place: where it is from.

    Raises:
        ModelError: if not.
    """
    # Each of these is text alone.
    texts = (chat.style.user, chat.style.assistant, chat.style.edits[0][1], _INSTRUCTION)
    ids = [each for text in texts for each in chat.encode(text)]
    if not ids or max(ids) >= chat.rows or chat.base.unk_token_id in ids:
        raise ModelError(
            f"the tokenizer in {place} does not fit a language model of {chat.rows} rows: take LLaVA's own"
        )


def _check_record(folder: Path, llava: _Renamed) -> str:
    path = folder / "smartedit" / RECORD
    if not path.is_file():
        return "nothing is recorded of the one it learned on; only its answers can tell"
    record: dict[str, list[float]] = read_json(path, hint="convert the checkpoint anew", error=ModelError)
    missing = [name for name in record if name not in llava.names]
    if missing:
        raise ModelError(f"the language model lacks {len(missing)} weights ({missing[0]}, ...): {_AGAIN}")
    apart = [
        name for name, wanted in record.items() if not _equal(llava.files.sample(llava.names[name], _SAMPLES), wanted)
    ]
    if apart:
        raise ModelError(
            f"the language model is not the one SmartEdit learned on: {len(apart)} of {len(record)} weights differ "
            f"({apart[0]}, ...): {_AGAIN}"
        )
    return f"{len(record)} weights are those that SmartEdit learned on, as far as a few numbers of each tell"


def _equal(found: list[float], wanted: list[float]) -> bool:
    return len(found) == len(wanted) and all(
        abs(a - b) <= _ROUNDING * abs(b) + _NEAR_ZERO for a, b in zip(found, wanted, strict=True)
    )


def _check_answer(folder: Path, config: BackboneConfig) -> str:
    from .conversation import edit_conversation
    from .files import load_smartedit

    model = load_smartedit(folder, config)
    mllm = model.mllm
    # Any picture will do: two slopes across each other.
    slope = torch.linspace(0, 1, mllm.form.size)
    across, down = torch.meshgrid(slope, slope, indexing="xy")
    picture = torch.stack([across, down, (across + down) / 2])[None]
    talk = edit_conversation(mllm.tokenizer, _INSTRUCTION, labels="image tokens")
    loss = mllm.answer_loss(talk, model.look(picture))
    limit = log(mllm.tokenizer.image_tokens) / 2
    chance = log(mllm.tokenizer.rows + len(mllm.tokenizer.new_tokens))
    said = f"{loss:.2f} for each image token it should say (near 0 is right, {chance:.1f} is chance)"
    # Not a number is no answer, either.
    if not loss <= limit:
        raise ModelError(f"the language model does not answer as SmartEdit taught it: {said}: {_AGAIN}")
    return said
