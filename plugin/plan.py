"""What language decides about an edit, once for a whole scene: phrases, captions, instructions taken apart.

A language model may answer otherwise the next time, and a captioner says something else of every view. So a plan is
made before the first edit, from one photo, and kept in the session: every later edit, and a resumed run, reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..editors import (
    Captions,
    DiffEditConfig,
    Editor,
    EditorConfig,
    EditRequest,
    FoIConfig,
    Image,
    InpaintConfig,
    InputError,
    InstructBrushConfig,
    InstructEditConfig,
    Instruction,
    IP2PConfig,
    SmartEditConfig,
    VisiiConfig,
    make_language,
)
from .editor import SceneEditorConfig

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """What is to be done to every photo of a scene."""

    instructions: tuple[Instruction, ...]
    """Each with its own region."""
    captions: tuple[Captions, ...] = ()
    """One for all photos, where the editor reads captions."""

    def to_json(self) -> dict[str, Any]:
        """The plan as it is stored."""
        return {
            "instructions": [instruction_to_json(each) for each in self.instructions],
            "captions": [asdict(each) for each in self.captions],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ScenePlan":
        """A stored plan."""
        return cls(
            instructions=tuple(instruction_from_json(each) for each in stored["instructions"]),
            captions=_read_captions(stored["captions"]),
        )


def instruction_to_json(instruction: Instruction) -> dict[str, Any]:
    """An instruction without its mask, as it is stored: what only some have is left out where they have it not."""
    phrases = None if instruction.phrases is None else list(instruction.phrases)
    stored = {
        "text": instruction.text,
        "keyword": instruction.keyword,
        "strength": instruction.strength,
        "phrases": phrases,
    }
    # Sessions of older versions, whose instructions have neither, are told apart by what was asked.
    if instruction.captions:
        stored["captions"] = [asdict(each) for each in instruction.captions]
    if instruction.note:
        stored["note"] = instruction.note
    return stored


def instruction_from_json(stored: Mapping[str, Any]) -> Instruction:
    """A stored instruction, of this version or an older one."""
    phrases, captions = stored["phrases"], _read_captions(stored.get("captions", ()))
    return Instruction(**{**stored, "phrases": None if phrases is None else tuple(phrases), "captions": captions})


def _read_captions(stored: Sequence[Mapping[str, str]]) -> tuple[Captions, ...]:
    return tuple(Captions(**each) for each in stored)


def make_plan(editor: Editor, photo: Image, instructions: tuple[Instruction, ...]) -> ScenePlan:
    """Let the editor decide, by one photo.

    Args:
        editor: with its language processor and captioner.
        photo: a photo of the scene.
        instructions: what the user asks for.

    Raises:
        ParseError: if an instruction cannot be understood.
        LanguageError: if a language server fails.
    """
    request = editor.plan(EditRequest(image=photo, instructions=instructions))
    return ScenePlan(instructions=request.instructions, captions=request.captions[:1])


def plan_early(config: EditorConfig, instructions: Sequence[Instruction]) -> ScenePlan | None:
    """The plan as far as rules alone make it, to be checked long before an editor is loaded.

    Returns:
        None where a picture or a language model has its say.

    Raises:
        ParseError: if an instruction cannot be understood.
    """
    if isinstance(config, FoIConfig | IP2PConfig | InstructBrushConfig | VisiiConfig | SmartEditConfig):
        return ScenePlan(instructions=tuple(instructions))
    if config.language.provider != "rules" or config.captioner.enabled:
        return None
    from ..editors import read_instructions

    looks = isinstance(config, InstructEditConfig | InpaintConfig) and not config.global_edit
    named, captions = read_instructions(
        instructions,
        make_language(config.language),
        wants_phrases=looks,
        wants_regions=looks or isinstance(config, DiffEditConfig),
    )
    return ScenePlan(instructions=named, captions=captions)


def check_plan(config: SceneEditorConfig, plan: ScenePlan, tokenizer: "CLIPTokenizer | None") -> None:
    """Refuse a plan that could not be carried out.

    Args:
        config: the editor.
        plan: what it is to do.
        tokenizer: the checkpoint's; None = texts are not measured.

    Raises:
        InputError: if an object to look for is missing, a text is too long, or a keyword is not found in its text.
    """
    options = config.chosen
    if isinstance(options, InstructEditConfig | InpaintConfig) and not options.global_edit:
        for instruction in plan.instructions:
            if not instruction.phrases:
                raise InputError(
                    f"{instruction.text!r} names no object to look for: name it, or pass "
                    f"--pipeline.editor.{config.name}.global-edit True to change whole pictures"
                )
    if tokenizer is None or config.kind == "smartedit":
        # The language model of SmartEdit reads more than any text encoder, and measures texts itself.
        return
    if config.kind == "instruct-pix2pix":
        from ..editors import compose_instructions

        compose_instructions(plan.instructions, tokenizer)
        return
    every = [*plan.captions, *(captions for each in plan.instructions for captions in each.captions)]
    for text in (text for each in every for text in (each.source, each.target)):
        length, limit = len(tokenizer(text, verbose=False).input_ids), int(tokenizer.model_max_length)
        if length > limit:
            raise InputError(
                f"expected a caption of at most {limit - 2} tokens, got {length - 2}: shorten the instruction of "
                f"{text[:40]!r}... or edit in several runs"
            )
