"""The editors of a run, loaded at their first use and changed with what the user changes."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ..editors import EDITORS, CheckpointKind, Editor, EditorName
from .editor import SceneEditorConfig
from .slot import Settings

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from ..editors import Backbone

Scales = tuple[float | None, float | None]


class EditorCache:
    """Makes the editors that settings ask for.

    Weights are loaded once for each kind of checkpoint, tools once for each editor.

    Args:
        config: the editor as configured.
    """

    def __init__(self, config: SceneEditorConfig) -> None:
        self.config = config
        self._editors: dict[EditorName, tuple[Scales, Editor]] = {}
        self._backbones: dict[CheckpointKind, Backbone] = {}
        self._fixed: Editor | None = None

    @property
    def has_editor(self) -> bool:
        """Whether any editor has been loaded."""
        return self._fixed is not None or bool(self._editors)

    def config_for(self, settings: Settings) -> SceneEditorConfig:
        """The editor with the name and the guidance that some settings ask for.

        Raises:
            InputError: if it has no image guidance and a scale is given.
        """
        return switch_editor(self.config, settings.editor).with_guidance(
            settings.guidance_scale, settings.image_guidance_scale
        )

    def peek(self, settings: Settings) -> Editor | None:
        """The editor that some settings name, with whatever guidance it was last made; None = it is not loaded."""
        made = self._editors.get(self.config_for(settings).name)
        return self._fixed or (None if made is None else made[1])

    def tokenizer_for(self, settings: Settings) -> "CLIPTokenizer | None":
        """Of the weights that some settings need; None = they are not loaded."""
        backbone = self._backbones.get(self.config_for(settings).kind)
        return None if backbone is None else backbone.tokenizer

    def use(self, editor: Editor) -> None:
        """Use an editor that exists already, whatever the settings say."""
        self._fixed = editor

    def get(self, settings: Settings) -> Editor:
        """The editor that some settings ask for, loaded if it is not yet.

        Raises:
            ModelError: if its checkpoint is missing, damaged or of another kind.
        """
        if self._fixed is not None:
            return self._fixed
        config = self.config_for(settings)
        scales = (settings.guidance_scale, settings.image_guidance_scale)
        made = self._editors.get(config.name)
        if made is None or made[0] != scales:
            if config.kind not in self._backbones:
                self._backbones[config.kind] = config.load_backbone()
            editor = config.make(self._backbones[config.kind], like=None if made is None else made[1])
            made = self._editors[config.name] = (scales, editor)
        return made[1]


def switch_editor(config: SceneEditorConfig, name: EditorName | None) -> SceneEditorConfig:
    """The same options with another editor; None = the one that is configured.

    A checkpoint that was named is of the configured editor's kind. An editor that needs another kind takes the
    published one, unless the embedded set is used, which has all kinds.
    """
    if name is None or name == config.name:
        return config
    if EDITORS[name].kind == config.kind or config.model == "embedded":
        return replace(config, name=name)
    return replace(config, name=name, model=None, revision=None)
