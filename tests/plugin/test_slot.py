"""The requests of a scene: masks and background come from the photo, the edit starts from the render."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, Instruction, NothingFoundError, SmartEditConfig
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.slot import find_masks
from maskedit.plugin.storage import from_bytes, to_bytes

RED = Instruction(text="make the square red")
WHITE = Instruction(text="make the red square white")
BLUE = Instruction(text="make the ball blue")


def test_an_instruction_whose_object_is_hidden_gets_an_empty_mask(paint: Any) -> None:
    request = EditRequest(image=torch.zeros(1, 3, 8, 8), instructions=(RED, BLUE))
    red, blue = find_masks(paint(blind_to=(BLUE.text,)), request)
    assert red.any()
    assert not blue.any()
    with pytest.raises(NothingFoundError):
        find_masks(paint(blind_to=(RED.text, BLUE.text)), request)


@pytest.mark.parametrize("name", ["instructedit", "diffedit", "mdp"])
def test_i11_where_the_render_is_the_photo_the_edit_is_that_of_the_picture(toy: Any, captioned: Any, name: Any) -> None:
    # Random predictions under two captions differ everywhere a little.
    options = {"mask_threshold": 0.05} if name == "diffedit" else {}
    config, editor, _, _ = captioned(name, **options)
    edits, _, lines = toy(editor, editor_config=config, instructions=(WHITE,))
    asked: list[EditRequest] = []
    edit = editor.edit
    editor.edit = lambda request: asked.append(request) or edit(request)
    (record,) = edits.run_due(0)
    photo = from_bytes(edits.data.original(0)).permute(2, 0, 1)[None]
    _, plain, _, _ = captioned(name, **options)
    alone = plain.edit(EditRequest(image=photo, instructions=(WHITE,), seeds=(record.seed,)))
    assert torch.equal(edits.data.shown(0), to_bytes(alone.image[0].permute(1, 2, 0)))
    assert torch.equal(edits.session.mask_at(str(record.mask)), to_bytes(alone.mask[0, 0]))
    assert not torch.equal(edits.data.shown(0), edits.data.original(0))
    outside = alone.mask[0, 0] == 0
    assert torch.equal(edits.data.shown(0)[outside], edits.data.original(0)[outside])
    assert asked[0].noise_levels is None
    assert record.noise_level == (1.0 if name == "mdp" else 0.5)
    assert f"ratio {record.noise_level:.2f}" in lines[0]


def test_masks_are_found_in_the_photo_and_the_render_is_inverted(toy: Any, captioned: Any) -> None:
    config, editor, _, _ = captioned()
    edits, scene, _ = toy(editor, editor_config=config, instructions=(WHITE,))
    scene.pictures *= 0.5
    searched: list[EditRequest] = []
    asked: list[EditRequest] = []
    find, edit = editor.find_masks, editor.edit
    editor.find_masks = lambda request: searched.append(request) or find(request)
    editor.edit = lambda request: asked.append(request) or edit(request)
    edits.run_due(0)
    photo = from_bytes(edits.data.original(0)).permute(2, 0, 1)[None]
    assert torch.equal(searched[0].image, photo)
    assert torch.equal(asked[0].image, scene.render(0).image)
    assert torch.equal(asked[0].preserved, photo)
    assert asked[0].captions == searched[0].captions != ()


def test_smartedit_reads_each_photo_of_a_scene_once(toy: Any, smartedit_checkpoint: Path) -> None:
    """Renders change from edit to edit, the photos that are read and kept do not."""
    options = SmartEditConfig(sampler="ddim", steps=2, size=16, keep_outside="paper")
    config = SceneEditorConfig(name="smartedit", model=str(smartedit_checkpoint), device="cpu", smartedit=options)
    editor: Any = config.make(config.load_backbone())
    edits, scene, _ = toy(editor, editor_config=config, instructions=(WHITE,))
    shown: list[torch.Tensor] = []
    for step in range(12):
        shown += [edits.data.shown(record.view).clone() for record in edits.run_due(step)]
        scene.pictures *= 0.9
    assert len(shown) > editor.reader.readings >= 1
    assert editor.reader.readings == len({record.view for record in edits.session.records})
