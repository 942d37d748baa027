"""One scene by the real trainers: a run that finds nothing, and what every run leaves as it was."""

from pathlib import Path
from typing import Any

import pytest
from nerfstudio.utils import profiler, writer

from maskedit.bench.blocks import read_multiview
from maskedit.bench.scene import SceneBenchConfig
from maskedit.bench.scene_run import SceneRuns
from maskedit.editors import BackboneConfig, GroundingConfig, InstructEditConfig, MaskeditError
from maskedit.plugin.session import EditRecord, EditSession

pytestmark = [
    pytest.mark.slow,
    # What nerfstudio and its writers leave behind.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def runs(sd_folder: Path, clipseg_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SceneRuns:
    """A scene for an editor that finds nothing anywhere."""
    blind = GroundingConfig(segmenter="clipseg", clipseg=str(clipseg_folder), mask_threshold=0.999)
    config = SceneBenchConfig(
        split="validation",
        kinds=("remove", "recolor"),
        out=tmp_path_factory.mktemp("bench"),
        base_steps=2,
        edit_steps=40,
        views=6,
        held_out=2,
        size=16,
        instructedit=InstructEditConfig(steps=4, grounding=blind),
    )
    checkpoint = BackboneConfig(model=str(sd_folder), device="cpu", offline=True)
    return SceneRuns(config, 1, checkpoint)


@pytest.fixture(scope="module")
def unedited(runs: SceneRuns) -> dict[str, Any]:
    return runs.reconstruct()


@pytest.fixture(scope="module")
def edited(runs: SceneRuns, unedited: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return runs.edit("instructedit")


def test_scenes_take_turns_with_the_kinds_of_edit(runs: SceneRuns, unedited: dict[str, Any]) -> None:
    truth = read_multiview(runs.folder / "data")
    assert unedited["kind"] == truth.edits[0].kind == "recolor"
    assert (len(truth.names), len(truth.held_out), truth.source.shape[-1]) == (6, 2, 16)


def test_a_run_that_finds_nothing_counts_as_it_was_left(unedited: dict[str, Any], edited: tuple) -> None:
    row, kept = edited
    assert row["stopped"] == 1
    assert "nothing to edit was found in any of 4 views" in kept["reason"]
    assert kept["edits"] == 0
    assert (row["mask_iou"], row["views_without_mask"]) == (0, 1)
    assert row["seconds_edit"] is row["steps_to_90"] is None
    for name in ("psnr_inside", "psnr_outside", "psnr_whole"):
        # nerfacto's sampler is still warming up after so few steps, and remembers where only while it trains.
        assert row[name] == pytest.approx(unedited[name], abs=0.01)
    assert row["psnr_outside_before"] > 60


def test_nothing_of_a_run_stays_in_global_lists(edited: tuple) -> None:
    assert not writer.EVENT_WRITERS
    assert not writer.GLOBAL_BUFFER
    assert not profiler.PROFILER


def test_what_a_run_says_goes_to_its_log(runs: SceneRuns, edited: tuple) -> None:
    assert "nothing found, photo kept" in (runs.folder / "instructedit.log").read_text()


def test_what_says_nothing_about_the_scene_is_no_result(
    runs: SceneRuns, edited: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: EditSession, record: EditRecord) -> None:
        raise MaskeditError("no space left")

    monkeypatch.setattr(EditSession, "save_record", fail)
    with pytest.raises(MaskeditError, match="no space left"):
        runs.edit("instructedit")


def test_a_run_begins_anew_where_an_earlier_try_was_interrupted(runs: SceneRuns, edited: tuple) -> None:
    again, _ = runs.edit("instructedit")
    assert {name: again[name] for name in ("psnr_inside", "warp_whole")} == {
        name: edited[0][name] for name in ("psnr_inside", "warp_whole")
    }
