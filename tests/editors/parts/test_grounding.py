"""What all segmenters share: phrases that are plural, candidates that are taken, boxes, and which one is loaded."""

from pathlib import Path

import pytest
import torch

from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.parts.clipseg import CLIPSegGrounder
from maskedit.editors.parts.grounded_sam import GroundedSam
from maskedit.editors.parts.grounding import (
    Grounder,
    check_phrases,
    choose_mode,
    corners_of,
    load_grounder,
    pick_candidates,
)
from maskedit.editors.parts.grounding_options import GroundingConfig

PLURAL = [
    "dogs",
    "the two cats",
    "Both spheres",
    "people on the bench",
    "three sheep",
    "glasses",
    "flowers in the vase",
]
SINGULAR = ["dog", "left cube", "glass of cherries", "the bus", "man with glasses", "dress", "house behind the trees"]


@pytest.mark.parametrize(
    ("mode", "phrase", "expected"),
    [
        *(("auto", phrase, "merge") for phrase in PLURAL),
        *(("auto", phrase, "max") for phrase in SINGULAR),
        ("first", "red cubes", "first"),
        ("max", "cubes", "max"),
        ("merge", "dog", "merge"),
    ],
)
def test_auto_merges_what_has_a_plural_name(mode: str, phrase: str, expected: str) -> None:
    assert choose_mode(mode, phrase) == expected


def test_candidates_are_picked_by_rule() -> None:
    scores = torch.tensor([0.4, 0.9, 0.6])
    picked = {mode: pick_candidates(mode, scores).tolist() for mode in ("max", "merge", "first")}
    assert picked == {"max": [1], "merge": [0, 1, 2], "first": [0]}


def test_corners_stay_within_the_picture() -> None:
    boxes = torch.rand((200, 4), generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    corners = corners_of(boxes, height=30, width=50)
    assert (corners[:, 0] <= corners[:, 2]).all() and (corners[:, 1] <= corners[:, 3]).all()
    assert (corners >= 0).all() and (corners[:, 2] <= 50).all() and (corners[:, 3] <= 30).all()


def test_corners_of_a_box_inside() -> None:
    torch.testing.assert_close(
        corners_of(torch.tensor([[0.5, 0.5, 0.2, 0.4]]), height=10, width=20), torch.tensor([[8.0, 3.0, 12.0, 7.0]])
    )


def test_phrases_that_cannot_be_looked_for_are_refused() -> None:
    check_phrases(["red cube"], count_tokens=len, limit=8)
    with pytest.raises(InputError, match="at least one phrase"):
        check_phrases([], count_tokens=len, limit=8)
    with pytest.raises(InputError, match=r"got ' \.': name the object"):
        check_phrases([" ."], count_tokens=len, limit=8)
    with pytest.raises(InputError, match="at most 8 tokens, got 15"):
        check_phrases(["a very red cube"], count_tokens=len, limit=8)


def test_the_segmenter_that_is_named_is_loaded(
    clipseg_folder: Path, grounding_dino_folder: Path, sam_file: Path
) -> None:
    places = {"clipseg": str(clipseg_folder), "detector": str(grounding_dino_folder), "sam": str(sam_file)}
    for segmenter, kind in (("clipseg", CLIPSegGrounder), ("grounded-sam", GroundedSam), (None, GroundedSam)):
        grounder = load_grounder(GroundingConfig(segmenter=segmenter, **places), device="cpu")
        assert isinstance(grounder, kind)
        assert isinstance(grounder, Grounder)


def test_an_editor_on_the_embedded_set_finds_with_the_embedded_set(
    clipseg_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskedit.editors.parts.places.files", lambda package: tmp_path)
    with pytest.raises(
        ModelError, match="embedded segmenter is not installed: train it with `maskedit train embedded`"
    ):
        load_grounder(GroundingConfig(), device="cpu", embedded=True)
    (tmp_path / "clipseg").symlink_to(clipseg_folder, target_is_directory=True)
    grounder = load_grounder(GroundingConfig(), device="cpu", embedded=True)
    assert isinstance(grounder, CLIPSegGrounder)
    assert grounder.config.mask_mode == "merge"
    assert load_grounder(GroundingConfig(mask_mode="max"), device="cpu", embedded=True).config.mask_mode == "max"
