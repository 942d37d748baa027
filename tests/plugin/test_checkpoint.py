"""Checkpoints: found, checked against the scene, and refused with one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.models.nerfacto import NerfactoModelConfig

from maskedit.editors import InputError, ModelError
from maskedit.plugin.checkpoint import (
    adopt_model_config,
    check_same_space,
    find_checkpoint,
    model_weights,
    plain_keys,
    read_checkpoint,
    read_source_run,
)
from maskedit.plugin.model import MaskeditModelConfig

NERFACTO = {
    "_model.field.mlp_base.model.0.hash_table": torch.zeros(4, 2),
    "_model.field.embedding_appearance.embedding.weight": torch.zeros(3, 4),
    "_model.proposal_networks.0.mlp_base.0.hash_table": torch.zeros(4, 2),
}
LPIPS = {"_model.lpips.net.lin0.model.1.weight": torch.zeros(1)}


def write(folder: Path, weights: dict[str, Any], step: int = 7) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:09d}.ckpt"
    rates = {"last": np.float64(0.01)}
    torch.save({"step": step, "pipeline": weights, "schedulers": rates}, path)
    return path


def test_the_newest_checkpoint_is_found_in_the_run_or_its_folder(tmp_path: Path) -> None:
    for step in (5, 100):
        write(tmp_path / "nerfstudio_models", NERFACTO, step)
    newest = tmp_path / "nerfstudio_models" / "step-000000100.ckpt"
    assert find_checkpoint(tmp_path) == find_checkpoint(tmp_path / "nerfstudio_models") == newest
    assert find_checkpoint(tmp_path, 5).name == "step-000000005.ckpt"
    with pytest.raises(InputError, match="checkpoint of step 6"):
        find_checkpoint(tmp_path, 6)
    with pytest.raises(InputError, match="nerfstudio_models"):
        find_checkpoint(tmp_path / "nowhere")


def test_scenes_that_were_trained_on_several_devices_are_read(tmp_path: Path) -> None:
    wrapped = {name.replace("_model.", "_model.module."): value for name, value in NERFACTO.items()}
    path = write(tmp_path, wrapped)
    weights = read_checkpoint(path)["pipeline"]
    assert weights.keys() == NERFACTO.keys()
    assert model_weights(path, weights, NERFACTO).keys() == NERFACTO.keys()


def test_a_scaler_that_was_off_says_nothing_to_one_that_is_on(start: Any) -> None:
    """A run that began without half precision goes on with it; a scaler refuses the empty state of another."""
    trainer = start()
    trainer.train()
    trainer.grad_scaler = torch.amp.GradScaler("cpu", enabled=True)
    before = trainer.grad_scaler.state_dict()
    path = find_checkpoint(trainer.checkpoint_dir)
    state = read_checkpoint(path)
    assert state["scalers"] == {}
    trainer._restore(path, state)
    assert trainer.grad_scaler.state_dict() == before != {}


def test_numpy_numbers_of_schedulers_load_safely(tmp_path: Path) -> None:
    state = read_checkpoint(write(tmp_path, NERFACTO))
    assert state["schedulers"] == {"last": 0.01}


def test_code_in_a_checkpoint_is_not_called(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    path = write(tmp_path, {**NERFACTO, "_model.trap": Trap()})
    with pytest.raises(ModelError, match="cannot read the checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, NERFACTO)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot read the checkpoint") as refused:
        read_checkpoint(path)
    assert "\n" not in str(refused.value)
    torch.save({"weights": 1}, path)
    with pytest.raises(ModelError, match="not a checkpoint of nerfstudio"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"_model.gauss_params.means": torch.zeros(5, 3)}, "is a splatfacto scene.*`ns-train maskedit-splat`"),
        ({"_model.means": torch.zeros(5, 3)}, "is a splatfacto scene"),
        ({"_model.fine_field.mlp.weight": torch.zeros(1)}, "not a nerfacto scene .it holds _model.fine_field"),
    ],
)
def test_other_kinds_of_scene_are_named(tmp_path: Path, weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_checkpoint(write(tmp_path, weights))


def test_gaussians_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "splats", {"_model.gauss_params.means": torch.zeros(5, 3)})
    assert read_checkpoint(path, "splatfacto")["step"] == 7
    with pytest.raises(ModelError, match=r"is a nerfacto scene and this method edits splatfacto.*`ns-train maskedit`"):
        read_checkpoint(write(tmp_path / "nerf", NERFACTO), "splatfacto")
    with pytest.raises(ModelError, match=r"not a splatfacto scene .it holds _model.other.: .*ns-train splatfacto"):
        read_checkpoint(write(tmp_path / "other", {"_model.other.w": torch.zeros(1)}), "splatfacto")
    with pytest.raises(InputError, match="of a splatfacto run"):
        find_checkpoint(tmp_path / "nowhere", scene="splatfacto")


def test_weights_of_lpips_are_left_out() -> None:
    assert model_weights(Path("c"), {**NERFACTO, **LPIPS}, NERFACTO).keys() == NERFACTO.keys()


def test_missing_and_unknown_weights_are_refused() -> None:
    fewer = {name: value for name, value in NERFACTO.items() if "field.mlp" not in name}
    with pytest.raises(ModelError, match=r"1 missing such as _model\.field\.mlp_base"):
        model_weights(Path("c"), fewer, NERFACTO)
    with pytest.raises(ModelError, match=r"1 unknown such as _model\.field\.extra"):
        model_weights(Path("c"), {**NERFACTO, "_model.field.extra": torch.zeros(1)}, NERFACTO)


def test_shapes_are_compared_and_the_flag_is_named() -> None:
    other = {**NERFACTO, "_model.field.mlp_base.model.0.hash_table": torch.zeros(8, 2)}
    with pytest.raises(ModelError, match=r"has shape \(8, 2\), this model needs \(4, 2\).*--pipeline.model"):
        model_weights(Path("c"), other, NERFACTO)
    other = {**NERFACTO, "_model.field.embedding_appearance.embedding.weight": torch.zeros(9, 4)}
    with pytest.raises(ModelError, match="trained on 9 photos and 3 are given"):
        model_weights(Path("c"), other, NERFACTO)


def test_cameras_elsewhere_are_refused(tmp_path: Path) -> None:
    check_same_space(tmp_path, torch.eye(4)[:3], 1.0)
    content = {"transform": torch.eye(4)[:3].tolist(), "scale": 0.5}
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps(content))
    check_same_space(tmp_path, torch.eye(4)[:3], 0.5)
    with pytest.raises(ModelError, match="--orientation-method"):
        check_same_space(tmp_path, torch.eye(4)[:3], 0.7)
    with pytest.raises(ModelError, match="cameras do not lie"):
        check_same_space(tmp_path, torch.eye(4)[[1, 0, 2]], 0.5)


def test_the_config_of_the_source_run_is_read_without_calling_code(tmp_path: Path) -> None:
    path = write(tmp_path / "nerfstudio_models", NERFACTO)
    assert read_source_run(path) is None
    model = NerfactoModelConfig(num_levels=5, num_proposal_samples_per_ray=(64, 32))
    text = yaml.dump({"method_name": "nerfacto", "pipeline": {"model": model}})
    trap = f"trap: !!python/object/apply:os.mkdir ['{tmp_path / 'sprung'}']\n"
    (tmp_path / "config.yml").write_text(text + trap)
    run = read_source_run(path)
    assert run is not None
    assert (run.method, run.model["num_levels"]) == ("nerfacto", 5)
    assert not (tmp_path / "sprung").exists()
    given = MaskeditModelConfig(use_lpips=False, far_plane=9.0)
    adopted = adopt_model_config(given, MaskeditModelConfig(), run.model, frozenset({"use_lpips"}))
    assert adopted.num_proposal_samples_per_ray == (64, 32)
    assert (adopted.num_levels, adopted.far_plane, adopted.use_lpips) == (5, 9.0, False)
    assert adopted.camera_optimizer.mode == model.camera_optimizer.mode
    assert type(adopted) is MaskeditModelConfig


def test_a_config_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "nerfstudio_models", NERFACTO)
    (tmp_path / "config.yml").write_text("- just\n- a list\n")
    with pytest.raises(ModelError, match="cannot read"):
        read_source_run(path)


@pytest.mark.slow
def test_importing_the_methods_repairs_every_load(tmp_path: Path) -> None:
    path = write(tmp_path, NERFACTO)
    load = f"import torch; print(torch.load({str(path)!r})['schedulers']['last'])"
    for first, expected in (("", "UnpicklingError"), ("import maskedit.plugin.checkpoint; ", "0.01")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", first + load], capture_output=True, text=True, check=False
        )
        assert expected in done.stdout + done.stderr


def test_weights_have_the_names_of_one_device() -> None:
    state = {"_model.module.field.x": 1, "_model.field.module.y": 2, "other": 3}
    assert plain_keys(state) == {"_model.field.x": 1, "_model.field.module.y": 2, "other": 3}
