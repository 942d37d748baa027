"""Which instructions held when, what undos take back, and that both follow from events and edits alone."""

from typing import Any

import pytest

from maskedit.editors import Instruction
from maskedit.plugin.session_history import (
    apply_event,
    describe_instruction,
    initial_settings,
    read_history,
    settings_before,
    settings_to_json,
    taken_back,
)
from maskedit.plugin.session_records import EditRecord, Event
from maskedit.plugin.slot import Settings

RED = Settings(instructions=(Instruction(text="make it red"),))


def records(count: int, *, views: int = 2) -> list[EditRecord]:
    """An edit at each edit step."""
    return [
        EditRecord(
            step=i,
            view=i % views,
            photo=f"{i % views}.png",
            index=i,
            sweep=i // views,
            noise_level=0.5,
            seed=i,
            instructions=("make it red",),
            image=f"{i}.png",
        )
        for i in range(count)
    ]


def told(step: int, **value: Any) -> Event:
    return Event(step=step, kind="settings", value=value)


BLUE = told(3, instructions=[{"text": "make it blue", "strength": 2.0}])
SNOW = told(6, instructions=[{"text": "make it snow"}], editor="ip2p", guidance_scale=3.0)


def test_history_tells_what_held_and_what_was_made() -> None:
    held = read_history(RED, [BLUE, SNOW], records(8), 8)
    assert [(h.number, h.since, h.until, h.edits, h.undone) for h in held] == [
        (1, 0, 3, 3, 0),
        (2, 3, 6, 3, 0),
        (3, 6, 8, 2, 0),
    ]
    assert [h.describe() for h in held] == ["make it red", "make it blue (strength 2)", "make it snow"]
    assert (held[2].settings.editor, held[2].settings.guidance_scale) == ("ip2p", 3.0)


def test_what_is_given_again_goes_on_and_what_never_held_is_left_out() -> None:
    again = told(4, instructions=[{"text": "make it blue", "strength": 2.0}])
    assert len(read_history(RED, [BLUE, again, Event(step=5, kind="pause", value=True)], records(8), 8)) == 2
    at_once = told(3, instructions=[{"text": "make it green"}])
    assert [h.describe() for h in read_history(RED, [BLUE, at_once], records(8), 8)] == ["make it red", "make it green"]


def test_what_was_just_given_is_told_before_its_first_edit() -> None:
    held = read_history(RED, [told(2, instructions=[{"text": "make it green"}])], records(2), 2)
    assert [(h.describe(), h.edits) for h in held] == [("make it red", 2), ("make it green", 0)]


def test_events_that_have_not_come_yet_are_not_told() -> None:
    assert len(read_history(RED, [BLUE], records(8), 2)) == 1


def test_an_undo_to_a_step_takes_back_what_came_after() -> None:
    undo = Event(step=8, kind="undo", value={"to": 3})
    assert taken_back(records(10), [undo], 10) == {3, 4, 5, 6, 7}
    assert taken_back(records(10), [undo], 7) == set()
    held = read_history(RED, [BLUE, undo, told(8, **settings_to_json(RED))], records(10), 10)
    assert [(h.since, h.edits, h.undone, h.is_undone) for h in held] == [
        (0, 3, 0, False),
        (3, 5, 5, True),
        (8, 2, 0, False),
    ]


def test_undos_of_both_kinds_follow_each_other() -> None:
    events = [Event(step=8, kind="undo", value={"to": 6}), Event(step=8, kind="undo")]
    # Edits 6 and 7 are gone, so the last sweep is that of 4 and 5.
    assert taken_back(records(8), events, 8) == {4, 5, 6, 7}


def test_views_without_a_find_do_not_count() -> None:
    empty = EditRecord(**{**vars(records(1)[0]), "image": None})
    (held,) = read_history(RED, [], [empty], 1)
    assert held.edits == 0
    assert not held.is_undone


def test_settings_before_a_step_are_those_of_the_step_before() -> None:
    events = [BLUE, SNOW]
    assert settings_before(RED, events, 3) == RED
    assert settings_before(RED, events, 4).instructions[0].text == "make it blue"
    first = told(0, instructions=[{"text": "make it green"}])
    assert settings_before(RED, [first], 0).instructions[0].text == "make it green"


def test_an_event_brings_settings_back() -> None:
    asked = Settings(
        instructions=(Instruction(text="make it red", keyword="red", strength=0.5),), guidance_scale=4.0, editor="ip2p"
    )
    assert apply_event(RED, told(0, **settings_to_json(asked))) == asked


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, ()),
        ({"instructions": ["a", "b"], "keywords": [], "strengths": []}, (("a", None, 1.0), ("b", None, 1.0))),
        ({"instructions": ["a"], "keywords": [""], "strengths": [2.0]}, (("a", None, 2.0),)),
        ({"instructions": ["a cat"], "keywords": ["cat"]}, (("a cat", "cat", 1.0),)),
    ],
)
def test_a_session_tells_what_it_began_with(stored: dict[str, Any], expected: tuple[Any, ...]) -> None:
    read = initial_settings(stored).instructions
    assert tuple((i.text, i.keyword, i.strength) for i in read) == expected


def test_instructions_are_described_with_what_is_unusual() -> None:
    assert describe_instruction(Instruction(text="make it red")) == "make it red"
    shown = describe_instruction(Instruction(text="make it red", keyword="red", strength=-2.0))
    assert shown == "make it red (strength -2, keyword 'red')"
