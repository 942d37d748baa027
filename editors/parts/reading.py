"""What language makes of instructions before an editor on captions begins: clauses, phrases and captions.

InstructEdit (arXiv 2305.18047, section 3.2) reads one instruction for one object. Here each of several is read as if
it were alone, so that its region follows its own caption, and a text that asks for several edits is taken apart; the
captions of all together describe the picture for its inversion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .language import LanguageProcessor, ParsedInstruction, ParseError, SubInstruction
from .request import Captions, Instruction

Ask = Callable[[str, str | None], ParsedInstruction]


def read_instructions(
    instructions: Sequence[Instruction],
    language: LanguageProcessor,
    descriptions: Sequence[str | None] = (None,),
    *,
    wants_phrases: bool,
    wants_regions: bool,
) -> tuple[tuple[Instruction, ...], tuple[Captions, ...]]:
    """Decide what is looked for, and what is shown before and after; no picture is needed where none is described.

    Args:
        instructions: at least one. What they already say of phrases and captions stays.
        language: who reads; the same question is asked once.
        descriptions: what each picture shows; None = captions follow from the instructions alone.
        wants_phrases: whether phrases are of use.
        wants_regions: whether each region may follow captions of its own. Then several instructions get theirs, and,
            where phrases are of use, one whose clauses name different objects is taken apart.

    Returns:
        The instructions, and for each picture the captions of all of them together.

    Raises:
        ParseError: if an instruction cannot be understood.
    """
    answers: dict[tuple[str, str | None], ParsedInstruction] = {}

    def ask(text: str, description: str | None) -> ParsedInstruction:
        if (text, description) not in answers:
            answers[text, description] = language.parse(text, description)
        return answers[text, description]

    distinct = tuple(dict.fromkeys(descriptions))
    together = {each: _together(instructions, ask, each) for each in distinct}
    splits = wants_phrases and wants_regions
    parts = [part for each in instructions for part in _parts(each, ask, distinct, splits=splits)]
    planned = [part.with_phrases(descriptions) if wants_phrases else part.instruction for part in parts]
    if wants_regions and len(parts) > 1:
        own = [_own(part, parts, ask, descriptions) for part in parts]
        planned = [replace(one, captions=one.captions or each) for one, each in zip(planned, own, strict=True)]
    return tuple(planned), tuple(together[each] for each in descriptions)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An instruction, or a clause of one, with what it looks for in a picture of each description."""

    instruction: Instruction
    phrases: dict[str | None, tuple[str, ...]]

    def with_phrases(self, descriptions: Sequence[str | None]) -> Instruction:
        """The instruction with its phrases, unless the user gave them or a mask."""
        if self.instruction.phrases is not None or self.instruction.mask is not None:
            return self.instruction
        found = [self.phrases[each] for each in descriptions]
        every = tuple(dict.fromkeys(phrase for phrases in found for phrase in phrases))
        differ = len(set(found)) > 1
        return replace(self.instruction, phrases=every, phrases_by_image=tuple(found) if differ else ())

    def named(self, description: str | None) -> set[str]:
        """Everything it names in a picture of this description."""
        given = self.instruction.phrases
        return {*(self.phrases[description] if given is None else given)}


def _together(instructions: Sequence[Instruction], ask: Ask, description: str | None) -> Captions:
    """The captions of all instructions: side by side, or the description as one after the other changes it."""
    if description is not None:
        return _chained([each.text for each in instructions], ask, description)
    readings = [ask(each.text, None) for each in instructions]
    return Captions(
        source=", ".join(each.input_caption for each in readings),
        target=", ".join(each.edited_caption for each in readings),
    )


def _chained(texts: Sequence[str], ask: Ask, description: str | None) -> Captions:
    """The captions before the first and after the last of some texts, each going on from what the others made."""
    reading = first = ask(texts[0], description)
    for text in texts[1:]:
        reading = ask(text, reading.edited_caption)
    return Captions(source=first.input_caption, target=reading.edited_caption)


def _own(part: _Part, parts: Sequence[_Part], ask: Ask, descriptions: Sequence[str | None]) -> tuple[Captions, ...]:
    """The captions of a part's region: as if nothing else were asked for but what concerns the same objects."""

    def concerning(description: str | None) -> list[str]:
        named = part.named(description)
        return [other.instruction.text for other in parts if other is part or other.named(description) & named]

    own = {each: _chained(concerning(each), ask, each) for each in dict.fromkeys(descriptions)}
    return tuple(own[each] for each in descriptions)


def _parts(instruction: Instruction, ask: Ask, descriptions: Sequence[str | None], *, splits: bool) -> list[_Part]:
    """An instruction as it is, or its clauses where they name different objects.

    How a text is taken apart is decided without a description, so that it does not depend on what shares a batch.
    """
    readings = {each: ask(instruction.text, each) for each in descriptions}
    whole = _Part(instruction=instruction, phrases={each: reading.phrases for each, reading in readings.items()})
    if not splits or not is_open(instruction):
        return [whole]
    try:
        clauses = ask(instruction.text, None).edits
    except ParseError:
        # A text that makes sense only beside a description is taken as a whole.
        return [whole]
    # A clause that names nothing, a change of the whole picture, would have no region to act in.
    if len({each.phrases for each in clauses}) == 1 or not all(each.phrases for each in clauses):
        return [whole]

    def phrases(number: int) -> dict[str | None, tuple[str, ...]]:
        own = clauses[number].phrases
        return {
            each: (reading.edits[number].phrases or own) if len(reading.edits) == len(clauses) else own
            for each, reading in readings.items()
        }

    return [
        _Part(instruction=one, phrases=phrases(number)) for number, one in enumerate(take_apart(instruction, clauses))
    ]


def is_open(instruction: Instruction) -> bool:
    """Whether an instruction may be taken apart: one that has a keyword, phrases, captions or a mask is a whole."""
    given = (instruction.keyword, instruction.phrases, instruction.mask)
    return all(each is None for each in given) and not instruction.captions


def take_apart(instruction: Instruction, edits: Sequence[SubInstruction]) -> tuple[Instruction, ...]:
    """One instruction for each edit of a text, with its words and its keyword."""
    return tuple(replace(instruction, text=edit.text, keyword=edit.keyword) for edit in edits)
