"""What is asked of an editor on the command line: words, an editor with its options, a checkpoint.

`AskCommand` holds the flags that `maskedit edit`, `mask` and `video` share, and makes of them what an editor takes.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ..configs import PRESETS, PresetName
from ..editors import (
    EDITORS,
    BackboneConfig,
    Captions,
    Editor,
    EditorConfig,
    EditorName,
    InputError,
    Instruction,
    read_header,
)
from .models import load_backbone
from .options import EditorFlags, join_options, split_options
from .progress import waiting
from .refusals import refuse_what_cannot_run, refuse_words

T = TypeVar("T", bound="AskCommand")


@dataclass(frozen=True, kw_only=True)
class AskCommand:
    """A command that asks an editor for something."""

    instruction: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to change, e.g. "make the red cube blue". Repeat it to change several things, each in its own region."""
    keyword: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """For each instruction the words of it that name the object; "" = chosen by the editor. None given = all chosen."""
    strength: tyro.conf.UseAppendAction[tuple[float, ...]] = ()
    """For each instruction how much it is emphasised, in [-10, 10]; none given = 1 for all."""
    phrase: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """For each instruction what to look for, with commas between several things; "" = read from the instruction. Only
    for `instructedit` and `inpaint`, and to confine `smartedit` and brushes."""
    source_caption: str | None = None
    """What the picture shows, for editors that read captions; not given = nothing is said of it."""
    target_caption: str | None = None
    """What it is meant to show. An instruction is then needed only to find the place: not by `diffedit` and `mdp`, and
    not by the others with --mask, --phrase or --global-edit."""
    editor: EditorName = "foi"
    """On InstructPix2Pix `foi` (finds where to edit) or `ip2p` (may change anything); on captions `instructedit` (finds
    objects by name), `diffedit` (finds what the captions differ in), `mdp` (may change anything) or `inpaint` (finds
    objects by name and paints them anew). `instructbrush` and `visii` apply a --brush of `maskedit brush learn`.
    `smartedit` has a language model look at the picture and read the instruction; it may change anything."""
    preset: PresetName | None = None
    """A named set of checkpoint and options to start from; every other flag overrides it."""
    api_key: str | None = field(default=None, repr=False)
    """Key of a language server, never written down; the variable of --language.api-key-variable is the safer place."""
    checkpoint: tyro.conf.OmitArgPrefixes[BackboneConfig] = field(default_factory=BackboneConfig)
    """Which checkpoint to load, and how to run it."""
    flags: Annotated[Any, tyro.conf.arg(name="", constructor=EditorFlags)] = field(default_factory=EditorFlags)
    """Options of the editors."""

    @classmethod
    def from_preset(cls: type[T], name: str) -> T:
        """A command whose defaults are a preset's; the plain one where there is no such preset."""
        plain = cls()
        if name not in PRESETS:
            return plain
        preset = PRESETS[name]
        flags = split_options(preset.options, type(plain.flags))
        return replace(plain, editor=preset.editor, preset=name, checkpoint=preset.checkpoint, flags=flags)

    @property
    def options(self) -> EditorConfig:
        """The options of the chosen editor.

        Raises:
            OptionError: if a flag is out of range or another editor's.
        """
        base = None if self.preset is None else split_options(PRESETS[self.preset].options)
        return join_options(self.editor, self.flags, base=base)

    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions with their keywords, strengths and phrases; without any, the target caption or the brush is.

        Raises:
            InputError: if there are none and no brush says what to do, or one makes no sense.
        """
        refuse_words(self)
        texts, brush = self.instruction, self._find_brush()
        if not texts and self.target_caption is not None and self._knows_where():
            texts = (self.target_caption,)
        if not texts and brush is not None:
            texts = (brush.stem,)
        if not texts:
            raise InputError('expected an instruction, got none: pass --instruction "make the red cube blue"')
        count = len(texts)
        columns = (("--keyword", self.keyword), ("--strength", self.strength), ("--phrase", self.phrase))
        for flag, values in columns:
            if values and len(values) != count:
                raise InputError(f"expected {flag} once for each of {count} instructions, got it {len(values)} times")
        keywords, strengths = self.keyword or ("",) * count, self.strength or (1.0,) * count
        return tuple(
            Instruction(text=text, keyword=keyword or None, strength=strength, phrases=_split_phrases(phrase))
            for text, keyword, strength, phrase in zip(
                texts, keywords, strengths, self.phrase or ("",) * count, strict=True
            )
        )

    def captions(self) -> tuple[Captions, ...]:
        """The captions that were given, if any.

        Raises:
            InputError: if the editor reads none, or there is one of the picture as it is alone.
        """
        refuse_words(self)
        if self.target_caption is None:
            return ()
        return (Captions(source=self.source_caption or "", target=self.target_caption),)

    @property
    def has_masks(self) -> bool:
        """Whether masks were given that say where to edit."""
        return False

    @property
    def _looks_for_phrases(self) -> bool:
        return hasattr(EDITORS[self.editor].config(), "grounding")

    def _find_brush(self) -> Path | None:
        """The learned instruction of an editor that applies one.

        Raises:
            InputError: if it applies one and none was given, or it is another editor's.
            ModelError: if it cannot be read.
        """
        options = self.options
        if not hasattr(options, "brush"):
            return None
        brush: Path | None = getattr(options, "brush", None)
        if brush is None:
            raise InputError(f"{self.editor} applies a learned instruction, got none: pass --brush FILE")
        kind = read_header(brush).kind
        if kind != self.editor:
            raise InputError(f"{brush} is a brush of {kind}: pass --editor {kind}")
        return brush

    def _knows_where(self) -> bool:
        """Whether an editor on captions can do without what an instruction says about the place."""
        if not EDITORS[self.editor].reads_captions:
            return False
        if self.has_masks or not self._looks_for_phrases:
            return True
        return self.flags.shared.global_edit or any(_split_phrases(phrase) for phrase in self.phrase)

    def load(self, options: EditorConfig, *, edits: bool = True) -> tuple[Editor, dict[str, Any]]:
        """The editor on its checkpoint, and the checkpoint's settings for the record.

        Args:
            options: the editor's.
            edits: whether it is to edit; a language model that takes part in edits alone is not loaded to find masks.
        """
        from ..editors import SmartEdit, make_editor

        kind = EDITORS[self.editor].kind
        refuse_what_cannot_run(self, options, has_masks=self.has_masks)
        backbone = load_backbone(self.checkpoint, kind)
        editor = make_editor(options, backbone, api_key=self.api_key)
        if edits and isinstance(editor, SmartEdit):
            with waiting("loading the language model"):
                editor.prepare()
        chosen = {"model": self.checkpoint.model_for(kind), "preset": asdict(backbone.preset)}
        settings = {
            "checkpoint": asdict(self.checkpoint) | chosen,
            "device": str(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "options": asdict(options),
        }
        return editor, settings


def _split_phrases(text: str) -> tuple[str, ...] | None:
    """Phrases apart by commas; None = the language processor decides."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) or None
