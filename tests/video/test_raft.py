"""RAFT: built from its weights, whichever network they are, and refused where they are not."""

from pathlib import Path

import pytest
import torch
from torchvision.models.optical_flow import raft_large, raft_small

from maskedit.editors import ModelError
from maskedit.video.flow import FlowConfig, estimate_flow
from maskedit.video.raft import find_raft, load_raft, raft_flow


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network at its real size, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = raft_small(weights=None)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(network.state_dict(), path)
    return path


def pictures(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (*size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_network_is_read_from_the_weights(small_file: Path, tmp_path: Path) -> None:
    assert load_raft(small_file, device="cpu")[1] == "raft-small"
    large = tmp_path / "large.pth"
    torch.save(raft_large(weights=None).state_dict(), large)
    network, name = load_raft(large, device="cpu")
    assert name == "raft-large" and not network.training
    assert not any(weight.requires_grad for weight in network.parameters())


def test_flow_is_the_library_s_own(small_file: Path) -> None:
    network, _ = load_raft(small_file, device="cpu")
    first, second = pictures(2, 3, 128, 136)[:1], pictures(2, 3, 128, 136)[1:]
    found = raft_flow(network, first, second, updates=2)
    own = network(first / 127.5 - 1, second / 127.5 - 1, num_flow_updates=2)[-1]
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (130, 131), (40, 200)])
def test_any_size_works(small_file: Path, height: int, width: int) -> None:
    network, _ = load_raft(small_file, device="cpu")
    flow = raft_flow(network, pictures(1, 3, height, width), pictures(1, 3, height, width), updates=1)
    assert flow.shape == (1, 2, height, width)
    assert flow.isfinite().all()


def test_a_clip_is_estimated_with_the_file_given(small_file: Path) -> None:
    frames = pictures(3, 3, 72, 88)
    config = {"raft_checkpoint": small_file, "raft_updates": 1}
    flow = estimate_flow(frames, FlowConfig(**config, chunk=1))
    assert flow.method == "raft-small" and flow.backward.shape == (2, 2, 72, 88)
    network, _ = load_raft(small_file, device="cpu")
    torch.testing.assert_close(flow.backward[1:], raft_flow(network, frames[2:], frames[1:2], updates=1))
    together = estimate_flow(frames, FlowConfig(**config, chunk=2))
    torch.testing.assert_close(flow.forward, together.forward, atol=1e-3, rtol=1e-3)


def test_the_cache_is_looked_up_large_before_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_raft(None) is None
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("raft_small_C_T_V2-01064c6d.pth", "raft_large_C_T_SKHT_V2-ff5fadd5.pth"):
        (folder / name).touch()
        assert find_raft(None) == folder / name


def test_wrong_weights_are_refused(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"found no such file: check raft_checkpoint"):
        find_raft(tmp_path / "none.pth")
    with pytest.raises(ModelError, match="offline"):
        load_raft(None, device="cpu", offline=True)
    weights = torch.load(small_file, weights_only=True)
    other = tmp_path / "other.pth"
    for stored, expected in (
        ({"a": torch.zeros(1)}, "no RAFT of torchvision"),
        ({"module.fnet.conv1.weight": torch.zeros(64, 3, 7, 7)}, "no RAFT of torchvision"),
        (dict(list(weights.items())[:-1]), "no complete RAFT"),
        ([1, 2], "got something else"),
        (Path, "more than weights and may run code"),
    ):
        torch.save(stored, other)
        with pytest.raises(ModelError, match=expected) as caught:
            load_raft(other, device="cpu")
        assert "\n" not in str(caught.value)
    other.write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"other\.pth"):
        load_raft(other, device="cpu")
