"""What the commands tell and write of a planned request: in one line on the screen, and in the JSON of a picture."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ..editors import EditRequest, Instruction
from .pictures import Picture


class Teller:
    """Says in one line what was made of the words, once for all pictures of which the same holds."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def plan(self, group: Sequence[Picture], request: EditRequest, given: int) -> None:
        """Tell of a planned request.

        Args:
            group: its pictures.
            request: what was planned.
            given: how many instructions there were before.
        """
        parts: list[str] = []
        if len(request.instructions) > given:
            parts.append(f"in {len(request.instructions)} parts: {'; '.join(i.text for i in request.instructions)}")
        lines = ["; ".join([*_read_in(request, row), *parts, *_sought_in(request, row)]) for row in range(len(group))]
        for picture, line in zip(group, lines, strict=True):
            if line and line not in self._told:
                self._told.add(line)
                print(f"{picture.path}: {line}" if len(set(lines)) > 1 else line, flush=True)


def _read_in(request: EditRequest, row: int) -> list[str]:
    """The captions of a picture: what it shows, and what it or each of its regions is to become."""
    if not request.captions:
        return []
    own = [captions[row].target for captions in request.region_captions] or [request.captions[row].target]
    return [f"{request.captions[row].source} -> {' | '.join(dict.fromkeys(own))}".strip()]


def _sought_in(request: EditRequest, row: int) -> list[str]:
    """What is looked for in a picture."""
    phrases = dict.fromkeys(p for i in request.instructions if i.mask is None for p in i.phrases_in(row))
    return [f"looking for: {', '.join(phrases)}"] if phrases and request.mask is None else []


def instruction_record(instruction: Instruction) -> dict[str, Any]:
    """An instruction as it held for one picture: with what only some have where it has it."""
    record = asdict(replace(instruction, mask=None))
    captions, by_image, note = (record.pop(name) for name in ("captions", "phrases_by_image", "note"))
    if by_image:
        record["phrases"] = by_image[0]
    return record | ({"captions": captions[0]} if captions else {}) | ({"note": note} if note else {})
