"""The bench of fields: small fits of every kind."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from maskedit.bench.table import write_json
from maskedit.bench.video_fields import (
    VideoFieldsBenchConfig,
    available_methods,
    fit_config,
    measure_fields,
    rendering_speed,
    run_video_fields_bench,
)
from maskedit.bench.video_scores import to_bytes
from maskedit.editors import save_image
from maskedit.video.fields import FieldShape
from maskedit.video.fit import ClipFit, shape_for
from maskedit.video.fit_options import FitConfig
from maskedit.video.flow import FlowConfig
from maskedit.video.render import render_frames

METHODS = ("dense", "dense-without-flow", "hash", "frequency")
CONFIG = VideoFieldsBenchConfig(
    methods=METHODS,
    seconds=(0.3, 0.1),
    steps=2,
    frames=3,
    size=32,
    device="cpu",
    flow=FlowConfig(method="dis"),
    fit=FitConfig(frames_per_step=1, hash_table=2**8),
)


@pytest.fixture(scope="module")
def document() -> dict:
    return run_video_fields_bench(CONFIG)


def test_a_run_has_the_form_of_every_bench(document: dict, tmp_path: Path):
    assert list(document) == ["bench", "machine", "rows"]
    assert (document["bench"], document["machine"]["device"]) == ("video-fields", "cpu")
    write_json(document, tmp_path / "fields.json")
    assert json.loads((tmp_path / "fields.json").read_text()) == document


def test_every_kind_is_measured_alike(document: dict):
    rows = {row["method"]: row for row in document["rows"]}
    assert tuple(rows) == METHODS
    for row in rows.values():
        assert list(row) == [
            *("method", "set", "seconds_flow", "parameters", "seconds_step", "psnr_0.1s", "psnr_0.3s"),
            *("seconds_to_30dB", "seconds_to_33dB", "psnr_2", "frames_per_second"),
        ]
        assert row["set"] == "blocks 32"
        assert row["seconds_step"] > 0 < row["frames_per_second"]
    flowing, still = rows["dense"], rows["dense-without-flow"]
    assert flowing["seconds_flow"] > 0
    assert still["seconds_flow"] is None
    assert flowing["parameters"] == still["parameters"] < rows["frequency"]["parameters"]
    # What starts from the flow need not learn the motion, and networks begin with nothing.
    assert flowing["psnr_2"] > still["psnr_2"] > rows["hash"]["psnr_2"]
    assert rows["frequency"]["seconds_to_33dB"] is None


def test_a_fidelity_counts_from_when_it_is_first_reached():
    still = to_bytes(torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))).expand(3, -1, -1, -1)
    row = measure_fields(still, None, "dense-without-flow", CONFIG, torch.device("cpu"))
    # A canonical image that starts as the frame is right at once.
    assert row["seconds_to_30dB"] == row["seconds_to_33dB"]
    assert isinstance(row["seconds_to_30dB"], float)


def test_a_clip_of_ones_own_is_measured_too(tmp_path: Path):
    folder = tmp_path / "sea"
    folder.mkdir()
    for number in range(3):
        picture = torch.linspace(0, 1, 48).roll(number).expand(1, 3, 40, 48)
        save_image(picture, folder / f"{number}.png")
    told: list[tuple[str, int, int]] = []
    config = VideoFieldsBenchConfig(
        **{**vars(CONFIG), "methods": ("dense",), "seconds": (), "clip": folder, "clip_size": 48}
    )
    rows = run_video_fields_bench(config, progress=lambda *step: told.append(step))["rows"]
    assert [row["set"] for row in rows] == ["blocks 32", "sea 48"]
    assert all("seconds_to_30dB" not in row and "psnr_2" in row for row in rows)
    assert told == [("dense, blocks 32", 0, 2), ("dense, sea 48", 1, 2)]


def test_kinds_differ_in_field_and_kernel_alone():
    base = FitConfig(frames_per_step=3, seed=4)
    assert fit_config("dense-without-flow", base, 7) == fit_config("dense", base, 7)
    fast, plain = fit_config("hash-tiny-cuda-nn", base, 7), fit_config("hash", base, 7)
    assert (fast.field, fast.hash_kernel, plain.field, plain.hash_kernel) == ("hash", "tiny-cuda-nn", "hash", "torch")
    assert (fast.steps, fast.frames_per_step, fast.seed) == (7, 3, 4)
    assert ("hash-tiny-cuda-nn" in available_methods()) == (find_spec("tinycudann") is not None)


def test_rendering_is_timed_over_all_frames_without_gradients(monkeypatch: pytest.MonkeyPatch):
    settings = FitConfig(field="hash", hash_table=2**8)
    fit = ClipFit(settings, shape_for(5, 16, 24, settings), 1, "cpu")
    shown: list[torch.Tensor] = []

    def render(image: torch.Tensor, offsets: torch.Tensor, shape: FieldShape) -> torch.Tensor:
        shown.append(render_frames(image, offsets, shape))
        return shown[-1]

    monkeypatch.setattr("maskedit.bench.video_fields.render_frames", render)
    assert rendering_speed(fit) > 1
    assert sum(map(len, shown)) == 5 and not any(frames.requires_grad for frames in shown)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frames", 2, "frames must be at least 3, got 2"),
        ("steps", -1, "steps must be at least 0"),
        ("seconds", (1.0, 0.0), "seconds must be above 0"),
        ("methods", (), "methods must name at least one"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: object, message: str):
    with pytest.raises(ValueError, match=message):
        VideoFieldsBenchConfig(**{name: value})  # pyright: ignore[reportArgumentType]
