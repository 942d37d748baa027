"""The parts of a set are found wherever they may lie, and one line tells what is missing."""

from pathlib import Path

import pytest

from maskedit.bench.smartedit_data.layout import find_file, find_folder, laid_out, read_annotations, read_text
from maskedit.editors import InputError

PATH = Path("a.json")


def test_the_first_folder_with_such_files_is_taken(tmp_path: Path) -> None:
    for name in ("first", "second", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "second" / "1.jpg").touch()
    found = find_folder(tmp_path / "root", ("../first", "../second"), "photos", holding="*.jpg")
    assert found.resolve() == tmp_path / "second"
    with pytest.raises(InputError, match=r"no photos for .*root: expected it in one of \.\./first, here"):
        find_folder(tmp_path / "root", ("../first", "here"), "photos", holding="*.jpg")


def test_the_first_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b.json").touch()
    assert find_file(tmp_path, ("a.json", "b.json"), "list") == tmp_path / "b.json"
    with pytest.raises(InputError, match=r"no list for .*: expected one of a\.json, c\.json"):
        find_file(tmp_path, ("a.json", "c.json"), "list")


def test_broken_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1,")
    with pytest.raises(InputError, match=r"cannot read .*a\.json .*download it again"):
        read_annotations(tmp_path / "a.json")


def test_texts_may_be_in_the_encoding_of_windows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("café".encode())
    assert read_text(tmp_path / "a.txt") == read_text(tmp_path / "b.txt") == "café"
    with pytest.raises(InputError, match=r"cannot read .*c\.txt"):
        read_text(tmp_path / "c.txt")


def test_what_a_record_lacks_becomes_one_line() -> None:
    form = r"a\.json is not of the form its set has"
    with pytest.raises(InputError, match=rf"{form} \(no 'image'\): expected an image"), laid_out(PATH, "an image"):
        raise KeyError("image")
    with pytest.raises(InputError, match=rf"{form} \(list index out of range\)"), laid_out(PATH, "an image"):
        raise IndexError("list index out of range")
    with pytest.raises(InputError, match=r"^as it was$"), laid_out(PATH, "an image"):
        raise InputError("as it was")
