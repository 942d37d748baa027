"""Looking at single views from the viewer: pictures before | mask | after, and the mask as points of the scene."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskedit.plugin.preview import Preview
from maskedit.plugin.viewer import EditControls
from maskedit.plugin.viewer_preview import CLOUD, PanelOwner, overlay_strip


class Scene:
    """Remembers what was drawn into viser's scene."""

    def __init__(self) -> None:
        self.scene, self.drawn = self, {}

    def add_point_cloud(self, name: str, points: Any, colors: Any, **options: Any) -> "Scene":
        self.drawn[name] = points
        return self

    def remove(self) -> None:
        self.drawn.clear()


@pytest.fixture
def controls(start: Callable[..., Any], config: Any) -> EditControls:
    made = start(config=config(reconstruct_steps=1))
    made.controls = EditControls(made)
    return made.controls


def press(controls: EditControls, name: str) -> None:
    element = controls.elements[name]
    element.cb_hook(element)
    while not controls._trainer.requests.empty():
        controls._trainer.requests.get()()


def test_a_preview_is_shown_and_nothing_else_happens(controls: EditControls) -> None:
    assert isinstance(controls, PanelOwner)
    controls.elements["instruction0"].value = "make it green"
    controls.elements["view"].value = "2: 2.png"
    press(controls, "preview")
    assert "data:image/jpeg;base64" in controls.preview.picture.content
    assert "before | mask | after" in controls.preview.picture.content.replace("\\", "")
    assert controls.session.records == ()
    assert controls.session.events == ()
    editor = controls.edits._cache.peek(controls.fields.settings)
    assert [i.text for i in editor.requests[0].instructions] == ["make it green"]


def test_a_view_without_an_edit_says_so(controls: EditControls) -> None:
    press(controls, "shown")
    assert "no edit is shown" in controls.preview.picture.content
    controls._trainer.train_iteration(1)
    press(controls, "shown")
    assert "data:image" not in controls.preview.picture.content
    controls._trainer.step = 2
    press(controls, "shown")
    assert "data:image" in controls.preview.picture.content


def test_the_mask_is_drawn_into_the_scene_and_taken_away(controls: EditControls) -> None:
    scene = Scene()
    controls.preview.control.viser_server = scene
    controls.elements["in_scene"].value = True
    press(controls, "in_scene")
    assert "no mask to show" in controls.status.text
    press(controls, "preview")
    # The painted square is a quarter of each side.
    side = controls.pipeline.datamanager.photo_shape[1]
    assert scene.drawn[CLOUD].shape == ((side // 4) ** 2, 3)
    controls.elements["in_scene"].value = False
    press(controls, "in_scene")
    assert scene.drawn == {}


def test_a_strip_dims_what_is_outside_the_mask() -> None:
    before = torch.full((4, 4, 3), 200, dtype=torch.uint8)
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    mask[:, :2] = 255
    strip = overlay_strip(Preview(view=0, before=before, after=before // 2, mask=mask))
    assert strip.shape == (4, 16, 3)
    assert [int(strip[0, x, 0]) for x in (0, 6, 8, 12)] == [200, 200, 70, 100]
    assert torch.equal(overlay_strip(Preview(view=0, before=before)), before)
