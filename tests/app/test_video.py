"""`maskedit video` and its stages, run for real on a short clip and a tiny random checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskedit.app.cli import parse
from maskedit.app.video import EditRunCommand, FitCommand, RenderCommand, VideoCommand
from maskedit.configs import PAPER_FOI
from maskedit.editors import load_image, load_mask, save_image
from maskedit.video.editing import EditedClip, edit_segments
from maskedit.video.frames import read_clip

TEXT = "make the cube blue"


def frames_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


@pytest.fixture
def right_half(tmp_path: Path) -> Path:
    mask = torch.zeros(1, 1, 24, 32)
    mask[..., 16:] = 1
    return save_image(mask, tmp_path / "mask.png")


def test_a_clip_comes_out_edited_and_the_same_call_does_nothing_twice(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], tmp_path: Path
) -> None:
    words = ["video", clip, "--instruction", TEXT, "--keyword", "cube", *clip_flags]
    done = call(*words)
    assert done.code == 0, done.err
    result, run = tmp_path / "out" / "walk_edited.mp4", tmp_path / "out" / "walk_run"
    lines = done.out.splitlines()
    assert lines[0] == f"{clip}: 5 frames of 32x24 pixels"
    assert lines[1].startswith("fit: ") and " dB, at worst " in lines[1]
    assert lines[2].startswith("edit: ") and f"-> {run / 'edit'}" in lines[2]
    assert "outside changed: nothing" in lines[3] and f"-> {result}" in lines[3]
    assert read_clip(result, size=None).frames.shape == (5, 3, 24, 32)
    assert (run / "canonical" / "segment_000_layer_0.png").is_file()
    before = result.stat().st_mtime_ns
    again = call(*words)
    assert again.code == 0, again.err
    assert again.out.count("reused") == 3
    assert result.stat().st_mtime_ns == before


def test_stages_give_what_the_whole_gives(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], ip2p_folder: Path, tmp_path: Path
) -> None:
    whole = call("video", clip, "--instruction", TEXT, "--format", "png", *clip_flags)
    assert whole.code == 0, whole.err
    fit = ["--flow.method", "dis", "--fit.steps", 3, "--minimum-psnr", 0]
    run = tmp_path / "apart"
    fitted = call("video", "fit", clip, "--run", run, *fit)
    assert fitted.code == 0, fitted.err
    assert f"next: maskedit video edit {run}" in fitted.out
    edited = call("video", "edit", run, "--instruction", TEXT, "--model", ip2p_folder, "--steps", 2, "--edit-size", 32)
    assert edited.code == 0, edited.err
    rendered = call("video", "render", run, "--format", "png", "--output", tmp_path / "frames")
    assert rendered.code == 0, rendered.err
    frames = frames_of(tmp_path / "frames" / "walk_edited")
    assert len(frames) == 5
    assert frames == frames_of(tmp_path / "out" / "walk_edited")
    assert frames != frames_of(clip)


def test_a_painted_mask_confines_the_edit(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], right_half: Path, tmp_path: Path
) -> None:
    given = ["--editor", "ip2p", "--mask", right_half, "--mask-frame", 2, "--format", "png"]
    done = call("video", clip, "--instruction", TEXT, *given, *clip_flags)
    assert done.code == 0, done.err
    source, edited = load_image(clip / "frame_2.png"), load_image(tmp_path / "out" / "walk_edited" / "frame_00002.png")
    changed = (source != edited).any(1)[0]
    # The motion is known to a fraction of a pixel, so the border may lie a pixel or two off.
    assert changed[:, 18:].float().mean() > 0.9
    assert not changed[:, :13].any()
    moved = load_image(tmp_path / "out" / "walk_edited" / "frame_00000.png")
    assert bool((load_image(clip / "frame_0.png") != moved).any())


def test_a_dry_run_shows_the_mask_and_fits_nothing(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], tmp_path: Path
) -> None:
    done = call("video", clip, "--instruction", TEXT, "--dry-run", *clip_flags)
    assert done.code == 0, done.err
    assert "dry run: " in done.out and "fitting about " in done.out
    out = tmp_path / "out"
    assert load_mask(out / "walk_canonical_mask.png").max() == 1
    assert (
        load_image(out / "walk_canonical_overlay.png").shape[-2:]
        == load_mask(out / "walk_canonical_mask.png").shape[-2:]
    )
    assert not (out / "walk_run" / "fit").exists()
    assert not list(out.glob("*.mp4"))


def test_a_dry_run_arranges_pictures_as_the_edit_would(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def note(*given: Any, **options: Any) -> EditedClip:
        told.append(options["arrange"])
        return edit_segments(*given, **options)

    monkeypatch.setattr("maskedit.app.video_preview.edit_segments", note)
    done = call("video", clip, "--instruction", TEXT, "--dry-run", "--arrange", "batch", *clip_flags)
    assert done.code == 0, done.err
    assert told == ["batch"]


def test_a_bad_fit_stops_before_the_edit_unless_it_is_accepted(
    call: Callable[..., Any], clip: Path, clip_flags: list[object]
) -> None:
    words = ["video", clip, "--instruction", TEXT, *clip_flags, "--minimum-psnr", 90]
    done = call(*words)
    assert done.code == 2
    assert "90 dB" in done.err and "--accept-quality" in done.err and done.err.count("\n") == 1
    accepted = call(*words, "--accept-quality")
    assert accepted.code == 0, accepted.err
    assert accepted.out.count("reused") == 1


def test_an_edit_that_finds_nothing_says_where_it_looked(
    call: Callable[..., Any],
    clip: Path,
    clip_flags: list[object],
    sd_folder: Path,
    clipseg_flags: list[object],
    tmp_path: Path,
) -> None:
    looks = ["--editor", "instructedit", "--model", sd_folder, *clipseg_flags, "--grounding.mask-threshold", 0.999]
    done = call("video", clip, "--instruction", TEXT, *clip_flags, *looks)
    assert done.code == 2, done.out
    assert f"(searched: {tmp_path / 'out' / 'walk_run' / 'canonical'}/*.png)" in done.err
    assert done.err.splitlines()[-1].startswith("maskedit: error: ")


def test_an_edit_belongs_to_its_precision_and_to_the_models_beside_the_checkpoint(
    call: Callable[..., Any],
    clip: Path,
    clip_flags: list[object],
    sd_folder: Path,
    clipseg_folder: Path,
    tmp_path: Path,
) -> None:
    """Half precision is not computed here, so its mark is compared; weights are replaced for real."""
    own = tmp_path / "clipseg"
    shutil.copytree(clipseg_folder, own)
    segmenter = ["--grounding.segmenter", "clipseg", "--grounding.clipseg", own]
    looks = ["--editor", "instructedit", "--model", sd_folder, *segmenter, "--grounding.mask-threshold", 0.01]
    words = ["video", clip, "--instruction", TEXT, *clip_flags, *looks, "--layers.phrases", "cube"]
    done = call(*words)
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "walk_run" / "edit" / "edit.json").read_text())
    assert record["settings"]["dtype"] == "float32"
    assert list(record["settings"]["tools"]) == ["segmenter"]
    again = call(*words)
    assert again.out.count("reused") == 3
    weights = own / "model.safetensors"
    tensors = {name: value * 0.9 for name, value in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    other = call(*words)
    assert other.code == 0, other.err
    assert "reused" not in other.out


def test_what_cannot_work_is_refused_before_the_clip_is_read(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], tmp_path: Path
) -> None:
    words = ["video", clip, "--instruction", TEXT, *clip_flags]
    phrases = ["--layers.phrases", "cube", "--grounding.sam", tmp_path / "none", "--offline"]
    for more in (["--only-layer", 3], ["--layers.masks", tmp_path / "none"], phrases):
        assert call(*words, *more).code == 2
        assert not (tmp_path / "out" / "walk_run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--instruction", TEXT], "expected a clip, got none"),
        (["{none}", "--instruction", TEXT], "found no such file"),
        (["{text}", "--instruction", TEXT], "{text}"),
        (["{empty}", "--instruction", TEXT], "{empty}"),
        (["{still}", "--instruction", TEXT], "a clip needs at least 2 frames"),
        (["{clip}"], "pass --instruction"),
        (["{clip}", "--instruction", TEXT, "--size", "8"], "--size must be at least 16, got 8"),
        (["{clip}", "--instruction", TEXT, "--edit-size", "1"], "--edit-size must be"),
        (["{clip}", "--instruction", TEXT, "--fit.steps", "0"], "--fit.steps must be at least 1, got 0"),
        (["{clip}", "--instruction", TEXT, "--mask-frame", "1"], "expected --mask beside --mask-frame"),
        (["{clip}", "--instruction", TEXT, "--mask", "{square}"], "of the proportions of frames, 32x24"),
        (
            ["{clip}", "--instruction", TEXT, "--mask", "{fits}", "--mask-frame", "5"],
            "--mask-frame must be from 0 to 4",
        ),
        (["{clip}", "--instruction", TEXT, "--output", "{folder}/x.webm"], "to end in .mp4 or .gif"),
        (["{clip}", "--instruction", TEXT, "--flow.files", "{still}"], "{still}"),
        (["{clip}", "--instruction", TEXT, "--layers.masks", "{still}"], "5 masks"),
        (["{clip}", "--instruction", TEXT, "--model", "{folder}/none"], "none"),
        (["{clip}", "--instruction", TEXT, "--only-layer", "3"], "expected --only-layer from 0 to 0, got [3]"),
        (["fit"], "expected a clip, got none: maskedit video fit CLIP"),
        (["edit", "{clip}", "--instruction", TEXT], "expected a run folder at {clip}, found none"),
        (["render"], "expected a run folder, got none"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    expected: str,
    call: Callable[..., Any],
    clip: Path,
    clip_flags: list[object],
    tmp_path: Path,
) -> None:
    names = {name: tmp_path / name for name in ("none", "text", "empty", "still", "folder")}
    names |= {"clip": clip, "square": tmp_path / "square.png", "fits": tmp_path / "fits.png"}
    names["text"].write_text("no clip")
    names["empty"].mkdir()
    save_image(torch.zeros(1, 3, 24, 32), names["still"] / "frame_0.png")
    save_image(torch.ones(1, 1, 32, 32), names["square"])
    save_image(torch.ones(1, 1, 48, 64), names["fits"])
    given = [word.format(**names) for word in arguments]
    is_stage = given[0] in ("fit", "edit", "render")
    common = [] if is_stage else [*clip_flags[2:]] if "--model" in given else clip_flags
    kept = [f for at in range(0, len(common), 2) for f in common[at : at + 2] if common[at] not in given]
    done = call("video", *given, *kept)
    assert done.code == 2, done.out
    errors = [line for line in done.err.splitlines() if not line.startswith("maskedit: warning: ")]
    assert len(errors) == 1 and errors[0].startswith("maskedit: error: ")
    assert expected.format(**names) in errors[0]


def test_results_and_runs_of_another_clip_are_not_touched(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert call("video", "fit", clip, "--run", run, "--fit.steps", 2, "--flow.method", "dis").code == 0
    known = json.loads((run / "run.json").read_text())
    other = save_image(load_image(clip / "frame_0.png"), tmp_path / "other" / "a.png").parent
    save_image(load_image(clip / "frame_1.png"), other / "b.png")
    done = call("video", other, "--instruction", TEXT, "--run", run, *clip_flags)
    assert done.code == 2
    assert "is the run of another clip" in done.err
    assert json.loads((run / "run.json").read_text()) == known
    rendered = call("video", "render", run)
    assert rendered.code == 2
    assert "nothing is edited" in rendered.err


@pytest.mark.parametrize("stage", [("fit",), ()])
def test_offline_fetches_no_weights_of_the_flow(
    stage: tuple[str, ...],
    call: Callable[..., Any],
    clip: Path,
    clip_flags: list[object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asked = ["--run", tmp_path / "run"] if stage else ["--instruction", TEXT, *clip_flags[:-6], *clip_flags[-2:]]
    done = call("video", *stage, clip, *asked, "--flow.method", "raft", "--offline")
    assert done.code == 2
    assert "offline was asked for" in done.err and done.err.count("\n") == 1


def test_words_after_the_command_choose_a_stage_or_a_clip() -> None:
    assert isinstance(parse(["video", "fit", "a.mp4"]), FitCommand)
    assert isinstance(parse(["video", "edit", "run"]), EditRunCommand)
    assert isinstance(parse(["video", "render", "run"]), RenderCommand)
    command = parse(["video", "./fit", "--instruction", TEXT])
    assert isinstance(command, VideoCommand)
    assert command.clip == Path("fit")


@pytest.mark.parametrize("stage", [(), ("edit",)])
def test_presets_fill_the_flags(stage: tuple[str, ...]) -> None:
    command = parse(["video", *stage, "clip", "--preset", "paper-foi", "--edit-size", "96"])
    assert command.editor == "foi"
    assert command.checkpoint == PAPER_FOI.checkpoint
    assert command.options.size == 96
    assert command.options.mask_threshold == PAPER_FOI.options.mask_threshold


def test_options_of_segmenters_may_be_for_layers_alone() -> None:
    words = ["video", "clip", "--grounding.segmenter", "clipseg"]
    with pytest.raises(Exception, match=r"foi has no --grounding\.segmenter"):
        _ = parse(words).options
    assert parse([*words, "--layers.phrases", "dog"]).options == parse(["video", "clip"]).options


def test_an_edit_with_smartedit_belongs_to_its_language_model(
    call: Callable[..., Any], clip: Path, clip_flags: list[object], smartedit_checkpoint: Path, tmp_path: Path
) -> None:
    own = tmp_path / "smartedit"
    shutil.copytree(smartedit_checkpoint, own)
    words = ["video", clip, "--instruction", TEXT, *clip_flags, "--editor", "smartedit", "--model", own]
    done = call(*words)
    assert done.code == 0, done.err
    record = tmp_path / "out" / "walk_run" / "edit" / "edit.json"
    before = json.loads(record.read_text())["settings"]["mllm"]
    moved = call(*words, "--smartedit.mllm-device", "cpu")
    assert moved.code == 0, moved.err
    assert moved.out.count("reused") == 3
    weights = own / "mllm" / "model.safetensors"
    tensors = {name: value * 0.9 for name, value in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    other = call(*words)
    assert other.code == 0, other.err
    assert other.out.count("reused") == 1
    assert json.loads(record.read_text())["settings"]["mllm"] != before
