"""What is refused before a model is loaded: words an editor does not read, steps that run nothing, models not here."""

from typing import Protocol, runtime_checkable

from ..editors import (
    EDITORS,
    BackboneConfig,
    EditorConfig,
    EditorName,
    InputError,
    LanguageConfig,
    ToolModel,
    load_preset,
    locate_checkpoint,
    make_language,
    named_tools,
    require_models,
    require_smartedit,
)

_EMPHASISES: EditorName = "foi"
"""The editor that reads keywords and strengths."""
_SHARES = {"encoding_ratio": "--encoding-ratio", "mask_strength": "--diffedit.mask-strength"}
"""Options that are shares of the steps, with their flags."""


@runtime_checkable
class Asked(Protocol):
    """What is asked of an editor on the command line."""

    @property
    def editor(self) -> EditorName:
        """Who is asked."""
        ...

    @property
    def keyword(self) -> tuple[str, ...]:
        """A keyword for each instruction, or none at all."""
        ...

    @property
    def strength(self) -> tuple[float, ...]:
        """A strength for each instruction, or none at all."""
        ...

    @property
    def phrase(self) -> tuple[str, ...]:
        """Phrases for each instruction, or none at all."""
        ...

    @property
    def source_caption(self) -> str | None:
        """What the picture shows."""
        ...

    @property
    def target_caption(self) -> str | None:
        """What it is meant to show."""
        ...

    @property
    def api_key(self) -> str | None:
        """Key of a language server."""
        ...

    @property
    def checkpoint(self) -> BackboneConfig:
        """The checkpoint to edit with."""
        ...


def refuse_words(asked: Asked) -> None:
    """Refuse words that the chosen editor would ignore, and captions between which nothing differs.

    Raises:
        InputError: in one line that names the flag.
    """
    editor = asked.editor
    for flag, given in (("--keyword", asked.keyword), ("--strength", asked.strength)):
        if given and editor != _EMPHASISES:
            raise InputError(f"{editor} reads no {flag}: leave it out or pass --editor {_EMPHASISES}")
    if asked.phrase and not _looks_for_objects(editor):
        raise InputError(f"{editor} looks for no phrases: leave --phrase out or pass --editor instructedit")
    source, target = asked.source_caption, asked.target_caption
    if source is None and target is None:
        return
    if not EDITORS[editor].reads_captions:
        raise InputError(
            f"{editor} reads instructions and no captions: leave --source-caption and --target-caption out or pass "
            "--editor instructedit"
        )
    if target is None:
        raise InputError("expected --target-caption beside --source-caption, got none: describe the edited picture")
    if not target.strip():
        raise InputError(
            "expected a caption of the edited picture, got an empty text: describe it in --target-caption, or leave it "
            "out and pass --instruction"
        )
    # Inpainting paints what the target says, whatever was there before.
    if EDITORS[editor].kind == "text-to-image" and _bare(source or "") == _bare(target):
        raise InputError(
            "--source-caption and --target-caption say the same, so nothing would differ: describe the edited picture "
            "in --target-caption"
        )


def refuse_what_cannot_run(asked: Asked, options: EditorConfig, *, has_masks: bool) -> None:
    """Refuse an editor that could not load its models, ask its language server or run a single step.

    Args:
        asked: the words.
        options: the editor's options.
        has_masks: whether masks say where to edit.

    Raises:
        InputError: if a flag is wrong.
        ModelError: if a model that will be needed is missing.
        LanguageError: if there is no key for the language server.
    """
    kind, reads = EDITORS[asked.editor].kind, _reads_instructions(asked, options, has_masks=has_masks)
    language: LanguageConfig | None = getattr(options, "language", None)
    if asked.api_key is not None and (language is None or language.provider != "openai"):
        raise InputError("nothing reads --api-key: leave it out or pass --language.provider openai")
    preset = load_preset(locate_checkpoint(asked.checkpoint, kind)).caption
    steps = getattr(options, "steps", None) or preset.steps
    for name, flag in _SHARES.items():
        share = getattr(options, name, None)
        if share is not None and steps * share < 1 - 1e-6:
            raise InputError(f"{flag} must be at least {1 / steps:.3g} to run one of {steps} steps, got {share:g}")
    if reads and language is not None and language.provider == "openai":
        make_language(language, api_key=asked.api_key)
    phrases = _names_phrases(asked)
    require_models(options, asked.checkpoint, kind, looks=not has_masks, reads=reads, phrases=phrases)
    if kind == "smartedit":
        require_smartedit(asked.checkpoint)


def needed_tools(asked: Asked, options: EditorConfig, *, has_masks: bool) -> tuple[ToolModel, ...]:
    """The models beside the checkpoint that an edit will ask.

    Args:
        asked: the words.
        options: the editor's options.
        has_masks: whether masks say where to edit.
    """
    embedded = asked.checkpoint.model_for(EDITORS[asked.editor].kind) == "embedded"
    reads = _reads_instructions(asked, options, has_masks=has_masks)
    phrases = _names_phrases(asked)
    return named_tools(options, embedded=embedded, looks=not has_masks, reads=reads, phrases=phrases)


def _reads_instructions(asked: Asked, options: EditorConfig, *, has_masks: bool) -> bool:
    """Whether anything is left for a language processor to find out."""
    if not EDITORS[asked.editor].reads_captions:
        return not has_masks and not (asked.keyword and all(asked.keyword))
    if asked.target_caption is None:
        return True
    looks = _looks_for_objects(asked.editor) and not has_masks and not getattr(options, "global_edit", False)
    return looks and not (asked.phrase and all(_bare(phrase) for phrase in asked.phrase))


def _names_phrases(asked: Asked) -> bool:
    return any(_bare(phrase) for phrase in asked.phrase)


def _looks_for_objects(editor: EditorName) -> bool:
    return hasattr(EDITORS[editor].config(), "grounding")


def _bare(text: str) -> str:
    return " ".join(text.replace(",", " ").split()).casefold()
