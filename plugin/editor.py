"""Which editor a run uses, as flags; loading it waits until the first edit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

from ..editors import (
    BackboneConfig,
    Editor,
    FoIConfig,
    Instruction,
    IP2PConfig,
    ModelError,
    check_kind,
    load_preset,
    locate_checkpoint,
)

if TYPE_CHECKING:
    from ..editors import Backbone

SCENE_STEPS = 20
"""Denoising steps of one edit; a scene takes hundreds of edits, so fewer than a single picture gets."""


def _foi() -> FoIConfig:
    return FoIConfig(sampler="ddim", steps=SCENE_STEPS)


def _ip2p() -> IP2PConfig:
    return IP2PConfig(sampler="ddim", steps=SCENE_STEPS)


@dataclass(frozen=True, kw_only=True)
class SceneEditorConfig(BackboneConfig):
    """The editor and the checkpoint it runs on."""

    name: Literal["foi", "ip2p"] = "foi"
    """`foi` finds where to edit from the instruction and changes nothing else; `ip2p` changes what it likes."""
    foi: FoIConfig = field(default_factory=_foi)
    """Options of Focus on Your Instruction; read when --pipeline.editor.name is foi."""
    ip2p: IP2PConfig = field(default_factory=_ip2p)
    """Options of InstructPix2Pix; read when --pipeline.editor.name is ip2p."""

    @property
    def chosen(self) -> FoIConfig | IP2PConfig:
        """The options of the editor that is used."""
        match self.name:
            case "foi":
                return self.foi
            case "ip2p":
                return self.ip2p
            case _:
                assert_never(self.name)

    def with_guidance(self, text: float | None, image: float | None) -> "SceneEditorConfig":
        """The same editor with other guidance scales; None = unchanged."""
        changes = {"guidance_scale": text, "image_guidance_scale": image}
        chosen = replace(self.chosen, **{name: value for name, value in changes.items() if value is not None})
        return replace(self, **{self.name: chosen})

    def load_backbone(self) -> "Backbone":
        """Load the weights."""
        from ..editors import Backbone

        return Backbone.load(self)

    def make(self, backbone: "Backbone") -> Editor:
        """The chosen editor on weights that are there."""
        from ..editors import make_editor

        return make_editor(self.chosen, backbone)

    def resolved(self, name: Literal["sampler", "steps", "guidance_scale", "image_guidance_scale"]) -> Any:
        """An option, from the checkpoint's own preset where the options leave it open."""
        given = getattr(self.chosen, name)
        if given is not None:
            return given
        return getattr(load_preset(locate_checkpoint(self)).instruct, name)


def check_editor_is_there(config: SceneEditorConfig, instructions: Sequence[Instruction], *, fetch: bool) -> None:
    """Refuse a checkpoint that is not there or of the wrong kind, and instructions it can't read; loads no weights.

    Args:
        config: names the checkpoint.
        instructions: what it is to be told.
        fetch: also ask the hub, because the first edit is hours away.

    Raises:
        ModelError: if the checkpoint is missing, can't be reached or takes no condition picture.
        InputError: if the instructions are too long, or a keyword is not found in its instruction.
    """
    location = locate_checkpoint(config)
    if isinstance(location, Path):
        folder = location
    elif fetch:
        folder = _fetch_configuration(location, config)
    else:
        return
    check_kind(
        "instruct-pix2pix",
        config.name,
        int(_read_json(folder, "unet/config.json").get("in_channels", 4)),
        int(_read_json(folder, "vae/config.json").get("latent_channels", 4)),
        config.model_for("instruct-pix2pix"),
        flag="--pipeline.editor.model",
    )
    _check_instructions(folder, instructions)


def _check_instructions(folder: Path, instructions: Sequence[Instruction]) -> None:
    from transformers import CLIPTokenizer

    from ..editors import compose_instructions

    found = {path.name for path in (folder / "tokenizer").glob("*")}
    # Without its vocabulary a tokenizer comes up empty instead of failing.
    if "tokenizer.json" not in found and not {"vocab.json", "merges.txt"} <= found:
        raise ModelError(f"tokenizer of the checkpoint {folder} is missing or incomplete: fetch the whole checkpoint")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tokenizer of the checkpoint {folder} cannot be loaded: {_first_line(error)}") from error
    compose_instructions(instructions, tokenizer)


def _fetch_configuration(location: str, config: SceneEditorConfig) -> Path:
    """A folder with the small files of a checkpoint on the hub: how its networks are built, and its tokenizer."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            location,
            revision=config.revision,
            local_files_only=config.offline,
            allow_patterns=["model_index.json", "*/config.json", "tokenizer/*"],
        )
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise ModelError(
            f"the editor's checkpoint {location} can't be reached ({_first_line(error)}): pass a folder with "
            "--pipeline.editor.model or --pipeline.editor.model-dir"
        ) from error
    return Path(folder)


def _read_json(folder: Path | str, name: str) -> dict[str, Any]:
    path = Path(folder) / name
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({_first_line(error)}): fetch the whole checkpoint") from error
    if not isinstance(content, dict):
        raise ModelError(f"cannot read {path}: expected an object, got a {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
