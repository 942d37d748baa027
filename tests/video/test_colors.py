"""Colours follow what a file names, agree with the formulas, and come back from a file."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from maskedit.video.colors import matrix_of_size, rgb_converter, yuv_converter


def decode(path: Path) -> np.ndarray:
    """The first frame, "height width 3"."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return rgb_converter(frame)(frame).to_ndarray()


def write_flat(path: Path, height: int, width: int, planes: tuple[int, int, int], **tags: int) -> Path:
    """A clip whose frames are one colour, given as the values that are stored, at 8 or 10 bits."""
    depth = "yuv420p10le" if max(planes) > 255 else "yuv420p"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, depth
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(2):
            frame = av.VideoFrame(width, height, depth)
            for plane, value in zip(frame.planes, planes, strict=True):
                unit = np.uint16 if depth.endswith("le") else np.uint8
                plane.update(np.full(plane.buffer_size // np.dtype(unit).itemsize, value, unit).tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("height", "width", "kr", "kb"), [(64, 96, 0.299, 0.114), (720, 1280, 0.2126, 0.0722)])
def test_a_file_without_a_matrix_has_that_of_its_size(height: int, width: int, kr: float, kb: float, tmp_path: Path):
    path = write_flat(tmp_path / "a.mp4", height, width, (110, 90, 170))
    luma, blue, red = (110 - 16) / 219, (90 - 128) / 224, (170 - 128) / 224
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    expected = 255 * np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b])
    np.testing.assert_allclose(decode(path)[10, 10], expected, atol=1.5)
    assert matrix_of_size(width, height) == matrix_of_size(height, width)


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [1, 2])
def test_a_named_matrix_and_range_are_followed(matrix: int, full: int, tmp_path: Path):
    path = write_flat(tmp_path / "a.mp4", 64, 96, (110, 90, 170), colorspace=matrix, color_range=full)
    frame = av.VideoFrame.from_ndarray(decode(path), format="rgb24").reformat(
        format="yuv444p", dst_colorspace=Colorspace(1 if matrix == 1 else 5), dst_color_range=ColorRange(full)
    )
    found = [np.frombuffer(bytes(plane), np.uint8)[0] for plane in frame.planes]
    np.testing.assert_allclose(found, (110, 90, 170), atol=1.5)


@pytest.mark.parametrize("curve", [16, 18])
def test_high_dynamic_range_is_brought_to_the_ordinary_one(curve: int, tmp_path: Path):
    levels = (64 + 438, 512, 512)
    plain = decode(write_flat(tmp_path / "plain.mp4", 64, 96, levels))[5, 5]
    path = write_flat(tmp_path / "hdr.mp4", 64, 96, levels, colorspace=9, color_primaries=9, color_trc=curve)
    found = decode(path)[5, 5]
    # Half of such a signal is brighter than half of an ordinary one, and grey stays grey.
    assert np.ptp(found.astype(int)) <= 2
    assert np.all(found > plain + 10)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (720, 1280)])
def test_smooth_pictures_come_back(height: int, width: int, moving: Callable[..., np.ndarray]):
    picture = moving(3, height, width)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = 7, Fraction(1, 12)
    stored = yuv_converter(frame)(frame)
    assert (stored.format.name, stored.color_range, stored.pts) == ("yuv420p", ColorRange.MPEG, 7)
    back = rgb_converter(stored)(stored).to_ndarray()
    # A wrap in the blue channel is an edge, whose colour is blurred.
    error = np.abs(back.astype(int) - picture)
    assert np.median(error) <= 1
    assert error[..., :2].mean() < 2
