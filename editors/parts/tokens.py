"""From instructions to one row of tokens, and back to who owns which token.

FoI (arXiv 2312.10113, section 4.1 and Eq. 3): every sub-instruction is tokenised on its own, the rows are joined by
commas, and each word token belongs to the sub-instruction it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import CLIPTokenizer

from ..core.errors import InputError
from ..core.types import TokenIds
from .keywords import choose_keyword
from .request import Instruction

SPECIAL = -1
"""Owner of start, end and padding tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """One prompt made of several instructions."""

    ids: TokenIds
    """One row: start, the instructions joined by commas, end, padding."""
    segments: tuple[int, ...]
    """For each token the number of its instruction, or SPECIAL. A comma belongs to the instruction before it."""
    keyword_columns: tuple[tuple[int, ...], ...]
    """For each instruction the positions of its keyword's tokens."""
    keywords: tuple[str, ...]
    """The keywords as used."""
    prompt: str
    """The instructions joined by commas."""

    @property
    def prompt_columns(self) -> tuple[int, ...]:
        """Positions of all word tokens."""
        return tuple(i for i, owner in enumerate(self.segments) if owner != SPECIAL)


def compose_instructions(instructions: Sequence[Instruction], tokenizer: CLIPTokenizer) -> TokenLayout:
    """Join instructions into one row of tokens.

    Args:
        instructions: what to do; a missing keyword is chosen by `choose_keyword`.
        tokenizer: a CLIP tokenizer; its `model_max_length` bounds the row.

    Raises:
        InputError: if the row is too long (the spec of no model allows truncation, which would silently drop an
            instruction), or a keyword cannot be found among the tokens of its instruction.
    """
    length = tokenizer.model_max_length
    row: list[int] = []
    owners: list[int] = []
    columns: list[tuple[int, ...]] = []
    texts: list[str] = []
    keywords = tuple(i.keyword or choose_keyword(i.text) for i in instructions)
    comma = word_ids(",", tokenizer)
    for number, instruction in enumerate(instructions):
        if number:
            row += comma
            owners += [number - 1] * len(comma)
        text = bare_text(instruction)
        texts.append(text)
        own = word_ids(text, tokenizer)
        found = _find(own, word_ids(keywords[number], tokenizer))
        if found is None:
            raise InputError(
                f"keyword {keywords[number]!r} does not occur as whole words in {instruction.text!r}: "
                "use words of the instruction itself"
            )
        columns.append(tuple(1 + len(row) + i for i in found))
        row += own
        owners += [number] * len(own)
    if len(row) + 2 > length:
        raise InputError(
            f"expected at most {length - 2} tokens of instructions, got {len(row)}: "
            "shorten the text or edit in several runs"
        )
    padding = length - len(row) - 2
    pad = tokenizer.pad_token_id
    ids = [tokenizer.bos_token_id, *row, tokenizer.eos_token_id] + [
        tokenizer.eos_token_id if pad is None else pad
    ] * padding
    return TokenLayout(
        ids=torch.tensor([ids]),
        segments=(SPECIAL, *owners, *[SPECIAL] * (padding + 1)),
        keyword_columns=tuple(columns),
        keywords=keywords,
        prompt=", ".join(texts),
    )


def bare_text(instruction: Instruction) -> str:
    """The words of an instruction as they are joined by commas, without what ends them."""
    return instruction.text.strip().rstrip(".,;!")


def word_ids(text: str, tokenizer: CLIPTokenizer) -> list[int]:
    """Token ids of a text without start and end tokens."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _find(row: list[int], part: list[int]) -> range | None:
    for start in range(len(row) - len(part) + 1):
        if part and row[start : start + len(part)] == part:
            return range(start, start + len(part))
    return None
