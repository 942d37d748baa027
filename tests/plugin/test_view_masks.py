"""Where the masks of a view come from: its photo, once or each time."""

from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, EditResult, EditTrace, Instruction, NothingFoundError

RED = Instruction(text="make the square red")


class MovingMask:
    """Finds another row of the picture each time it is asked."""

    def __init__(self) -> None:
        self.asked, self.requests = 0, list[EditRequest]()

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        self.requests.append(request)
        masks = self.find_masks(request)
        return EditResult(image=request.image, mask=masks[0], masks=masks, trace=EditTrace(editor="moving"))

    def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
        mask = torch.zeros_like(request.image[:, :1])
        mask[..., self.asked, :] = 0.7
        self.asked += 1
        return tuple(mask if i.mask is None else i.mask for i in request.instructions)


def test_masks_of_the_first_edit_are_used_again(toy: Any) -> None:
    editor = MovingMask()
    edits, _, _ = toy(editor)
    for step in range(8):
        edits.run_due(step)
    for view in range(4):
        first, second = (editor.requests[at].instructions[0].mask for at in (view, view + 4))
        assert torch.equal(first, second)
    assert edits.session.records[4].masks == edits.session.records[0].masks


def test_masks_can_be_found_anew(toy: Any) -> None:
    editor = MovingMask()
    edits, _, _ = toy(editor, reuse=False)
    for step in range(8):
        edits.run_due(step)
    assert not torch.equal(editor.requests[0].instructions[0].mask, editor.requests[4].instructions[0].mask)


def test_a_view_in_which_nothing_is_found_keeps_its_photo(toy: Any, paint: Any) -> None:
    class Sometimes(paint):  # type: ignore[misc]
        def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
            if request.seeds == (edits.schedule.turn(1, step=1).seed,):
                raise NothingFoundError("square")
            return super().find_masks(request)

    edits, _, lines = toy(Sometimes())
    records = [edits.run_due(step)[0] for step in range(6)]
    assert [r.image is None for r in records] == [False, True, False, False, False, True]
    assert torch.equal(edits.data.shown(1), edits.data.original(1))
    assert "nothing found" in lines[1]


def test_nothing_found_can_stop_at_once(toy: Any, paint: Any) -> None:
    edits, _, _ = toy(paint(blind_to=(RED.text,)), skip_empty=False)
    with pytest.raises(NothingFoundError):
        edits.run_due(0)
