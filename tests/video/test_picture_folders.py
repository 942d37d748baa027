"""Folders of pictures: natural order, EXIF, one size, and times that come back."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskedit.editors import InputError
from maskedit.video.picture_folders import (
    TIMES_FILE,
    PictureSink,
    holds_only_frames,
    list_pictures,
    probe_folder,
    read_folder,
)
from maskedit.video.timeline import Timeline


def write(folder: Path, name: str, shade: int = 0, size: tuple[int, int] = (20, 16), **options: object) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(folder / name, **options)


def test_numbers_in_names_count_as_numbers(tmp_path: Path):
    names = ["frame_1.png", "frame_2.png", "frame_10.png", "frame_010.png", "frame_x.PNG", "frame_x2.jpg"]
    for name in reversed(names):
        write(tmp_path, name)
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    found = [picture.name for picture in list_pictures(tmp_path)]
    assert found == ["frame_1.png", "frame_2.png", "frame_010.png", "frame_10.png", "frame_x.PNG", "frame_x2.jpg"]


def test_names_of_digits_and_of_words_are_comparable(tmp_path: Path):
    for name in ("b.png", "2.png", "10.png", "a1b2.png", "a1b.png"):
        write(tmp_path, name)
    assert len(list_pictures(tmp_path)) == 5


def test_frames_are_read_in_order_and_turned_by_exif(tmp_path: Path):
    wide = np.zeros((16, 20, 3), np.uint8)
    wide[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        Image.fromarray(wide // (number + 1)).save(tmp_path / f"{number}.png", exif=exif)
    info = probe_folder(tmp_path)
    assert (info.kind, info.height, info.width, info.fps, info.has_audio) == ("folder", 20, 16, 12, False)
    frames = list(read_folder(info, range(0, 3, 2)))
    # Orientation 6: the left of what is stored is the top of what is shown.
    np.testing.assert_array_equal(frames[0], np.rot90(wide, -1))
    np.testing.assert_array_equal(frames[1], np.rot90(wide // 3, -1))


def test_the_first_picture_of_another_size_is_named(tmp_path: Path):
    for number, size in enumerate([(20, 16), (20, 16), (18, 16), (10, 10)]):
        write(tmp_path, f"{number}.png", size=size)
    with pytest.raises(InputError, match=r"0\.png has 20x16 pixels, 2\.png 18x16; resize or remove it"):
        probe_folder(tmp_path)


def test_a_folder_without_pictures_and_broken_ones_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="expected pictures"):
        probe_folder(tmp_path)
    (tmp_path / "0.png").write_text("no picture")
    with pytest.raises(InputError, match=r"cannot read .*0\.png as a picture"):
        probe_folder(tmp_path)


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    for number in range(3):
        write(tmp_path, f"{number}.png")
    info = probe_folder(tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match="had 3 pictures and now has 2"):
        list(read_folder(info, range(3)))


def test_written_times_come_back(tmp_path: Path):
    folder = tmp_path / "out"
    timeline = Timeline(times=(2.0, 2.5, 2.6), end=3.0)
    sink = PictureSink(folder, timeline)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
    for picture in pictures:
        sink.write(picture)
    sink.finish()
    sink.close()
    info = probe_folder(folder)
    assert info.times == pytest.approx((0, 0.5, 0.6))
    assert info.end == pytest.approx(1)
    np.testing.assert_array_equal(list(read_folder(info, range(3))), pictures)
    assert probe_folder(folder, fps=4).times == (0, 0.25, 0.5)
    assert holds_only_frames(folder)
    (folder / "notes.txt").touch()
    assert not holds_only_frames(folder)
    assert not holds_only_frames(folder / "notes.txt")


def test_frames_of_another_program_are_not_taken_for_ours(tmp_path: Path):
    assert holds_only_frames(tmp_path)
    write(tmp_path, "frame_00001.png")
    assert not holds_only_frames(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the times"),
        (json.dumps({"times": [0]}), "cannot read the times"),
        (json.dumps({"times": [0.0, 0.5, 0.4], "end": 1}), "must not fall"),
        (json.dumps({"times": [0, 1], "end": 2}), "has the times of 2 frames, the folder has 3"),
    ],
)
def test_times_that_do_not_fit_are_refused(content: str, message: str, tmp_path: Path):
    for number in range(3):
        write(tmp_path, f"{number}.png")
    (tmp_path / TIMES_FILE).write_text(content)
    with pytest.raises(InputError, match=message):
        probe_folder(tmp_path)
    assert probe_folder(tmp_path, fps=10).frames == 3
