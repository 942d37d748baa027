"""Which editor a run uses, as flags; loading it waits until the first edit."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, assert_never

from ..editors import BackboneConfig, Editor, FoIConfig, IP2PConfig, ModelError, locate_checkpoint

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

    def load(self) -> Editor:
        """Load weights and build the editor."""
        from ..editors import load_editor

        return load_editor(self.chosen, self)


def check_editor_is_there(config: SceneEditorConfig, *, fetch: bool) -> None:
    """Refuse a checkpoint that is not there, without loading it.

    Args:
        config: names the checkpoint.
        fetch: also ask the hub, because the first edit is hours away.

    Raises:
        ModelError: if it is missing or can't be reached.
    """
    location = locate_checkpoint(config)
    if not fetch or isinstance(location, Path):
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(location, "model_index.json", revision=config.revision, local_files_only=config.offline)
    except Exception as error:  # The hub's client raises errors of several libraries.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"the editor's checkpoint {location} can't be reached ({reason}): pass a folder with "
            "--pipeline.editor.model or --pipeline.editor.model-dir"
        ) from error
