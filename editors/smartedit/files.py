"""SmartEdit on disk: a folder that stands beside the checkpoint it builds on.

| path | what it is |
|---|---|
| model_index.json, maskedit.json | settings, and the checkpoint with autoencoder, text encoder, tokenizer, scheduler |
| unet/ | the UNet, in diffusers layout |
| smartedit/config.json | sizes, the conversation's style, where the language model is |
| smartedit/model.safetensors | qformer.*, interaction.*, new_inputs, new_outputs |
| adapter/ | LoRA, in peft's layout |
| mllm/ | the LLaVA with tokenizer and processor, in transformers layout, unless it is elsewhere |
"""

import os
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import AutoTokenizer, BitsAndBytesConfig, CLIPImageProcessor, LlavaForConditionalGeneration

from ..core.backbone import resolve_device
from ..core.checkpoint import PRESET_FILE, BackboneConfig, CheckpointPreset
from ..core.errors import MissingExtraError, ModelError
from ..core.files import one_line_on_failure, read_json, write_json, write_tensors
from ..core.loading import load_configuration, load_network, load_part, quiet_loading
from ..parts.places import locate_pretrained
from ..parts.smartedit_options import Quantize
from .architecture import Interaction as InteractionKind
from .architecture import SmartEditArchitecture
from .conversation import VICUNA, ChatStyle, read_style, write_style
from .interaction import Interaction
from .mllm import ADAPTER_FILES, LoraOptions, Mllm, PictureForm
from .model import SmartEditModel
from .places import find_mllm
from .qformer import QFormer
from .stored import fill_tensors

_FOLDER, _CONFIG, _WEIGHTS, _ADAPTER, _MLLM = "smartedit", "config.json", "model.safetensors", "adapter", "mllm"
_HINT = "choose another folder"
_AGAIN = "fetch or convert the whole checkpoint"


def begin_smartedit(
    mllm: str,
    config: BackboneConfig,
    architecture: SmartEditArchitecture,
    *,
    style: ChatStyle = VICUNA,
    lora: LoraOptions | None = None,
    mllm_device: str | None = None,
    quantize: Quantize | None = None,
) -> SmartEditModel:
    """A model that has learned nothing yet, on a LLaVA.

    Args:
        mllm: folder or hub id of the LLaVA, in transformers layout.
        config: where to look it up, and where the rest is to be.
        architecture: sizes of the rest.
        style: how conversations are written.
        lora: what the language model learns through; None = as the released one.
        mllm_device: where the language model is; None = where the rest is.
        quantize: bits of its weights; None = all of them.

    Raises:
        ModelError: if it is missing or incomplete.
        MissingExtraError: if it is to be quantized and bitsandbytes is not installed.
    """
    location = locate_pretrained(mllm, role="language model", model_dir=config.model_dir)
    llava, tokenizer, form = _load_llava(location, config, device=mllm_device, quantize=quantize)
    reader = Mllm(
        llava,
        tokenizer,
        form,
        image_tokens=architecture.image_tokens,
        style=style,
        lora=lora,
        location=str(location),
    )
    return assemble(reader, architecture, config)


def assemble(mllm: Mllm, architecture: SmartEditArchitecture, config: BackboneConfig) -> SmartEditModel:
    """A language model with a QFormer and an interaction of random weights.

    Args:
        mllm: the language model.
        architecture: sizes of the rest.
        config: names the device of the rest.
    """
    place, _ = resolve_device(config.device, "float32")
    qformer = QFormer(architecture, mllm.llm_width).to(place)
    return SmartEditModel(mllm, qformer, Interaction(architecture).to(place), architecture)


def load_smartedit(
    location: Path | str,
    config: BackboneConfig,
    *,
    mllm_device: str | None = None,
    quantize: Quantize | None = None,
) -> SmartEditModel:
    """Load all that SmartEdit has before the UNet.

    Args:
        location: folder or hub id of the checkpoint.
        config: how it is looked up, and where QFormer and interaction are to be.
        mllm_device: where the language model is; None = where the rest is.
        quantize: bits of the language model's weights; None = all of them.

    Raises:
        ModelError: if anything is missing, incomplete, or does not fit the rest.
        MissingExtraError: if it is to be quantized and bitsandbytes is not installed.
    """
    folder = _fetch(location, config)
    architecture, style, where = read_description(folder)
    # Before the language model, which takes minutes.
    for part in (f"{_FOLDER}/{_WEIGHTS}", *(f"{_ADAPTER}/{name}" for name in ADAPTER_FILES)):
        if not (folder / part).is_file():
            raise ModelError(f"no {part} in {folder}: {_AGAIN}")
    own = find_mllm(folder, where)
    if isinstance(own, str):
        own = locate_pretrained(own, role="language model", model_dir=config.model_dir)
    llava, tokenizer, form = _load_llava(own, config, device=mllm_device, quantize=quantize)
    with quiet_loading():
        mllm = Mllm(
            llava,
            tokenizer,
            form,
            image_tokens=architecture.image_tokens,
            style=style,
            adapter=str(folder / _ADAPTER),
            location=str(own),
        )
    model = assemble(mllm, architecture, config)
    fit = "the sizes beside it and the language model"
    fill_tensors(_own_tensors(model), folder / _FOLDER / _WEIGHTS, beside=fit, hint=_AGAIN)
    return model


def read_description(folder: Path) -> tuple[SmartEditArchitecture, ChatStyle, str]:
    """Sizes, the conversation's style, and where the language model is: a folder relative to this one, or a hub id.

    Raises:
        ModelError: if the folder is no SmartEdit.
    """
    path = folder / _FOLDER / _CONFIG
    stored = read_json(path, hint=f"expected a SmartEdit checkpoint; {_AGAIN}", error=ModelError)
    try:
        known = {each.name for each in fields(SmartEditArchitecture)}
        sizes = {name: value for name, value in stored.items() if name not in {"conversation", "mllm"}}
        if set(sizes) - known:
            raise ValueError(f"unknown settings {sorted(set(sizes) - known)}")
        where = _check_type("mllm", stored["mllm"], str)
        return SmartEditArchitecture(**_check_sizes(sizes)), read_style(stored["conversation"]), where
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"cannot understand {path} ({str(error).splitlines()[0]}): {_AGAIN}") from error


def _check_sizes(sizes: dict[str, Any]) -> dict[str, Any]:
    """What JSON gave, each of the type that it must have."""
    checked: dict[str, Any] = {}
    for each in fields(SmartEditArchitecture):
        if each.name in sizes:
            checked[each.name] = _check_type(each.name, sizes[each.name], type(each.default))
    kinds = get_args(InteractionKind)
    if checked.get("interaction", kinds[0]) not in kinds:
        raise ValueError(f"interaction must be one of {', '.join(kinds)}, got {checked['interaction']!r}")
    return checked


def _check_type(name: str, value: Any, kind: Any) -> Any:
    # JSON has one kind of number.
    value = float(value) if kind is float and type(value) is int else value
    if type(value) is not kind:
        raise ValueError(f"{name} must be {kind.__name__}, got {value!r}")
    return value


def save_smartedit(
    model: SmartEditModel,
    unet: UNet2DConditionModel,
    folder: Path,
    *,
    base: str,
    preset: CheckpointPreset | None = None,
    whole: bool = False,
    size: int | None = None,
) -> Path:
    """Write a SmartEdit checkpoint.

    Args:
        model: all before the UNet.
        unet: the UNet.
        folder: where to; made if need be.
        base: checkpoint with autoencoder, text encoder, tokenizer and scheduler: a folder relative to this one, or a
            hub id.
        preset: settings of the checkpoint; None = the published ones.
        whole: write the language model, too, even where it is a folder or a hub id already; one that is nowhere yet is
            always written.
        size: side in latent cells of what the UNet learned on, which it is then run at; None = what it says of itself.

    Returns:
        The folder.

    Raises:
        ModelError: if the disk refuses.
    """
    where = _MLLM
    with one_line_on_failure(folder, hint=_HINT, error=ModelError):
        if whole or model.mllm.location is None:
            save_llava(model.mllm, folder / _MLLM)
        else:
            where = name_elsewhere(model.mllm.location, folder)
        unet.save_pretrained(folder / "unet", safe_serialization=True)
        if size is not None:
            _write_size(folder / "unet" / "config.json", size)
        adapter = model.mllm.language
        adapter.peft_config["default"].base_model_name_or_path = None
        adapter.save_pretrained(str(folder / _ADAPTER))
        # A form of a model card, with nothing filled in.
        (folder / _ADAPTER / "README.md").unlink(missing_ok=True)
    write_description(folder, model.architecture, model.mllm.tokenizer.style, mllm=where)
    write_tensors(folder / _FOLDER / _WEIGHTS, _own_tensors(model), hint=_HINT, error=ModelError)
    write_index(folder, replace(preset or CheckpointPreset(), base=base))
    return folder


def _write_size(path: Path, size: int) -> None:
    """Write at which size a UNet is run into its configuration, and leave the network as it is."""
    stored = read_json(path, hint=_HINT, error=ModelError)
    write_json(path, {**stored, "sample_size": size}, hint=_HINT, error=ModelError, indent=2)


def write_index(folder: Path, preset: CheckpointPreset) -> None:
    """Write what makes a folder a checkpoint: maskedit.json, and model_index.json last.

    Args:
        folder: of the checkpoint.
        preset: its settings, with the checkpoint it builds on.
    """
    write_json(folder / PRESET_FILE, asdict(preset), hint=_HINT, error=ModelError)
    index = {"_class_name": "SmartEdit", "unet": ["diffusers", "UNet2DConditionModel"]}
    write_json(folder / "model_index.json", index, hint=_HINT, error=ModelError)


def write_description(folder: Path, architecture: SmartEditArchitecture, style: ChatStyle, *, mllm: str) -> None:
    """Write smartedit/config.json, what `read_description` reads.

    Args:
        folder: of the checkpoint.
        architecture: sizes.
        style: how conversations are written.
        mllm: folder of the language model, relative to this one, or a hub id.
    """
    content = {**asdict(architecture), "conversation": write_style(style), "mllm": mllm}
    write_json(folder / _FOLDER / _CONFIG, content, hint=_HINT, error=ModelError)


def save_llava(mllm: Mllm, folder: Path) -> None:
    """Write the LLaVA without its adapter and new tokens, as it was before.

    Raises:
        ModelError: if it is quantized, since that cannot be undone.
    """
    if getattr(mllm.llava, "is_quantized", False):
        raise ModelError("expected a language model with all bits to write, got a quantized one: load it without")
    weights = {
        name.replace(".base_model.model.", ".").replace(".base_layer.", "."): each
        for name, each in mllm.llava.state_dict().items()
        if ".lora_" not in name
    }
    with torch.device("meta"):
        plain = LlavaForConditionalGeneration(mllm.llava.config)
    plain.load_state_dict(weights, strict=True, assign=True)
    size = {"height": mllm.form.size, "width": mllm.form.size}
    form = CLIPImageProcessor(
        size=size, crop_size=size, image_mean=list(mllm.form.mean), image_std=list(mllm.form.std), do_center_crop=False
    )
    with quiet_loading():
        plain.save_pretrained(folder, safe_serialization=True)
        form.save_pretrained(folder)
        mllm.tokenizer.base.save_pretrained(folder)


def _own_tensors(model: SmartEditModel) -> dict[str, Tensor]:
    own = {"new_inputs": model.mllm.new_inputs, "new_outputs": model.mllm.new_outputs}
    for name, part in (("qformer", model.qformer), ("interaction", model.interaction)):
        own |= {f"{name}.{key}": each for key, each in part.state_dict().items()}
    return {name: each.detach() for name, each in own.items()}


def _fetch(location: Path | str, config: BackboneConfig) -> Path:
    if isinstance(location, Path):
        return location
    from huggingface_hub import snapshot_download

    wanted = [f"{_FOLDER}/*", f"{_ADAPTER}/*", f"{_MLLM}/*", PRESET_FILE, "model_index.json"]
    return load_part(
        lambda: Path(
            snapshot_download(
                location, revision=config.revision, allow_patterns=wanted, local_files_only=config.offline
            )
        ),
        _FOLDER,
        location,
        config,
    )


def _load_llava(
    location: Path | str, config: BackboneConfig, *, device: str | None, quantize: Quantize | None
) -> tuple[LlavaForConditionalGeneration, Any, PictureForm]:
    """The networks in bfloat16 on a GPU and in float32 elsewhere, their tokenizer, and how they want pictures."""
    wanted = device or config.device
    place, _ = resolve_device(wanted, "float32")
    _, precision = resolve_device(wanted, "float32" if place.type == "cpu" else "bfloat16")
    options: dict[str, Any] = {"dtype": precision}
    if quantize is not None:
        options |= {"quantization_config": _quantization(quantize, precision), "device_map": {"": place}}
    lookup = BackboneConfig(model=str(location), model_dir=config.model_dir, offline=config.offline)
    with quiet_loading(keep_bars=isinstance(location, str)):
        llava = load_network(LlavaForConditionalGeneration, "language model", location, lookup, subfolder="", **options)
        tokenizer = load_tokenizer(location, config)
        form = load_configuration(CLIPImageProcessor, "from_pretrained", "processor", location, lookup, subfolder="")
    if quantize is None:
        llava = llava.to(place)
    size = int(llava.config.vision_config.image_size)
    return llava, tokenizer, PictureForm(size=size, mean=tuple(form.image_mean), std=tuple(form.image_std))


def load_tokenizer(location: Path | str, config: BackboneConfig) -> Any:
    """The tokenizer of a language model; none that brings code of its own.

    Args:
        location: folder or hub id of the language model.
        config: how it is looked up.

    Raises:
        ModelError: if it is missing or cannot be understood.
    """
    local = config.offline or isinstance(location, Path)
    return load_part(
        lambda: AutoTokenizer.from_pretrained(str(location), local_files_only=local, trust_remote_code=False),
        "tokenizer",
        location,
        config,
        subfolder="",
    )


def _quantization(quantize: Quantize, precision: torch.dtype) -> BitsAndBytesConfig:
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            "bitsandbytes", purpose="a quantized language model", install="pip install bitsandbytes"
        )
    # The head gives the logits that the loss is made of, and the picture must be seen as the interaction was trained.
    kept = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=precision,
        llm_int8_skip_modules=kept,
    )


def name_elsewhere(location: str, folder: Path) -> str:
    """How a checkpoint names a model that is elsewhere: a folder relative to it, or a hub id.

    Args:
        location: folder or hub id of the model.
        folder: of the checkpoint.
    """
    place = Path(location).expanduser()
    return os.path.relpath(place.resolve(), folder.resolve()) if place.is_dir() else location
