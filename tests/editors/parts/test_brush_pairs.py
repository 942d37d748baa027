"""Pairs are found in both layouts, and what is no pair is refused by its name."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import make_pairs
from maskedit.editors.core.errors import InputError
from maskedit.editors.core.images import save_image
from maskedit.editors.parts.brush_pairs import BrushPairs, find_misalignment, find_pairs, match_pairs, read_pairs


def draw(path: Path, height: int = 16, width: int = 16) -> Path:
    value = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(len(path.name)))
    return save_image(value, path)


def test_the_layout_of_the_benchmark(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        draw(tmp_path / "train" / f"{number}_0.png")
        draw(tmp_path / "train" / f"{number}_1.png")
    draw(tmp_path / "test" / "0_0.png")
    (tmp_path / "instruction.txt").write_text("make it blue")
    found = find_pairs(tmp_path)
    assert [pair.name for pair in found] == ["0", "2", "10"]
    assert found[2].after == tmp_path / "train" / "10_1.png"
    assert [pair.name for pair in find_pairs(tmp_path / "train")] == ["0", "2", "10"]


def test_two_folders_of_equal_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        draw(tmp_path / "x" / f"{name}.png")
        draw(tmp_path / "y" / f"{name}.jpg")
    found = match_pairs(tmp_path / "x", tmp_path / "y")
    assert [(pair.before.name, pair.after.name) for pair in found] == [("a.png", "a.jpg"), ("b.png", "b.jpg")]


def test_what_is_no_pair_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none at"):
        find_pairs(tmp_path / "none")
    with pytest.raises(InputError, match="no pairs in"):
        find_pairs(tmp_path)
    with pytest.raises(InputError, match=r"got the file .*0.png: name the folder"):
        find_pairs(draw(tmp_path / "deep" / "0.png"))
    draw(tmp_path / "3_0.png")
    with pytest.raises(InputError, match=r"pair '3' .* has no picture after"):
        find_pairs(tmp_path)
    draw(tmp_path / "cat.png")
    with pytest.raises(InputError, match=r"cat.png is of no pair"):
        find_pairs(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no pictures in"):
        match_pairs(tmp_path / "a", tmp_path / "a")
    with pytest.raises(InputError, match="pair 'cat' has no picture in"):
        match_pairs(tmp_path, tmp_path / "a")


def test_pairs_come_at_the_size_of_the_model(tmp_path: Path) -> None:
    for number in range(2):
        draw(tmp_path / f"{number}_0.png", 30, 60)
        draw(tmp_path / f"{number}_1.png", 30, 60)
    pairs = read_pairs(find_pairs(tmp_path), size=32, multiple=8)
    assert pairs.before.shape == pairs.after.shape == (2, 3, 16, 32)
    assert pairs.part(slice(1, 2)).names == ("1",)


def test_unequal_pairs_are_refused_by_name(tmp_path: Path) -> None:
    draw(tmp_path / "0_0.png")
    draw(tmp_path / "0_1.png", 16, 24)
    with pytest.raises(InputError, match="pair '0' is unequal, 16x16 pixels before and 24x16 after"):
        read_pairs(find_pairs(tmp_path), size=16, multiple=4)
    draw(tmp_path / "0_1.png")
    draw(tmp_path / "1_0.png", 16, 24)
    draw(tmp_path / "1_1.png", 16, 24)
    with pytest.raises(InputError, match="pair '1' of 24x16 pixels has another shape than '0'"):
        read_pairs(find_pairs(tmp_path), size=16, multiple=4)


def test_pairs_that_show_no_edit_are_named() -> None:
    """Equal pictures, hardly another tone, a small edit, and a large one."""
    before = detailed(32, 32).repeat(4, 1, 1, 1)
    after = before.clone()
    after[1] += 0.5 / 255
    after[2, :, 3:5, 3:5] = 1 - after[2, :, 3:5, 3:5].round()
    after[3] = after[3] ** 2
    assert (after[2] - before[2]).abs().mean() < 1 / 255
    pairs = BrushPairs(names=("a", "b", "c", "d"), before=before, after=after)
    assert pairs.require_change() == ("a", "b")
    with pytest.raises(InputError, match=r"no pair shows an edit, .* of pair 'a' are the same"):
        pairs.part(slice(0, 2)).require_change()


def test_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="at least one pair"):
        read_pairs((), size=16, multiple=4)
    with pytest.raises(InputError, match="at least one pair"):
        BrushPairs(names=(), before=torch.zeros(0, 3, 8, 8), after=torch.zeros(0, 3, 8, 8))
    with pytest.raises(InputError, match="as many pictures after as before"):
        BrushPairs(names=("a",), before=torch.zeros(1, 3, 8, 8), after=torch.zeros(2, 3, 8, 8))


def detailed(height: int = 64, width: int = 96) -> torch.Tensor:
    coarse = torch.rand(1, 3, 10, 15, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.mark.parametrize(("right", "down"), [(4, 0), (-8, 6), (0, -10)])
def test_a_shift_is_found(right: int, down: int) -> None:
    picture = detailed()
    found = find_misalignment(picture, picture.roll((down, right), (-2, -1)))
    assert found is not None
    assert abs(found[0] - right) <= 2 and abs(found[1] - down) <= 2 and not found[2]


def test_a_mirrored_picture_is_found() -> None:
    assert find_misalignment(detailed(), detailed().flip(-1)) == (0, 0, True)


def test_edits_are_no_misalignment() -> None:
    """Equal pictures, another tone, other colours, a local change, another style, and truly edited blocks."""
    picture = detailed()
    local = picture.clone()
    local[..., 10:40, 20:60] = 0.3
    noise = torch.rand(picture.shape, generator=torch.Generator().manual_seed(5))
    edges = (picture - picture.roll(1, -1)).abs()
    for after in (
        picture,
        0.5 * picture**2,
        picture.flip(1),
        1 - picture,
        local,
        noise,
        edges,
        torch.zeros_like(noise),
    ):
        assert find_misalignment(picture, after) is None
    blocks = make_pairs("test", range(16))
    for row in range(16):
        assert find_misalignment(blocks.source[row : row + 1], blocks.target[row : row + 1]) is None


def test_misaligned_pairs_are_refused_by_name(tmp_path: Path) -> None:
    for number, shift in enumerate((0, 6)):
        save_image(detailed(), tmp_path / f"{number}_0.png")
        save_image(detailed().roll(shift, -1) ** 2, tmp_path / f"{number}_1.png")
    files = find_pairs(tmp_path)
    with pytest.raises(InputError, match=r"pair '1' is misaligned, .* about \d pixels to the right and 0 down"):
        read_pairs(files, size=64, multiple=8)
    assert read_pairs(files, size=64, multiple=8, aligned=False).names == ("0", "1")
