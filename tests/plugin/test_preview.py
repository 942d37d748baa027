"""A preview is the edit that a view would get, and leaves no trace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors import Instruction
from maskedit.plugin.preview import preview_edit, shown_edit
from maskedit.plugin.slot import Settings
from maskedit.plugin.storage import write_image

BLUE = Settings(instructions=(Instruction(text="make it blue"),))


def files(session: Any) -> dict[str, bytes]:
    return {str(p.relative_to(session.root)): p.read_bytes() for p in session.root.rglob("*") if p.is_file()}


def test_a_preview_is_the_edit_of_its_view_and_is_not_kept(toy: Callable[..., Any], paint: Any) -> None:
    editor = paint()
    edits, scene, lines = toy(editor)
    scene.pictures += 0.1
    before, stored = edits.data.batch["image"].clone(), files(edits.session)
    found = preview_edit(edits, 2, BLUE, noise_level=0.5)
    assert torch.equal(edits.data.batch["image"], before)
    assert files(edits.session) == stored
    assert edits.session.records == ()
    assert lines == []
    (request,) = editor.requests
    assert torch.equal(request.image, scene.render(2).image)
    assert request.noise_levels == (0.5,)
    assert [i.text for i in request.instructions] == ["make it blue"]
    assert torch.equal(found.before, edits.data.original(2))
    outside = found.mask == 0
    assert torch.equal(found.after[outside], found.before[outside])
    assert not torch.equal(found.after, found.before)


def test_a_preview_does_not_change_what_follows(toy: Callable[..., Any], paint: Any) -> None:
    plain, _, _ = toy(paint(), folder="plain")
    (record,) = plain.run_due(0)
    looked, _, _ = toy(paint(), folder="looked")
    preview_edit(looked, 0, BLUE, noise_level=0.5)
    (other,) = looked.run_due(0)
    assert replace(other, trace={}) == replace(record, trace={})
    assert torch.equal(looked.session.image_of(other), plain.session.image_of(record))


def test_a_preview_uses_the_masks_that_a_view_has(toy: Callable[..., Any], paint: Any) -> None:
    edits, _, _ = toy(paint())
    (record,) = edits.run_due(0)
    asked = edits.settings_at(0)
    drawn = torch.full((16, 16), 255, dtype=torch.uint8)
    write_image(edits.session.root / record.masks[0], drawn)
    assert torch.equal(preview_edit(edits, 0, asked, noise_level=0.5).mask, drawn)
    edits.use_editor(paint(blind_to=("make the square red",)))
    blind = preview_edit(edits, 0, asked, noise_level=0.5, reuses_masks=False)
    assert (blind.after, blind.mask) == (None, None)
    assert "make the square red" in blind.reason


def test_what_a_view_shows_can_be_looked_at(toy: Callable[..., Any], paint: Any) -> None:
    edits, _, _ = toy(paint())
    (record,) = edits.run_due(0)
    found = shown_edit(edits, 0, 1)
    assert torch.equal(found.after, edits.session.image_of(record))
    assert torch.equal(found.mask, edits.session.mask_at(record.mask))
    other = shown_edit(edits, 1, 1)
    assert (other.after, other.reason) == (None, "no edit is shown in this view")
    edits.session.undo(1)
    assert shown_edit(edits, 0, 1).after is None


def test_language_is_asked_and_its_plan_is_not_kept(toy: Callable[..., Any], captioned: Any) -> None:
    config, editor, language, _ = captioned()
    edits, _, _ = toy(editor, editor_config=config)
    asked = Settings(instructions=(Instruction(text="turn the square into a ball"),))
    preview_edit(edits, 0, asked, noise_level=0.5)
    assert language.asked
    assert edits.session.plan(asked.instructions) is None


def test_the_noise_level_is_a_share(toy: Callable[..., Any], paint: Any) -> None:
    edits, _, _ = toy(paint())
    with pytest.raises(ValueError, match="noise"):
        preview_edit(edits, 0, BLUE, noise_level=1.5)
