"""Regions of the user: what boxes and marks say, and that sessions keep them as they were given."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import InputError
from maskedit.plugin.lift_regions import (
    BoxRegion,
    EventLog,
    MarkRegion,
    box_event,
    clear_event,
    mark_event,
    read_mark,
    regions_at,
    regions_for,
)
from maskedit.plugin.session import EditSession


@pytest.fixture
def session(tmp_path: Path) -> EditSession:
    return EditSession.create(tmp_path / "session", settings={}, start_step=0, edit_start=0, source=None)


@pytest.mark.filterwarnings("ignore:To copy construct:UserWarning")
def test_a_box_contains_what_lies_in_it_however_it_is_turned() -> None:
    turn = math.pi / 4
    rows = ((math.cos(turn), -math.sin(turn), 0.0), (math.sin(turn), math.cos(turn), 0.0), (0.0, 0.0, 1.0))
    points = torch.tensor([[1.0, 0.0, 0.0], [1.9, 0.0, 0.0], [1.6, 0.6, 0.0], [1.0, 0.0, 0.6], [math.nan, 0, 0]])
    straight = BoxRegion(centre=(1.0, 0.0, 0.0), size=(2.0, 1.0, 1.0))
    turned = BoxRegion(centre=(1.0, 0.0, 0.0), size=(2.0, 1.0, 1.0), rotation=rows)
    assert straight.contains(points).tolist() == [True, True, False, False, False]
    assert turned.contains(points).tolist() == [True, False, True, False, False]
    from nerfstudio.data.scene_box import OrientedBox

    box = OrientedBox(R=torch.tensor(rows), T=torch.tensor([1.0, 0, 0]), S=torch.tensor([2.0, 1, 1]))
    assert turned.contains(points[:4]).tolist() == box.within(points[:4]).tolist()


def test_regions_hold_from_their_step_on_until_they_are_replaced_or_cleared(session: EditSession) -> None:
    assert isinstance(session, EventLog)
    session.add_event(box_event(2, centre=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0)))
    session.add_event(box_event(4, centre=(1.0, 0.0, 0.0), size=(1.0, 1.0, 1.0), instruction="make it red"))
    session.add_event(box_event(6, centre=(2.0, 0.0, 0.0), size=(1.0, 1.0, 1.0), how="replace"))
    session.add_event(clear_event(8, "make it red"))
    session.add_event(clear_event(9))
    session = EditSession.open(session.root)

    def held(step: int) -> list[tuple[Any, ...]]:
        return [(each.centre[0], each.how) for each in regions_at(session, step) if isinstance(each, BoxRegion)]

    assert [held(step) for step in (1, 2)] == [[], [(0, "limit")]]
    assert held(4) == [(0, "limit"), (1, "limit")]
    assert held(6) == [(1, "limit"), (2, "replace")]
    assert held(8) == [(2, "replace")]
    assert held(9) == []
    at_four = regions_at(session, 4)
    assert len(regions_for(at_four, "make it red")) == 2
    assert len(regions_for(at_four, "make it blue")) == 1


def test_a_mark_keeps_its_camera_and_its_drawing(session: EditSession, ball: Any) -> None:
    camera = ball.camera(0.7, side=20)
    drawn = (ball.mask(camera) * 255).to(torch.uint8)
    session.add_event(mark_event(session, 3, camera=camera, drawn=drawn, says_yes=False, instruction="make it red"))
    (mark,) = regions_at(EditSession.open(session.root), 3)
    assert isinstance(mark, MarkRegion)
    assert (mark.says_yes, mark.instruction) == (False, "make it red")
    assert torch.equal(read_mark(session.root, mark), ball.mask(camera))
    again = mark.camera(20, 20)
    rays, true = (each.generate_rays(camera_indices=0) for each in (again, camera))
    torch.testing.assert_close(rays.directions, true.directions)
    torch.testing.assert_close(rays.origins, true.origins)


def test_a_rectangle_is_drawn_for_the_user(session: EditSession, ball: Any) -> None:
    event = mark_event(session, 0, camera=ball.camera(0.0), drawn=(2, 3, 5, 40))
    session.add_event(event)
    (mark,) = regions_at(session, 0)
    assert isinstance(mark, MarkRegion)
    mask = read_mark(session.root, mark)
    assert mask[3:, 2:5].min() == 1
    assert int(mask.sum()) == 21 * 3
    json.dumps(event.value)


def test_what_makes_no_region_is_refused(session: EditSession, ball: Any) -> None:
    with pytest.raises(InputError, match="sides above 0"):
        box_event(0, centre=(0.0, 0.0, 0.0), size=(1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="rotation matrix"):
        box_event(
            0,
            centre=(0.0, 0.0, 0.0),
            size=(1.0, 1.0, 1.0),
            rotation=((2.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        )
    with pytest.raises(InputError, match="expected marked pixels"):
        mark_event(session, 0, camera=ball.camera(0.0), drawn=(5, 5, 5, 9))
    with pytest.raises(InputError, match="drawing of 24x24 pixels, got 8x6"):
        mark_event(session, 0, camera=ball.camera(0.0), drawn=torch.ones(6, 8, dtype=torch.uint8))
