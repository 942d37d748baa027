"""Pictures and pairs of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.pictures import (
    decode_picture,
    on_frame_of,
    read_levels,
    read_pair,
    read_picture,
    same_frame,
)
from maskedit.editors import InputError, load_image, save_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_image(torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)), tmp_path / "photo.png")


def test_files_and_their_bytes_are_the_same_picture(photo: Path) -> None:
    assert torch.equal(read_picture(photo), load_image(photo)[0])
    assert torch.equal(decode_picture(photo.read_bytes(), "row 1"), load_image(photo)[0])
    for content in (b"", b"no picture"):
        with pytest.raises(InputError, match="cannot read row 1 as a picture"):
            decode_picture(content, "row 1")


def test_stored_values_are_read_as_they_are(tmp_path: Path, photo: Path) -> None:
    values = np.arange(96, dtype=np.uint8).reshape(8, 12)
    cv2.imwrite(str(tmp_path / "levels.png"), values)
    assert torch.equal(read_levels(tmp_path / "levels.png"), torch.from_numpy(values))
    with pytest.raises(InputError, match=r"expected one channel of 8 bits in .*photo\.png"):
        read_levels(photo)
    with pytest.raises(InputError, match=r"found none at .*gone\.png"):
        read_levels(tmp_path / "gone.png")
    for content in (b"", b"no picture"):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read .*bad\.png"):
            read_levels(tmp_path / "bad.png")


def test_a_larger_edit_comes_to_the_size_of_its_photo(photo: Path, tmp_path: Path) -> None:
    larger = save_image(torch.full((1, 3, 16, 24), 0.2), tmp_path / "larger.png")
    image, target = read_pair(photo, larger)
    assert image.shape == target.shape == (3, 8, 12)
    torch.testing.assert_close(target, torch.full_like(target, 0.2), atol=1e-6, rtol=0)
    assert on_frame_of(image, image, before="a", after="b") is not None
    assert torch.equal(on_frame_of(image, image, before="a", after="b"), image)


def test_another_frame_is_refused(photo: Path, tmp_path: Path) -> None:
    other = save_image(torch.zeros(1, 3, 12, 12), tmp_path / "other.png")
    with pytest.raises(InputError, match=r"other\.png has 12 x 12 pixels, photo\.png 12 x 8: expected the same frame"):
        read_pair(photo, other)
    with pytest.raises(InputError, match=r"found none at .*gone\.png"):
        read_pair(photo, tmp_path / "gone.png")


def test_sides_may_be_rounded() -> None:
    assert same_frame((500, 375), (496, 368))
    assert same_frame((3, 500, 500), (1024, 1024))
    assert not same_frame((500, 375), (500, 400))
