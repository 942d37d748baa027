"""Where a checkpoint is and which settings it wants; light enough to import anywhere.

A checkpoint is a folder in diffusers layout (or a hub id). A file `maskedit.json` beside its `model_index.json` may
carry its own settings; without one, the published values of the papers hold.
"""

import json
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

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
        stored: dict[str, Any] = json.loads(path.read_text())
        unknown = set(stored) - {f.name for f in fields(CheckpointPreset)}
        if unknown:
            raise ModelError(f"{path} has unknown settings {sorted(unknown)}")
        if "mask_stages" in stored:
            stored["mask_stages"] = tuple(stored["mask_stages"])
        return CheckpointPreset(**stored)
    except (json.JSONDecodeError, TypeError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
