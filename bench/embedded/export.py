"""Stage 4 of the embedded set: a checkpoint folder in diffusers' layout, fp16 safetensors, with its own preset."""

import json
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Protocol, runtime_checkable

from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)
from transformers import CLIPTokenizer

from ...editors import PRESET_FILE, Architecture, Backbone, CaptionPreset, CheckpointPreset, FoIPreset, InstructPreset
from .clip import TrainedClip, export_clip
from .editor import EditorModel, build_scheduler
from .llava import TrainedLlava, export_llava
from .segmenter import TrainedSegmenter, export_segmenter
from .smartedit import TrainedSmartEdit, export_smartedit
from .train import Part, Trained

EMBEDDED_PRESET = CheckpointPreset(
    instruct=InstructPreset(sampler="ddim", steps=10, guidance_scale=1.6, image_guidance_scale=1.1),
    foi=FoIPreset(noise_level=1.0, mask_stride=1, mask_stages=("up",), mask_squarings=1, mask_threshold=0.45),
    knows="the blocks world (small pictures of spheres, cubes and cylinders)",
)
"""Settings chosen on validation scenes for the embedded set."""


TEXT_TO_IMAGE_PRESET = CheckpointPreset(
    caption=CaptionPreset(steps=20, guidance_scale=3.0, encoding_ratio=0.9, mask_resize="cover", mix_until=0.25),
    knows=EMBEDDED_PRESET.knows,
)
"""Settings chosen on validation scenes for the embedded text-to-image model."""
INPAINTING_PRESET = CheckpointPreset(
    caption=CaptionPreset(steps=20, guidance_scale=2.5, mask_resize="cover"), knows=EMBEDDED_PRESET.knows
)
"""Settings chosen on validation scenes for the embedded inpainting model."""


PART_FOLDERS: dict[Part, str] = {
    "instruct": "instruct-pix2pix",
    "text-to-image": "text-to-image",
    "inpainting": "inpainting",
    "segmenter": "clipseg",
    "clip": "clip",
    "llava": "llava",
    "smartedit": "smartedit",
}
"""Name of each part's folder, in an export and in the installed set."""


@runtime_checkable
class TrainedNetworks(Protocol):
    """What training a checkpoint of this set gives."""

    @property
    def vae(self) -> AutoencoderKL:
        """The set's autoencoder."""
        ...

    @property
    def model(self) -> EditorModel:
        """UNet and text encoder."""
        ...

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """The text encoder's."""
        ...


def export_set(trained: TrainedNetworks, folder: Path, *, preset: CheckpointPreset = EMBEDDED_PRESET) -> None:
    """Write a trained set so that diffusers' `from_pretrained` and `--model FOLDER` load it; the set stays as it is."""
    _export(StableDiffusionInstructPix2PixPipeline, trained, folder, preset)


def export_text_to_image(
    trained: TrainedNetworks, folder: Path, *, preset: CheckpointPreset = TEXT_TO_IMAGE_PRESET
) -> None:
    """Write a trained text-to-image model, as `export_set` does."""
    _export(StableDiffusionPipeline, trained, folder, preset)


def export_inpainting(trained: TrainedNetworks, folder: Path, *, preset: CheckpointPreset = INPAINTING_PRESET) -> None:
    """Write a trained inpainting model, as `export_set` does."""
    _export(StableDiffusionInpaintPipeline, trained, folder, preset)


def export_part(part: Part, trained: Trained, folder: Path) -> Path:
    """Write a part into its own folder inside `folder`, and say where."""
    place = folder / PART_FOLDERS[part]
    if isinstance(trained, TrainedSegmenter):
        export_segmenter(trained, place)
    elif isinstance(trained, TrainedClip):
        export_clip(trained, place)
    elif isinstance(trained, TrainedLlava):
        export_llava(trained, place)
    elif isinstance(trained, TrainedSmartEdit):
        export_smartedit(trained, place)
    elif part == "text-to-image":
        export_text_to_image(trained, place)
    elif part == "inpainting":
        export_inpainting(trained, place)
    else:
        export_set(trained, place)
    return place


def install_part(part: Part, trained: Trained, folder: Path) -> Path | None:
    """Write a part into the installed set, and say where; None = it comes with another part.

    The autoencoder is in the set once: what has the same one as the editor builds on the editor.
    """
    if part == "llava":
        return None
    place = export_part(part, trained, folder)
    base = PART_FOLDERS["instruct"]
    own, shared = place / "vae", folder / base / "vae"
    if place != shared.parent and own.is_dir() and shared.is_dir() and _files_in(own) == _files_in(shared):
        rmtree(own)
        preset = place / PRESET_FILE
        preset.write_text(json.dumps({**json.loads(preset.read_text()), "base": f"../{base}"}, indent=2) + "\n")
    return place


def _files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _export(kind: type[DiffusionPipeline], trained: TrainedNetworks, folder: Path, preset: CheckpointPreset) -> None:
    networks = {"unet": trained.model.unet, "vae": trained.vae, "text_encoder": trained.model.text_encoder}
    scheduler = build_scheduler()
    half = Backbone.build(
        Architecture(
            unet=trained.model.unet.config,
            # A loaded autoencoder remembers where it was loaded from.
            vae={name: value for name, value in trained.vae.config.items() if name != "_name_or_path"},
            text_encoder=trained.model.text_encoder.config.to_dict(),
            scheduler=scheduler.config,
        ),
        device="cpu",
        dtype="float16",
    )
    for name, network in networks.items():
        getattr(half, name).load_state_dict(network.state_dict())
    pipeline = kind(
        vae=half.vae,
        text_encoder=half.text_encoder,
        tokenizer=trained.tokenizer,
        unet=half.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    # Stored in half precision, meant to run in full: else `from_pretrained` without a dtype takes this network alone in
    # half precision, and the pipeline fails.
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    (folder / PRESET_FILE).write_text(json.dumps(asdict(preset), indent=2) + "\n")
