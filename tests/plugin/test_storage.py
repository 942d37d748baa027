"""Files of a session: exact pixels, atomic writes, one line on failure."""

from pathlib import Path

import pytest
import torch

from maskedit.editors import SessionError
from maskedit.plugin.storage import (
    draw_strip,
    from_bytes,
    probe_folder,
    read_image,
    read_mask,
    to_bytes,
    write_atomic,
    write_image,
    write_json,
)


def test_bytes_survive_the_way_to_unit_range_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(every)), every)
    assert torch.equal(to_bytes(torch.tensor([-1.0, 2.0])), torch.tensor([0, 255], dtype=torch.uint8))


def test_pictures_and_masks_survive_exactly(tmp_path: Path) -> None:
    picture = torch.randint(0, 256, (9, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / "a" / "picture.png", picture)
    write_image(tmp_path / "mask.png", picture[..., 0])
    assert torch.equal(read_image(tmp_path / "a" / "picture.png"), picture)
    assert torch.equal(read_mask(tmp_path / "mask.png"), picture[..., 0])


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})

    def break_off(file: object) -> None:
        file.write(b'{"step": 2')  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(SessionError, match=r"No space left on device.*free some space") as refused:
        write_atomic(path, break_off)
    assert "\n" not in str(refused.value)
    assert path.read_text() == '{\n "step": 1\n}'
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(SessionError, match=r"broken\.png"):
        read_image(tmp_path / "broken.png")


def test_strips_show_before_mask_and_after() -> None:
    before, after = torch.full((4, 6, 3), 10, dtype=torch.uint8), torch.full((4, 6, 3), 200, dtype=torch.uint8)
    mask = torch.full((4, 6), 255, dtype=torch.uint8)
    strip = draw_strip(before, mask, after)
    assert strip.shape == (4, 3 * 6 + 4, 3)
    assert strip[:, :6].unique().tolist() == [10]
    assert strip[:, 8:14].unique().tolist() == [255]
    assert strip[:, 16:].unique().tolist() == [200]


def test_strips_of_large_pictures_are_small() -> None:
    photo = torch.zeros(512, 1024, 3, dtype=torch.uint8)
    assert draw_strip(photo, photo[..., 0], photo).shape == (128, 3 * 256 + 4, 3)


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    probe_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_probe_refuses_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match="cannot write"):
        probe_folder(tmp_path / "file")
