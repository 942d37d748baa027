"""`maskedit edit` and `maskedit mask`, run for real on a tiny random checkpoint."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PilImage

from maskedit.app.edit import EditCommand, MaskCommand
from maskedit.app.pictures import Picture, check_pictures
from maskedit.configs import PAPER_FOI
from maskedit.editors import load_image, load_mask, save_image

TEXT = "make the cube blue"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_edit_writes_picture_mask_strip_and_record(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    before = pictures[0].read_bytes()
    done = call("edit", pictures[0], "--instruction", TEXT, "--keyword", "cube", "--strength", 2, "--seed", 5, *flags)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["p0.json", "p0_edited.png", "p0_mask.png", "p0_strip.png"]
    assert pictures[0].read_bytes() == before

    source, edited, mask = load_image(pictures[0]), load_image(out / "p0_edited.png"), load_mask(out / "p0_mask.png")
    assert torch.equal(edited[(mask == 0).expand_as(edited)], source[(mask == 0).expand_as(source)])
    assert not torch.equal(edited, source)
    strip = load_image(out / "p0_strip.png")
    assert torch.equal(strip[..., :32], source)
    assert torch.equal(strip[..., -32:], edited)

    record = read(out / "p0.json")
    assert record["image"] == str(pictures[0])
    assert record["instructions"] == [{"text": TEXT, "keyword": "cube", "strength": 2.0, "phrases": None, "mask": None}]
    assert record["seed"] == 5
    assert record["options"]["steps"] == 2
    assert record["trace"]["keywords"] == ["cube"]
    assert record["trace"]["outside_change"] == 0
    assert record["files"] == {"edited": "p0_edited.png", "mask": "p0_mask.png", "strip": "p0_strip.png"}
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_a_picture_comes_out_the_same_alone_and_among_others(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    assert call("edit", *pictures, "--instruction", TEXT, *flags).code == 0
    together = load_image(tmp_path / "out" / "p1_edited.png")
    assert call("edit", pictures[1], "--instruction", TEXT, "--seed", 1, *flags).code == 0
    alone = load_image(tmp_path / "out" / "p1_edited.png")
    assert (together - alone).abs().max() <= 1.5 / 255


def test_pictures_of_the_same_name_both_come_out(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    twin = save_image(load_image(pictures[0]), tmp_path / "other" / "p0.png")
    assert call("edit", pictures[0], twin, "--instruction", TEXT, "--editor", "ip2p", *flags).code == 0
    assert (tmp_path / "out" / "p0_edited.png").is_file()
    assert read(tmp_path / "out" / "p0_2.json")["image"] == str(twin)


def test_a_mask_from_a_file_confines_any_editor(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], mask_file: Path, tmp_path: Path
) -> None:
    done = call("edit", pictures[0], "--instruction", TEXT, "--editor", "ip2p", "--mask", mask_file, *flags)
    assert done.code == 0, done.err
    edited, source = load_image(tmp_path / "out" / "p0_edited.png"), load_image(pictures[0])
    changed = (edited != source).any(1, keepdim=True)
    assert changed.any()
    assert not changed[load_mask(mask_file) == 0].any()
    assert read(tmp_path / "out" / "p0.json")["masks"] == [str(mask_file)]


def test_each_instruction_may_have_its_own_mask(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    left, right = torch.zeros(2, 1, 1, 24, 32)
    left[..., :8], right[..., 24:] = 1, 1
    paths = [save_image(left, tmp_path / "left.png"), save_image(right, tmp_path / "right.png")]
    two = ["--instruction", TEXT, "--instruction", "remove the ball"]
    done = call("edit", pictures[0], *two, "--mask", paths[0], "--mask", paths[1], *flags)
    assert done.code == 0, done.err
    assert torch.equal(load_mask(tmp_path / "out" / "p0_mask.png"), left + right)
    done = call("edit", pictures[0], *two, "--mask", paths[0], "--mask", paths[1], "--mask", paths[1], *flags)
    assert done.code == 2
    assert "once for each of 2 instructions, got it 3 times" in done.err


def test_exif_turns_the_picture_upright(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    turned = PilImage.open(pictures[0])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert call("edit", tmp_path / "turned.png", "--instruction", TEXT, "--editor", "ip2p", *flags).code == 0
    assert load_image(tmp_path / "out" / "turned_edited.png").shape[-2:] == (32, 24)


@pytest.mark.parametrize("command", [("mask",), ("edit", "--dry-run")])
def test_masks_alone(
    command: tuple[str, ...], call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    two = ["--instruction", TEXT, "--instruction", "remove the ball"]
    done = call(*command, pictures[0], *two, *flags)
    assert done.code == 0, done.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["p0.json", "p0_mask.png", "p0_mask1.png", "p0_mask2.png", "p0_overlay.png"]
    masks = [load_mask(tmp_path / "out" / f"p0_mask{i}.png") for i in (1, 2)]
    assert torch.equal(load_mask(tmp_path / "out" / "p0_mask.png"), masks[0].maximum(masks[1]))
    assert read(tmp_path / "out" / "p0.json")["mask_area"] == pytest.approx([float(m.mean()) for m in masks], abs=2e-3)


def test_masks_are_those_of_the_edit(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    assert call("mask", pictures[0], "--instruction", TEXT, *flags).code == 0
    shown = load_mask(tmp_path / "out" / "p0_mask.png")
    assert call("edit", pictures[0], "--instruction", TEXT, *flags).code == 0
    assert torch.equal(load_mask(tmp_path / "out" / "p0_mask.png"), shown)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{p0}"], "pass --instruction"),
        (["--instruction", TEXT], "expected at least one picture"),
        (["{p0}", "--instruction", " "], "got an empty text"),
        (["{p0}", "--instruction", "cube " * 100], "shorten the text"),
        (["{p0}", "--instruction", TEXT, "--keyword", "ball"], "keyword 'ball' does not occur"),
        (["{p0}", "--instruction", TEXT, "--keyword", "cube", "--keyword", "blue"], "--keyword once for each of 1"),
        (["{p0}", "--instruction", TEXT, "--strength", "11"], "strength must be in [-10, 10], got 11"),
        (["{p0}", "--instruction", TEXT, "--steps", "0"], "--steps must be in [1, 1000], got 0"),
        (["{p0}", "--instruction", TEXT, "--foi.extract-at", "1"], "--foi.extract-at must be in [0, 1), got 1"),
        (["{missing}", "--instruction", TEXT], "found none at"),
        (["{text}", "--instruction", TEXT], "as a picture"),
        (["{p0}", "--instruction", TEXT, "--mask", "{p2}"], "expected the mask"),
        (["{p0}", "--instruction", TEXT, "--mask", "{black}"], "black everywhere"),
        (["{p0}", "--instruction", TEXT, "--output", "{text}/deeper"], "choose another --output"),
        (["{p0}", "--instruction", TEXT, "--model", "{sd}"], "needs an InstructPix2Pix checkpoint"),
        (["{p0}", "--instruction", TEXT, "--device", "teapot"], "expected a device"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    expected: str,
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    flags: list[object],
    sd_folder: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "text").write_text("no picture")
    save_image(torch.zeros(1, 1, 24, 32), tmp_path / "black.png")
    names = {f"p{i}": path for i, path in enumerate(pictures)}
    names |= {"missing": tmp_path / "none.png", "text": tmp_path / "text", "black": tmp_path / "black.png"}
    given = [word.format(**names, sd=sd_folder) for word in arguments]
    kept = [flag for place in range(0, len(flags), 2) for flag in flags[place : place + 2] if flags[place] not in given]
    done = call("edit", *given, *kept)
    assert done.code == 2
    assert done.err.startswith("maskedit: error: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_replaced(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    rival = save_image(load_image(pictures[0]), tmp_path / "in" / "p0_edited.png")
    before = rival.read_bytes()
    done = call("edit", pictures[0], rival, "--instruction", TEXT, *flags, "--output", tmp_path / "in")
    assert done.code == 2
    assert "would replace an input" in done.err
    assert rival.read_bytes() == before


def test_a_picture_without_the_thing_does_not_stop_the_others(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    flat = save_image(torch.zeros(1, 3, 24, 32), tmp_path / "in" / "flat.png")
    done = call("edit", pictures[0], flat, pictures[2], "--instruction", TEXT, "--foi.mask-threshold", 1.0, *flags)
    written = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert {"p0.json", "p2.json"} <= written
    assert done.code == (0 if "flat.json" in written else 2)


def test_memory_that_runs_out_is_remembered(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    sizes: list[int] = []

    def work(group: Sequence[Picture]) -> None:
        sizes.append(len(group))
        if len(group) > 3:
            warnings.warn("out of memory: going on with 3 at a time.", RuntimeWarning, stacklevel=1)

    many = check_pictures((pictures[0],) * 14, tmp_path / "out", (".json",))
    EditCommand().each(many, work)
    assert sizes == [8, 3, 3]


def test_a_preset_is_where_flags_start_from(tmp_path: Path) -> None:
    command = EditCommand.from_preset("paper-foi")
    assert command.options == PAPER_FOI.options
    assert command.checkpoint == PAPER_FOI.checkpoint
    assert MaskCommand.from_preset("embedded-ip2p").editor == "ip2p"


def test_flags_override_a_preset(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    done = call("edit", pictures[0], "--instruction", TEXT, "--preset", "paper-ip2p", "--guidance-scale", 3, *flags)
    assert done.code == 0, done.err
    record = read(tmp_path / "out" / "p0.json")
    assert record["editor"] == "ip2p"
    assert record["options"] | {"guidance_scale": 3.0, "steps": 2, "image_guidance_scale": 1.5} == record["options"]


@pytest.mark.parametrize("editor", ["instructedit", "diffedit", "mdp", "inpaint"])
def test_editors_on_captions_tell_and_record_what_they_read(
    editor: str,
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    sd_flags: list[object],
    inpainting_folder: Path,
    mask_file: Path,
    tmp_path: Path,
) -> None:
    model = ["--model", inpainting_folder] if editor == "inpaint" else []
    done = call("edit", pictures[0], "--editor", editor, "--instruction", TEXT, "--mask", mask_file, *sd_flags, *model)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "photo of a cube -> photo of a blue cube"
    record = read(tmp_path / "out" / "p0.json")
    assert record["trace"]["captions"] == {"source": "photo of a cube", "target": "photo of a blue cube"}
    assert record["editor"] == editor
    assert load_image(tmp_path / "out" / "p0_edited.png").shape[-2:] == (24, 32)


@pytest.mark.parametrize(
    ("editor", "more"),
    [
        ("mdp", []),
        ("diffedit", ["--diffedit.mask-threshold", 0.01]),
        ("instructedit", ["--mask", "{mask}"]),
        ("instructedit", ["--global-edit"]),
    ],
)
def test_a_target_caption_takes_the_place_of_an_instruction(
    editor: str,
    more: list[object],
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    sd_flags: list[object],
    mask_file: Path,
    tmp_path: Path,
) -> None:
    given = [mask_file if word == "{mask}" else word for word in more]
    done = call("edit", pictures[0], "--editor", editor, "--target-caption", "a blue cube", *given, *sd_flags)
    assert done.code == 0, done.err
    assert done.out.startswith("-> a blue cube\n")
    record = read(tmp_path / "out" / "p0.json")
    assert record["instructions"][0]["text"] == "a blue cube"
    assert record["trace"]["captions"] == {"source": "", "target": "a blue cube"}


def test_phrases_are_looked_for_and_told(
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    sd_flags: list[object],
    clipseg_flags: list[object],
    tmp_path: Path,
) -> None:
    common = ["--editor", "instructedit", "--grounding.mask-threshold", 0.0, *clipseg_flags, *sd_flags]
    done = call("edit", *pictures[:2], "--instruction", TEXT, "--phrase", "red cube, ball", *common)
    assert done.code == 0, done.err
    told = [line for line in done.out.splitlines() if "looking for" in line]
    assert told == ["photo of a cube -> photo of a blue cube; looking for: red cube, ball"]
    record = read(tmp_path / "out" / "p1.json")
    assert record["instructions"][0]["phrases"] == ["red cube", "ball"]
    assert [found["phrase"] for found in record["trace"]["grounding"]] == ["red cube", "ball"]
    assert record["trace"]["grounding"][0]["scores"]
    done = call("mask", pictures[0], "--target-caption", "a blue cube", "--phrase", "cube", *common)
    assert done.code == 0, done.err
    assert read(tmp_path / "out" / "p0.json")["captions"] == {"source": "", "target": "a blue cube"}


def test_an_instruction_for_two_things_gets_two_masks(
    call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object], tmp_path: Path
) -> None:
    done = call("edit", pictures[0], "--instruction", "make the cube blue and remove the ball", *flags)
    assert done.code == 0, done.err
    assert done.out.startswith("in 2 parts: make the cube blue; remove the ball\n")
    record = read(tmp_path / "out" / "p0.json")
    assert [each["keyword"] for each in record["instructions"]] == ["cube", "ball"]
    assert (tmp_path / "out" / "p0_mask2.png").is_file()
    done = call("mask", pictures[0], "--instruction", "make the cube blue and remove the ball", *flags)
    assert done.code == 0, done.err
    assert "'remove the ball'" in done.out


def test_a_dry_run_shows_the_masks_that_were_given(
    call: Callable[..., Any], pictures: tuple[Path, ...], sd_flags: list[object], mask_file: Path, tmp_path: Path
) -> None:
    arguments = ["--instruction", TEXT, "--mask", mask_file, "--dry-run", "--editor", "mdp"]
    done = call("edit", pictures[0], *arguments, *sd_flags)
    assert done.code == 0, done.err
    assert torch.equal(load_mask(tmp_path / "out" / "p0_mask.png"), load_mask(mask_file))
    assert not (tmp_path / "out" / "p0_edited.png").exists()


def test_keys_and_passwords_are_never_written(
    call: Callable[..., Any], pictures: tuple[Path, ...], sd_flags: list[object], mask_file: Path, tmp_path: Path
) -> None:
    captions = ["--target-caption", "a blue cube", "--language.provider", "openai"]
    asked = ["edit", pictures[0], "--editor", "mdp", *captions, "--api-key", "sk-secret", "--language.base-url"]
    password = "name:word"
    refused = call(*asked, f"http://{password}@localhost:9/v1", *sd_flags)
    assert refused.code != 0 and "--language.base-url must hold no user name or password" in refused.err
    assert password not in refused.out + refused.err
    done = call(*asked, "http://localhost:9/v1", *sd_flags)
    text = (tmp_path / "out" / "p0.json").read_text() if done.code == 0 else done.err
    shown = text + done.out + done.err + repr(EditCommand(api_key="sk-secret"))
    assert "localhost:9/v1" in text and "sk-secret" not in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--editor", "foi", "--target-caption", "x"], "foi reads instructions and no captions"),
        (["--editor", "ip2p", "--source-caption", "x"], "ip2p reads instructions and no captions"),
        (["--editor", "mdp", "--source-caption", "x"], "expected --target-caption"),
        (["--editor", "mdp", "--target-caption", " "], "expected a caption of the edited picture, got an empty text"),
        (["--editor", "diffedit", "--phrase", "cube"], "diffedit looks for no phrases"),
        (["--editor", "instructedit", "--phrase", "a", "--phrase", "b"], "--phrase once for each of 1 instructions"),
        (["--editor", "mdp", "--foi.boost", "0.1"], "mdp has no --foi.boost"),
        (["--editor", "mdp", "--encoding-ratio", "0.3"], "mdp has no --encoding-ratio"),
        (["--editor", "diffedit", "--encoding-ratio", "0"], "--encoding-ratio must be in (0, 1], got 0"),
        (["--editor", "diffedit", "--encoding-ratio", "1.5"], "--encoding-ratio must be in (0, 1], got 1.5"),
        (["--editor", "diffedit", "--encoding-ratio", "0.1"], "--encoding-ratio must be at least 1 / steps"),
        (["--editor", "instructedit", "--language.temperature", "9"], "--language.temperature must be in [0, 2]"),
        (["--editor", "instructedit", "--instruction", "blorp"], "blorp"),
        (["--editor", "instructedit", "--instruction", "make it snow"], "--global-edit"),
        (["--editor", "instructedit", "--instruction", ""], "got an empty text"),
        (["--editor", "instructedit", "--grounding.mask-threshold", "0.999"], "nothing found for 'cube' (best score"),
        (["--editor", "instructedit", "--grounding.clipseg", "nowhere"], "found nothing at 'nowhere'"),
        (["--editor", "mdp", "--language.provider", "openai"], "no key for the language server"),
        (
            ["--editor", "mdp", "--language.provider", "openai", "--language.base-url", "http://127.0.0.1:9/v1"],
            "cannot be reached",
        ),
        (["--editor", "mdp", "--captioner.enabled", "--captioner.model", "nowhere"], "found nothing at 'nowhere'"),
        (["--editor", "inpaint"], "inpaint needs an inpainting checkpoint"),
        (["--editor", "foi"], "foi needs an InstructPix2Pix checkpoint"),
    ],
)
def test_what_editors_on_captions_refuse_is_one_line(
    arguments: list[str],
    expected: str,
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    sd_flags: list[object],
    clipseg_flags: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    text = [] if "--instruction" in arguments else ["--instruction", TEXT]
    grounding = clipseg_flags if {"instructedit", "inpaint"} & {*arguments} else []
    done = call("edit", pictures[0], *text, *sd_flags, *grounding, *arguments)
    assert done.code == 2, done.out
    assert done.err.startswith("maskedit: error: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("editor", "advice"), [("ip2p", "--editor foi"), ("mdp", "--editor instructedit or diffedit")])
def test_editors_without_masks_name_others(
    editor: str, advice: str, call: Callable[..., Any], pictures: tuple[Path, ...], flags: list[object]
) -> None:
    done = call("mask", pictures[0], "--instruction", TEXT, "--editor", editor, *flags)
    assert done.code == 2
    assert f"has no mask of its own, it may change anything: pass {advice}" in done.err


@pytest.mark.parametrize("editor", ["inpaint", "instructedit"])
def test_captions_alone_need_a_place(editor: str, call: Callable[..., Any], pictures: tuple[Path, ...]) -> None:
    done = call("edit", pictures[0], "--editor", editor, "--target-caption", "a blue cube")
    assert done.code == 2
    assert "pass --instruction" in done.err
