"""Regions from the viewer become events of the session, in the scene's own coordinates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.viewer_elements import ViewerRectSelect

from maskedit.plugin.lift_regions import BoxRegion, MarkRegion, read_mark, regions_at
from maskedit.plugin.viewer import EditControls
from maskedit.plugin.viewer_region import ALL, DRAWING_HEIGHT, OUTSIDE, REPLACE


class Client:
    """A page of twice the width of its height."""

    def __init__(self) -> None:
        self.camera, self.aspect = self, 2.0


class Viewer:
    """The parts of nerfstudio's viewer that regions read."""

    def __init__(self) -> None:
        self.control_panel = self.viser_server = self
        self.crop_viewport = True
        self.crop_obb = OrientedBox(torch.eye(3), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0]))
        self.callback: Any = None

    def get_clients(self) -> dict[int, Client]:
        return {0: Client()}


@pytest.fixture
def controls(start: Callable[..., Any], config: Any) -> EditControls:
    made = start(config=config(reconstruct_steps=1, masks="lifted"))
    made.controls = EditControls(made)
    return made.controls


@pytest.fixture
def viewer(controls: EditControls, monkeypatch: pytest.MonkeyPatch) -> Viewer:
    shown, control = Viewer(), controls.region.control
    control.viewer = shown

    def camera(height: int, width: int) -> Cameras:
        pose = torch.eye(4)[None, :3]
        return Cameras(pose, 100.0, 100.0, width / 2, height / 2, width=width, height=height)

    monkeypatch.setattr(control, "get_camera", camera)
    monkeypatch.setattr(control, "register_pointer_cb", lambda kind, callback: setattr(shown, "callback", callback))
    monkeypatch.setattr(control, "unregister_pointer_cb", lambda: None)
    return shown


def press(controls: EditControls, name: str) -> None:
    element = controls.elements[name]
    element.cb_hook(element)
    answer(controls)


def answer(controls: EditControls) -> None:
    while not controls._trainer.requests.empty():
        controls._trainer.requests.get()()


def test_the_crop_box_becomes_a_region(controls: EditControls, viewer: Viewer) -> None:
    controls.elements["use"].value = REPLACE
    press(controls, "box")
    (region,) = regions_at(controls.session, 0)
    assert isinstance(region, BoxRegion)
    assert region.centre == pytest.approx((0.1, 0.2, 0.3))
    assert (region.size, region.how, region.instruction) == ((1.0, 2.0, 3.0), "replace", None)
    viewer.crop_viewport = False
    press(controls, "box")
    assert "tick Enable under Crop Viewport" in controls.status.text
    press(controls, "clear")
    assert regions_at(controls.session, 0) == ()


def test_a_rectangle_becomes_a_mark_of_the_camera_it_was_drawn_in(controls: EditControls, viewer: Viewer) -> None:
    controls.elements["meaning"].value = OUTSIDE
    controls.elements["instruction"].value = "make the red square white"
    press(controls, "draw")
    viewer.callback(ViewerRectSelect((0.25, 0.5), (0.5, 1.0)))
    answer(controls)
    (mark,) = regions_at(controls.session, 0)
    assert isinstance(mark, MarkRegion)
    assert (mark.says_yes, mark.instruction) == (False, "make the red square white")
    drawn = read_mark(controls.session.root, mark)
    assert drawn.shape == (DRAWING_HEIGHT, 2 * DRAWING_HEIGHT)
    rows, columns = drawn.nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (DRAWING_HEIGHT // 2, DRAWING_HEIGHT - 1)
    assert (int(columns.min()), int(columns.max())) == (DRAWING_HEIGHT // 2, DRAWING_HEIGHT - 1)


def test_regions_need_lifted_masks_and_a_page(start: Callable[..., Any], controls: EditControls) -> None:
    press(controls, "draw")
    assert "expected a viewer" in controls.status.text
    controls.pipeline.config.masks = "first-edit"
    press(controls, "box")
    assert "--pipeline.masks lifted" in controls.status.text.replace("\\", "")
    assert controls.session.events == ()


def test_what_is_offered_follows_the_instructions(controls: EditControls) -> None:
    panel = controls.region
    panel.instruction.value = "make the red square white"
    panel.offer(["make it blue"])
    assert (panel.instruction.options, panel.instruction.value) == ([ALL, "make it blue"], ALL)
