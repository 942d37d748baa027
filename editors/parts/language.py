"""From an instruction to what to segment and to a caption of the picture before and after: the language processor.

InstructEdit, arXiv 2305.18047, section 3.2: a language model reads an instruction, and maybe a description of the
picture, and answers with a segmentation prompt, an input caption and an edited caption. Here that is a Protocol with
three implementations: rules of English grammar, a chat model on this machine, and a server. Every answer, whoever gave
it, passes `validate`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never, runtime_checkable

import torch

from ..core.errors import InputError, MaskeditError
from .language_options import LanguageConfig

WHOLE_PICTURE = "whole picture"
"""The phrase by which an answer says that all of the picture changes; parsed, such an edit has no phrase."""
REMEMBERED = 1024
"""Answers that a processor keeps for when the same is asked again; a scene asks one question per view."""
_SHOWN = 160
_ARTICLES = re.compile(r"^(?:(?:the|an?|all|every|each|both|any|some|my|your|this|that|these|those)\s+)+(?=\S)", re.I)


class ParseError(InputError):
    """An instruction, or a language model's reply to it, cannot be understood."""

    def __init__(self, problem: str, *, reply: str, advice: str = "") -> None:
        self.problem = problem
        self.reply = reply
        shown = " ".join(reply.split())
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        advice = advice or "say it more plainly, e.g. 'make the red cube blue', or give mask and captions yourself"
        super().__init__(f"{problem}, got {shown!r}: {advice}")


class LanguageError(MaskeditError):
    """A language server cannot be reached or refuses to answer."""


@dataclass(frozen=True, kw_only=True)
class SubInstruction:
    """One edit of an instruction that may ask for several."""

    text: str
    """Words of this edit alone, e.g. `make the red cube blue`."""
    keyword: str
    """Words of that text that name the object to edit or to add."""
    phrases: tuple[str, ...]
    """What to segment, without article, e.g. `("red cube",)`; empty = the whole picture changes, so that a mask or
    permission for it must come from the user."""


@dataclass(frozen=True, kw_only=True)
class ParsedInstruction:
    """What an instruction asks for."""

    edits: tuple[SubInstruction, ...]
    """In the order of the text; a list of objects under one verb is one edit with several phrases."""
    input_caption: str
    """The picture before."""
    edited_caption: str
    """The picture after all edits."""

    @property
    def phrases(self) -> tuple[str, ...]:
        """What to segment in all, without repeats."""
        return tuple(dict.fromkeys(phrase for edit in self.edits for phrase in edit.phrases))


@runtime_checkable
class LanguageProcessor(Protocol):
    """Turns an instruction into phrases and captions."""

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        """Understand an instruction.

        Args:
            instruction: what the user asks for, in plain words.
            description: a caption of the picture, e.g. BLIP-2's; the captions are then built from it.

        Raises:
            ParseError: if the instruction, or the reply of a language model, cannot be understood.
            LanguageError: if a server fails.
        """
        ...


def make_language(
    config: LanguageConfig,
    *,
    api_key: str | None = None,
    device: torch.device | str = "cpu",
    model_dir: Path | None = None,
    offline: bool = False,
) -> LanguageProcessor:
    """The language processor a configuration describes.

    Args:
        config: which one, and its settings.
        api_key: key of a server; None = the environment variable that the configuration names.
        device: where a chat model runs.
        model_dir: folder with local copies of chat models, looked up before the hub.
        offline: never ask the hub for a chat model.

    Raises:
        ModelError: if a chat model is missing.
        LanguageError: if no key for the server is found.
        MissingExtraError: if the package for servers is not installed.
    """
    match config.provider:
        case "rules":
            from .language_rules import RuleLanguage

            return RuleLanguage()
        case "chat":
            from .language_chat import ChatLanguage

            return ChatLanguage.load(config, device=device, model_dir=model_dir, offline=offline)
        case "openai":
            from .language_openai import ServerLanguage

            return ServerLanguage(config, api_key=api_key)
        case _:
            assert_never(config.provider)


def require_text(instruction: str) -> None:
    """Refuse an instruction without words.

    Raises:
        InputError: if there is nothing in it.
    """
    if not instruction.strip():
        raise InputError("expected an instruction, got an empty text: say what to change, e.g. 'make the cube blue'")


def validate(
    edits: Sequence[SubInstruction], input_caption: str, edited_caption: str, *, reply: str, advice: str = ""
) -> ParsedInstruction:
    """Check an answer, whoever gave it, and bring it to one form: no articles, no spare spaces.

    Args:
        edits: at least one; the phrase `whole picture` stands for a change without a place.
        input_caption: the picture before.
        edited_caption: the picture after; it must differ, and not speak of what was there "instead".
        reply: what the answer was read from, for the message.
        advice: what the user may do; empty = word the instruction more plainly.

    Raises:
        ParseError: if a field is empty, or a keyword is no part of its edit's text.
    """

    def check(holds: bool, wanted: str) -> None:
        if not holds:
            raise ParseError(f"expected {wanted}", reply=reply, advice=advice)

    check(bool(edits), "at least one edit")
    cleaned: list[SubInstruction] = []
    for edit in edits:
        text, keyword = " ".join(edit.text.split()), " ".join(edit.keyword.split())
        phrases = [_ARTICLES.sub("", " ".join(phrase.split())).lower() for phrase in edit.phrases]
        check(bool(text), "the words of each edit")
        check(bool(re.search(r"\w", keyword)), "a keyword for each edit")
        found = re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", text, re.I)
        check(found is not None, f"a keyword that occurs in the edit {text!r}")
        check(bool(phrases) and all(re.search(r"\w", p) for p in phrases), "what to segment for each edit")
        kept = tuple(dict.fromkeys(phrase for phrase in phrases if phrase != WHOLE_PICTURE))
        cleaned.append(SubInstruction(text=text, keyword=found.group(0) if found else keyword, phrases=kept))
    before, after = " ".join(input_caption.split()), " ".join(edited_caption.split())
    for name, caption in (("input", before), ("edited", after)):
        check(bool(re.search(r"\w", caption)), f"an {name} caption")
    check(before.casefold() != after.casefold(), "an edited caption that differs from the input caption")
    check("instead of" not in after.casefold(), "an edited caption without 'instead of'")
    return ParsedInstruction(edits=tuple(cleaned), input_caption=before, edited_caption=after)
