"""Lifted masks: all photos are looked at once, every view shares one region, and a kill changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import EditRequest, EditResult, EditTrace, Instruction, NothingFoundError
from maskedit.plugin.edits import EmptySweepError
from maskedit.plugin.lift import LiftedMasks
from maskedit.plugin.lift_options import LiftConfig
from maskedit.plugin.lift_regions import box_event, clear_event, mark_event
from maskedit.plugin.lift_scene import StartScene
from maskedit.plugin.scene import SceneRenderer
from maskedit.plugin.session import EditSession
from maskedit.plugin.slot import EditView, Settings, as_image
from maskedit.plugin.update import EditTurn
from maskedit.plugin.view_masks import ViewMasks

RED, BLUE = Instruction(text="make the ball red"), Instruction(text="make the ball blue")
VIEWS = 4


class KnownModel:
    """The known scene behind the interface of a model."""

    device, training = "cpu", False

    def __init__(self, ball: Any) -> None:
        self.ball, self.make_votes = ball, ball.make_votes
        self.camera_optimizer = type("Off", (), {"config": type("Config", (), {"mode": "off"})})

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def parameters(self) -> list[torch.Tensor]:
        return [torch.zeros(1)]

    def get_outputs_for_camera(self, camera: Any) -> dict[str, torch.Tensor]:
        return {"rgb": torch.zeros(int(camera.height), int(camera.width), 3)}

    def surface_points(self, camera: Any, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.ball.hits(camera)[0].view(int(camera.height), int(camera.width), 3)


class KnownScene(StartScene):
    """Stands for the scene before the first edit."""

    def _read(self) -> Any:
        return self._model


class BallEditor:
    """Finds the ball, which it knows from where each photo was taken; blind in some views, wrong in others."""

    def __init__(
        self, data: Any, true: list[torch.Tensor], *, blind: tuple[int, ...] = (), breaks_at: int = 99
    ) -> None:
        self.data, self.true, self.blind, self.breaks_at = data, true, blind, breaks_at
        self.asked: list[tuple[int, ...]] = []

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        mask = request.instructions[0].mask
        assert mask is not None
        return EditResult(image=request.image, mask=mask, masks=(mask,), trace=EditTrace(editor="ball"))

    def find_masks(self, request: EditRequest) -> tuple[torch.Tensor, ...]:
        views = tuple(self._view(image) for image in request.image)
        if len(self.asked) == self.breaks_at:
            raise KeyboardInterrupt
        self.asked.append(views)
        if set(views) & set(self.blind):
            raise NothingFoundError("ball", score=0.1, threshold=0.5)
        return (torch.stack([self.true[view] for view in views])[:, None],) * len(request.instructions)

    def _view(self, image: torch.Tensor) -> int:
        photos = [as_image(self.data.original(view))[0] for view in range(VIEWS)]
        return next(view for view, photo in enumerate(photos) if torch.equal(photo, image))


class Lifting:
    """A session in which masks are lifted, and what it said."""

    def __init__(self, data: Any, ball: Any, root: Path, **config: Any) -> None:
        self.data, self.model, self.lines = data, KnownModel(ball), list[str]()
        exists = (root / "session.json").is_file()
        started = {"settings": {}, "start_step": 0, "edit_start": 0, "source": None}
        self.session = EditSession.open(root) if exists else EditSession.create(root, **started)
        skip_empty = config.pop("skip_empty", True)
        options = LiftConfig(**{"resolution": 64, "batch": 2, **config})
        scene = KnownScene(self.model, data, self.session)
        self.masks = LiftedMasks(
            self.session, data, scene, options, seed=0, report=self.lines.append, skip_empty=skip_empty
        )
        renderer = SceneRenderer(self.model, data)
        self.cameras = [renderer.camera(view) for view in range(VIEWS)]
        self.true = [ball.mask(camera) for camera in self.cameras]

    def editor(self, **options: Any) -> BallEditor:
        return BallEditor(self.data, self.true, **options)

    def fill(self, editor: BallEditor, view: int, *, step: int = 0, instructions: Any = (RED,)) -> Any:
        turn = EditTurn(index=step, step=step, view=view, sweep=0, noise_level=0.5, seed=0)
        photo = self.data.original(view)
        asked = EditView(turn=turn, original=photo, render=as_image(photo))
        reason = self.masks.fill(editor, asked, Settings(instructions=instructions))
        return reason or asked


@pytest.fixture
def lifting(load: Any, ball: Any, tmp_path: Path) -> Callable[..., Lifting]:
    data = load()
    return lambda folder="session", **config: Lifting(data, ball, tmp_path / folder, **config)


def overlap(mask: torch.Tensor, true: torch.Tensor) -> float:
    one, other = mask >= 128, true >= 0.5
    return float((one & other).sum() / (one | other).sum())


def pictures(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("lifted/**/*.*"))}


def test_all_photos_are_looked_at_once_and_every_view_has_its_mask(lifting: Any) -> None:
    run = lifting()
    assert isinstance(run.masks, ViewMasks)
    editor = run.editor()
    views = [run.fill(editor, view, step=view) for view in (2, 0, 1, 3, 2)]
    assert editor.asked == [(0, 1), (2, 3)]
    for view, at in zip(views, (2, 0, 1, 3, 2), strict=True):
        assert overlap(view.masks[0], run.true[at]) > 0.8
        assert torch.equal(run.session.mask_at(view.files[0]), view.masks[0])
    assert "looking for masks in all photos: 4 of 4" in run.lines
    assert "found in 4 of 4 photos, in view in 4" in run.lines[-1]


def test_views_in_which_nothing_is_found_take_the_lifted_mask(lifting: Any) -> None:
    run = lifting()
    editor = run.editor(blind=(1,))
    assert overlap(run.fill(editor, 1).masks[0], run.true[1]) > 0.7
    assert editor.asked == [(0, 1), (0,), (2, 3)]
    assert "found in 3 of 4 photos, in view in 4" in run.lines[-1]


@pytest.mark.parametrize(
    ("blind", "asked"),
    [
        # Of eight photos one by one this would be nine.
        ((7,), [range(8), range(4), range(4, 6), (6,)]),
        ((0,), [range(8), range(4), range(2), (0,), (1,), (2, 3), range(4, 8)]),
        ((2, 5), [range(8), range(4), (0, 1), (2,), (3,), range(4, 8), (4, 5), (4,), (6, 7)]),
    ],
)
def test_photos_without_the_object_are_looked_for_by_halves(
    lifting: Any, blind: tuple[int, ...], asked: list[Sequence[int]]
) -> None:
    run = lifting()
    calls: list[tuple[int, ...]] = []

    def find_together(editor: Any, settings: Any, views: Sequence[int]) -> Any:
        calls.append(tuple(views))
        return None if set(views) & set(blind) else [(torch.full((2, 2), float(view)),) for view in views]

    run.masks._find_together = find_together
    found = run.masks._find_batch(run.editor(), Settings(instructions=(RED,)), range(8))
    assert calls == [tuple(each) for each in asked]
    assert [float(masks[0].max()) for masks in found] == [0.0 if view in blind else float(view) for view in range(8)]


def test_a_photo_is_asked_for_each_instruction_where_it_lacks_one(lifting: Any) -> None:
    run = lifting(batch=1)
    editor = run.editor()
    find = editor.find_masks

    def miss_blue(request: EditRequest) -> tuple[torch.Tensor, ...]:
        masks = find(request)
        if BLUE in request.instructions and editor.asked[-1] == (1,):
            raise NothingFoundError("blue", score=0.1, threshold=0.5)
        return masks

    editor.find_masks = miss_blue
    run.fill(editor, 0, instructions=(RED, BLUE))
    assert editor.asked == [(0,), (1,), (1,), (1,), (2,), (3,)]


def test_what_is_found_nowhere_is_an_error_that_names_it(lifting: Any) -> None:
    run = lifting()
    with pytest.raises(EmptySweepError, match="'make the ball red' in any of 4 photos"):
        run.fill(run.editor(blind=(0, 1, 2, 3)), 0)


def test_masks_that_nowhere_agree_are_an_error(lifting: Any) -> None:
    run = lifting(threshold=0.9)
    # Each photo has found another strip of the floor, and is not sure of it; the others leave it out.
    wrong = [torch.zeros_like(mask) for mask in run.true]
    for view, mask in enumerate(wrong):
        mask[12 + view % 2, 2 * view : 2 * view + 3] = 0.5
    run.true = wrong
    with pytest.raises(EmptySweepError, match="lies elsewhere in each photo"):
        run.fill(run.editor(), 0)


def test_a_kill_while_lifting_changes_nothing(lifting: Any) -> None:
    whole, broken = lifting("whole"), lifting("broken")
    whole.fill(whole.editor(), 0)
    with pytest.raises(KeyboardInterrupt):
        broken.fill(broken.editor(breaks_at=1), 0)
    (found,) = (broken.session.root / "lifted").iterdir()
    next(found.glob("00000-0.png")).unlink()  # As if it had been killed between two files of a batch.
    again = lifting("broken")
    editor = again.editor()
    again.fill(editor, 0)
    assert editor.asked == [(0, 1), (2, 3)]
    assert pictures(again.session.root) == pictures(whole.session.root)
    third = lifting("broken")
    nobody = third.editor(breaks_at=0)
    assert overlap(third.fill(nobody, 3).masks[0], third.true[3]) > 0.8


def test_other_instructions_are_lifted_when_they_come_due(lifting: Any) -> None:
    run = lifting()
    editor = run.editor()
    one = run.fill(editor, 0)
    both = run.fill(editor, 0, step=5, instructions=(RED, BLUE))
    assert len(editor.asked) == 4
    assert len(both.masks) == 2
    assert torch.equal(both.masks[0], one.masks[0])
    # A strength moves no mask.
    assert run.fill(editor, 0, step=6, instructions=(replace(RED, strength=2.0),)).files == one.files
    assert len(editor.asked) == 4


def test_a_box_limits_what_was_found_without_asking_again(lifting: Any) -> None:
    run = lifting()
    editor = run.editor()
    before = run.fill(editor, 0)
    run.session.add_event(box_event(3, centre=(0.0, 0.0, 0.5), size=(2.0, 2.0, 1.0)))
    after = run.fill(editor, 0, step=3)
    assert len(editor.asked) == 2
    upper = run.model.surface_points(run.cameras[0], {})[..., 2] >= 0
    assert 0 < int((after.masks[0] > 0).sum()) < int((before.masks[0] > 0).sum())
    assert not bool((after.masks[0] > 0)[~upper].any())
    run.session.add_event(clear_event(4))
    assert run.fill(editor, 0, step=4).files == before.files


def test_a_box_replaces_what_was_found(lifting: Any) -> None:
    run = lifting()
    run.session.add_event(box_event(0, centre=(0.0, 0.0, 0.0), size=(0.7, 0.7, 0.7), how="replace"))
    blind = run.editor(blind=(0, 1, 2, 3))
    assert overlap(run.fill(blind, 2).masks[0], run.true[2]) > 0.6


def test_a_mark_takes_away_and_gives(lifting: Any, ball: Any) -> None:
    run = lifting()
    run.model.make_votes = lambda: ball.make_votes(128)
    editor = run.editor()
    before = run.fill(editor, 0)
    left = run.true[0].clone()
    left[:, 8:] = 0
    drawn = (left * 255).to(torch.uint8)
    run.session.add_event(mark_event(run.session, 1, camera=run.cameras[0], drawn=drawn, says_yes=False))
    after = run.fill(editor, 0, step=1)
    gone = (before.masks[0] >= 128) & (after.masks[0] < 128)
    assert float(gone[:, :7].sum()) > 0.6 * float(left[:, :7].sum())
    assert float(gone[:, 9:].sum()) < 0.3 * float(run.true[0][:, 9:].sum())


def test_a_view_that_sees_nothing_of_the_region_says_so(lifting: Any) -> None:
    run = lifting()
    away = box_event(0, centre=(0.3, 0.0, 0.0), size=(0.3, 0.6, 0.3), how="replace")
    run.session.add_event(away)
    answers = [run.fill(run.editor(), view) for view in range(VIEWS)]
    assert "the region is not in view" in answers
    strict = lifting(skip_empty=False)
    with pytest.raises(NothingFoundError):
        strict.fill(strict.editor(), answers.index("the region is not in view"))


def test_the_region_is_kept_for_any_camera(lifting: Any, ball: Any) -> None:
    run = lifting()
    settings = Settings(instructions=(RED,))
    assert run.masks.region_key(settings, 0) is None
    run.fill(run.editor(), 0)
    key = run.masks.region_key(settings, 0)
    assert key is not None
    camera = ball.camera(0.5, elevation=0.3)
    assert overlap(255 * run.masks.region(key, run.model).project(camera), ball.mask(camera)) > 0.7
    run.session.add_event(box_event(2, centre=(0.0, 0.0, 0.5), size=(2.0, 2.0, 1.0)))
    assert run.masks.region_key(settings, 1) == key
    assert run.masks.region_key(settings, 2) is None
