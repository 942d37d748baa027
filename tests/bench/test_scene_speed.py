"""The speed of editing views: all arms run on a tiny checkpoint, and the figures agree with each other."""

from pathlib import Path

import pytest
import torch

from maskedit.bench.scene_speed import SceneSpeedBenchConfig, make_arms, run_scene_speed_bench, time_arms, to_rows
from maskedit.editors import INSTRUCT_PIX2PIX, Architecture, Backbone, BackboneConfig

CONFIG = SceneSpeedBenchConfig(batches=(1, 2), steps=2, rounds=1, size=64)
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
def document(ip2p_folder: Path) -> dict:
    return run_scene_speed_bench(BackboneConfig(model=str(ip2p_folder), device="cpu"), CONFIG)


def test_every_arm_is_timed_at_every_batch(document: dict) -> None:
    assert document["bench"] == "scene-speed"
    named = [(row["method"], row["views"]) for row in document["rows"]]
    assert named == [("in2n", 1), ("ip2p", 1), ("foi", 1), ("ip2p", 2), ("foi", 2)]
    assert {row["set"] for row in document["rows"]} == {"64 px, 2 steps"}
    for row in document["rows"]:
        assert row["edits_per_minute"] == pytest.approx(60 / row["seconds_edit"])
    assert document["rows"][0]["ratio_to_in2n"] == 1


def test_random_weights_take_the_place_of_a_checkpoint() -> None:
    checkpoint = BackboneConfig(model="nowhere", device="cpu", offline=True)
    config = SceneSpeedBenchConfig(random_weights=True, batches=(1,), steps=2, rounds=1, size=64)
    document = run_scene_speed_bench(checkpoint, config, architecture=TINY)
    assert document["model"] == "random weights"
    assert len(document["rows"]) == 3


def test_ours_encode_a_photo_once_and_a_render_each_time(ip2p_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))
    arms = make_arms(backbone, CONFIG, 64)
    for name in (("ip2p", 2), ("foi", 2)):
        arms[name]()
        before = backbone.counts["image"]
        assert arms[name]().shape == (2, 3, 64, 64)
        assert backbone.counts["image"] == before + 2


def test_the_best_round_counts_and_the_first_does_not() -> None:
    waits = iter([0.0, 0.05, 0.02])
    import time

    def arm() -> torch.Tensor:
        time.sleep(next(waits))
        return torch.zeros(1, 3, 1, 1)

    found = time_arms({("in2n", 1): arm}, 2, torch.device("cpu"))
    assert 0.02 <= found["in2n", 1] < 0.05


def test_views_of_a_batch_share_its_time() -> None:
    rows = to_rows({("in2n", 1): 2.0, ("ip2p", 4): 4.0}, "x")
    assert rows[1] == {
        "method": "ip2p",
        "set": "x",
        "views": 4,
        "seconds_edit": 1.0,
        "edits_per_minute": 60.0,
        "ratio_to_in2n": 2.0,
    }


@pytest.mark.parametrize("options", [{"steps": 0}, {"rounds": 0}, {"size": 32}, {"batches": ()}, {"batches": (1, 0)}])
def test_senseless_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        SceneSpeedBenchConfig(**options)
