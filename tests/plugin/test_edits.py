"""Edits of a toy scene whose parameters are its pictures: the invariants of the iterative dataset update."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from maskedit.editors import (
    EditRequest,
    EditResult,
    EditTrace,
    InputError,
    Instruction,
    IP2PConfig,
    ParseError,
)
from maskedit.plugin.consistency import ConsistencyConfig, ViewTies
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.edits import EmptySweepError, SceneEdits, format_duration
from maskedit.plugin.session import EditSession, Event
from maskedit.plugin.storage import from_bytes

RED = Instruction(text="make the square red")
WHITE = Instruction(text="make the red square white")
BLUE = Instruction(text="make the ball blue")


class FunctionEditor:
    """Edits with a function of the request, everywhere."""

    def __init__(self, function: Callable[[EditRequest], torch.Tensor]) -> None:
        self.function = function
        self.requests: list[EditRequest] = []

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        self.requests.append(request)
        masks = self.find_masks(request)
        return EditResult(
            image=self.function(request),
            mask=masks[0],
            masks=masks,
            trace=EditTrace(editor="f", mask_area=(1.0,), seconds=6.0),
        )

    def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
        return tuple(torch.ones_like(request.image[:, :1]) for _ in request.instructions)


def run(edits: SceneEdits, scene: Any, steps: int) -> list[float]:
    moved = []
    for step in range(steps):
        edits.run_due(step)
        moved.append(scene.train())
    return moved


def test_an_editor_that_changes_nothing_leaves_the_scene(toy: Any) -> None:
    edits, scene, _ = toy(FunctionEditor(lambda r: r.image))
    before = scene.pictures.clone()
    assert max(run(edits, scene, 12)) < 1e-6
    torch.testing.assert_close(scene.pictures, before, atol=1e-6, rtol=0)


def test_edits_start_from_the_render_and_keep_the_photo(toy: Any) -> None:
    editor = FunctionEditor(lambda r: (r.image + 0.3).clamp(0, 1))
    edits, scene, _ = toy(editor)
    originals = [edits.data.original(view) for view in range(4)]
    for step in range(10):
        render = scene.render(step % 4).image
        edits.run_due(step)
        scene.train()
        request = editor.requests[-1]
        assert torch.equal(request.image, render)
        assert torch.equal(request.preserved, from_bytes(originals[step % 4]).permute(2, 0, 1)[None])
    assert all(torch.equal(edits.data.original(view), originals[view]) for view in range(4))


def test_the_editor_computes_in_its_own_precision_whatever_training_does(toy: Any) -> None:
    seen: list[torch.dtype] = []

    class Careful(FunctionEditor):
        def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
            seen.append((request.image[0, 0] @ request.image[0, 0].T).dtype)
            return super().find_masks(request)

    edits, _, _ = toy(Careful(lambda r: r.image))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        edits.run_due(0)
        assert torch.is_autocast_enabled("cpu")
    # Once to find the masks, once while editing.
    assert seen == [torch.float32, torch.float32]


def test_the_working_set_is_the_originals_before_the_first_edit(toy: Any) -> None:
    edits, _, _ = toy(None)
    assert all(torch.equal(edits.data.shown(view), edits.data.original(view)) for view in range(4))
    assert not edits.has_editor


def test_a_constant_editor_draws_the_scene_to_its_colour(toy: Any) -> None:
    edits, scene, _ = toy(FunctionEditor(lambda r: torch.full_like(r.image, 0.6)))
    distances = []
    for step in range(24):
        edits.run_due(step)
        scene.train()
        if step % 4 == 3:
            distances.append(float((scene.pictures - 0.6).abs().max()))
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(distances))
    assert distances[-1] < 1e-2


def noisy(request: EditRequest) -> torch.Tensor:
    drawn = [torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in request.seeds]
    return (0.5 + 0.1 * torch.cat(drawn)).clamp(0, 1)


def test_fixed_noise_levels_and_seed_give_the_same_edits(toy: Any) -> None:
    shown = []
    for folder in ("first", "second"):
        edits, scene, _ = toy(FunctionEditor(noisy), folder=folder, schedule={"lower": 0.5, "upper": 0.5})
        run(edits, scene, 5)
        shown.append(torch.stack([edits.data.shown(view) for view in range(4)]))
    assert torch.equal(*shown)


def test_noise_of_the_views_averages_out(toy: Any) -> None:
    edits, scene, _ = toy(FunctionEditor(noisy))
    run(edits, scene, 4)
    edited = edits.data.batch["image"]
    spread = [float((edited[:count].mean(0) - 0.5).var()) for count in (1, 2, 4)]
    assert spread[0] > 1.6 * spread[1] > 2.4 * spread[2]


def test_several_views_are_one_batch_with_their_own_noise(toy: Any) -> None:
    editor = FunctionEditor(noisy)
    edits, _, lines = toy(editor, schedule={"rate": 3, "count": 3})
    records = edits.run_due(0)
    (request,) = editor.requests
    assert len(request.image) == len(set(request.seeds)) == len(set(request.noise_levels or ())) == 3
    assert [r.view for r in records] == [0, 1, 2]
    assert [r.trace["seconds"] for r in records] == [2.0, 2.0, 2.0]
    assert len(lines) == 3
    single, _, _ = toy(FunctionEditor(noisy), folder="single", schedule={"rate": 1, "count": 1})
    for step in range(3):
        single.run_due(step)
    for view in range(3):
        assert torch.equal(edits.data.shown(view), single.data.shown(view))
    assert edits.run_due(1) == ()


def test_pixels_outside_the_mask_are_the_photos_whatever_the_editor_returns(toy: Any, paint: Any) -> None:
    class Careless(paint):  # type: ignore[misc]
        def edit(self, request: EditRequest) -> EditResult:
            result = super().edit(request)
            return EditResult(
                image=(result.image + 0.004).clamp(0, 1), mask=result.mask, masks=result.masks, trace=result.trace
            )

    edits, _, _ = toy(Careless())
    (record,) = edits.run_due(0)
    outside = edits.session.mask_at(str(record.mask)) == 0
    assert outside.any()
    assert torch.equal(edits.data.shown(0)[outside], edits.data.original(0)[outside])
    assert not torch.equal(edits.data.shown(0)[~outside], edits.data.original(0)[~outside])


def test_nothing_found_anywhere_stops_after_a_sweep(toy: Any, paint: Any) -> None:
    edits, _, _ = toy(paint(blind_to=(RED.text,)))
    for step in range(3):
        edits.run_due(step)
    with pytest.raises(EmptySweepError, match="any of 4 views"):
        edits.run_due(3)


def test_events_take_effect_at_their_step(toy: Any, paint: Any) -> None:
    editor = paint()
    edits, _, _ = toy(editor)
    edits.session.add_event(Event(step=1, kind="settings", value={"instructions": [{"text": BLUE.text}]}))
    edits.session.add_event(Event(step=3, kind="pause", value=True))
    edits.session.add_event(Event(step=5, kind="pause", value=False))
    made = [len(edits.run_due(step)) for step in range(6)]
    assert made == [1, 1, 1, 0, 0, 1]
    assert [r.instructions[0].text for r in editor.requests] == [RED.text, BLUE.text, BLUE.text, BLUE.text]
    with pytest.raises(InputError, match="expected an instruction"):
        edits.check_event(Event(step=6, kind="settings", value={"instructions": []}))
    with pytest.raises(ValueError, match="guidance_scale"):
        edits.check_event(Event(step=6, kind="settings", value={"guidance_scale": 0.1}))


def test_show_brings_the_working_set_to_any_step(toy: Any, paint: Any) -> None:
    edits, _, _ = toy(paint())
    for step in range(6):
        edits.run_due(step)
    now = [edits.data.shown(view) for view in range(4)]
    edits.show(2)
    assert torch.equal(edits.data.shown(2), edits.data.original(2))
    assert not torch.equal(edits.data.shown(1), edits.data.original(1))
    edits.show(6)
    assert all(torch.equal(edits.data.shown(view), now[view]) for view in range(4))


def test_progress_counts_what_is_planned(toy: Any, paint: Any) -> None:
    edits, _, lines = toy(paint(), planned=9)
    edits.run_due(0)
    edits.run_due(1)
    assert lines[1].startswith("edit 2/9, sweep 1, 1.png: noise ")
    assert "ETA" in lines[1]
    assert "mask 6.2%" in lines[1]


def test_a_scene_is_planned_once_and_each_photo_searched_once(toy: Any, captioned: Any) -> None:
    config, editor, language, grounder = captioned()
    edits, scene, _ = toy(editor, editor_config=config, instructions=(WHITE,))
    run(edits, scene, 9)
    assert language.asked == [WHITE.text]
    assert grounder.asked == [("red square",)] * 4
    # A run that goes on reads the plan and the masks of its session.
    config, editor, language, grounder = captioned()
    again, _, _ = toy(editor, editor_config=config, instructions=(WHITE,), session=EditSession.open(edits.session.root))
    (record,) = again.run_due(9)
    assert language.asked == grounder.asked == []
    assert record.trace["captions"][0] == edits.session.records[0].trace["captions"][0]
    assert "language" not in vars(editor.tools)


def test_a_photo_without_the_object_stays_and_is_not_searched_again(toy: Any, captioned: Any) -> None:
    config, editor, _, grounder = captioned(blind_at=(2,))
    edits, _, lines = toy(editor, editor_config=config, instructions=(WHITE,))
    records = [edits.run_due(step)[0] for step in range(6)]
    assert [r.image is None for r in records] == [False, True, False, False, False, True]
    assert torch.equal(edits.data.shown(1), edits.data.original(1))
    assert "nothing found" in lines[5]
    assert len(grounder.asked) == 4


def test_new_instructions_are_planned_when_they_are_given(toy: Any, captioned: Any) -> None:
    config, editor, language, _ = captioned()
    edits, _, _ = toy(editor, editor_config=config, instructions=(WHITE,))
    edits.run_due(0)
    with pytest.raises(ParseError):
        edits.check_event(Event(step=1, kind="settings", value={"instructions": [{"text": "blorb"}]}))
    with pytest.raises(InputError, match="no image guidance"):
        edits.check_event(Event(step=1, kind="settings", value={"image_guidance_scale": 2.0}))
    event = Event(step=1, kind="settings", value={"instructions": [{"text": BLUE.text}]})
    edits.check_event(event)
    edits.session.add_event(event)
    assert language.asked == [WHITE.text, "blorb", BLUE.text]
    (record,) = edits.run_due(1)
    assert language.asked[3:] == []
    assert record.trace["captions"][0]["target"] == "photo of a blue ball"


def test_an_editor_that_cannot_share_a_batch_is_refused_when_it_is_chosen(toy: Any, paint: Any) -> None:
    ties = ViewTies(ConsistencyConfig(share_views="all"), lambda view: None, seed=0)  # type: ignore[arg-type]
    config = SceneEditorConfig(ip2p=IP2PConfig(chunk=1))
    edits, _, _ = toy(paint(), editor_config=config, schedule={"count": 2}, ties=ties)
    with pytest.raises(InputError, match=r"ip2p.chunk 2"):
        edits.check_event(Event(step=0, kind="settings", value={"editor": "ip2p"}))
    edits.check_event(Event(step=0, kind="settings", value={"guidance_scale": 5.0}))


def test_a_plan_that_fails_edits_nothing(toy: Any, captioned: Any) -> None:
    config, editor, _, grounder = captioned()
    for text, message in (("blorb", "expected a request"), ("make it look like winter", "no object to look for")):
        edits, _, _ = toy(editor, editor_config=config, instructions=(Instruction(text=text),), folder=text)
        with pytest.raises(InputError, match=message) as raised:
            edits.run_due(0)
        assert "\n" not in str(raised.value)
        assert edits.session.records == ()
        assert edits.session.plan((Instruction(text=text),)) is None
    assert grounder.asked == []


def test_an_instruction_that_is_taken_apart_has_a_mask_for_each_part(toy: Any, paint: Any) -> None:
    class Splitting(paint):  # type: ignore[misc]
        def plan(self, request: EditRequest) -> EditRequest:
            return EditRequest(image=request.image, instructions=(RED, BLUE))

    both = Instruction(text="make the square red and the ball blue")
    edits, _, _ = toy(Splitting(), instructions=(both,))
    (record,) = edits.run_due(0)
    assert record.instructions == (RED.text, BLUE.text)
    assert len(record.masks) == 2


def test_durations_are_readable() -> None:
    assert [format_duration(s) for s in (0.0, 61.4, 3600.0 * 5 + 120)] == ["0 min 00 s", "1 min 01 s", "5 h 02 min"]
