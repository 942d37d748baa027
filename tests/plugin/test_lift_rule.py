"""From found masks to a region: wrong photos are outvoted, blind ones filled, and what users draw prevails."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.plugin.lift_options import LiftConfig
from maskedit.plugin.lift_regions import MarkRegion
from maskedit.plugin.lift_rule import lift_masks

CONFIG = LiftConfig()


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    one, other = first >= 0.5, second >= 0.5
    return float((one & other).sum() / (one | other).sum())


def mark(camera: Any, *, says_yes: bool) -> MarkRegion:
    pose = tuple(tuple(row) for row in camera.camera_to_worlds[0].tolist())
    lens = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    return MarkRegion(pose=pose, intrinsics=lens, mask="drawn.png", says_yes=says_yes)


@pytest.fixture
def around(ball: Any) -> tuple[list[Any], list[torch.Tensor]]:
    cameras = ball.cameras(8)
    return cameras, [ball.mask(camera) for camera in cameras]


def test_right_masks_come_back(ball: Any, around: Any) -> None:
    cameras, true = around
    lifted = lift_masks(ball.make_votes, cameras, true, CONFIG)
    assert min(overlap(mask, want) for mask, want in zip(lifted.masks, true, strict=True)) > 0.88
    assert lifted.share > 0.8
    assert min(lifted.trust) > 0.7


def test_one_wrong_photo_is_outvoted(ball: Any, around: Any) -> None:
    cameras, true = around
    found = [*true[:3], 1 - true[3], *true[4:]]
    lifted = lift_masks(ball.make_votes, cameras, found, CONFIG)
    assert min(overlap(mask, want) for mask, want in zip(lifted.masks, true, strict=True)) > 0.85
    assert lifted.trust[3] < 0.05 < 0.5 < min(lifted.trust[:3] + lifted.trust[4:])


def test_blind_photos_are_filled_by_the_others(ball: Any, around: Any) -> None:
    cameras, true = around
    found = [mask if view % 2 else torch.zeros_like(mask) for view, mask in enumerate(true)]
    lifted = lift_masks(ball.make_votes, cameras, found, CONFIG)
    assert min(overlap(mask, want) for mask, want in zip(lifted.masks, true, strict=True)) > 0.8
    assert [weight == 0 for weight in lifted.trust] == [True, False] * 4


def test_an_object_that_is_missed_half_of_the_time_is_kept(ball: Any, around: Any) -> None:
    cameras, true = around
    elsewhere = torch.zeros_like(true[0])
    elsewhere[:4] = 1
    found = [mask if view % 2 else elsewhere for view, mask in enumerate(true)]
    lifted = lift_masks(ball.make_votes, cameras, found, CONFIG)
    assert min(overlap(mask, want) for mask, want in zip(lifted.masks, true, strict=True)) > 0.75


def test_all_instances_count(ball: Any, around: Any) -> None:
    cameras, true = around
    # The floor in the foreground is a second object, which every photo has found as well.
    both = [torch.maximum(mask, _floor_in_front(ball, camera)) for camera, mask in zip(cameras, true, strict=True)]
    lifted = lift_masks(ball.make_votes, cameras, both, CONFIG)
    assert min(overlap(mask, want) for mask, want in zip(lifted.masks, both, strict=True)) > 0.8


def _floor_in_front(ball: Any, camera: Any) -> torch.Tensor:
    points, on_ball = ball.hits(camera)
    patch = ((points - torch.tensor([0.45, 0.0, -0.3])).norm(dim=-1) < 0.18) & ~on_ball
    return patch.float().view(24, 24)


def test_a_view_in_which_the_scene_is_blurred_keeps_its_object(ball: Any, around: Any) -> None:
    cameras, true = around

    class Blurred:
        """Votes of which one camera sees a part, as through fog."""

        def __init__(self, share: float) -> None:
            self.votes, self.share = ball.make_votes(), share

        def add(self, camera: Any, mask: torch.Tensor, *, weight: Any = 1.0) -> None:
            self.votes.add(camera, mask, weight=weight)

        def project(self, camera: Any) -> torch.Tensor:
            return self.votes.project(camera) * (self.share if camera is cameras[2] else 1.0)

        def state(self) -> dict[str, torch.Tensor]:
            return self.votes.state()

        def restore(self, state: Any) -> None:
            self.votes.restore(state)

    assert overlap(lift_masks(lambda: Blurred(0.4), cameras, true, CONFIG).masks[2], true[2]) > 0.85
    assert float(lift_masks(lambda: Blurred(0.1), cameras, true, CONFIG).masks[2].max()) < 0.5


def test_nothing_found_is_nothing_lifted(ball: Any, around: Any) -> None:
    cameras, true = around
    lifted = lift_masks(ball.make_votes, cameras, [torch.zeros_like(mask) for mask in true], CONFIG)
    assert float(torch.stack(lifted.masks).max()) == 0


def test_marks_beat_what_was_found_and_newer_marks_beat_older(ball: Any, around: Any) -> None:
    cameras, true = around
    drawn = ball.camera(0.2, side=32)
    whole = ball.mask(drawn)
    no, yes = (mark(drawn, says_yes=says) for says in (False, True))
    without = lift_masks(ball.make_votes, cameras, true, CONFIG, [(no, whole)])
    assert float((without.masks[0] >= 0.5).float().sum()) < 0.3 * float(true[0].sum())
    again = lift_masks(ball.make_votes, cameras, true, CONFIG, [(no, whole), (yes, whole)])
    assert overlap(again.masks[0], true[0]) > 0.85


def test_a_mark_alone_makes_a_region(ball: Any, around: Any) -> None:
    cameras, true = around
    drawn = ball.camera(0.0, side=32)
    none = [torch.zeros_like(mask) for mask in true]
    marks = [(mark(drawn, says_yes=True), ball.mask(drawn))]
    lifted = lift_masks(ball.make_votes, cameras, none, CONFIG, marks)
    assert overlap(lifted.masks[0], true[0]) > 0.6
    assert not bool((lifted.masks[4] >= 0.5).all())


def test_edges_are_as_soft_as_asked(ball: Any, around: Any) -> None:
    cameras, true = around

    def levels(softness: float) -> torch.Tensor:
        config = replace(CONFIG, softness=softness)
        return torch.cat([each.flatten() for each in lift_masks(ball.make_votes, cameras, true, config).masks])

    hard, soft = levels(0.0), levels(1.0)
    assert set(hard.tolist()) == {0.0, 1.0}
    assert bool(((soft > 0.1) & (soft < 0.9)).any())
    assert torch.equal(soft >= 0.5, hard >= 0.5)


def test_a_lower_threshold_never_takes_away(ball: Any, around: Any) -> None:
    cameras, true = around
    low, high = (
        lift_masks(ball.make_votes, cameras, true, replace(CONFIG, threshold=bound, softness=0.0, rounds=1)).masks
        for bound in (0.3, 0.7)
    )
    assert all(bool((one >= other).all()) for one, other in zip(low, high, strict=True))


def test_a_mark_is_looked_at_through_one_camera_in_all_rounds(ball: Any, around: Any) -> None:
    """Scenes remember the rays of a camera by the object, so that new ones would take memory for nothing."""
    cameras, true = around
    seen: list[Any] = []

    def make_votes() -> Any:
        votes = ball.make_votes()
        add = votes.add
        votes.add = lambda camera, mask, **options: seen.append(camera) or add(camera, mask, **options)
        return votes

    marks = [(mark(cameras[0], says_yes=True), true[0])]
    lift_masks(make_votes, cameras, true, replace(CONFIG, rounds=3), marks)
    assert len(seen) == 3 * (len(cameras) + 1)
    assert len({id(camera) for camera in seen}) == len(cameras) + 1
