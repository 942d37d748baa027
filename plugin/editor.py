"""Which editor a run uses, as flags; loading it waits until the first edit."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..editors import (
    EDITORS,
    BackboneConfig,
    CheckpointKind,
    DiffEditConfig,
    Editor,
    EditorConfig,
    EditorName,
    FoIConfig,
    InpaintConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    IP2PConfig,
    MDPConfig,
    SmartEditConfig,
    VisiiConfig,
    load_preset,
    locate_checkpoint,
)

if TYPE_CHECKING:
    from ..editors import Backbone

SCENE_STEPS = 20
"""Denoising steps of one edit; a scene takes hundreds of edits, so fewer than a single picture gets. Editors that
invert the picture run only a share of their checkpoint's steps as it is, and keep those."""


def _foi() -> FoIConfig:
    return FoIConfig(sampler="ddim", steps=SCENE_STEPS)


def _ip2p() -> IP2PConfig:
    return IP2PConfig(sampler="ddim", steps=SCENE_STEPS)


def _inpaint() -> InpaintConfig:
    return InpaintConfig(steps=SCENE_STEPS)


def _instructbrush() -> InstructBrushConfig:
    return InstructBrushConfig(sampler="ddim", steps=SCENE_STEPS)


def _visii() -> VisiiConfig:
    return VisiiConfig(sampler="ddim", steps=SCENE_STEPS)


def _smartedit() -> SmartEditConfig:
    return SmartEditConfig(sampler="ddim", steps=SCENE_STEPS)


@dataclass(frozen=True, kw_only=True)
class SceneEditorConfig(BackboneConfig):
    """The editor and the checkpoint it runs on."""

    name: EditorName = "foi"
    """`foi` finds where to edit from the instruction and changes nothing else; `ip2p` changes what it likes;
    `instructedit` looks for the objects and works from captions, as do `diffedit`, `mdp` and `inpaint`; `instructbrush`
    and `visii` apply a brush, and other words of --pipeline.instructions act beside it; `smartedit` has a language
    model look at each photo and read the instruction, and changes what it likes."""
    foi: FoIConfig = field(default_factory=_foi)
    """Options of Focus on Your Instruction; read when --pipeline.editor.name is foi."""
    ip2p: IP2PConfig = field(default_factory=_ip2p)
    """Options of InstructPix2Pix; read when --pipeline.editor.name is ip2p."""
    instructedit: InstructEditConfig = field(default_factory=InstructEditConfig)
    """Options of InstructEdit; read when --pipeline.editor.name is instructedit."""
    diffedit: DiffEditConfig = field(default_factory=DiffEditConfig)
    """Options of DiffEdit; read when --pipeline.editor.name is diffedit."""
    mdp: MDPConfig = field(default_factory=MDPConfig)
    """Options of MDP; read when --pipeline.editor.name is mdp."""
    inpaint: InpaintConfig = field(default_factory=_inpaint)
    """Options of grounded inpainting; read when --pipeline.editor.name is inpaint."""
    instructbrush: InstructBrushConfig = field(default_factory=_instructbrush)
    """Options of InstructBrush; read when --pipeline.editor.name is instructbrush."""
    visii: VisiiConfig = field(default_factory=_visii)
    """Options of Visii; read when --pipeline.editor.name is visii."""
    smartedit: SmartEditConfig = field(default_factory=_smartedit)
    """Options of SmartEdit; read when --pipeline.editor.name is smartedit."""

    @property
    def chosen(self) -> EditorConfig:
        """The options of the editor that is used."""
        return getattr(self, self.name)

    @property
    def brush(self) -> Path | None:
        """File of the learned instruction that the editor applies; None = it applies none, or has none yet."""
        return getattr(getattr(self, self.name), "brush", None)

    @property
    def kind(self) -> CheckpointKind:
        """The checkpoints that the editor runs on."""
        return EDITORS[self.name].kind

    @property
    def draws_noise(self) -> bool:
        """Whether edits start from a noise level that is drawn for each; the others run at `encoding_ratio`."""
        return EDITORS[self.name].draws_noise

    @property
    def has_image_guidance(self) -> bool:
        """Whether the editor weighs the photo against the text."""
        return hasattr(self.chosen, "image_guidance_scale")

    @property
    def encoding_ratio(self) -> float:
        """Share of the noise range to which an editor that draws no noise inverts; MDP inverts all the way."""
        return self.resolved("encoding_ratio") if hasattr(self.chosen, "encoding_ratio") else 1.0

    def with_guidance(self, text: float | None, image: float | None) -> "SceneEditorConfig":
        """The same editor with other guidance scales; None = unchanged.

        Raises:
            InputError: if the editor has no image guidance and a scale is given.
        """
        if image is not None and not self.has_image_guidance:
            raise InputError(f"{self.name} has no image guidance, got {image:g}: change the guidance scale alone")
        changes = {"guidance_scale": text, "image_guidance_scale": image}
        chosen = replace(self.chosen, **{name: value for name, value in changes.items() if value is not None})
        return replace(self, **{self.name: chosen})

    def load_backbone(self) -> "Backbone":
        """Load the weights."""
        from ..editors import Backbone

        return Backbone.load(self, self.kind)

    def make(self, backbone: "Backbone", *, like: Editor | None = None) -> Editor:
        """The chosen editor on weights that are there.

        Args:
            backbone: the weights.
            like: an editor of the same name with other settings, whose segmenter, language model and
                remembered inversions serve on.
        """
        from ..editors import make_editor

        return make_editor(self.chosen, backbone, tools=getattr(like, "tools", None))

    def resolved(
        self, name: Literal["sampler", "steps", "guidance_scale", "image_guidance_scale", "encoding_ratio"]
    ) -> Any:
        """An option, from the checkpoint's own preset where the options leave it open."""
        reads_captions = EDITORS[self.name].reads_captions
        if reads_captions and name == "sampler":
            return "ddim"
        given = getattr(self.chosen, name)
        if given is not None:
            return given
        preset = load_preset(locate_checkpoint(self, self.kind))
        return getattr(preset.caption if reads_captions else preset.instruct, name)
