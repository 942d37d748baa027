"""Flow files: each form is read, what fits is scaled, what does not is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.editors import InputError
from maskedit.video.flow import ClipFlow, FlowConfig, estimate_flow, pair_flow
from maskedit.video.flow_files import read_flow, write_flow

SIZE = {"height": 12, "width": 16}


@pytest.fixture
def flow() -> ClipFlow:
    """Of 12 frames, all different."""
    forward = torch.randn(11, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    return pair_flow(forward, -forward, FlowConfig(), method="dis")


def write_flo(path: Path, field: np.ndarray) -> None:
    height, width = field.shape[-2:]
    sides = np.array([width, height], "<i4").tobytes()
    path.write_bytes(b"PIEH" + sides + field.transpose(1, 2, 0).astype("<f4").tobytes())


def write_npy(path: Path, field: np.ndarray) -> None:
    np.save(path, field)


def write_npy_last(path: Path, field: np.ndarray) -> None:
    np.save(path, field.transpose(1, 2, 0))


def write_folder(folder: Path, flow: ClipFlow, write: Callable[[Path, np.ndarray], None], ending: str) -> None:
    for name in ("forward", "backward"):
        (folder / name).mkdir(parents=True)
        for number, field in enumerate(getattr(flow, name)):
            write(folder / name / f"pair_{number}{ending}", field.numpy())


def test_a_run_s_own_file_comes_back(flow: ClipFlow, tmp_path: Path) -> None:
    flow.forward_confident[0, 0, 0] = ~flow.forward_confident[0, 0, 0]
    write_flow(tmp_path / "run" / "flow.npz", flow)
    back = read_flow(tmp_path / "run" / "flow.npz", frames=12, **SIZE)
    assert back.method == "dis"
    for name in ("forward", "backward", "forward_confident", "backward_confident"):
        assert torch.equal(getattr(back, name), getattr(flow, name))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["flow.npz"]


@pytest.mark.parametrize(
    ("write", "ending"),
    [(write_flo, ".flo"), (write_npy, ".npy"), (write_npy_last, ".npy")],
    ids=["flo", "npy", "last"],
)
def test_folders_are_read_in_natural_order(
    flow: ClipFlow, tmp_path: Path, write: Callable[[Path, np.ndarray], None], ending: str
) -> None:
    write_folder(tmp_path, flow, write, ending)
    back = read_flow(tmp_path, frames=12, **SIZE)
    assert back.method == "files"
    assert torch.equal(back.forward, flow.forward)
    assert torch.equal(back.backward, flow.backward)
    assert torch.equal(back.forward_confident, flow.forward_confident)


def test_estimation_takes_files(flow: ClipFlow, tmp_path: Path) -> None:
    write_folder(tmp_path, flow, write_flo, ".flo")
    frames = torch.zeros(12, 3, 12, 16, dtype=torch.uint8)
    found = estimate_flow(frames, FlowConfig(files=tmp_path))
    assert found.method == "files" and torch.equal(found.forward, flow.forward)


def test_flow_of_another_size_is_scaled(tmp_path: Path) -> None:
    forward = torch.tensor([4.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 24, 32).numpy()
    np.savez(tmp_path / "flow.npz", forward=forward, backward=-forward)
    flow = read_flow(tmp_path / "flow.npz", frames=2, **SIZE)
    torch.testing.assert_close(flow.forward, torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 12, 16))
    assert flow.forward_confident[:, 1:, :14].all()
    assert not flow.forward_confident[:, 0].any() and not flow.forward_confident[:, :, 14:].any()


def test_unknown_flow_is_not_trusted(tmp_path: Path) -> None:
    forward = np.zeros((1, 2, 12, 16), np.float32)
    forward[0, 0, 3, 4], forward[0, 1, 5, 6] = 1e10, np.nan
    np.savez(tmp_path / "flow.npz", forward=forward, backward=np.zeros_like(forward))
    flow = read_flow(tmp_path / "flow.npz", frames=2, **SIZE)
    assert (~flow.forward_confident).nonzero().tolist() == [[0, 3, 4], [0, 5, 6]]
    assert flow.backward_confident.all()
    assert not flow.forward.any()


def test_what_does_not_fit_is_refused(flow: ClipFlow, tmp_path: Path) -> None:
    write_flow(tmp_path / "flow.npz", flow)
    write_folder(tmp_path / "folder", flow, write_flo, ".flo")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "half.npz", forward=np.zeros(3))
    np.savez(tmp_path / "shape.npz", forward=np.zeros((11, 12, 16)), backward=np.zeros((11, 12, 16)))
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    for name, frames, size, expected in (
        ("flow.npz", 10, SIZE, "expected 9 flow fields of forward in .*, got 11"),
        ("flow.npz", 12, {"height": 12, "width": 30}, "the shape of the frames, 30x12, .* got 16x12"),
        ("folder", 10, SIZE, r"expected 9 flow files \(.flo or .npy\) in .*forward, .* got 11"),
        ("empty", 12, SIZE, "no such folder"),
        ("nowhere", 12, SIZE, "found none"),
        ("half.npz", 12, SIZE, r"expected forward and backward in .*, found \['forward'\]"),
        ("shape.npz", 12, SIZE, r"the shape \(pairs, 2, height, width\), got \(11, 12, 16\)"),
        ("broken.npz", 12, SIZE, "cannot read"),
    ):
        with pytest.raises(InputError, match=expected) as caught:
            read_flow(tmp_path / name, frames=frames, **size)
        assert "\n" not in str(caught.value)


def test_broken_files_of_a_folder_are_named(flow: ClipFlow, tmp_path: Path) -> None:
    write_folder(tmp_path, flow, write_flo, ".flo")
    file = tmp_path / "forward" / "pair_3.flo"
    whole = file.read_bytes()
    for data, expected in (
        (whole[:-4], "pair_3.flo as flow: it is cut off"),
        (b"RIFF" + whole[4:], "pair_3.flo as flow: it does not begin"),
        (whole[:4] + np.array([8, 12], "<i4").tobytes() + whole[12 : 12 + 8 * 96], "pair_3.flo differs"),
    ):
        file.write_bytes(data)
        with pytest.raises(InputError, match=expected):
            read_flow(tmp_path, frames=12, **SIZE)
    file.unlink()
    np.save(file.with_suffix(".npy"), np.zeros((3, 12, 16)))
    with pytest.raises(InputError, match=r"two channels in .*pair_3.npy, got the shape \(3, 12, 16\)"):
        read_flow(tmp_path, frames=12, **SIZE)
