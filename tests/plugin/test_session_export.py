"""What a session made, as files that are exactly what trains, and as a dataset that nerfstudio reads."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image as Picture

from maskedit.editors import InputError
from maskedit.plugin.session import EditRecord, EditSession
from maskedit.plugin.session_export import ExportOptions, export_session
from maskedit.plugin.storage import write_image

SIDE = 16


@pytest.fixture
def session(tmp_path: Path, scene: Path) -> EditSession:
    """The toy scene's first and third view are edited, the third twice."""
    photos = [str(scene / "images" / f"{view}.png") for view in range(4)]
    settings = {"photos": [4, SIDE, SIDE], "instructions": ["make it red", "add snow"]}
    made = EditSession.create(
        tmp_path / "session", settings=settings, start_step=0, edit_start=0, source=None, photos=photos
    )
    for index, view in enumerate((0, 2, 2)):
        save(made, index, view)
    return made


def save(session: EditSession, index: int, view: int, photo: str | None = None) -> None:
    record = EditRecord(
        step=index,
        view=view,
        photo=photo or f"{view}.png",
        index=index,
        sweep=index,
        noise_level=0.5,
        seed=index,
        instructions=("make it red", "add snow"),
    )
    masks = [torch.full((SIDE, SIDE), value, dtype=torch.uint8) for value in (0, 255)]
    session.save_edit(record, before=edited(index), after=edited(index), mask=masks[1], masks=masks)


def edited(index: int) -> torch.Tensor:
    return torch.randint(0, 256, (SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Picture.open(path)))


def test_edited_views_are_written_with_masks_and_an_index(session: EditSession, tmp_path: Path) -> None:
    out = tmp_path / "out"
    index = export_session(session, out, ExportOptions(step=3))
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    masks = {f"masks/{name}.png" for name in ("0", "0-1", "0-2", "2", "2-1", "2-2")}
    assert names == {"images/0.png", "images/2.png", "index.json"} | masks
    assert torch.equal(pixels(out / "images" / "2.png"), edited(2))
    assert json.loads((out / "index.json").read_text()) == json.loads(json.dumps(index))
    assert [(v["view"], v["image"], v["is_edited"]) for v in index["views"]] == [
        (0, "images/0.png", True),
        (2, "images/2.png", True),
    ]
    assert index["views"][1]["edit"]["index"] == 2
    assert index["instructions"] == ["make it red; add snow"]
    assert int(pixels(out / "masks" / "2-1.png").max()) == 0


def test_an_earlier_moment_can_be_written(session: EditSession, tmp_path: Path) -> None:
    index = export_session(session, tmp_path / "out", ExportOptions(step=2, masks=False))
    assert torch.equal(pixels(tmp_path / "out" / "images" / "2.png"), edited(1))
    assert not (tmp_path / "out" / "masks").exists()
    assert "masks" not in index["views"][0]


def test_photos_stand_beside_their_edits(session: EditSession, tmp_path: Path, scene: Path) -> None:
    export_session(session, tmp_path / "out", ExportOptions(step=3, compared=True))
    strip = pixels(tmp_path / "out" / "compared" / "0.png")
    assert torch.equal(strip, torch.cat([pixels(scene / "images" / "0.png"), edited(0)], dim=1))


def test_the_edited_set_is_a_dataset_of_its_own(session: EditSession, tmp_path: Path, scene: Path) -> None:
    out = tmp_path / "out"
    export_session(session, out, ExportOptions(step=3, dataset=True))
    before, after = ((json.loads((f / "transforms.json").read_text())) for f in (scene, out))
    assert after == before
    assert (out / "images" / "1.png").read_bytes() == (scene / "images" / "1.png").read_bytes()
    parser = NerfstudioDataParserConfig(data=out, eval_mode="all", downscale_factor=1).setup()
    read = parser.get_dataparser_outputs("train")
    assert [path.name for path in read.image_filenames] == [f"{view}.png" for view in range(4)]
    assert torch.equal(pixels(read.image_filenames[2]), edited(2))


def test_intrinsics_follow_the_size_that_was_worked_at(session: EditSession, tmp_path: Path, scene: Path) -> None:
    """Photos of twice the size, which nerfstudio halves into images_2."""
    data = tmp_path / "data"
    for folder, side in (("images", 2 * SIDE), ("images_2", SIDE)):
        (data / folder).mkdir(parents=True)
        Picture.new("RGB", (side, side)).save(data / folder / "0.jpg")
    content = json.loads((scene / "transforms.json").read_text())
    camera = {"w": 2 * SIDE, "h": 2 * SIDE, "fl_x": 40.0, "fl_y": 42.0, "cx": 16.0, "cy": 15.0}
    frame = {**content["frames"][0], "file_path": "images/0.jpg", "mask_path": "masks/0.png"}
    (data / "cloud.ply").write_text("ply")
    extra = {"ply_file_path": "cloud.ply", "train_filenames": ["images/0.jpg"]}
    (data / "transforms.json").write_text(json.dumps({**camera, **extra, "frames": [frame]}))
    made = EditSession.create(
        tmp_path / "half",
        settings={"photos": [1, SIDE, SIDE]},
        start_step=0,
        edit_start=0,
        source=None,
        photos=[str(data / "images_2" / "0.jpg")],
    )
    save(made, 0, 0, "0.jpg")
    export_session(made, tmp_path / "out", ExportOptions(step=1, dataset=True))
    written = json.loads((tmp_path / "out" / "transforms.json").read_text())
    (own,) = written.pop("frames")
    assert written == {
        "w": SIDE,
        "h": SIDE,
        "fl_x": 20.0,
        "fl_y": 21.0,
        "cx": 8.0,
        "cy": 7.5,
        "ply_file_path": "cloud.ply",
    }
    assert own == {"file_path": "images_2/0.jpg", "transform_matrix": frame["transform_matrix"]}
    assert (tmp_path / "out" / "cloud.ply").read_text() == "ply"
    assert Picture.open(tmp_path / "out" / "images_2" / "0.jpg").format == "JPEG"
    export_session(made, tmp_path / "exact", ExportOptions(step=1, lossless=True))
    assert torch.equal(pixels(tmp_path / "exact" / "images" / "0.png"), edited(0))


@pytest.mark.parametrize("lens", [{"k1": 0.1}, {"frames": [{"file_path": "images/0.png", "p2": -0.01}]}])
def test_photos_that_were_freed_of_distortion_are_no_dataset(
    session: EditSession, tmp_path: Path, scene: Path, lens: dict[str, Any]
) -> None:
    copy: Any = shutil.copytree(scene, tmp_path / "copy")
    content = json.loads((copy / "transforms.json").read_text())
    (copy / "transforms.json").write_text(json.dumps(content | lens))
    session._state["photos"] = [str(copy / "images" / f"{view}.png") for view in range(4)]
    session._state["settings"]["scene"] = "splatfacto"
    for options in ({"dataset": True}, {"compared": True}):
        with pytest.raises(InputError, match="freed its photos of the lens distortion"):
            export_session(session, tmp_path / "out", ExportOptions(step=3, **options))
    assert not (tmp_path / "out").exists()
    export_session(session, tmp_path / "plain", ExportOptions(step=3))
    # Fields are trained on the photos as they are.
    session._state["settings"]["scene"] = "nerfacto"
    export_session(session, tmp_path / "field", ExportOptions(step=3, compared=True))


def test_one_view_needs_no_other_views_picture(session: EditSession, tmp_path: Path) -> None:
    write_image(session.root / "base" / "00001.png", edited(9))
    (session.root / "base" / "00003.png").write_bytes(b"no picture")
    index = export_session(session, tmp_path / "out", ExportOptions(step=3, compared=True))
    assert len(index["views"]) == 2


def test_pictures_of_an_earlier_session_stand_for_photos(session: EditSession, tmp_path: Path) -> None:
    write_image(session.root / "base" / "00001.png", edited(9))
    export_session(session, tmp_path / "out", ExportOptions(step=3, dataset=True))
    assert torch.equal(pixels(tmp_path / "out" / "images" / "1.png"), edited(9))


def test_what_cannot_be_written_is_refused(session: EditSession, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        export_session(session, tmp_path / "full", ExportOptions(step=3))
    with pytest.raises(InputError, match="nothing to export"):
        export_session(session, tmp_path / "out", ExportOptions(step=0))
    older = EditSession.create(tmp_path / "older", settings={}, start_step=0, edit_start=0, source=None)
    save(older, 0, 0)
    assert export_session(older, tmp_path / "plain", ExportOptions(step=1))["views"][0]["photo"] == "0.png"
    for options in ({"dataset": True}, {"compared": True}):
        with pytest.raises(InputError, match="older version"):
            export_session(older, tmp_path / "out", ExportOptions(step=1, **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["photo", "transforms", "frames"])
def test_a_dataset_that_is_gone_is_named(session: EditSession, tmp_path: Path, harm: str, scene: Path) -> None:
    copy: Any = shutil.copytree(scene, tmp_path / "copy")
    session._state["photos"] = [str(copy / "images" / f"{view}.png") for view in range(4)]
    if harm == "photo":
        (copy / "images" / "1.png").unlink()
    elif harm == "transforms":
        (copy / "transforms.json").unlink()
    else:
        (copy / "transforms.json").write_text('{"w": 16, "h": 16, "frames": []}')
    expected = {"photo": "1 photos are gone", "transforms": "found none", "frames": "among the frames of"}[harm]
    with pytest.raises(InputError, match=expected):
        export_session(session, tmp_path / "out", ExportOptions(step=3, dataset=True))
