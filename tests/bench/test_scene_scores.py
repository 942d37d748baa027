"""The metrics of edited scenes, on pictures that are made so that what must come out is known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.bench.blocks import FIXED_REFERENCES, MultiviewTruth, make_pairs, write_multiview
from maskedit.bench.scene_scores import (
    METRICS,
    SceneOutcome,
    mask_figures,
    measure_scene,
    reference_outcome,
    region_psnrs,
    steps_to_share,
    summarise_scenes,
    warp_errors,
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> MultiviewTruth:
    spec = make_pairs("validation", [3], kinds={"recolor": 1.0}, references=FIXED_REFERENCES).specs[0]
    folder = tmp_path_factory.mktemp("scene") / "data"
    return write_multiview(folder, spec.scene, spec.edits, views=12, held_out=2, size=48)


def measure(truth: MultiviewTruth, outcome: SceneOutcome, **options: bool) -> Any:
    """The metrics, of whatever type each is."""
    return measure_scene(truth, outcome, **options)


def warp(truth: MultiviewTruth, views: Sequence[int], pictures: torch.Tensor) -> Any:
    """Inside and everywhere, by the flow of the edited scene."""
    return warp_errors(truth, truth.edited_scene, views, pictures)


def test_errors_count_where_they_are() -> None:
    true = torch.full((2, 3, 4, 4), 0.5)
    changed = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    changed[..., :2] = True
    image = true + 0.1 * changed
    found = region_psnrs(image, true, changed)
    assert found["psnr_changed"] == pytest.approx(20, abs=1e-4)
    assert found["psnr_unchanged"] is None
    assert found["psnr_whole"] == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)
    assert region_psnrs(image, true, torch.zeros_like(changed))["psnr_changed"] is None


def test_the_truth_has_no_error_and_its_own_warp_error(truth: MultiviewTruth) -> None:
    row = measure(truth, reference_outcome(truth, truth.target))
    assert row["psnr_inside"] is row["psnr_outside"] is row["psnr_whole"] is None
    own = warp(truth, range(12), truth.target)
    assert (row["warp_inside"], row["warp_whole"]) == own
    assert 0 < row["warp_whole"] < row["warp_inside"] < 20
    assert row["warp_photos"] > 0
    assert set(row) == {"kind", *METRICS}
    assert row["kind"] == "recolor"


def test_an_unedited_scene_is_wrong_inside_alone(truth: MultiviewTruth) -> None:
    outcome = reference_outcome(truth, truth.source)
    row = measure(truth, outcome, shows_edit=False)
    assert row["psnr_inside"] < 20
    assert row["psnr_inside"] < row["psnr_whole"]
    assert row["psnr_outside"] is row["psnr_outside_before"] is None
    # A recoloured scene moves as it did, so the flow of either fits both.
    assert row["warp_whole"] == pytest.approx(measure(truth, outcome)["warp_whole"], rel=1e-6)


def test_only_what_changes_outside_counts_as_over_editing(truth: MultiviewTruth) -> None:
    views = list(truth.held_out)
    brighter = truth.source.clone()
    brighter[views] += 0.1 * ~truth.changed[views]
    outcome = replace(reference_outcome(truth, brighter), before=truth.source)
    assert measure(truth, outcome)["psnr_outside_before"] == pytest.approx(20, abs=1e-3)
    inside = truth.source + 0.1 * truth.changed
    assert measure(truth, replace(outcome, renders=inside))["psnr_outside_before"] is None


def test_views_that_disagree_have_a_warp_error(truth: MultiviewTruth) -> None:
    """A grey picture in every view agrees with itself; every other view darker by 20 levels costs 20 levels."""
    grey = torch.full_like(truth.target, 0.5)
    assert warp(truth, range(12), grey) == pytest.approx((0, 0), abs=1e-4)
    grey[::2] -= 20 / 255
    assert warp(truth, range(12), grey) == pytest.approx((20, 20), abs=1e-3)
    # What lies outside the region is no matter inside it.
    flicker = torch.where(truth.changed, 0.5, grey)
    inside, whole = warp(truth, range(12), flicker)
    assert inside < whole / 2


def test_neighbours_among_some_of_the_views_are_found(truth: MultiviewTruth) -> None:
    views = truth.training
    exact = warp(truth, views, truth.target[list(views)])
    mixed = warp(truth, views, truth.target[list(reversed(views))])
    assert exact[1] < mixed[1] / 2


def test_masks_are_compared_view_by_view(truth: MultiviewTruth) -> None:
    seen = [view for view in truth.training if bool(truth.mask[view].any())][:4]
    exact = {view: truth.mask[view, 0] for view in seen}
    assert mask_figures(truth, exact) == {"mask_iou": 1.0, "views_without_mask": 0.0}
    half = dict(exact)
    half[seen[0]] = None
    assert mask_figures(truth, half) == {"mask_iou": 0.75, "views_without_mask": 0.25}
    whole = mask_figures(truth, {seen[0]: torch.ones_like(truth.mask[0, 0])})
    assert whole["mask_iou"] == pytest.approx(float(truth.mask[seen[0]].float().mean()), abs=1e-6)
    assert mask_figures(truth, None) == mask_figures(truth, {}) == {"mask_iou": None, "views_without_mask": None}


def test_a_block_that_is_hidden_has_no_mask_to_be_met(truth: MultiviewTruth) -> None:
    hidden = replace(truth, masks=torch.zeros_like(truth.masks))
    found = mask_figures(hidden, {truth.training[0]: truth.mask[truth.training[0], 0]})
    assert found == {"mask_iou": None, "views_without_mask": 0.0}


def test_the_way_is_measured_from_the_first_look_to_the_last() -> None:
    history = [(0, 10.0), (40, 15.0), (80, 19.1), (120, 18.0), (160, 20.0)]
    assert steps_to_share(history) == 80
    assert steps_to_share(history, 0.5) == 40
    assert steps_to_share(history, 1.0) == 160
    assert steps_to_share([(0, 10.0), (40, 9.0)]) is None
    assert steps_to_share([(0, None), (40, 9.0)]) is None


def test_means_leave_out_what_has_no_meaning() -> None:
    first = {**dict.fromkeys(METRICS), "kind": "recolor", "psnr_inside": 10.0, "steps_to_90": 40}
    second = {**first, "psnr_inside": None, "steps_to_90": 80}
    row = summarise_scenes("foi", "scenes", [first, second])
    assert (row["method"], row["scenes"], row["psnr_inside"], row["steps_to_90"]) == ("foi", 2, 10.0, 60.0)
    assert row["mask_iou"] is None


def test_figures_of_the_run_are_kept(truth: MultiviewTruth) -> None:
    photos = truth.target[list(truth.training)]
    outcome = SceneOutcome(renders=truth.target, before=truth.source, photos=photos, figures={"waited": 0.5})
    assert measure(truth, outcome)["waited"] == 0.5
