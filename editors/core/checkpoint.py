"""Where a checkpoint is and which settings it wants; light enough to import anywhere.

A checkpoint is a folder in diffusers layout (or a hub id). A file `maskedit.json` beside its `model_index.json` may
carry its own settings; without one, the published values of the papers hold.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import ModelError

SamplerName = Literal["ddim", "euler_ancestral"]
DtypeName = Literal["auto", "float32", "float16", "bfloat16"]
MaskResize = Literal["nearest", "cover"]
"""From a picture's mask to latent cells: the value at one pixel of each, or every cell of which a fifth is inside."""
CheckpointKind = Literal["instruct-pix2pix", "text-to-image", "inpainting", "smartedit"]
"""What a UNet reads beside the noisy latents: a condition picture, nothing, or a mask and the masked picture; a UNet of
SmartEdit reads a condition picture, and what a language model made of it."""
EMBEDDED = "embedded"
PRESET_FILE = "maskedit.json"
_PARTS_READ, _PART_BYTES = 16, 1 << 16
_OF_A_MODEL = {".safetensors", ".bin", ".json", ".model"}
"""Endings of files that decide what a model in a folder does."""
PUBLISHED: dict[CheckpointKind, str] = {
    "instruct-pix2pix": "timbrooks/instruct-pix2pix",
    "text-to-image": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "smartedit": "TencentARC/SmartEdit-7B",
}
"""Hub id of the published checkpoint of each kind; that of SmartEdit has a layout of its own and is converted first."""
_UNCONVERTED = ("TencentARC/SmartEdit-7B", "TencentARC/SmartEdit-13B")
"""Published in a layout of their own."""

_KIND_IN_WORDS: dict[CheckpointKind, str] = {
    "instruct-pix2pix": "an InstructPix2Pix checkpoint",
    "text-to-image": "a text-to-image checkpoint",
    "inpainting": "an inpainting checkpoint",
    "smartedit": "a SmartEdit checkpoint",
}


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which checkpoint to load, and how to run it."""

    model: str | None = None
    """`embedded` (small, knows only the blocks world), a folder in diffusers layout, or a hub id; None = the published
    checkpoint of the kind that the editor needs."""
    revision: str | None = None
    """Commit or tag of a hub id; None = its default branch."""
    model_dir: Path | None = None
    """Folder with local copies, looked up as MODEL_DIR/owner/name and MODEL_DIR/name before the hub."""
    offline: bool = False
    """Never ask the hub; use local folders and its cache only."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    dtype: DtypeName = "auto"
    """`auto` = float16 on CUDA, float32 elsewhere."""
    compile: bool = False
    """Compile the UNet (worth it from a few dozen edits on)."""

    def model_for(self, kind: CheckpointKind) -> str:
        """The checkpoint that is meant, where an editor needs one of this kind."""
        return PUBLISHED[kind] if self.model is None else self.model


@dataclass(frozen=True, kw_only=True)
class InstructPreset:
    """How to run an InstructPix2Pix checkpoint; the defaults are the published ones."""

    sampler: SamplerName = "euler_ancestral"
    steps: int = 100
    """Steps over the whole noise range."""
    guidance_scale: float = 7.5
    """Text guidance S_T."""
    image_guidance_scale: float = 1.5
    """Image guidance S_I."""

    def __post_init__(self) -> None:
        _at_least(self, steps=1, image_guidance_scale=1)
        _above_one(self, "guidance_scale")


@dataclass(frozen=True, kw_only=True)
class FoIPreset:
    """How FoI reads masks from an InstructPix2Pix checkpoint; the defaults are the published ones."""

    noise_level: float = 0.8
    """Share of the noise range FoI starts from."""
    mask_stride: int = 4
    """Latent cells per cell of the attention maps, along each axis."""
    mask_stages: tuple[Literal["down", "mid", "up"], ...] = ("down", "mid", "up")
    """Parts of the UNet whose maps are averaged."""
    mask_squarings: int = 3
    """gamma: how often the map is squared and normalised."""
    mask_threshold: float = 0.55
    """tau."""

    def __post_init__(self) -> None:
        _at_least(self, mask_stride=1, mask_squarings=0)
        _shares(self, "noise_level", "mask_threshold")


@dataclass(frozen=True, kw_only=True)
class CaptionPreset:
    """How caption-based editors run a text-to-image or inpainting checkpoint; the defaults are the published ones."""

    steps: int = 50
    """DDIM steps over the whole noise range."""
    guidance_scale: float = 7.5
    """Text guidance."""
    encoding_ratio: float = 0.5
    """Share of the noise range a picture is inverted to."""
    mask_threshold: float = 0.5
    """theta: level of the normalised noise difference that counts as inside DiffEdit's mask."""
    mask_resize: MaskResize = "nearest"
    """How masks come to the latents."""
    mix_until: float = 0.5
    """Share of MDP's steps after which the noise of the source's path no longer takes part."""

    def __post_init__(self) -> None:
        _at_least(self, steps=1)
        _above_one(self, "guidance_scale")
        _shares(self, "encoding_ratio", "mask_threshold", "mix_until")


@dataclass(frozen=True, kw_only=True)
class CheckpointPreset:
    """Settings that belong to a checkpoint, by the family of editors that reads them."""

    instruct: InstructPreset = field(default_factory=InstructPreset)
    foi: FoIPreset = field(default_factory=FoIPreset)
    caption: CaptionPreset = field(default_factory=CaptionPreset)
    knows: str = ""
    """What the checkpoint was trained on, if it is not general."""
    base: str = ""
    """Checkpoint with the parts this one lacks: a folder relative to this one, or a hub id; empty = it lacks none."""


def _at_least(preset: object, **bounds: int) -> None:
    for name, low in bounds.items():
        if getattr(preset, name) < low:
            raise ValueError(f"{name} must be at least {low}, got {getattr(preset, name)}")


def _above_one(preset: object, name: str) -> None:
    if getattr(preset, name) <= 1:
        raise ValueError(f"{name} must be above 1, got {getattr(preset, name)}")


def _shares(preset: object, *names: str) -> None:
    for name in names:
        if not 0 < getattr(preset, name) <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {getattr(preset, name)}")


def locate_checkpoint(config: BackboneConfig, kind: CheckpointKind = "instruct-pix2pix") -> Path | str:
    """Folder of the checkpoint, or its hub id where no local copy is found.

    Args:
        config: names it.
        kind: what the editor needs; decides which published one, or which one of the embedded set, is meant.

    Raises:
        ModelError: if a folder was named and is not there or is no checkpoint, or the embedded set is not installed.
    """
    model = config.model_for(kind)
    if model == EMBEDDED:
        folder = Path(str(files("maskedit.editors.embedded"))) / kind
        problem = "the embedded set is not installed: train it with `maskedit train embedded`"
        if kind == "smartedit":
            problem = "the embedded set has no SmartEdit: pass --model FOLDER with one that was converted or trained"
        return _require_checkpoint(folder, problem)
    named, problem = Path(model).expanduser(), "expected a folder in diffusers layout"
    if kind == "smartedit":
        problem = f"{problem}, which `maskedit convert smartedit` makes of the published files"
    if config.model_dir is not None:
        for place in (config.model_dir / model, config.model_dir / named.name):
            if place.is_dir():
                return _require_checkpoint(place, problem)
    if named.is_dir():
        return _require_checkpoint(named, problem)
    if model in _UNCONVERTED:
        raise ModelError(
            f"{model} is published in a layout of its own: convert it once with `maskedit convert smartedit`, then "
            "pass --model FOLDER"
        )
    if model.count("/") != 1 or named.is_absolute() or model.startswith((".", "~")):
        raise ModelError(
            f"expected a checkpoint folder or a hub id owner/name, found nothing at {model!r}: correct its name"
        )
    return model


def missing_message(what: str, name: str, *, model_dir: Path | None, problem: str = "") -> str:
    """One line about a model that is not on this machine: where it was looked for, and how to get it.

    Args:
        what: such as "the checkpoint".
        name: hub id.
        model_dir: folder with local copies that was looked in.
        problem: why the hub did not give it; empty = it was not to be asked.
    """
    looked = "the hub's cache" if model_dir is None else f"{model_dir} and the hub's cache"
    asked = f"and the hub does not give it ({_shorten(problem)})" if problem else "and --offline asks no further"
    target = "" if model_dir is None else f" --local-dir {model_dir}/{name}"
    missing = f"{what} {name} is not on this machine (looked in {looked})"
    return f"{missing}, {asked}: fetch it with `hf download {name}{target}`"


def _shorten(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def fingerprint_weights(place: Path) -> str:
    """What tells a model from another one in the same place; of each file only parts are read.

    Args:
        place: its folder, or the file that is all of it.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    inner = place.rglob("*") if place.is_dir() else [place]
    for path in sorted(each for each in inner if each == place or each.suffix in _OF_A_MODEL):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(place)} {size}".encode())
        with path.open("rb") as file:
            for part in range(_PARTS_READ):
                file.seek(part * size // _PARTS_READ)
                digest.update(file.read(min(_PART_BYTES, size // _PARTS_READ + 1)))
    return digest.hexdigest()


def check_kind(
    kind: CheckpointKind,
    editor: str,
    in_channels: int,
    latent_channels: int,
    model: str,
    *,
    told: bool = False,
    flag: str = "--model",
) -> None:
    """Refuse a checkpoint whose UNet reads something else than an editor gives it.

    Args:
        kind: what the editor needs.
        editor: its name.
        in_channels: input channels of the checkpoint's UNet.
        latent_channels: channels of its latents.
        model: name of the checkpoint.
        told: whether a language model tells its UNet what to do, see `has_language_model`.
        flag: what to set to another one.

    Raises:
        ModelError: unless the UNet has as many input channels as that kind, or if it knows no texts and reads them.
    """
    other = f"set {flag} to one such as {PUBLISHED[kind]}"
    if kind == "smartedit":
        other = f"set {flag} to a folder that `maskedit convert smartedit` made"
    wanted = (1 if kind == "text-to-image" else 2) * latent_channels
    wanted += kind == "inpainting"
    if in_channels != wanted:
        raise ModelError(
            f"{editor} needs {_KIND_IN_WORDS[kind]}, a UNet of {wanted} input channels, but {model!r} "
            f"has {in_channels}: {other}"
        )
    if told and kind != "smartedit":
        raise ModelError(
            f"{editor} needs {_KIND_IN_WORDS[kind]}, but {model!r} is a SmartEdit checkpoint, whose UNet is told by a "
            f"language model: {other}, or use the editor smartedit"
        )


def has_language_model(location: Path | str) -> bool:
    """Whether a checkpoint in a folder is one of SmartEdit; one on the hub counts as none."""
    return isinstance(location, Path) and (location / "smartedit" / "config.json").is_file()


def _require_checkpoint(folder: Path, problem: str) -> Path:
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"no model_index.json in {folder}: {problem}")
    return folder


def load_preset(location: Path | str) -> CheckpointPreset:
    """The checkpoint's own settings, or the published ones.

    Raises:
        ModelError: if the preset file cannot be understood.
    """
    path = Path(location) / PRESET_FILE
    if not path.is_file():
        return CheckpointPreset()
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict):
            raise ModelError(f"cannot read {path}: expected an object of settings, got a {type(stored).__name__}")
        return _read_settings(CheckpointPreset, stored)
    except ValueError as error:
        raise ModelError(f"cannot read {path}: {error}") from error


_CHOICES = {"sampler": get_args(SamplerName), "mask_resize": get_args(MaskResize)}


def _read_settings(kind: Any, stored: dict[str, Any]) -> Any:
    """A dataclass of settings from what JSON gave, checked value by value."""
    defaults = {f.name: getattr(kind(), f.name) for f in fields(kind)}
    unknown = sorted(set(stored) - set(defaults))
    if unknown:
        raise ValueError(f"unknown settings {unknown}")
    values: dict[str, Any] = {}
    for name, value in stored.items():
        default = defaults[name]
        if is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"{name} must be an object of settings, got {value!r}")
            values[name] = _read_settings(type(default), value)
        elif name == "mask_stages":
            if not isinstance(value, list) or not value or not set(value) <= {"down", "mid", "up"}:
                raise ValueError(f"{name} must be a list of some of down, mid, up, got {value!r}")
            values[name] = tuple(value)
        elif name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {_CHOICES[name]}, got {value!r}")
        else:
            # JSON has one kind of number.
            values[name] = float(value) if type(default) is float and type(value) is int else value
            if type(values[name]) is not type(default):
                raise ValueError(f"{name} must be {type(default).__name__}, got {value!r}")
    return kind(**values)
