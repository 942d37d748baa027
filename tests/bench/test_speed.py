"""The speed bench: all arms run on tiny networks, and its figures agree with each other and with hand counts."""

import math

import pytest
import torch

from maskedit.bench.speed import SpeedBenchConfig, count_unet_tera, measure_matrix_peak, run_speed_bench, to_rows
from maskedit.editors import INSTRUCT_PIX2PIX, Architecture

ARMS = ["diffusers", "ip2p", "foi", "ip2p, second edit of a view"]
CONFIG = SpeedBenchConfig(size=64, steps=2, rounds=1, batches=(1, 2), device="cpu", dtype="float32")
TINY = Architecture(
    unet={
        **INSTRUCT_PIX2PIX.unet,
        "block_out_channels": (16, 32, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 32,
        "norm_num_groups": 8,
    },
    vae={**INSTRUCT_PIX2PIX.vae, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
    text_encoder={
        **INSTRUCT_PIX2PIX.text_encoder,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    scheduler=INSTRUCT_PIX2PIX.scheduler,
)


@pytest.fixture(scope="module")
def document() -> dict:
    return run_speed_bench(CONFIG, architecture=TINY)


def test_every_arm_is_timed_at_every_batch(document: dict):
    assert document["bench"] == "speed"
    assert document["dtype"] == "torch.float32"
    assert [row["method"] for row in document["rows"]] == ARMS * 2
    names = [f"64 px, batch {batch}, 2 steps, eager" for batch in (1, 2) for _ in ARMS]
    assert [row["set"] for row in document["rows"]] == names
    for row in document["rows"]:
        assert all(math.isfinite(value) and value > 0 for value in row.values() if not isinstance(value, str))


def test_figures_of_one_round_agree_with_each_other(document: dict):
    tera, peak = document["unet_tera_per_sample"], document["matrix_peak_tera_per_s"]
    for batch, rows in ((1, document["rows"][:4]), (2, document["rows"][4:])):
        seconds = {row["method"]: row["seconds"] for row in rows}
        for row in rows:
            assert row["ratio_to_diffusers"] == pytest.approx(row["seconds"] / seconds["diffusers"])
            assert row["ratio_to_ip2p"] == pytest.approx(row["seconds"] / seconds["ip2p"])
            assert row["seconds_per_view"] == pytest.approx(row["seconds"] / batch)
            # Three branches, two steps.
            assert row["share_of_peak"] == pytest.approx(6 * batch * tera / row["seconds"] / peak)
            assert row["share_of_peak"] < 1


def test_ratios_are_medians_of_ratios_within_a_round():
    """A machine that slows down from round to round changes the seconds and not the ratio."""
    seconds = {"diffusers": [1.0, 2.0, 9.0], "ip2p": [0.5, 1.0, 4.5], "foi": [0.6, 1.2, 9.0]}
    rows = {row["method"]: row for row in to_rows(seconds, CONFIG, 64, 2, True, 0.5, 3.0)}
    assert rows["diffusers"]["seconds"] == 2
    assert rows["ip2p"]["ratio_to_diffusers"] == 0.5
    assert rows["foi"]["ratio_to_ip2p"] == pytest.approx(1.2)
    assert rows["foi"]["ratio_to_diffusers"] == pytest.approx(0.6)
    assert rows["ip2p"]["share_of_peak"] == pytest.approx(3 * 2 * 2 * 0.5 / 1.0 / 3.0)
    assert rows["foi"]["set"] == "64 px, batch 2, 2 steps, compiled"


def test_the_published_unet_takes_four_fifths_of_a_tera_at_512_pixels():
    assert count_unet_tera(INSTRUCT_PIX2PIX, 512) == pytest.approx(0.80, rel=0.01)


def test_operations_grow_a_little_faster_than_pixels():
    small, large = (count_unet_tera(TINY, size) for size in (128, 256))
    assert 4 < large / small < 16


def test_the_peak_is_a_rate_this_machine_can_reach():
    peak = measure_matrix_peak(torch.device("cpu"), torch.float32)
    assert 1e-4 < peak < 100


def test_progress_is_told_to_the_caller_alone(capfd: pytest.CaptureFixture[str]):
    lines: list[str] = []
    run_speed_bench(SpeedBenchConfig(size=64, steps=1, rounds=1, device="cpu"), architecture=TINY, report=lines.append)
    assert lines == ["batch 1, 64 px, eager"]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "value"), [("size", 32), ("steps", 0), ("rounds", 0), ("batches", ()), ("batches", (4, 0))]
)
def test_impossible_numbers_are_refused(name: str, value: int | tuple[int, ...]):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        SpeedBenchConfig(**{name: value})
