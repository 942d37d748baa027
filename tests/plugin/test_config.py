"""The methods as nerfstudio finds and parses them, and what importing them costs."""

import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pytest
import tyro
import yaml

from maskedit.editors import EDITORS
from maskedit.plugin.config import maskedit, maskedit_small, maskedit_splat, maskedit_tiny

METHODS = {
    "maskedit": maskedit,
    "maskedit-small": maskedit_small,
    "maskedit-tiny": maskedit_tiny,
    "maskedit-splat": maskedit_splat,
}


@cache
def command_line() -> Any:
    """The type that ns-train parses, of these methods alone."""
    configs = {name: spec.config for name, spec in METHODS.items()}
    union = tyro.extras.subcommand_type_from_defaults(defaults=configs)
    return tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[union]]


def parse(*words: str) -> Any:
    return tyro.cli(command_line(), args=list(words))


def test_nerfstudio_finds_the_methods() -> None:
    found = {e.name: e.load() for e in entry_points(group="nerfstudio.method_configs") if e.name.startswith("maskedit")}
    assert {name: spec.config.method_name for name, spec in found.items()} == {name: name for name in METHODS}


def test_flags_are_flat_and_the_data_parser_may_follow() -> None:
    config = parse(
        "maskedit",
        *("--pipeline.editor.name", "foi", "--pipeline.editor.model", "embedded"),
        *("--pipeline.editor.foi.mask-threshold", "0.5"),
        *("--pipeline.instructions", "make the red cube blue", "remove the ball"),
        *("--pipeline.keywords", "red cube", "", "--pipeline.strengths", "1", "0.5"),
        *("nerfstudio-data", "--eval-mode", "all"),
    )
    assert config.pipeline.editor.chosen.mask_threshold == 0.5
    assert config.pipeline.editor.model == "embedded"
    assert config.pipeline.datamanager.dataparser.eval_mode == "all"
    first, second = config.pipeline.read_instructions()
    assert (first.text, first.keyword, first.strength) == ("make the red cube blue", "red cube", 1.0)
    assert (second.text, second.keyword, second.strength) == ("remove the ball", None, 0.5)


def test_every_editor_has_flags_of_its_own() -> None:
    words = ("--pipeline.editor.name", "instructedit", "--pipeline.editor.instructedit.encoding-ratio", "0.7")
    segmenter = ("--pipeline.editor.instructedit.grounding.segmenter", "clipseg")
    language = ("--pipeline.editor.instructedit.language.provider", "openai")
    chosen = parse("maskedit-tiny", *words, *segmenter, *language).pipeline.editor.chosen
    assert (chosen.encoding_ratio, chosen.grounding.segmenter, chosen.language.provider) == (0.7, "clipseg", "openai")
    device = ("--pipeline.editor.smartedit.mllm-device", "cpu", "--pipeline.editor.smartedit.drop-features", "True")
    chosen = parse("maskedit", "--pipeline.editor.name", "smartedit", *device).pipeline.editor.chosen
    assert (chosen.mllm_device, chosen.drop_features, chosen.steps, chosen.sampler) == ("cpu", True, 20, "ddim")
    words = ("--pipeline.editor.name", "smartedit", "--pipeline.instructions", "make it red")
    assert parse("maskedit-splat", *words).pipeline.editor.name == "smartedit"
    for name, entry in EDITORS.items():
        config = parse("maskedit", "--pipeline.editor.name", name, f"--pipeline.editor.{name}.guidance-scale", "3")
        assert isinstance(config.pipeline.editor.chosen, entry.config)
        assert config.pipeline.editor.chosen.guidance_scale == 3.0


def test_without_a_data_parser_it_is_nerfstudios() -> None:
    config = parse("maskedit-small", "--pipeline.editor.name", "ip2p", "--pipeline.instructions", "make it snow")
    assert type(config.pipeline.datamanager.dataparser).__name__ == "NerfstudioDataParserConfig"
    assert type(config.pipeline.editor.chosen).__name__ == "IP2PConfig"
    assert (config.pipeline.editor.chosen.steps, config.pipeline.editor.chosen.sampler) == (20, "ddim")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pipeline.edit-rate", "0"], "edit-rate must be at least 1"),
        (["--pipeline.sweep-every", "0"], "sweep-every must be at least 1"),
        (["--pipeline.schedule", "cycles"], "sweeps"),
        (["--pipeline.lower-bound", "0.9", "--pipeline.upper-bound", "0.2"], "lower-bound <= upper-bound"),
        (["--pipeline.instructions", "make it red", "--pipeline.keywords", "dog"], "does not occur"),
        (["--pipeline.instructions", "make it red", "--pipeline.strengths", "1", "2"], "one of strengths"),
        (["--pipeline.editor.name", "sdedit"], "foi"),
    ],
)
def test_mistakes_are_named_before_anything_runs(words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse("maskedit", *words)
    captured = capsys.readouterr()
    assert message in " ".join((captured.out + captured.err).replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "steps", "rays", "patch", "lpips", "dtype"),
    [
        ("maskedit", 15000, 16384, 32, True, "float32"),
        ("maskedit-small", 30000, 16384, 32, True, "auto"),
        ("maskedit-tiny", 30000, 4096, 1, False, "auto"),
    ],
)
def test_defaults_are_those_of_in2n(name: str, steps: int, rays: int, patch: int, lpips: bool, dtype: str) -> None:
    config = METHODS[name].config
    data, model, pipeline = config.pipeline.datamanager, config.pipeline.model, config.pipeline
    assert (config.max_num_iterations, data.train_num_rays_per_batch, data.patch_size) == (steps, rays, patch)
    assert (model.use_lpips, pipeline.editor.dtype) == (lpips, dtype)
    assert (pipeline.edit_rate, pipeline.edit_count) == (10, 1)
    assert (pipeline.lower_bound, pipeline.upper_bound) == (0.02, 0.98)
    assert config.optimizers["camera_opt"]["optimizer"].lr == 6e-4
    assert config.steps_per_save == 250


def test_splats_have_the_options_of_splatfacto_and_of_both_schedules() -> None:
    assert parse("maskedit").pipeline.schedule == "views"
    words = ("--pipeline.model.sh-degree", "2", "--pipeline.schedule", "views", "--pipeline.edit-rate", "5")
    pipeline = parse("maskedit-splat", *words, "nerfstudio-data", "--eval-mode", "all").pipeline
    assert (pipeline.model.sh_degree, pipeline.schedule, pipeline.edit_rate) == (2, "views", 5)
    assert (pipeline.datamanager.dataparser.eval_mode, pipeline.scene_kind) == ("all", "splatfacto")
    pipeline = parse("maskedit-tiny", "--pipeline.schedule", "sweeps", "--pipeline.sweep-every", "50").pipeline
    assert (pipeline.schedule, pipeline.sweep_every, pipeline.scene_kind) == ("sweeps", 50, "nerfacto")


@pytest.mark.parametrize("method", ["maskedit", "maskedit-splat"])
def test_configs_survive_nerfstudios_yaml(method: str) -> None:
    config = parse(method, "--pipeline.instructions", "make it red", "--pipeline.editor.foi.mask-threshold", "0.7")
    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert again == config


@pytest.mark.slow
def test_importing_the_methods_loads_no_editor() -> None:
    code = (
        "import sys, maskedit.plugin.config; "
        "print([m for m in ('diffusers', 'transformers', 'torchmetrics', 'segment_anything') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
