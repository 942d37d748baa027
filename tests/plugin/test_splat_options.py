"""The options of maskedit-splat: Instruct-GS2GS's defaults, and one line where it can't run."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import InputError, IP2PConfig
from maskedit.plugin import splat_options
from maskedit.plugin.config import maskedit_splat
from maskedit.plugin.splat_options import MaskeditSplatPipelineConfig, SplatEditorConfig, check_kernels
from maskedit.plugin.start import RunStopped
from maskedit.plugin.trainer import MaskeditTrainer


def test_defaults_are_those_of_instruct_gs2gs() -> None:
    config = maskedit_splat.config
    pipeline = config.pipeline
    assert isinstance(pipeline, MaskeditSplatPipelineConfig)
    assert (pipeline.schedule, pipeline.sweep_every, pipeline.edit_count) == ("sweeps", 2500, 1)
    assert (pipeline.lower_bound, pipeline.upper_bound) == (0.7, 0.98)
    assert (config.max_num_iterations, config.steps_per_save, config.mixed_precision) == (7500, 500, False)
    rates = {name: each["optimizer"].lr for name, each in config.optimizers.items()}
    expected = {"means": 1.6e-4, "features_dc": 2.5e-3, "features_rest": 1.25e-4, "opacities": 0.05}
    expected |= {"scales": 5e-3, "quats": 1e-3, "camera_opt": 1e-3}
    assert rates.items() >= expected.items()
    assert config.optimizers["means"]["scheduler"].lr_final == 1.6e-6
    assert config.optimizers["camera_opt"]["scheduler"].lr_final == 5e-5


@pytest.mark.parametrize("name", ["ip2p", "foi"])
def test_text_guidance_is_stronger_unless_somebody_says_otherwise(name: Any, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    editor = SplatEditorConfig(name=name, model=str(tmp_path))
    assert editor.chosen.guidance_scale == editor.resolved("guidance_scale") == 12.5
    assert editor.chosen.image_guidance_scale is None
    assert editor.with_guidance(9.0, None).resolved("guidance_scale") == 9.0
    # A flag comes first, then what the checkpoint asks for.
    given = SplatEditorConfig(name="ip2p", model=str(tmp_path), ip2p=IP2PConfig(guidance_scale=5.0))
    assert given.resolved("guidance_scale") == 5.0
    (tmp_path / "maskedit.json").write_text(json.dumps({"instruct": {"guidance_scale": 2.5}}))
    assert editor.chosen.guidance_scale is None
    assert editor.resolved("guidance_scale") == 2.5


def test_editors_on_captions_are_left_alone() -> None:
    plain: Any = SplatEditorConfig(name="diffedit").chosen
    assert plain == SplatEditorConfig().diffedit


def test_a_machine_without_a_gpu_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a CUDA GPU, none works here: use `ns-train maskedit`"):
        check_kernels("cuda")
    with pytest.raises(InputError, match="device-type is cpu"):
        check_kernels("cpu")


def test_a_gpu_without_kernels_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(splat_options.shutil, "which", lambda name: None)
    monkeypatch.setattr(splat_options, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="gsplat's CUDA kernels") as refused:
        check_kernels("cuda")
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(splat_options.shutil, "which", lambda name: "nvcc" if name == "nvcc" else None)
    check_kernels("cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_run_without_a_gpu_ends_before_anything_is_written(
    device: Any, tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = copy.deepcopy(maskedit_splat.config)
    config.output_dir, config.data, config.machine.device_type = tmp_path, scene, device
    with pytest.raises(RunStopped, match="maskedit: maskedit-splat needs a CUDA GPU"):
        MaskeditTrainer(config)
    assert not list(tmp_path.iterdir())
