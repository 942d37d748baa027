"""How often a language processor understands hand-written instructions, and which ones it does not.

A file of cases is a list of objects: `instruction`, `description` (or null), `kind`, and what must come out: `phrases`
to segment (as a set), `texts` (how many edits), and words that each caption must have or lack: `input_has`,
`input_lacks`, `edited_has`, `edited_lacks`. A case with `"error": true` must be refused.

Metrics, one row per kind and one for all:

- `cases`: how many.
- `right`: share in which all of that came out.
- `phrases`, `edits`, `captions`: share of the cases to be understood in which that part came out; a case that was
  refused has none of them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..editors import InputError, LanguageProcessor, ParsedInstruction, ParseError
from .table import Document, Row, make_document


@dataclass(frozen=True, kw_only=True)
class LanguageCase:
    """An instruction and what must come out of it."""

    instruction: str
    description: str | None = None
    kind: str
    error: bool = False
    """It must be refused; nothing below is then given."""
    phrases: tuple[str, ...] = ()
    texts: int = 0
    input_has: tuple[str, ...] = ()
    """Texts that occur in the input caption, whatever their case."""
    input_lacks: tuple[str, ...] = ()
    """Texts that do not occur in it as whole words."""
    edited_has: tuple[str, ...] = ()
    edited_lacks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came out of a case."""

    case: LanguageCase
    parsed: ParsedInstruction | None
    """None where the instruction was refused."""
    phrases: bool
    edits: bool
    captions: bool

    @property
    def right(self) -> bool:
        """Whether all that was expected came out."""
        return self.parsed is None if self.case.error else self.phrases and self.edits and self.captions


def load_cases(path: Path) -> list[LanguageCase]:
    """Read a file of cases.

    Raises:
        InputError: if it is missing or not in the form the module describes.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
        cases = [_case(entry) for entry in entries]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"expected a list of language cases, got {path} ({error}): see bench/language.py") from error
    if not cases:
        raise InputError(f"expected a list of language cases, got {path}, which has none: see bench/language.py")
    return cases


def _case(entry: dict[str, Any]) -> LanguageCase:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
    return LanguageCase(**fields)


def judge(case: LanguageCase, processor: LanguageProcessor) -> Verdict:
    """Let a processor parse one case; errors other than a refusal are not caught."""
    try:
        parsed = processor.parse(case.instruction, case.description)
    except ParseError:
        return Verdict(case=case, parsed=None, phrases=False, edits=False, captions=False)
    return Verdict(
        case=case,
        parsed=parsed,
        phrases={p.casefold() for p in parsed.phrases} == {p.casefold() for p in case.phrases},
        edits=len(parsed.edits) == case.texts,
        captions=_fits(parsed.input_caption, case.input_has, case.input_lacks)
        and _fits(parsed.edited_caption, case.edited_has, case.edited_lacks),
    )


def _fits(caption: str, has: Sequence[str], lacks: Sequence[str]) -> bool:
    lowered = caption.casefold()
    return all(text.casefold() in lowered for text in has) and not any(
        re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", lowered) for text in lacks
    )


def run_language_bench(
    cases: Path, processor: LanguageProcessor, *, method: str = "rules", show_failures: bool = True
) -> Document:
    """Measure a processor on a file of cases.

    Args:
        cases: the file.
        processor: who parses.
        method: its name in the table.
        show_failures: list what went wrong; without, only counts are told, so that nobody tunes on the cases.

    Raises:
        InputError: if the file cannot be read.
        LanguageError: if a server fails.
    """
    verdicts = [judge(case, processor) for case in load_cases(cases)]
    rows = [_summarise(method, cases.stem, verdicts)]
    for kind in sorted({v.case.kind for v in verdicts}):
        rows.append(_summarise(method, f"{cases.stem}/{kind}", [v for v in verdicts if v.case.kind == kind]))
    failures = [_failure(v) for v in verdicts if not v.right]
    extra: dict[str, Any] = {"failures": failures} if show_failures else {}
    return make_document("language", rows, "cpu", **extra)


def _summarise(method: str, name: str, verdicts: Sequence[Verdict]) -> Row:
    understood = [v for v in verdicts if not v.case.error]
    row: Row = {"method": method, "set": name, "cases": len(verdicts)}
    row["right"] = sum(v.right for v in verdicts) / len(verdicts)
    for part in ("phrases", "edits", "captions"):
        row[part] = sum(getattr(v, part) for v in understood) / len(understood) if understood else None
    return row


def _failure(verdict: Verdict) -> dict[str, Any]:
    """What was asked and what came out, for the reader of a document."""
    return {
        "instruction": verdict.case.instruction,
        "description": verdict.case.description,
        "expected": "an error"
        if verdict.case.error
        else {"phrases": verdict.case.phrases, "edits": verdict.case.texts},
        "got": "an error" if verdict.parsed is None else asdict(verdict.parsed),
        "wrong": [part for part in ("phrases", "edits", "captions") if not getattr(verdict, part)],
    }
