"""Pictures from files of every kind and back, and the errors of those that are none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from maskedit.editors import (
    InputError,
    bytes_to_image,
    image_to_bytes,
    image_to_pil,
    load_image,
    load_mask,
    overlay_mask,
    resize_image,
    save_image,
    side_by_side,
)
from maskedit.editors.core.images import fit_size, pad_to_multiple, pil_to_image

RAMP = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
ROTATE_LEFT, ORIENTATION = 8, 0x0112


def test_png_round_trip_keeps_every_byte(tmp_path: Path) -> None:
    image = bytes_to_image(torch.from_numpy(RAMP)[None])
    back = load_image(save_image(image, tmp_path / "deep" / "a.png"))
    assert back.shape == (1, 3, 6, 8)
    assert torch.equal(back, image)


def test_all_bytes_survive_both_ways() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    assert torch.equal(image_to_bytes(bytes_to_image(values)), values)


def test_values_out_of_range_are_clamped_and_rounded() -> None:
    values = image_to_bytes(torch.tensor([-1.0, 0.5 / 255 + 1e-4, 0.4 / 255, 2.0]).view(1, 1, 1, 4))
    assert values.flatten().tolist() == [0, 1, 0, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = PilImage.fromarray(RAMP)
    exif = picture.getexif()
    exif[ORIENTATION] = ROTATE_LEFT
    picture.save(tmp_path / "a.png", exif=exif)
    upright = load_image(tmp_path / "a.png")
    assert upright.shape == (1, 3, 8, 6)
    assert torch.equal(upright, pil_to_image(picture).rot90(1, (2, 3)))


def test_exif_orientation_is_applied_to_masks(tmp_path: Path) -> None:
    picture = PilImage.fromarray(RAMP[..., 0])
    exif = picture.getexif()
    exif[ORIENTATION] = ROTATE_LEFT
    picture.save(tmp_path / "a.png", exif=exif)
    assert load_mask(tmp_path / "a.png").shape == (1, 1, 8, 6)


def test_transparency_is_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([RAMP, np.full(RAMP.shape[:2], 255, np.uint8)])
    rgba[0, 0] = (10, 20, 30, 0)
    PilImage.fromarray(rgba).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image[0, :, 0, 0].tolist() == [1, 1, 1]
    assert torch.equal(image_to_bytes(image)[0, 1:], torch.from_numpy(RAMP)[1:])


def test_a_palette_with_a_see_through_colour_is_on_white(tmp_path: Path) -> None:
    picture = PilImage.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 200, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.gif", transparency=0)
    image = image_to_bytes(load_image(tmp_path / "a.gif"))
    assert image[0, 0].tolist() == [[255, 255, 255], [0, 200, 0]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    ending = "tiff" if mode == "CMYK" else "png"
    PilImage.fromarray(RAMP).convert(mode).save(tmp_path / f"a.{ending}")
    image = load_image(tmp_path / f"a.{ending}")
    assert image.shape == (1, 3, 6, 8)
    assert image.max() > image.min()


@pytest.mark.parametrize("load", [load_image, load_mask])
def test_16_bit_greys_are_scaled_not_cut(tmp_path: Path, load) -> None:
    deep = (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)
    PilImage.fromarray(deep).save(tmp_path / "a.png")
    expected = torch.arange(16).view(4, 4) * 17
    assert torch.equal(image_to_bytes(load(tmp_path / "a.png"))[0, ..., 0], expected.to(torch.uint8))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    PilImage.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"float pixels.*convert it to PNG"):
        load_image(tmp_path / "a.tiff")


def broken_files(folder: Path) -> dict[str, Path]:
    PilImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        folder / "whole.png"
    )
    whole = (folder / "whole.png").read_bytes()
    contents = {
        "empty.png": b"",
        "text.jpg": b"this is a letter",
        "cut.png": whole[: len(whole) // 2],
        "garbled.png": whole[:60] + bytes(len(whole) - 60),
        "header.png": whole[:20],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents} | {"none.png": folder / "none.png", "folder": folder}


@pytest.mark.parametrize(
    "name", ["empty.png", "text.jpg", "cut.png", "garbled.png", "header.png", "none.png", "folder"]
)
@pytest.mark.parametrize("load", [load_image, load_mask])
def test_unreadable_files_are_one_clear_line(tmp_path: Path, name: str, load) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(InputError, match=f"{path}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_mask_is_its_brightness(tmp_path: Path) -> None:
    PilImage.fromarray(np.array([[0, 51, 255]], np.uint8)).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png").flatten().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(("opacity", "expected"), [((0, 255), (0, 1)), ((255, 255), (1, 0))])
def test_opacity_counts_only_where_it_is_used(tmp_path: Path, opacity: tuple, expected: tuple) -> None:
    """Paint programs add an opacity channel of 255 to black and white masks."""
    rgba = np.array([[(255, 255, 255, opacity[0]), (0, 0, 0, opacity[1])]], np.uint8)
    PilImage.fromarray(rgba).save(tmp_path / "a.png")
    assert tuple(load_mask(tmp_path / "a.png").flatten().tolist()) == expected


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = save_image(torch.zeros(1, 3, 4, 4), tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot write"):
        save_image(torch.ones(1, 3, 4, 4), tmp_path / "a.nothing")
    save_image(torch.ones(1, 3, 4, 4), path)
    assert path.read_bytes() != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]


def test_a_write_that_dies_midway_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(torch.zeros(1, 3, 4, 4), tmp_path / "a.png")
    before = path.read_bytes()

    def full(self: PilImage.Image, place: Path) -> None:
        Path(place).write_bytes(b"half a pict")
        raise OSError("no space left on device")

    monkeypatch.setattr(PilImage.Image, "save", full)
    with pytest.raises(InputError, match="no space left"):
        save_image(torch.ones(1, 3, 4, 4), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_output_below_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*choose another output") as caught:
        save_image(torch.zeros(1, 3, 4, 4), tmp_path / "file" / "a.png")
    assert "\n" not in str(caught.value)


def test_a_folder_as_output_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        save_image(torch.zeros(1, 3, 4, 4), tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_masks_are_written_as_grey(tmp_path: Path) -> None:
    mask = torch.tensor([0.0, 0.2, 1.0]).view(1, 1, 1, 3)
    assert image_to_pil(mask).mode == "L"
    assert torch.equal(load_mask(save_image(mask, tmp_path / "m.png")), mask)


def test_resizing_to_the_same_size_is_the_same_tensor() -> None:
    image = torch.rand(1, 3, 5, 7)
    assert resize_image(image, 5, 7) is image


def test_resizing_keeps_the_mean_when_shrinking() -> None:
    image = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    small = resize_image(image, 16, 12)
    assert small.shape == (2, 3, 16, 12)
    assert torch.allclose(small.mean((2, 3)), image.mean((2, 3)), atol=0.02)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [((30, 60), 20, (10, 20)), ((60, 30), 120, (120, 60)), ((7, 5), None, (7, 5)), ((1, 1000), 64, (1, 64))],
)
def test_fit_size(size: tuple[int, int], longest: int | None, expected: tuple[int, int]) -> None:
    assert fit_size(*size, longest=longest) == expected


def test_padding_repeats_edges_and_only_where_needed() -> None:
    image = torch.rand(1, 3, 5, 8)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :], image)
    assert torch.equal(padded[..., 7, :], image[..., 4, :])
    assert pad_to_multiple(padded, 4) is padded


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got the folder .*: pass its files, e\.g\. .*/\*\.png"):
        load_image(tmp_path)


def test_panels_stand_side_by_side() -> None:
    strip = side_by_side([torch.zeros(2, 3, 4, 5), torch.zeros(1, 1, 4, 6)], gap=2)
    assert strip.shape == (1, 3, 4, 13)
    assert strip[..., 5:7].min() == 1
    assert strip.sum() == 3 * 4 * 2


def test_an_overlay_tints_the_mask_alone() -> None:
    image = torch.rand(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    tinted = overlay_mask(image, mask)
    assert torch.equal(tinted[..., 2:], image[..., 2:])
    assert (tinted[..., :2] != image[..., :2]).any(1).all()
