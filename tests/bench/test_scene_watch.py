"""What is measured while a run goes on."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.bench.blocks import FIXED_REFERENCES, MultiviewTruth, make_pairs, write_multiview
from maskedit.bench.scene_watch import TimedEditor, TrueEditor, forget_peak, peak_memory, waited_share
from maskedit.editors import Editor, EditRequest, EditResult, EditTrace, Instruction, Mask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> MultiviewTruth:
    spec = make_pairs("validation", [3], kinds={"remove": 1.0}, references=FIXED_REFERENCES).specs[0]
    folder = tmp_path_factory.mktemp("scene") / "data"
    return write_multiview(folder, spec.scene, spec.edits, views=6, held_out=1, size=32)


class Sleeper:
    """Takes a given time for each call."""

    tools = "spade"

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        masks = self.find_masks(request)
        return EditResult(image=request.image, mask=masks[0], masks=masks, trace=EditTrace(editor="none"))

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        time.sleep(self.seconds.pop(0))
        return (request.image[:, :1],)


def ask(views: int) -> EditRequest:
    return EditRequest(image=torch.rand(views, 3, 8, 8), instructions=(Instruction(text="remove the cube"),))


def test_time_is_counted_by_view_without_the_first_batch() -> None:
    editor = TimedEditor(Sleeper(0.2, 0.2, 0.04, 0.02, 0.06), CPU)
    assert isinstance(editor, Editor)
    assert editor.tools == "spade"
    editor.find_masks(ask(1))
    editor.edit(ask(2))
    assert editor.seconds_per_view is None
    editor.find_masks(ask(1))
    editor.edit(ask(4))
    editor.edit(ask(2))
    assert [views for views, _ in editor.edits] == [2, 4, 2]
    spent = editor.seconds_per_view
    assert spent is not None
    assert 0.02 <= spent < 0.06


def test_a_search_that_fails_takes_its_time_too() -> None:
    editor = TimedEditor(Sleeper(), CPU)
    with pytest.raises(IndexError):
        editor.find_masks(ask(1))
    assert len(editor.searches) == 1


def test_the_true_editor_knows_photos_by_sight(truth: MultiviewTruth) -> None:
    views = [4, 1]
    photos = truth.source[views]
    request = replace(ask(2), image=torch.rand_like(photos), condition=photos)
    editor = TrueEditor(truth)
    assert isinstance(editor, Editor)
    result = editor.edit(editor.plan(request))
    assert torch.equal(result.image, truth.target[views])
    assert torch.equal(result.mask, truth.changed[views].float())
    assert torch.equal(editor.find_masks(request)[0], result.mask)


def test_steps_that_wait_are_those_that_take_far_longer() -> None:
    steps = [0.1] * 9 + [1.1]
    assert waited_share(steps) == pytest.approx(1.0 / 2.0)
    assert waited_share([0.1, 0.12, 0.1, 0.11]) == 0
    assert waited_share([]) is None


def test_memory_that_was_freed_is_forgotten() -> None:
    peaks: list[Any] = []
    for megabytes in (0, 200, 0):
        forget_peak(CPU)
        held = torch.ones(megabytes * 2**18)
        peaks.append(peak_memory(CPU))
        del held
    assert math.isclose(peaks[1] - peaks[0], 200, abs_tol=60)
    assert peaks[2] < peaks[0] + 60


def test_a_system_that_keeps_no_peak_has_none(tmp_path: Path) -> None:
    assert peak_memory(CPU, tmp_path / "none") is None
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert peak_memory(CPU, tmp_path / "status") is None
