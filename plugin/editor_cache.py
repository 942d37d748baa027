"""The editor of a run, loaded at its first use and changed with what the user changes."""

from typing import TYPE_CHECKING

from ..editors import Editor
from .editor import SceneEditorConfig
from .slot import Settings

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from ..editors import Backbone


class EditorCache:
    """Makes the editor that the settings ask for; weights and tools are loaded once.

    Args:
        config: the editor as configured.
    """

    def __init__(self, config: SceneEditorConfig) -> None:
        self.config = config
        self._editor: Editor | None = None
        self._backbone: Backbone | None = None
        self._scales: tuple[float | None, float | None] = (None, None)
        self._is_fixed = False

    @property
    def editor(self) -> Editor | None:
        """The editor as it was last used; None = none has been loaded."""
        return self._editor

    @property
    def tokenizer(self) -> "CLIPTokenizer | None":
        """Of the weights; None = none have been loaded."""
        return None if self._backbone is None else self._backbone.tokenizer

    def use(self, editor: Editor) -> None:
        """Use an editor that exists already, whatever the settings say."""
        self._editor, self._is_fixed = editor, True

    def get(self, settings: Settings) -> Editor:
        """The editor with the guidance that the settings ask for."""
        scales = (settings.guidance_scale, settings.image_guidance_scale)
        if self._editor is None or (scales != self._scales and not self._is_fixed):
            if self._backbone is None:
                self._backbone = self.config.load_backbone()
            self._editor = self.config.with_guidance(*scales).make(self._backbone, like=self._editor)
            self._scales = scales
        return self._editor
