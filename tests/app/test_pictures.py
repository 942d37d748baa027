"""Files of the command line: what is read, what would be written, and what is refused before anything is."""

import json
from pathlib import Path

import pytest
import torch

from maskedit.app.pictures import (
    batches,
    check_output,
    check_pictures,
    installed_versions,
    read_batch,
    read_masks,
    trace_of,
    write_record,
    write_results,
)
from maskedit.editors import EditResult, EditTrace, InputError, save_image

ENDINGS = ("_edited.png", ".json")


def test_batches_hold_pictures_of_one_size(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    p0, p1, p2 = pictures
    checked = check_pictures((p0, p2, p1), tmp_path / "out", ENDINGS)
    assert [(p.height, p.width) for p in checked] == [(24, 32), (32, 32), (24, 32)]
    assert [[p.path for p in group] for group in batches(checked, lambda: 8)] == [[p0, p1], [p2]]
    assert [[p.path for p in group] for group in batches(checked, lambda: 1)] == [[p0], [p1], [p2]]
    assert [p.number for group in batches(checked, lambda: 8) for p in group] == [0, 2, 1]
    assert read_batch(next(batches(checked, lambda: 8))).shape == (2, 3, 24, 32)
    limits = iter((2, 1, 1))
    three = [checked[0], checked[0], checked[0]]
    assert [len(group) for group in batches(three, lambda: next(limits))] == [2, 1]
    assert not (tmp_path / "out").exists()


def test_names_of_results_do_not_collide(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    twin = save_image(torch.zeros(1, 3, 8, 8), tmp_path / "other" / "p0.png")
    checked = check_pictures((pictures[0], twin, pictures[0]), tmp_path / "out", ENDINGS)
    assert [p.name for p in checked] == ["p0", "p0_2", "p0_3"]


def test_a_result_that_would_replace_an_input_is_refused(pictures: tuple[Path, ...]) -> None:
    with pytest.raises(InputError, match="would replace an input"):
        check_pictures((pictures[0],), pictures[0].parent, (".png",))


@pytest.mark.parametrize("deeper", ["", "a/b"])
def test_an_output_below_a_file_is_refused(deeper: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: choose another --export"):
        check_output(tmp_path / "file" / deeper, flag="--export")
    check_output(tmp_path / "new" / deeper)
    assert not (tmp_path / "new").exists()


def test_masks_fit_every_picture(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    checked = check_pictures(pictures[:2], tmp_path / "out", ENDINGS)
    half = torch.zeros(1, 1, 24, 32)
    half[..., :16] = 1
    path = save_image(half, tmp_path / "half.png")
    assert torch.equal(read_masks((path,), checked)[0], half)
    with pytest.raises(InputError, match=r"as large as .*p2.png, 32x32 pixels, got 32x24"):
        read_masks((path,), check_pictures(pictures, tmp_path / "out", ENDINGS))
    with pytest.raises(InputError, match="black everywhere"):
        read_masks((save_image(0 * half, tmp_path / "none.png"),), checked)


def test_a_trace_is_split_by_picture() -> None:
    trace = EditTrace(
        editor="foi", mask_area=(0.1, 0.2), outside_change=(0.0, 0.3), outside_change_unkept=(1.0, 0.5), seconds=3.0
    )
    both = torch.zeros(2, 3, 4, 4)
    result = EditResult(image=both, mask=both[:, :1], masks=(both[:, :1],), trace=trace)
    second = trace_of(result, 1)
    assert (second["mask_area"], second["outside_change"], second["outside_change_unkept"]) == (0.2, 0.3, 0.5)
    assert second["seconds"] == 1.5


def test_a_result_is_written_completely_or_not_at_all(pictures: tuple[Path, ...], tmp_path: Path) -> None:
    (picture,) = check_pictures(pictures[:1], tmp_path, ENDINGS)
    image = torch.zeros(1, 3, 4, 4)
    write_results(tmp_path, picture, {"_edited.png": image}, {"seed": 3})
    assert json.loads((tmp_path / "p0.json").read_text()) == {"seed": 3, "files": {"edited": "p0_edited.png"}}
    other = tmp_path / "second"
    (other / "p0.json").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write"):
        write_results(other, picture, {"_edited.png": image}, {})
    assert [path.name for path in other.iterdir()] == ["p0.json"]


def test_records_hold_paths_as_text(tmp_path: Path) -> None:
    path = write_record(tmp_path / "deep" / "record.json", {"folder": Path("a/b")})
    assert json.loads(path.read_text()) == {"folder": "a/b"}


def test_versions_are_those_that_run() -> None:
    versions = installed_versions()
    assert versions["torch"] == torch.__version__.split("+")[0]
    assert versions["maskedit"]
