"""What the events of a session say: which instructions held from when to when, and which edits were taken back.

All of it is computed from the events and the edits, so a resumed run, the viewer and `maskedit session` agree.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..editors import Instruction
from .session_records import EditRecord, Event
from .slot import Settings


@dataclass(frozen=True, kw_only=True)
class HeldSettings:
    """What the user wanted over some edit steps, and what came of it."""

    number: int
    """From 1, in the order in which they were given."""
    since: int
    """First edit step."""
    until: int
    """The edit step after the last one; that which comes next where they still hold."""
    settings: Settings
    edits: int
    """Edits made meanwhile; views in which nothing was found do not count."""
    undone: int
    """How many of them were taken back."""

    @property
    def is_undone(self) -> bool:
        """Whether nothing is left of it."""
        return self.edits > 0 and self.undone == self.edits

    def describe(self) -> str:
        """The instructions in one line, each with its strength where that is not 1."""
        return "; ".join(describe_instruction(each) for each in self.settings.instructions)


def describe_instruction(instruction: Instruction) -> str:
    """An instruction in a few words."""
    notes = [] if instruction.strength == 1 else [f"strength {instruction.strength:g}"]
    notes += [f"keyword {instruction.keyword!r}"] if instruction.keyword else []
    return instruction.text + (f" ({', '.join(notes)})" if notes else "")


def read_records(folder: Path) -> list[EditRecord]:
    """The edits of a folder, by edit step and view; fields of a newer version are passed over."""
    known = {each.name for each in fields(EditRecord)}
    records: list[EditRecord] = []
    for path in sorted(folder.glob("*.json")):
        content = {k: v for k, v in json.loads(path.read_text()).items() if k in known}
        content |= {k: tuple(content[k]) for k in ("instructions", "masks")}
        records.append(EditRecord(**content))
    return records


def initial_settings(stored: Mapping[str, Any]) -> Settings:
    """What a run began with.

    Args:
        stored: the settings of its session.
    """
    texts = tuple(stored.get("instructions", ()))
    keywords = stored.get("keywords") or ("",) * len(texts)
    strengths = stored.get("strengths") or (1.0,) * len(texts)
    return Settings(
        instructions=tuple(
            Instruction(text=text, keyword=keyword or None, strength=strength)
            for text, keyword, strength in zip(texts, keywords, strengths, strict=True)
        )
    )


def apply_event(settings: Settings, event: Event) -> Settings:
    """The settings after something the user did."""
    if event.kind == "pause":
        return replace(settings, is_paused=bool(event.value))
    if event.kind == "settings":
        changes = dict(event.value)
        if "instructions" in changes:
            changes["instructions"] = tuple(Instruction(**each) for each in changes["instructions"])
        return replace(settings, **changes)
    return settings


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """What an event says that brings these settings back; a pause is none of its business."""
    return {
        "instructions": [instruction_to_event(each) for each in settings.instructions],
        "guidance_scale": settings.guidance_scale,
        "image_guidance_scale": settings.image_guidance_scale,
        "editor": settings.editor,
    }


def instruction_to_event(instruction: Instruction) -> dict[str, Any]:
    """An instruction as an event keeps it."""
    return {"text": instruction.text, "keyword": instruction.keyword, "strength": instruction.strength}


def settings_before(initial: Settings, events: Sequence[Event], step: int) -> Settings:
    """What the user wanted just before an edit step; before the first one, what held at it."""
    settings = initial
    for event in events:
        if event.step <= max(0, step - 1):
            settings = apply_event(settings, event)
    return settings


def taken_back(records: Sequence[EditRecord], events: Sequence[Event], step: int) -> set[int]:
    """Running numbers of the edits that undos up to an edit step took back."""
    gone: set[int] = set()
    for event in events:
        if event.kind != "undo" or event.step > step:
            continue
        alive = [r for r in records if r.at < event.step and r.index not in gone and r.image is not None]
        if event.value is not None:
            gone |= {r.index for r in alive if r.at >= int(event.value["to"])}
        elif alive:
            last = max(r.sweep for r in alive)
            gone |= {r.index for r in alive if r.sweep == last}
    return gone


def read_history(
    initial: Settings, events: Sequence[Event], records: Sequence[EditRecord], step: int
) -> tuple[HeldSettings, ...]:
    """What the user wanted one after another, oldest first; what never held for a whole edit step is left out.

    Args:
        initial: what the run began with.
        events: what the user did.
        records: every edit, undone ones included.
        step: the edit step that comes next.
    """
    changes: dict[int, Settings] = {0: initial}
    settings = initial
    for event in events:
        if event.kind == "settings" and event.step <= step:
            settings = changes[max(0, event.step)] = apply_event(settings, event)
    # What is given again while it holds goes on holding.
    every = list(changes.values())
    steps = [at for place, at in enumerate(changes) if not place or every[place] != every[place - 1]]
    gone = taken_back(records, events, step)
    held: list[HeldSettings] = []
    for since, until in zip(steps, [*steps[1:], step], strict=True):
        own = {r.index for r in records if since <= r.at < until and r.image is not None}
        held.append(
            HeldSettings(
                number=len(held) + 1,
                since=since,
                until=until,
                settings=changes[since],
                edits=len(own),
                undone=len(own & gone),
            )
        )
    return tuple(held)
