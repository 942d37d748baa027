"""From the published SmartEdit weights, LLaVA-1.1 and CLIP to a checkpoint that SmartEdit loads.

The published weights are four files of a layout of their own (`convert_names`) beside a LLaVA that everybody merges
alone, and a wrong merge edits without an error and badly. So every name and shape is compared before anything is
written, and every weight that the published files repeat of LLaVA must equal it while it is: the LLaVA of the written
checkpoint is the one that SmartEdit learned on, in transformers layout, and a record of it lies beside it.

Weights are read from the files' pages and written in pieces of which one is in memory at a time: 2 GB of the language
model, or the whole UNet (3.4 GB).
"""

import secrets
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from ..core.checkpoint import BackboneConfig, CheckpointPreset, locate_checkpoint
from ..core.errors import InputError, ModelError
from ..core.files import one_line_on_failure, read_json, write_json
from ..core.loading import load_network, load_part, quiet_loading
from ..parts.places import locate_pretrained
from .architecture import SmartEditArchitecture
from .conversation import ChatStyle, ChatTokenizer
from .convert_check import RECORD, check_words, record_rows
from .convert_files import HINT, WeightFiles, find_weights, write_pieces
from .convert_names import Part, Published
from .convert_plan import (
    Origin,
    Plan,
    Shapes,
    adapter_shapes,
    bytes_of,
    check_plan,
    count_rows,
    make_plan,
    read_architecture,
)
from .convert_release import SmartEditConversion, find_release, read_chat
from .files import name_elsewhere, write_description, write_index
from .interaction import Interaction
from .qformer import QFormer

_ROUNDING = 2.0**-8
"""How far a tensor may be from its copy, as a share of its size: the published copies are rounded to 8 bits, and the
last step of training may have moved old rows by a hair."""
_SECOND = "model.multi_modal_projector.linear_2."
_UNET_BYTES = 10_000_000_000
"""A UNet is one file."""
_LEARNED_AT = 256 // 8
"""Latent cells along each side of the pictures that SmartEdit learned on (section 5.1)."""


def convert_smartedit(
    task: SmartEditConversion,
    config: BackboneConfig,
    *,
    like: SmartEditArchitecture | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """Convert published weights; nothing is left behind where that fails.

    Args:
        task: what, and where to.
        config: where CLIP, the base and the tokenizer are looked up.
        like: what no shape tells: numbers of heads and of image tokens; None = as released.
        report: is told each stage.

    Returns:
        The folder.

    Raises:
        InputError: if the output is there already.
        ModelError: if anything is missing, left over, of another shape, or not what SmartEdit learned on.
    """
    if task.output.exists():
        raise InputError(f"{task.output} is there already: choose another --output or remove it")
    # A name that no folder of the user has.
    partial = task.output.with_name(f"{task.output.name}.{secrets.token_hex(4)}.partial")
    try:
        with one_line_on_failure(task.output, hint=HINT, error=ModelError):
            _Converter(task, config, like or SmartEditArchitecture(), report).write(partial)
            partial.replace(task.output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return task.output


class _Converter:
    """One conversion: its files, open, and what is to become of them."""

    def __init__(
        self,
        task: SmartEditConversion,
        config: BackboneConfig,
        like: SmartEditArchitecture,
        report: Callable[[str], None],
    ) -> None:
        self.task, self.report = task, report
        release = find_release(task.release, task.steps)
        self.style: ChatStyle = read_chat(task.templates, task.system)
        self.adapter = read_json(release.adapter, hint="fetch it again", error=ModelError) if release.adapter else {}
        clip, self.processor = _load_clip(task.clip, config)
        self.tokenizer = _load_tokenizer(task.tokenizer or str(task.llava), config)
        self.unet_config = _read_unet_config(task.base, config)
        self.base = name_elsewhere(task.base, task.output)
        # The order matters: what stands first is written, and the others must equal it.
        self.files: dict[Published, WeightFiles] = {
            "llava": WeightFiles(find_weights(task.llava)),
            "clip": WeightFiles.of({name: each.detach() for name, each in clip.state_dict().items()}),
            **{source: WeightFiles([path]) for source, path in release.weights.items()},
        }
        shapes: dict[Published, Shapes] = {source: each.shapes for source, each in self.files.items()}
        self.architecture = read_architecture(shapes, like)
        self.old = count_rows(shapes, self.architecture)
        self.llava = read_llava_config(task.llava, clip.config, self.old)
        self.plan = make_plan(shapes, self.old)
        check_plan(self.plan, network_shapes(self.plan, self.architecture, self.llava, self.unet_config))
        chat = ChatTokenizer(
            self.tokenizer, rows=self.old, image_tokens=self.architecture.image_tokens, style=self.style
        )
        check_words(chat, task.tokenizer or str(task.llava))

    def write(self, folder: Path) -> None:
        """Write the checkpoint, comparing on the way."""
        if self.task.templates is None:
            self.report(
                "no --templates: the checkpoint talks in our own words, which these weights never saw; the file of "
                "templates that is published with SmartEdit has theirs"
            )
        self._write_mllm(folder / "mllm")
        self.report("writing the UNet and what is between")
        self._write_adapter(folder / "adapter")
        write_pieces(folder / "unet", *self._makers("unet"), stem="diffusion_pytorch_model", most=_UNET_BYTES)
        write_json(folder / "unet" / "config.json", self.unet_config, hint=HINT, error=ModelError)
        write_pieces(folder / "smartedit", *self._makers("smartedit", precise=True))
        write_description(folder, self.architecture, self.style, mllm="mllm")
        record = record_rows(WeightFiles(find_weights(folder / "mllm")))
        write_json(folder / "smartedit" / RECORD, record, hint=HINT, error=ModelError)
        write_index(folder, CheckpointPreset(base=self.base))

    def _write_mllm(self, folder: Path) -> None:
        tensors, sizes = self._makers("mllm")
        width = self.llava.text_config.hidden_size
        # LLaVA-1.1 projects by one layer and transformers by two, of which the second shall change nothing.
        like = self._read(self.plan.parts["mllm"]["lm_head.weight"][0]).dtype
        tensors[f"{_SECOND}weight"] = lambda: torch.eye(width, dtype=like)
        tensors[f"{_SECOND}bias"] = lambda: torch.zeros(width, dtype=like)
        sizes |= {f"{_SECOND}weight": bytes_of((width, width), 4), f"{_SECOND}bias": bytes_of((width,), 4)}
        self.report(f"comparing and writing {len(tensors)} tensors of the language model")
        with quiet_loading():
            write_pieces(folder, tensors, sizes)
            self.llava.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            self.processor.save_pretrained(folder)

    def _write_adapter(self, folder: Path) -> None:
        tensors, sizes = self._makers("adapter", precise=True)
        write_pieces(folder, tensors, sizes, stem="adapter_model")
        names = {
            name.split(".")[-3]: self.plan.parts["adapter"][name][0].shape for name in tensors if ".lora_A" in name
        }
        options = LoraConfig(
            r=next(iter(names.values()))[0],
            lora_alpha=int(self.adapter.get("lora_alpha", 16)),
            lora_dropout=float(self.adapter.get("lora_dropout", 0.05)),
            target_modules=sorted(names),
            inference_mode=True,
        )
        options.save_pretrained(str(folder))

    def _makers(self, part: Part, *, precise: bool = False) -> tuple[dict[str, Callable[[], Tensor]], dict[str, int]]:
        """What makes each tensor of a folder, and its size in bytes, at most."""
        places = self.plan.parts[part]

        def maker(name: str, origins: tuple[Origin, ...]) -> Callable[[], Tensor]:
            return lambda: self._make(name, origins, precise=precise)

        tensors = {name: maker(name, origins) for name, origins in places.items()}
        return tensors, {name: bytes_of(origins[0].shape, 4) for name, origins in places.items()}

    def _make(self, name: str, origins: tuple[Origin, ...], *, precise: bool) -> Tensor:
        first, *copies = (self._read(origin) for origin in origins)
        for origin, copy in zip(origins[1:], copies, strict=True):
            apart = _difference(copy, first)
            if not apart <= _ROUNDING:
                raise ModelError(
                    f"this LLaVA is not the one that SmartEdit learned on: its {name} is {apart:.2g} of its size away "
                    f"from {origin.name} of the published weights (at most {_ROUNDING:.2g}): merge LLaVA-1.1's delta "
                    "with the LLaMA weights of its size anew"
                )
        return first.float() if precise else first

    def _read(self, origin: Origin) -> Tensor:
        tensor = self.files[origin.source].read(origin.name)
        rows = {"all": slice(None), "old": slice(self.old), "new": slice(self.old, None)}[origin.rows]
        return tensor if origin.rows == "all" else tensor[rows]


def network_shapes(
    plan: Plan, architecture: SmartEditArchitecture, llava: Any, unet: dict[str, Any]
) -> dict[Part, dict[str, tuple[int, ...]]]:
    """Shapes of all tensors of the networks that will load a checkpoint, by folder.

    Args:
        plan: tells which matrices of the language model LoRA adapts.
        architecture: sizes of QFormer and interaction.
        llava: configuration of the language model.
        unet: configuration of the UNet.
    """
    width, new = llava.text_config.hidden_size, architecture.image_tokens + 3
    with torch.device("meta"), quiet_loading():
        between: dict[str, Any] = {"qformer": QFormer(architecture, width), "interaction": Interaction(architecture)}
        mllm, painter = LlavaForConditionalGeneration(llava), UNet2DConditionModel.from_config(unet)
    own = {f"{part}.{name}": each for part, net in between.items() for name, each in _shapes(net).items()}
    return {
        # The second layer of the projector is made, since LLaVA-1.1 has one.
        "mllm": {name: shape for name, shape in _shapes(mllm).items() if not name.startswith(_SECOND)},
        "smartedit": {**own, "new_inputs": (new, width), "new_outputs": (new, width)},
        "adapter": adapter_shapes(plan, llava.text_config.num_hidden_layers),
        "unet": _shapes(painter),
    }


def _shapes(network: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in network.state_dict().items()}


def _difference(copy: Tensor, original: Tensor) -> float:
    """How far a copy is from its original, as a share of the original's size."""
    exact = original.float()
    return float((copy.float() - exact).norm() / exact.norm().clamp_min(torch.finfo(exact.dtype).tiny))


def _load_clip(name: str, config: BackboneConfig) -> tuple[Any, Any]:
    """LLaVA's eyes, and how they want pictures."""
    location = locate_pretrained(name, role="CLIP", model_dir=config.model_dir)
    with quiet_loading(keep_bars=isinstance(location, str)):
        network = load_network(CLIPVisionModel, "CLIP", location, config, subfolder="")
        form = load_part(
            lambda: CLIPImageProcessor.from_pretrained(str(location), local_files_only=config.offline),
            "processor",
            location,
            config,
            subfolder="",
        )
    return network, form


def _load_tokenizer(name: str, config: BackboneConfig) -> Any:
    location = locate_pretrained(name, role="tokenizer", model_dir=config.model_dir)
    advice = "pass --tokenizer with a folder or a hub id of LLaMA's as tokenizer.json"
    # The libraries would ask for a package that reads something else.
    if isinstance(location, Path) and not (location / "tokenizer.json").is_file() and not find_spec("sentencepiece"):
        found = "a tokenizer.model, which" if (location / "tokenizer.model").is_file() else "none; a tokenizer.model"
        raise ModelError(
            f"expected tokenizer.json in {location}, found {found} needs `pip install sentencepiece`: {advice}"
        )
    try:
        with quiet_loading():
            return AutoTokenizer.from_pretrained(
                str(location), local_files_only=config.offline, trust_remote_code=False
            )
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot read a tokenizer from {location} ({first}): {advice}") from error


def _read_unet_config(base: str, config: BackboneConfig) -> dict[str, Any]:
    """Configuration of the base's UNet, for as many input channels as SmartEdit's has, and for its size of pictures."""
    location = locate_checkpoint(BackboneConfig(model=base, model_dir=config.model_dir, offline=config.offline))
    stored = load_part(
        lambda: UNet2DConditionModel.load_config(str(location), subfolder="unet", local_files_only=config.offline),
        "unet",
        location,
        config,
    )
    channels = 2 * int(stored.get("out_channels", 4))
    return {**dict(stored), "in_channels": channels, "sample_size": _LEARNED_AT}


def read_llava_config(folder: Path, vision: Any, rows: int) -> Any:
    """Configuration in transformers' form of a LLaVA of LLaMA layout.

    Args:
        folder: of the LLaVA.
        vision: configuration of its CLIP.
        rows: of old tokens.

    Raises:
        ModelError: if there is none, or its head is its embedding.
    """
    stored: Mapping[str, Any] = read_json(folder / "config.json", hint="fetch the whole LLaVA", error=ModelError)
    known = set(LlamaConfig().to_dict()) | {"rope_theta", "rope_scaling"}
    sizes: dict[str, Any] = {name: each for name, each in stored.items() if name in known} | {"vocab_size": rows}
    for name in ("model_type", "architectures", "transformers_version", "torch_dtype", "dtype"):
        sizes.pop(name, None)
    text = LlamaConfig(**sizes)
    if text.tie_word_embeddings:
        raise ModelError(f"expected a LLaVA whose head is not its embedding in {folder}: take LLaVA-1.1")
    return LlavaConfig(
        text_config=text,
        vision_config=vision.to_dict(),
        vision_feature_layer=int(stored.get("mm_vision_select_layer", -2)),
        projector_hidden_act="linear",
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
    )
