"""The scene bench: one tiny run end to end by the real trainer, kept figures, and what is refused."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from maskedit.bench.scene import SceneBenchConfig, check_folder, run_scene_bench
from maskedit.bench.scene_scores import METRICS
from maskedit.bench.table import write_json
from maskedit.editors import BackboneConfig, FoIConfig, InputError, IP2PConfig, load_image

METHODS = ("in2n", "foi", "true-edit")
FAST = {"steps": 2, "sampler": "ddim"}
pytestmark = [
    # What nerfstudio and its writers leave behind.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def checkpoint(ip2p_folder: Path, sd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """A set with a checkpoint of each kind, by the names of the published ones."""
    folder = tmp_path_factory.mktemp("models")
    for name, made in (("instruct-pix2pix", ip2p_folder), ("stable-diffusion-v1-5", sd_folder)):
        (folder / name).symlink_to(made)
    return BackboneConfig(model_dir=folder, device="cpu", offline=True)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SceneBenchConfig:
    return SceneBenchConfig(
        scenes=1,
        split="validation",
        kinds=("recolor",),
        methods=METHODS,
        out=tmp_path_factory.mktemp("bench") / "out",
        base_steps=3,
        edit_steps=40,
        check_every=20,
        views=6,
        held_out=2,
        size=16,
        foi=FoIConfig(**FAST),
        ip2p=IP2PConfig(**FAST),
    )


@pytest.fixture(scope="module")
def document(checkpoint: BackboneConfig, config: SceneBenchConfig) -> dict:
    told: list[tuple[str, int, int]] = []
    return {**run_scene_bench(checkpoint, config, progress=lambda *each: told.append(each)), "told": told}


@pytest.mark.slow
def test_a_run_has_the_form_of_every_bench(document: dict, tmp_path: Path) -> None:
    own = {name: value for name, value in document.items() if name != "told"}
    assert list(own) == ["bench", "machine", "rows", "model", "scenes"]
    assert all(list(row) == ["method", "set", "scenes", *METRICS] for row in own["rows"])
    assert [row["method"] for row in own["rows"]] == ["unedited", "truth", "in2n", "foi", "true-edit"]
    write_json(own, tmp_path / "scene.json")
    assert json.loads((tmp_path / "scene.json").read_text()) == own
    assert document["told"] == [(f"scene 0, {name}", k, 4) for k, name in enumerate(("unedited", *METHODS))]


@pytest.mark.slow
def test_every_method_starts_from_one_scene_and_edits_as_many_views(document: dict) -> None:
    scenes = {each["method"]: each for each in document["scenes"]}
    start = scenes["unedited"]["row"]["psnr_inside"]
    for name in METHODS:
        kept, row = scenes[name], scenes[name]["row"]
        # nerfacto's sampler is still warming up after so few steps, and remembers where only while it trains.
        assert kept["psnr_inside"][0] == [0, pytest.approx(start, abs=0.01)]
        assert [step for step, _ in kept["psnr_inside"]] == [0, 20, 40]
        assert kept["psnr_inside"][-1][1] == pytest.approx(row["psnr_inside"])
        assert row["edited_views"] == kept["edits"]
        assert row["edits_per_minute"] > 0
        assert 0 <= row["waited"] < 1
        assert row["peak_mib"] > 100
    assert scenes["in2n"]["edits"] == scenes["true-edit"]["edits"] == 4
    # Untrained networks may find nothing to edit; every view is then told as such.
    assert scenes["foi"]["edits"] == 4 or scenes["foi"]["row"]["views_without_mask"] > 0


@pytest.mark.slow
def test_masks_and_photos_are_measured_where_there_are_any(document: dict) -> None:
    rows = {row["method"]: row for row in document["rows"]}
    assert rows["in2n"]["mask_iou"] is rows["true-edit"]["mask_iou"] is None
    assert 0 <= rows["foi"]["mask_iou"] <= 1
    assert rows["in2n"]["seconds_edit"] > 0
    assert rows["true-edit"]["seconds_edit"] is None
    # All four training photos are the truth now.
    for name in ("warp_photos", "warp_photos_inside"):
        assert rows["true-edit"][name] == pytest.approx(rows["truth"][name])
        assert rows["in2n"][name] != pytest.approx(rows["truth"][name], rel=0.05)


@pytest.mark.slow
def test_the_scene_is_an_ordinary_run_with_its_checkpoint(document: dict, config: SceneBenchConfig) -> None:
    base = config.scene_folder(0) / "runs" / "nerfacto" / "base"
    assert (base / "config.yml").is_file()
    assert [path.name for path in (base / "nerfstudio_models").iterdir()] == ["step-000000002.ckpt"]
    session = json.loads((base.parents[1] / "maskedit-tiny" / "foi" / "maskedit_session" / "session.json").read_text())
    assert session["edit_start"] == 3
    assert session["source"].endswith("base/nerfstudio_models/step-000000002.ckpt")


@pytest.mark.slow
def test_strips_show_held_out_views_before_after_and_true(document: dict, config: SceneBenchConfig) -> None:
    sheet = load_image(config.scene_folder(0) / "true-edit.png")
    assert sheet.shape == (1, 3, 2 * 32, 3 * 32)
    assert "edit 1/4" in (config.scene_folder(0) / "true-edit.log").read_text()


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(
    document: dict, checkpoint: BackboneConfig, config: SceneBenchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the module that trains, only kept figures can be told.
    monkeypatch.setitem(sys.modules, "maskedit.bench.scene_run", None)
    again = run_scene_bench(checkpoint, config)
    assert again["rows"] == document["rows"]
    fewer = run_scene_bench(checkpoint, replace(config, methods=("foi",)))
    assert [row["method"] for row in fewer["rows"]] == ["unedited", "truth", "foi"]
    with pytest.raises(ImportError):
        run_scene_bench(checkpoint, replace(config, methods=("ip2p",)))


@pytest.mark.slow
def test_a_method_with_another_meaning_is_measured_anew(
    document: dict, checkpoint: BackboneConfig, config: SceneBenchConfig, tmp_path: Path
) -> None:
    shutil.copytree(config.out, tmp_path / "copy")
    changed = replace(config, out=tmp_path / "copy", methods=("true-edit",))
    path = changed.scene_folder(0) / "true-edit.json"
    stored = json.loads(path.read_text())
    stored["definition"]["flags"]["pipeline.edit-rate"] = 7
    stored["row"]["psnr_inside"] = 99.0
    path.write_text(json.dumps(stored))
    row = run_scene_bench(checkpoint, changed)["rows"][-1]
    (kept,) = [each["row"] for each in document["scenes"] if each["method"] == "true-edit"]
    # The same scene, edits and seeds give the same scene again.
    assert row["psnr_inside"] == pytest.approx(kept["psnr_inside"], abs=1e-6)


def test_other_settings_need_another_folder(
    checkpoint: BackboneConfig, config: SceneBenchConfig, tmp_path: Path
) -> None:
    own = replace(config, out=tmp_path / "out")
    check_folder(checkpoint, own)
    check_folder(checkpoint, replace(own, scenes=5, methods=("foi",)))
    with pytest.raises(InputError, match=r"begun with edit_steps = 40, this command has 80: pass the former"):
        check_folder(checkpoint, replace(own, edit_steps=80))
    with pytest.raises(InputError, match=r"begun with foi = "):
        check_folder(checkpoint, replace(own, foi=FoIConfig(steps=3)))


def test_a_folder_of_something_else_is_left_alone(
    checkpoint: BackboneConfig, config: SceneBenchConfig, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not this bench's: choose another --out"):
        check_folder(checkpoint, replace(config, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "options",
    [{"scenes": 0}, {"first": -1}, {"edit_steps": 60}, {"edit_steps": 0}, {"size": 8}, {"kinds": ()}, {"views": 7}],
)
def test_senseless_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        SceneBenchConfig(**options)
