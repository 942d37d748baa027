"""Encodings and the network: windows, sines, codes and layers as the formulas say."""

import itertools

import pytest
import torch
from torch import nn

from maskedit.editors import InputError
from maskedit.video.encodings import FrameCode, FrequencyEncoding, Mlp, anneal_weights, check_frames

LEVELS = 16
PUBLISHED = {"begin": 4000, "span": 4000, "levels": LEVELS}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden(network: Mlp) -> list[nn.Linear]:
    return [layer for layer in network.hidden if isinstance(layer, nn.Linear)]


def test_no_level_is_seen_before_its_time_and_all_are_in_the_end() -> None:
    assert not any(anneal_weights(step, **PUBLISHED).any() for step in (0, 1, 3999, 4000))
    assert all(bool((anneal_weights(step, **PUBLISHED) == 1).all()) for step in (8000, 8001, 10000))


def test_levels_fade_in_from_coarse_to_fine() -> None:
    rows = torch.stack([anneal_weights(step, **PUBLISHED) for step in range(3900, 8100, 10)])
    assert (rows.diff(dim=0) >= 0).all()
    assert (rows.diff(dim=1) <= 0).all()
    # A level takes a sixteenth of the span; the first one is there after 250 steps and not before.
    assert anneal_weights(4240, **PUBLISHED)[0] < 1
    assert anneal_weights(4250, **PUBLISHED).tolist() == [1.0] + [0.0] * 15


def test_a_level_is_half_there_half_way() -> None:
    torch.testing.assert_close(anneal_weights(4125, **PUBLISHED)[0], torch.tensor(0.5))
    assert torch.equal(anneal_weights(0.4125, begin=0.4, span=0.4, levels=LEVELS), anneal_weights(4125, **PUBLISHED))


def test_shares_of_a_run_serve_as_well_as_steps() -> None:
    assert not anneal_weights(0.4, begin=0.4, span=0.4, levels=3).any()
    assert (anneal_weights(0.8, begin=0.4, span=0.4, levels=3) == 1).all()


def test_sines_are_the_parts_of_powers_of_one_wave(tolerance) -> None:
    encoding = FrequencyEncoding(2, 5, base_frequency=1.5)
    points = torch.randn((7, 2), generator=seeded(), dtype=torch.float64)
    # exp(i x)**(2**k) needs no frequencies at all.
    wave, expected = torch.exp(1.5j * points), list[torch.Tensor]()
    for _ in range(5):
        expected += [wave.imag, wave.real]
        wave = wave * wave
    torch.testing.assert_close(encoding(points), torch.cat(expected, 1), **vars(tolerance(torch.float64)))
    assert encoding(points).shape[1] == encoding.outputs == 20


def test_the_published_bands() -> None:
    encoding = FrequencyEncoding(2)
    # With the coordinates themselves these are the 34 numbers of CoDeF and NeRF.
    assert encoding.outputs + 2 == 34
    assert encoding.frequencies == (1, 2, 4, 8, 16, 32, 64, 128)


def test_bands_are_weighted() -> None:
    encoding = FrequencyEncoding(3, 2)
    points = torch.rand((4, 3), generator=seeded())
    whole, weighted = encoding(points), encoding(points, torch.tensor([0.5, 0.0]))
    assert torch.equal(weighted[:, :6], whole[:, :6] / 2)
    assert not weighted[:, 6:].any()
    with pytest.raises(InputError, match="2 level weights are expected, got 1"):
        encoding(points, torch.ones(1))
    with pytest.raises(InputError, match="3 coordinates, got 2"):
        encoding(points[:, :2])


def test_every_frame_has_its_code() -> None:
    # The published code ends at 200 frames.
    code = FrameCode(300, generator=seeded())
    codes = code(torch.tensor([0, 299, 0]))
    assert codes.shape == (3, 8)
    assert torch.equal(codes[0], codes[2])
    assert not torch.equal(codes[0], codes[1])
    assert 0.9 < code.codes.std() < 1.1
    codes[1].sum().backward()
    assert code.codes.grad.abs().sum(1).nonzero().flatten().tolist() == [299]


@pytest.mark.parametrize("wrong", [[3], [0, 5], [-1]])
def test_frames_of_other_clips_are_refused(wrong: list[int]) -> None:
    with pytest.raises(InputError, match=r"frames must be in 0\.\.2"):
        FrameCode(3)(torch.tensor(wrong))
    check_frames(torch.tensor([0, 2]), 3)
    check_frames(torch.tensor([], dtype=torch.int64), 3)


def test_a_network_is_its_matrices(tolerance) -> None:
    network = Mlp(3, 5, 2, 4, generator=seeded()).double()
    for value in network.parameters():
        torch.nn.init.normal_(value, generator=seeded(1))
    points = torch.randn((6, 3), generator=seeded(2), dtype=torch.float64)
    values = points
    for layer in hidden(network):
        values = (values @ layer.weight.T + layer.bias).clamp(min=0)
    expected = values @ network.last.weight.T + network.last.bias
    torch.testing.assert_close(network(points), expected, **vars(tolerance(torch.float64)))
    assert (network(points) < 0).any()


def test_a_layer_can_see_the_inputs_again() -> None:
    network = Mlp(3, 5, 4, 2, skip=2, generator=seeded())
    assert [tuple(layer.weight.shape) for layer in hidden(network)] == [(5, 3), (5, 5), (5, 8), (5, 5)]
    with torch.no_grad():
        # Nothing else is left of the inputs.
        hidden(network)[0].weight.zero_()
    first, second = network(torch.tensor([[0.1, 0.2, 0.3], [0.9, -0.5, 0.7]]))
    assert not torch.equal(first, second)


def test_signals_neither_swell_nor_fade() -> None:
    network = Mlp(32, 256, 8, 256, generator=seeded())
    values = torch.randn((512, 32), generator=seeded(1))
    for layer in hidden(network):
        values = layer(values).relu()
    # Each layer doubles the second moment, which ReLU halves again.
    assert 0.5 < values.square().mean() < 2


def test_a_generator_decides_and_no_other() -> None:
    before = torch.get_rng_state()
    networks = [Mlp(2, 4, 2, 1, generator=seeded(seed)) for seed in (1, 1, 2)]
    FrameCode(4, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_network_that_starts_at_zero_learns_all_the_same() -> None:
    network = Mlp(2, 16, 3, 1, generator=seeded())
    network.start_at_zero()
    points = torch.rand((64, 2), generator=seeded(1))
    assert not network(points).any()
    truth, optimizer = points.prod(1, keepdim=True), torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = list[float]()
    for _ in range(60):
        loss = (network(points) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.02 * errors[0]
    assert all(a > b for a, b in itertools.pairwise(errors[:5]))
    assert all(layer.weight.grad.any() for layer in hidden(network))
