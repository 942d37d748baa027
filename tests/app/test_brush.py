"""`maskedit brush`: from a folder of pairs to an edit, with one line about everything that cannot be learned from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.brush import BrushCommand, BrushLearnCommand, preview_brush
from maskedit.app.cli import parse
from maskedit.configs import PAPER_VISII
from maskedit.editors import (
    PUBLISHED,
    Backbone,
    BackboneConfig,
    Brush,
    BrushPairs,
    load_brush,
    load_image,
    read_header,
    save_image,
)

Call = Callable[..., Any]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs in the layout of TOP-Bench."""
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        before = torch.rand(1, 3, 32, 32, generator=generator)
        save_image(before, tmp_path / "edit" / "train" / f"{number}_0.png")
        save_image(before.flip(1), tmp_path / "edit" / "train" / f"{number}_1.png")
    return tmp_path / "edit"


@pytest.fixture
def learn(call: Call, ip2p_folder: Path, tmp_path: Path) -> Call:
    """Learn for three steps."""

    def run(*arguments: object, own: bool = True) -> Any:
        usual = [
            "--model",
            ip2p_folder,
            "--device",
            "cpu",
            "--steps",
            3,
            "--every",
            2,
            "--out",
            tmp_path / "b.safetensors",
        ]
        segments = ["--segments", 2] if own else []
        return call("brush", "learn", *usual, *arguments, *segments, "--size", 32)

    return run


def test_learning_leads_to_an_edit(call: Call, learn: Call, pairs: Path, ip2p_folder: Path, tmp_path: Path) -> None:
    done = learn(pairs, "--shots", 2, "--hold-out", 1, "--init-text", "turn red into blue", "--name", "swap")
    assert done.code == 0, done.err
    assert "learning from 2 pairs, measured on 1 other, 3 steps" in done.out
    file, folder = tmp_path / "b.safetensors", tmp_path / "b_learning"
    header = read_header(file)
    assert (header.name, header.pairs, header.initial_text) == ("swap", 2, "turn red into blue")
    assert [path.name for path in sorted(folder.glob("step_*.png"))] == ["step_00002.png", "step_00003.png"]
    assert load_image(folder / "step_00003.png").shape[-2:] == (32, 3 * 32 + 8)
    assert (folder / "losses.html").read_text().count("<polyline") == 3
    lines = (folder / "losses.csv").read_text().splitlines()
    assert lines[0] == "step,segment 0,segment 1,held out"
    assert len(lines) == 4 and lines[2].split(",")[3] and "nan" not in "".join(lines)

    shown = call("brush", "show", file)
    assert shown.code == 0, shown.err
    assert "brush 'swap' of instructbrush" in shown.out and "2 segments of" in shown.out

    applied = next(line for line in done.out.splitlines() if line.startswith("apply it: "))
    assert applied.endswith(f" --editor instructbrush --brush {file} --model {ip2p_folder}")
    picture = pairs / "train" / "0_0.png"
    usual = ["--model", ip2p_folder, "--device", "cpu", "--steps", 2, "--output", tmp_path / "out"]
    edited = call("edit", picture, "--editor", "instructbrush", "--brush", file, *usual)
    assert edited.code == 0, edited.err
    assert (tmp_path / "out" / "0_0_edited.png").is_file()
    refused = call("edit", picture, "--editor", "visii", "--brush", file, *usual)
    assert refused.code == 2
    assert "pass --editor instructbrush" in refused.err


def test_the_same_command_goes_on(learn: Call, pairs: Path, tmp_path: Path) -> None:
    assert learn(pairs).code == 0
    before = load_brush(tmp_path / "b.safetensors")
    again = learn(pairs)
    assert again.code == 0, again.err
    after = load_brush(tmp_path / "b.safetensors")
    assert all(torch.equal(rows, after.tensors[name]) for name, rows in before.tensors.items())
    other = learn(pairs, "--learning-rate", 0.5)
    assert other.code == 2
    assert "belongs to a run with other settings (learning_rate): choose another --out" in other.err


def test_two_folders_and_no_text(learn: Call, pairs: Path, tmp_path: Path) -> None:
    for side in "01":
        (tmp_path / side).mkdir()
        for number in range(2):
            (pairs / "train" / f"{number}_{side}.png").rename(tmp_path / side / f"{number}.png")
    done = learn("--before", tmp_path / "0", "--after", tmp_path / "1", "--no-preview")
    assert done.code == 0, done.err
    assert "no initial text (--init-text gives one, --clip finds one): learning 10 tokens" in done.out
    assert not list((tmp_path / "b_learning").glob("*.png"))


def test_clip_finds_the_initial_text(learn: Call, pairs: Path, clip_folder: Path, tmp_path: Path) -> None:
    # Among hundreds of phrases a network of any weights prefers some for either side.
    wide = ["--phrases.candidates", 500, "--phrases.sensitivity", "cosine"]
    arguments = [pairs, "--clip", clip_folder, *wide, "--no-preview"]
    done = learn(*arguments, "--phrases.threshold", 0)
    assert done.code == 0, done.err
    assert "closest before the edit" in done.out
    text = read_header(tmp_path / "b.safetensors").initial_text
    assert text.startswith("turn ") and f"initial text: {text!r}" in done.out
    again = learn(*arguments, "--phrases.threshold", 0)
    assert again.code == 0, again.err
    assert "closest" not in again.out and f"initial text: {text!r}" in again.out
    refused = learn(*arguments, "--init-text", "x", "--start", "phrases")
    assert refused.code == 2
    assert "--start phrases finds the initial text" in refused.err
    alone = learn(pairs, "--start", "content")
    assert alone.code == 2
    assert "--start content looks at the pairs with a CLIP, got none" in alone.err


def test_visii_starts_from_a_caption_and_follows_the_direction(
    learn: Call, pairs: Path, clip_folder: Path, tmp_path: Path
) -> None:
    kind = ["--kind", "visii", "--learn", "embedding", "--segments", 1, "--no-preview"]
    search = ["--caption.tokens", 3, "--caption.steps", 2]
    arguments = [pairs, "--clip", clip_folder, *search, "--direction-weight", 0.1, "--clip-values"]
    done = learn(*arguments, *kind, own=False)
    assert done.code == 0, done.err
    header = read_header(tmp_path / "b.safetensors")
    assert header.initial_text and f"initial text: {header.initial_text!r}" in done.out
    assert header.recipe["direction_weight"] == 0.1
    needed = learn(pairs, *kind, "--direction-weight", 0.1, "--out", tmp_path / "c.safetensors", own=False)
    assert needed.code == 2
    assert "expected a CLIP for a direction_weight of 0.1" in needed.err


def test_where_learning_starts_follows_from_what_is_given() -> None:
    def begins(*arguments: str) -> str:
        command = parse(["brush", "learn", "pairs", *arguments])
        assert isinstance(command, BrushLearnCommand)
        return command.begins_with

    assert begins() == "text"
    assert begins("--clip", "a/b") == "phrases"
    assert begins("--clip", "a/b", "--init-text", "x") == "text"
    assert begins("--preset", "paper-instructbrush") == "phrases"
    assert begins("--preset", "paper-instructbrush-without-init") == "content"
    assert begins("--preset", "paper-visii") == begins("--preset", "embedded-visii") == "content"


def test_misaligned_pairs_are_refused_by_name(learn: Call, pairs: Path) -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), size=32, mode="bilinear")
    save_image(smooth, pairs / "train" / "1_0.png")
    save_image(smooth.roll(4, -1), pairs / "train" / "1_1.png")
    done = learn(pairs)
    assert done.code == 2
    assert "pair '1' is misaligned" in done.err
    assert learn(pairs, "--no-aligned", "--no-preview").code == 0


def test_what_cannot_be_learned_from_is_one_line(learn: Call, pairs: Path, tmp_path: Path) -> None:
    cases: list[tuple[list[object], str]] = [
        ([], "expected a folder of pairs, or --before FOLDER and --after FOLDER"),
        ([pairs, "--before", pairs], "pass one of the two"),
        (["--before", pairs], "expected --before and --after together"),
        ([pairs, "--shots", 0], "--shots must be at least 1"),
        ([pairs, "--shots", 3, "--hold-out", 1], "expected at least 4 pairs for --shots and --hold-out, found 3"),
        ([tmp_path / "nowhere"], "found none at"),
        ([pairs / "train" / "0_0.png"], "0_0.png: name the folder it lies in"),
        ([pairs, "--rows", 0], "at least one learned token"),
        ([pairs, "--batch", 0], "batch must be in"),
    ]
    for arguments, message in cases:
        done = learn(*arguments)
        assert (done.code, message in done.err, done.err.count("\n")) == (2, True, 1), done.err
    (pairs / "train" / "1_1.png").unlink()
    assert "pair '1'" in learn(pairs).err


def test_an_out_of_another_kind_is_refused(call: Call, pairs: Path, tmp_path: Path) -> None:
    done = call("brush", "learn", pairs, "--out", tmp_path / "b.pt")
    assert done.code == 2
    assert "expected a .safetensors file for --out" in done.err


def test_no_brush_is_shown_as_none(call: Call, tmp_path: Path) -> None:
    done = call("brush", "show", tmp_path / "b.safetensors")
    assert done.code == 2
    assert "there is no such file" in done.err
    assert "it is a folder" in call("brush", "show", tmp_path).err


def test_a_damaged_brush_is_not_shown_as_a_healthy_one(
    call: Call, brush_file: Path, tmp_path: Path, pictures: tuple[Path, ...], ip2p_folder: Path
) -> None:
    content = brush_file.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content[:-4] + b"\xff" * 4)
    assert call("brush", "show", brush_file).code == 0
    edit = ["edit", pictures[0], "--editor", "instructbrush", "--brush", damaged, "--model", ip2p_folder]
    for arguments in (["brush", "show", damaged], [*edit, "--device", "cpu", "--output", tmp_path / "out"]):
        done = call(*arguments)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert "numbers that are not finite" in done.err and "learn it again" in done.err


def test_the_command_to_apply_a_brush_finds_its_checkpoint(brush_file: Path, tmp_path: Path) -> None:
    brush = load_brush(brush_file)

    def applied(model: str, *arguments: str) -> str:
        command = parse(["brush", "learn", "pairs", "--out", str(tmp_path / "a b.safetensors"), *arguments])
        assert isinstance(command, BrushLearnCommand)
        return command._apply_with(Brush(replace(brush.header, model=model), brush.tensors))

    usual = f"maskedit edit PICTURE --editor instructbrush --brush '{tmp_path}/a b.safetensors'"
    assert applied(PUBLISHED["instruct-pix2pix"]) == usual
    assert applied("embedded", "--model", "embedded", "--offline") == f"{usual} --model embedded --offline"
    assert applied("a/b", "--model-dir", "models", "--revision", "v1") == (
        f"{usual} --model a/b --revision v1 --model-dir models"
    )


def test_pairs_without_an_edit_are_refused_or_named(learn: Call, pairs: Path, tmp_path: Path) -> None:
    for number in (0, 2):
        (pairs / "train" / f"{number}_1.png").write_bytes((pairs / "train" / f"{number}_0.png").read_bytes())
    some = learn(pairs, "--no-preview")
    assert some.code == 0
    assert "2 of 3 pairs show no edit, their pictures before and after are the same: 0, 2" in some.err
    (pairs / "train" / "1_1.png").write_bytes((pairs / "train" / "1_0.png").read_bytes())
    none = learn(pairs, "--out", tmp_path / "none.safetensors")
    assert none.code == 2
    assert "no pair shows an edit, the pictures before and after of pair '0' are the same" in none.err
    assert not (tmp_path / "none_learning").exists()


def test_what_is_in_the_way_is_told_before_anything_is_learned(learn: Call, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    done = learn(pairs, "--out", tmp_path / "folder.safetensors")
    assert (done.code, done.out) == (2, "")
    assert "folder.safetensors is a folder: choose another --out" in done.err
    (tmp_path / "taken_learning").write_text("")
    done = learn(pairs, "--out", tmp_path / "taken.safetensors")
    assert (done.code, done.out) == (2, "")
    assert "taken_learning is a file: choose another --out" in done.err


def test_another_kind_is_refused_before_its_caption_is_searched(
    learn: Call, pairs: Path, clip_folder: Path, tmp_path: Path
) -> None:
    search = [pairs, "--clip", clip_folder, "--start", "content", "--caption.tokens", 3, "--no-preview"]
    assert learn(*search, "--caption.steps", 2).code == 0
    kept = (tmp_path / "b_learning" / "start.json").read_text()
    kind = ["--kind", "visii", "--learn", "embedding", "--segments", 1]
    other = learn(*search, *kind, "--caption.steps", 1_000_000, own=False)
    assert (other.code, other.out) == (2, "")
    assert "other settings (kind): choose another --out, or remove" in other.err
    longer = learn(*search, "--caption.steps", 1_000_000)
    assert longer.code == 2
    assert "other settings (start): choose another --out, or remove" in longer.err
    assert (tmp_path / "b_learning" / "start.json").read_text() == kept


def test_presets_are_where_flags_start_from() -> None:
    command = parse(["brush", "learn", "pairs", "--preset", "paper-visii", "--steps", "7"])
    assert isinstance(command, BrushLearnCommand)
    assert (command.recipe.kind, command.recipe.keep, command.recipe.steps) == ("visii", "lowest", 7)
    assert command.checkpoint == PAPER_VISII.checkpoint
    assert BrushLearnCommand.from_preset("none") == BrushLearnCommand()


def test_both_commands_are_listed() -> None:
    command = parse(["brush", "show", "b.safetensors"])
    assert BrushCommand(what=command).what.file == Path("b.safetensors")


def test_a_preview_has_a_row_for_each_pair(ip2p_folder: Path, brush_file: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    before = torch.rand(2, 3, 32, 32)
    pairs = BrushPairs(names=("a", "b"), before=before, after=before)
    strip = preview_brush(backbone, load_brush(brush_file), pairs, size=32)
    assert strip.shape == (1, 3, 64, 3 * 32 + 8)
    assert torch.equal(strip[..., :32, :32], before[:1])
