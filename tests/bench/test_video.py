"""The bench of edited clips: whole runs on a tiny random checkpoint, and truth where an editor is not needed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.table import write_json
from maskedit.bench.video import (
    VideoBenchConfig,
    carry_truth,
    draw_clip,
    edit_canonical,
    edit_each_frame,
    fit_frames,
    run_video_bench,
)
from maskedit.bench.video_scores import METRICS, ClipOutcome, measure_clip, to_bytes
from maskedit.editors import (
    Backbone,
    BackboneConfig,
    EditRequest,
    FoIConfig,
    Instruction,
    IP2PConfig,
    load_image,
    make_editor,
    save_image,
)
from maskedit.video.composite import mask_and_edit_frames
from maskedit.video.fit_options import FitConfig
from maskedit.video.flow import FlowConfig

FAST = {"steps": 2, "sampler": "ddim"}
CONFIG = VideoBenchConfig(
    clips=1,
    frames=3,
    size=64,
    split="validation",
    editors=("foi", "ip2p"),
    flow=FlowConfig(method="dis"),
    fit=FitConfig(steps=3),
    foi=FoIConfig(**FAST),
    ip2p=IP2PConfig(**FAST),
)


@pytest.fixture(scope="module")
def backbone(ip2p_folder: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.fixture(scope="module")
def own_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sea")
    for number, frame in enumerate(draw_clip(CONFIG, 3, size=48).source.frames.split(1)):
        save_image(frame, folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def document(backbone: Backbone, own_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    pictures = tmp_path_factory.mktemp("sheets")
    return {**run_video_bench(backbone, replace(CONFIG, clip=own_clip, pictures=pictures)), "sheets": pictures}


def test_a_run_has_the_form_of_every_bench(document: dict, tmp_path: Path):
    own = {name: value for name, value in document.items() if name != "sheets"}
    assert list(own) == ["bench", "machine", "rows", "model"]
    assert own["bench"] == "video"
    assert all(list(row) == ["method", "set", "clips", *METRICS] for row in own["rows"])
    write_json(own, tmp_path / "video.json")
    assert json.loads((tmp_path / "video.json").read_text()) == own


def test_every_method_is_measured(document: dict, own_clip: Path):
    rows = {(row["method"], row["set"]): row for row in document["rows"]}
    ways = ("per-frame", "canonical-replace", "canonical-residual")
    edited = {f"{name}/{way}" for name in ("foi", "ip2p") for way in ways}
    carried = {f"true-edit/{way}" for way in ways[1:]}
    assert {method for method, name in rows if name == "clips"} == {"unedited", "truth", *edited, *carried}
    assert {method for method, name in rows if name == own_clip.stem} == {"source", "reconstruction"}
    assert len(rows) == len(document["rows"])
    truth = rows["truth", "clips"]
    for method in edited | carried:
        row = rows[method, "clips"]
        assert row["clips"] == 1
        # Untrained networks make noise; what is carried over is true, save for what three steps cannot fit.
        assert (row["psnr_inside"] > 15) == (method in carried)
        assert row["psnr_truth"] < truth["psnr_truth"]
        assert (row["seconds_edit"] is None) == (method in carried)
        assert (row["seconds_fit"] is None) == ("canonical" not in method)
        assert (row["psnr_fit"] is None) == ("canonical" not in method)


def test_ones_own_clip_is_measured_by_its_own_flow(document: dict):
    source, back = document["rows"][-2:]
    assert back["psnr_fit"] > 20
    assert source["psnr_fit"] is source["seconds_fit"] is source["psnr_truth"] is back["psnr_truth"] is None
    assert source["warp_error"] > 0 < back["warp_error"]
    assert min(back[f"seconds_{stage}"] for stage in ("flow", "fit", "render")) > 0


def test_sheets_show_canonical_images_and_clips_at_four_times(document: dict):
    names = sorted(path.name for path in document["sheets"].iterdir())
    assert names == ["foi_000.png", "ip2p_000.png"]
    sheet = load_image(document["sheets"] / "foi_000.png")
    assert sheet.shape == (1, 3, 5 * 192, 5 * 192)
    source = draw_clip(CONFIG, 0, size=64).source.frames
    first = torch.nn.functional.avg_pool2d(sheet[..., :192, 192:384], 3)
    assert (first - source[:1]).abs().mean() < 0.02
    # Below the three canonical images there is nothing.
    assert (sheet[..., 3 * 192 :, :192] == 1).all()


def test_masks_can_be_painted(backbone: Backbone):
    config = replace(CONFIG, editors=("ip2p",), transfers=("replace",), painted_masks=True)
    rows = {row["method"]: row for row in run_video_bench(backbone, config)["rows"]}
    whole, each = rows["ip2p+masks/canonical-replace"], rows["ip2p+masks/per-frame"]
    assert rows["ip2p/per-frame"]["mask_iou"] < 0.5 < whole["mask_iou"] <= each["mask_iou"] == 1
    assert min(whole["psnr_outside"], each["psnr_outside"]) > rows["ip2p/per-frame"]["psnr_outside"] + 5


def test_kinds_are_told_apart(backbone: Backbone):
    config = replace(CONFIG, clips=2, kinds=("recolor", "remove"), editors=(), transfers=("replace",))
    rows = run_video_bench(backbone, config)["rows"]
    counts = {row["set"]: row["clips"] for row in rows if row["method"] == "truth"}
    assert counts.pop("clips") == sum(counts.values()) == 2
    assert set(counts) <= {"recolor", "remove"}


def test_a_clip_is_decided_by_its_number():
    one, two = (draw_clip(CONFIG, 5, size=32) for _ in range(2))
    assert one.spec == two.spec
    assert torch.equal(one.source.frames, two.source.frames)
    assert one.spec != draw_clip(CONFIG, 6, size=32).spec
    assert one.spec != draw_clip(replace(CONFIG, split="test"), 5, size=32).spec


def test_true_edits_are_carried_nearly_whole():
    clip = draw_clip(replace(CONFIG, frames=4), 1, size=64)
    fitted = fit_frames(to_bytes(clip.source.frames), CONFIG.flow, FitConfig(steps=60, finest_cell=1.0), "cpu")
    layer = carry_truth(clip, fitted)
    done = mask_and_edit_frames(fitted.frames, range(4), fitted.segments, [(layer,)], "residual")
    scores = measure_clip(clip, ClipOutcome(frames=done.frames, mask=done.mask))
    assert float(scores["psnr_inside"] or 0) > 28
    assert float(scores["psnr_outside"] or 0) > 40
    untouched = done.mask[:, 0] == 0
    assert torch.equal(done.frames.movedim(1, -1)[untouched], fitted.frames.movedim(1, -1)[untouched])


def test_frames_are_edited_by_themselves_from_one_seed(backbone: Backbone):
    clip, editor = draw_clip(CONFIG, 0, size=64), make_editor(CONFIG.ip2p, backbone)
    outcome = edit_each_frame(clip, editor, seed=7)
    instructions = tuple(Instruction(text=edit.text, keyword=edit.keyword) for edit in clip.spec.edits)
    alone = editor.edit(EditRequest(image=clip.source.frames[1:2], instructions=instructions, seeds=(7,)))
    assert torch.equal(outcome.frames[1:2], to_bytes(alone.image))
    assert outcome.refused == 0


def test_where_nothing_is_found_clips_are_left_alone(ip2p_folder: Path):
    blind = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    for name, weight in blind.unet.named_parameters():
        if "attn2.to_q" in name:
            weight.zero_()
    clip, editor = draw_clip(CONFIG, 0, size=64), make_editor(CONFIG.foi, blind)
    source = to_bytes(clip.source.frames)
    each = edit_each_frame(clip, editor, seed=0)
    whole, sheet = edit_canonical(
        clip, fit_frames(source, CONFIG.flow, CONFIG.fit, "cpu"), editor, CONFIG.transfers, seed=0
    )
    assert len(sheet) == 1
    assert set(whole) == set(CONFIG.transfers)
    for outcome in (each, *whole.values()):
        assert torch.equal(outcome.frames, source)
        assert outcome.refused == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("clips", 0, "clips must be at least 1, got 0"),
        ("frames", 2, "frames must be at least 3, got 2"),
        ("clip_frames", 2, "clip_frames must be at least 3"),
        ("size", 16, "size must be at least 32, got 16"),
        ("kinds", (), "kinds must name at least one"),
        ("transfers", (), "transfers must name at least one"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: object, message: str):
    with pytest.raises(ValueError, match=message):
        VideoBenchConfig(**{name: value})  # pyright: ignore[reportArgumentType]
