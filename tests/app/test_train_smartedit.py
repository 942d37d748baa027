"""`maskedit train smartedit`: all stages one after another, what it refuses, and several processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from maskedit.app.cli import parse
from maskedit.app.train_smartedit import _launched
from maskedit.editors import save_image

SIZES = [
    *("--architecture.image-tokens", 4, "--architecture.context-width", 32, "--architecture.qformer-layers", 2),
    *("--architecture.qformer-heads", 4, "--architecture.qformer-intermediate", 32),
    *("--architecture.interaction-width", 32, "--architecture.interaction-depth", 1),
    *("--architecture.interaction-heads", 4, "--architecture.interaction-mlp", 32, "--architecture.unet-width", 16),
]
FEW = [
    *("--recipe.steps", 2, "--recipe.batch", 2, "--recipe.micro-batch", 1, "--recipe.size", 32, "--workers", 0),
    *("--report-every", 1, "--device", "cpu"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captions, two edits and a talk, as they are downloaded."""
    root = tmp_path_factory.mktemp("data")
    (root / "cc12m.tsv").write_text("http://example.com/1.jpg\ta café at night\nhttp://example.com/2.jpg\ttwo dogs\n")
    turns = [{"input": f"{n}-input.png", "output": f"{n}-output1.png", "instruction": f"turn {n}"} for n in (1, 2)]
    (root / "magicbrush").mkdir()
    (root / "magicbrush" / "edit_turns.json").write_text(json.dumps(turns))
    for turn in turns:
        for name in (turn["input"], turn["output"]):
            place = root / "magicbrush" / "images" / name[0] / name
            save_image(torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(len(name))), place)
    talk = {"image": "1.jpg", "conversations": [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "that"}]}
    (root / "llava").mkdir()
    (root / "llava" / "llava_instruct_150k.json").write_text(json.dumps([talk]))
    save_image(torch.rand(1, 3, 24, 32), root / "llava" / "train2017" / "1.jpg")
    return root


@pytest.fixture(scope="module")
def sets(data: Path) -> list[object]:
    return ["--data", "magicbrush", data / "magicbrush", "llava", data / "llava"]


@pytest.mark.slow
def test_every_stage_starts_from_the_one_before(
    call: Callable[..., Any],
    data: Path,
    sets: list[object],
    ip2p_folder: Path,
    smartedit_checkpoint: Path,
    pictures: tuple[Path, ...],
    tmp_path: Path,
) -> None:
    begin = ["--mllm", smartedit_checkpoint / "mllm", "--base", ip2p_folder, *SIZES]
    first = ["train", "smartedit", "--stage", 1, "--data", "cc12m", data / "cc12m.tsv", "--folder", tmp_path / "1"]
    done = call(*first, *begin, *FEW, "--minutes", 1e-6)
    assert done.code == 0, done.err
    assert "not finished (step 0 of 2); go on with:\n  maskedit " in done.out
    done = call(*first, *begin, *FEW)
    assert done.code == 0, done.err
    assert "training stage 1 to the end on 1 x cpu" in done.out
    assert "step 2 of 2: loss " in done.out
    assert done.out.splitlines()[-1] == f"finished: {tmp_path / '1' / 'checkpoint'}"

    done = call(
        "train",
        "smartedit",
        "--stage",
        "2a",
        *sets,
        "--folder",
        tmp_path / "2a",
        *FEW,
        "--start-from",
        tmp_path / "1" / "checkpoint",
    )
    assert done.code == 0, done.err
    assert "magicbrush" in done.out
    assert "not there: instructpix2pix" in done.out
    second = ["train", "smartedit", "--stage", "2b", *sets, "--folder", tmp_path / "2b", *FEW]
    done = call(*second, "--start-from", tmp_path / "2a" / "checkpoint", "--shares", "magicbrush", 1, "llava", 1)
    assert done.code == 0, done.err
    assert "'magicbrush': 1.0" in done.out

    weights = [load_file(tmp_path / stage / "checkpoint" / "smartedit" / "model.safetensors") for stage in ("2a", "2b")]
    assert not any(each["interaction.features_out.weight"].abs().max() for each in weights[:1])
    assert weights[1]["interaction.features_out.weight"].abs().max() > 0
    few = ["--output", tmp_path / "out", "--steps", 2, "--size", 32, "--device", "cpu"]
    model = ["--editor", "smartedit", "--model", tmp_path / "2b" / "checkpoint"]
    assert call("edit", pictures[0], *model, "--instruction", "make it red", *few).code == 0

    done = call(*second, "--start-from", tmp_path / "1" / "checkpoint", "--shares", "magicbrush", 1, "llava", 1)
    assert done.code == 2
    assert "belongs to another run" in done.err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--stage", "2a"], "pass --mllm or --start-from"),
        (["--stage", "2a", "--mllm", "a", "--start-from", "b"], "pass --mllm or --start-from"),
        (["--stage", "1", "--mllm", "a"], "stage 1 learns from captions (cc12m), got magicbrush"),
        (["--stage", "2a", "--mllm", "a", "--minutes", "0"], "--minutes must be above 0"),
        (["--stage", "2a", "--mllm", "a", "--device", "tpu"], "or cpu, got 'tpu'"),
        (
            ["--stage", "2", "--mllm", "a", "--preset", "paper-smartedit-stage1"],
            "--preset paper-smartedit-stage1 is of stage 1, got --stage 2: leave out one",
        ),
        (["--stage", "2a", "--start-from", "nowhere"], "expected a SmartEdit checkpoint at nowhere, found none"),
        (
            ["--stage", "2a", "--mllm", "a", "--shares", "coco", "1"],
            "--shares names 'coco', which --data does not have",
        ),
        (["--stage", "2a", "--mllm", "a", "--shares", "llava", "-1"], "--shares cannot be drawn from"),
        (["--stage", "2a", "--mllm", "a", "--recipe.batch", "0"], "batch must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(
    call: Callable[..., Any], sets: list[object], tmp_path: Path, more: list[str], expected: str
) -> None:
    done = call("train", "smartedit", *sets, "--folder", tmp_path / "run", "--device", "cpu", *more)
    assert done.code == 2
    assert expected in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "stage", "steps", "rate"),
    [
        ([], "2b", 15_000, 1e-5),
        (["--stage", "2"], "2b", 15_000, 1e-5),
        (["--stage=2a"], "2a", 5000, 1e-5),
        (["--stage", "1"], "1", 150_000, 2e-4),
        (["--preset", "paper-smartedit-stage1", "--stage", "1"], "1", 150_000, 2e-4),
    ],
)
def test_the_recipe_is_that_of_the_stage(words: list[str], stage: str, steps: int, rate: float) -> None:
    command = parse(["train", "smartedit", *words, "--recipe.batch", "6"])
    assert (command._stage, command.recipe.steps, command.recipe.learning_rate) == (stage, steps, rate)
    assert command.recipe.batch == 6


@pytest.mark.parametrize(
    ("processes", "variables", "expected"),
    [
        (1, {}, "maskedit"),
        (8, {"LOCAL_WORLD_SIZE": "8"}, "torchrun --nproc_per_node 8 -m maskedit.app"),
        (8, {"LOCAL_WORLD_SIZE": "4"}, "torchrun --nnodes 2 --nproc_per_node 4 -m maskedit.app"),
        (8, {"ACCELERATE_MIXED_PRECISION": "no"}, "accelerate launch --num_processes 8 -m maskedit.app"),
    ],
)
def test_the_command_to_go_on_names_the_launcher(
    monkeypatch: pytest.MonkeyPatch, processes: int, variables: dict[str, str], expected: str
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _launched(processes) == expected


def test_a_run_is_told_from_others_by_its_language_model_and_not_by_the_length_of_its_sets(
    data: Path, smartedit_checkpoint: Path, ip2p_folder: Path, tmp_path: Path
) -> None:
    mllm = tmp_path / "mllm"
    shutil.copytree(smartedit_checkpoint / "mllm", mllm)
    words = ["--stage", "1", "--mllm", mllm, "--base", ip2p_folder]
    shorter = tmp_path / "cc12m.tsv"
    shorter.write_text("http://example.com/1.jpg\ta café at night\n")

    def identity(*more: str, precision: str = "float32", captions: Path = data / "cc12m.tsv") -> str:
        command = parse(["train", "smartedit", *map(str, words), "--data", "cc12m", str(captions), *more])
        return command._identity(command._open(), precision)

    usual = identity()
    assert identity(captions=shorter) == usual
    assert len({usual, identity(precision="bfloat16"), identity("--quantize", "4bit")}) == 3
    weights = mllm / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 255
    content[len(content) // 2] ^= 255
    weights.write_bytes(content)
    assert identity() != usual


def test_presets_are_where_flags_start_from(call: Callable[..., Any]) -> None:
    done = call("train", "smartedit", "--preset", "paper-smartedit-stage1", "--help")
    assert done.code == 0
    assert "150000" in done.out
    assert "accelerate launch" in done.out


@pytest.mark.parametrize("launcher", ["torch.distributed.run", "accelerate.commands.launch"])
def test_no_launcher_takes_a_flag_for_one_of_its_own(call: Callable[..., Any], launcher: str) -> None:
    module = import_module(launcher)
    make = getattr(module, "get_args_parser", None) or module.launch_command_parser
    # A flag that begins several of theirs is refused, even behind the name of the program.
    theirs = [option for action in make()._actions for option in action.option_strings]
    ours = set(re.findall(r"--[a-z][a-z0-9._-]*", call("train", "smartedit", "--help").out))
    assert len(ours) > 40
    assert not [flag for flag in ours if flag not in theirs and sum(each.startswith(flag) for each in theirs) > 1]


@pytest.mark.slow
def test_torchrun_starts_as_many_as_are_asked_for(
    sets: list[object], smartedit_checkpoint: Path, tmp_path: Path
) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "maskedit.app", "train", "smartedit", "--stage", "2a", *sets, "--folder", tmp_path / "run", *FEW]
    sizes = load_file(smartedit_checkpoint / "smartedit" / "model.safetensors")["qformer.queries"].shape
    assert sizes[1] == 77
    done = subprocess.run(
        [*launch, *map(str, words), "--start-from", str(smartedit_checkpoint)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on 2 x cpu" in done.stdout
    assert done.stdout.count("finished: ") == 1
