"""Where a checkpoint is and which settings it wants; light enough to import anywhere.

A checkpoint is a folder in diffusers layout (or a hub id). A file `maskedit.json` beside its `model_index.json` may
carry its own settings; without one, the published values of the papers hold.
"""

import json
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import ModelError

SamplerName = Literal["ddim", "euler_ancestral"]
DtypeName = Literal["auto", "float32", "float16", "bfloat16"]
EMBEDDED = "embedded"
PRESET_FILE = "maskedit.json"


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which checkpoint to load, and how to run it."""

    model: str = "timbrooks/instruct-pix2pix"
    """`embedded` (small, knows only the blocks world), a folder in diffusers layout, or a hub id."""
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


@dataclass(frozen=True, kw_only=True)
class CheckpointPreset:
    """Settings that belong to a checkpoint. The defaults are the published ones of InstructPix2Pix and FoI."""

    sampler: SamplerName = "euler_ancestral"
    steps: int = 100
    """Steps over the whole noise range."""
    guidance_scale: float = 7.5
    """Text guidance S_T."""
    image_guidance_scale: float = 1.5
    """Image guidance S_I."""
    foi_noise_level: float = 0.8
    """Share of the noise range FoI starts from."""
    mask_stride: int = 4
    """Latent cells per cell of the attention maps, along each axis."""
    mask_stages: tuple[Literal["down", "mid", "up"], ...] = ("down", "mid", "up")
    """Parts of the UNet whose maps are averaged."""
    mask_squarings: int = 3
    """gamma: how often the map is squared and normalised."""
    mask_threshold: float = 0.55
    """tau."""
    knows: str = ""
    """What the checkpoint was trained on, if it is not general."""

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("image_guidance_scale", 1), ("mask_stride", 1), ("mask_squarings", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("foi_noise_level", "mask_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.guidance_scale <= 1:
            raise ValueError(f"guidance_scale must be above 1, got {self.guidance_scale}")


def locate_checkpoint(config: BackboneConfig) -> Path | str:
    """Folder of the checkpoint, or its hub id where no local copy is found.

    Raises:
        ModelError: if a folder was named and is not there or is no checkpoint, or the embedded set is not installed.
    """
    if config.model == EMBEDDED:
        folder = Path(str(files("maskedit.editors.embedded"))) / "instruct-pix2pix"
        return _require_checkpoint(folder, "the embedded set is not installed: train it with `maskedit train embedded`")
    named = Path(config.model).expanduser()
    if config.model_dir is not None:
        for place in (config.model_dir / config.model, config.model_dir / named.name):
            if place.is_dir():
                return _require_checkpoint(place, "expected a folder in diffusers layout")
    if named.is_dir():
        return _require_checkpoint(named, "expected a folder in diffusers layout")
    if config.model.count("/") != 1 or named.is_absolute() or config.model.startswith((".", "~")):
        raise ModelError(f"expected a checkpoint folder or a hub id owner/name, found nothing at {config.model!r}")
    return config.model


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
        return _preset_of(stored)
    except ValueError as error:
        raise ModelError(f"cannot read {path}: {error}") from error


def _preset_of(stored: dict[str, Any]) -> CheckpointPreset:
    known = {f.name: type(f.default) for f in fields(CheckpointPreset)}
    unknown = sorted(set(stored) - set(known))
    if unknown:
        raise ValueError(f"unknown settings {unknown}")
    stages = stored.get("mask_stages", ["up"])
    if not isinstance(stages, list) or not stages or not set(stages) <= {"down", "mid", "up"}:
        raise ValueError(f"mask_stages must be a list of some of down, mid, up, got {stages!r}")
    if stored.get("sampler", "ddim") not in get_args(SamplerName):
        raise ValueError(f"sampler must be one of {get_args(SamplerName)}, got {stored['sampler']!r}")
    values: dict[str, Any] = {name: tuple(value) if name == "mask_stages" else value for name, value in stored.items()}
    for name, value in values.items():
        kind = known[name]
        # JSON has one kind of number.
        values[name] = float(value) if kind is float and type(value) is int else value
        if type(values[name]) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, got {value!r}")
    return CheckpointPreset(**values)
