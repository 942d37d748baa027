"""Training in slices, killed and resumed, alone and in two processes: the same weights, log and checkpoint."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskedit.editors import Backbone, BackboneConfig, ModelError, SessionError
from maskedit.editors.smartedit.files import load_smartedit, save_smartedit
from maskedit.editors.smartedit.learning import SmartEditProgress, learn_smartedit
from maskedit.editors.smartedit.recipe import SmartEditRecipe, SmartEditRun
from maskedit.editors.smartedit.samples import Mixture, Sample
from maskedit.editors.smartedit.team import AcceleratedTeam

SIZE = 32
STEPS = 4


class Noise:
    """Edits or talks with pictures of noise."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __len__(self) -> int:
        return 50

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        before, after = torch.from_numpy(rng.random((2, 3, SIZE, SIZE), dtype=np.float32))
        if self._kind == "edit":
            return Sample(text=f"make it {index}", image=before, target=after)
        return Sample(text="what is it?", image=before, answer=f"number {index}")


def mixture() -> Mixture:
    return Mixture({"edit": Noise("edit"), "talk": Noise("talk")}, {"edit": 2.0, "talk": 1.0}, seed=5)


def recipe(**more: Any) -> SmartEditRecipe:
    usual = {"steps": STEPS, "batch": 4, "micro_batch": 2, "learning_rate": 1e-4, "size": SIZE, "dropout": False}
    return SmartEditRecipe(**usual | more)


def run(**more: Any) -> SmartEditRun:
    return SmartEditRun(**{"report_every": 1, "save_every": 1, "workers": 0} | more)


def learn(start: Path, folder: Path, settings: SmartEditRecipe | None = None, **more: Any) -> int:
    """Train a checkpoint anew for a slice."""
    config = BackboneConfig(model=str(start), device="cpu")
    model, backbone = load_smartedit(start, config), Backbone.load(config, "smartedit")
    usual = {"stage": "2b", "base": backbone.preset.base, "run": run()}
    return learn_smartedit(model, backbone, mixture(), settings or recipe(), folder=folder, **usual | more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that a run's state and its checkpoint hold."""
    state = load_file(folder / "state.safetensors")
    for name in ("unet/diffusion_pytorch_model", "smartedit/model", "adapter/adapter_model"):
        stored = load_file(folder / "checkpoint" / f"{name}.safetensors")
        state |= {f"{name} {key}": each for key, each in stored.items()}
    return state


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert set(ours) == set(theirs)
    assert not [name for name, each in ours.items() if not torch.equal(theirs[name], each)]


def assert_alike(first: Path, second: Path) -> None:
    """The same but for the order of sums.

    Adam divides a gradient by its own size, and some of these are hardly more than what rounding leaves, so parts are
    looked at as a whole.
    """
    ours, theirs = weights(first), weights(second)
    assert set(ours) == set(theirs)
    for part in ("qformer", "interaction", "mllm", "unet"):
        for kind, most in (("exp_avg", 0.01), ("value", 0.0)):
            names = [name for name in ours if name.startswith(f"{kind}.{part}.")]
            distance, size, count = (
                torch.stack([each.square().sum() for each in tensors]).sum().sqrt()
                for tensors in (
                    [ours[name] - theirs[name] for name in names],
                    [ours[name] for name in names],
                    [torch.ones_like(ours[name]) for name in names],
                )
            )
            # Weights may be apart by a fraction of the way that each of them could have gone.
            assert distance <= most * size + 5e-5 * count * (kind != "exp_avg"), f"{kind} {part}"
    for one, other in zip(log_of(first), log_of(second), strict=True):
        for name in ("loss", "talk", "diffusion"):
            assert other[name] == pytest.approx(one[name], rel=1e-4)


@pytest.fixture(scope="module")
def start(ip2p_folder: Path, llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint to start from."""
    from diffusers import UNet2DConditionModel

    from maskedit.editors.smartedit.architecture import SmartEditArchitecture
    from maskedit.editors.smartedit.conversation import PLAIN
    from maskedit.editors.smartedit.files import begin_smartedit

    sizes = SmartEditArchitecture(
        image_tokens=3,
        context_width=32,
        qformer_layers=2,
        qformer_heads=4,
        qformer_intermediate=32,
        interaction_width=32,
        interaction_depth=1,
        interaction_heads=4,
        interaction_mlp=32,
        unet_width=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = begin_smartedit(str(llava_folder), BackboneConfig(device="cpu"), sizes, style=PLAIN)
    unet = UNet2DConditionModel.from_pretrained(str(ip2p_folder), subfolder="unet")
    return save_smartedit(model, unet, tmp_path_factory.mktemp("start"), base=str(ip2p_folder))


@pytest.fixture(scope="module")
def unbroken(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert learn(start, folder) == STEPS
    return folder


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_writes_a_log_and_a_checkpoint_that_loads(start: Path, unbroken: Path) -> None:
    lines = log_of(unbroken)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line["steps"] == STEPS
        assert line["loss"] == pytest.approx(line["talk"] + line["diffusion"], rel=1e-5)
        assert line["samples_per_second"] > 0
        assert line["memory"] > 2**20
    config = BackboneConfig(model=str(unbroken / "checkpoint"), device="cpu")
    before = load_smartedit(start, config)
    after, backbone = load_smartedit(unbroken / "checkpoint", config), Backbone.load(config, "smartedit")
    assert backbone.preset.base
    # It is run at the size it learned at, which is not that of the UNet it began with.
    assert backbone.native_size == SIZE != Backbone.load(replace(config, model=str(start)), "smartedit").native_size
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    # Frozen parts, old rows of the language model among them, are what they were, bit for bit.
    learned = ("mllm.new_", "qformer.", "interaction.")
    assert all(name.startswith(learned) or ".lora_" in name for name in changed)
    for part in ("mllm.new_inputs", "mllm.new_outputs", "qformer.queries", "interaction.features_out.weight"):
        assert part in changed
    assert any(".lora_B" in name for name in changed)


@pytest.mark.slow
def test_slices_make_the_same_run(start: Path, unbroken: Path, tmp_path: Path) -> None:
    steps, times = list[int](), 0
    while not steps or steps[-1] < STEPS:
        # Long enough for loading and a step or two.
        steps.append(learn(start, tmp_path, max_seconds=1e-9 if not steps else 0.5))
        times += 1
        assert times < 20
    assert steps[0] == 0
    assert len(steps) > 2
    assert_same(unbroken, tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_that_is_interrupted_goes_on_from_its_last_state(start: Path, unbroken: Path, tmp_path: Path) -> None:
    def stop(progress: SmartEditProgress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(start, tmp_path, report=stop, run=run(save_every=2))
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]
    assert not (tmp_path / "checkpoint").exists()
    assert learn(start, tmp_path, run=run(save_every=2)) == STEPS
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4]
    assert_same(unbroken, tmp_path)


@pytest.mark.slow
def test_micro_batches_workers_and_saved_memory_change_the_last_digits_only(
    start: Path, unbroken: Path, tmp_path: Path
) -> None:
    learn(start, tmp_path, recipe(micro_batch=3), run=run(workers=1, checkpointing=True))
    assert_alike(unbroken, tmp_path)


@pytest.mark.slow
def test_checkpoints_are_written_on_the_way_at_unchanged_rates(start: Path, tmp_path: Path) -> None:
    settings = recipe(schedule="cosine", warmup_share=0.5)
    seen = list[bool]()
    learn(start, tmp_path / "one", settings)
    learn(
        start,
        tmp_path / "two",
        settings,
        run=run(export_every=2),
        report=lambda progress: seen.append((tmp_path / "two" / "checkpoint").exists()),
    )
    assert seen == [False, False, True, True]
    assert_same(tmp_path / "one", tmp_path / "two")


def test_averaged_weights_are_what_is_written(start: Path, tmp_path: Path) -> None:
    learn(start, tmp_path, recipe(ema_decay=0.9))
    state = load_file(tmp_path / "state.safetensors")
    stored = load_file(tmp_path / "checkpoint" / "smartedit" / "model.safetensors")
    assert torch.equal(stored["qformer.queries"], state["average.qformer.queries"])
    assert not torch.equal(stored["qformer.queries"], state["value.qformer.queries"])


def test_frozen_parts_get_no_gradient_and_all_is_left_frozen(start: Path, tmp_path: Path) -> None:
    config = BackboneConfig(model=str(start), device="cpu")
    model, backbone = load_smartedit(start, config), Backbone.load(config, "smartedit")
    everything = {**dict(model.named_parameters()), **{f"unet.{n}": p for n, p in backbone.unet.named_parameters()}}
    everything |= {f"vae.{n}": p for n, p in backbone.vae.named_parameters()}
    everything |= {f"text.{n}": p for n, p in backbone.text_encoder.named_parameters()}
    reached = dict[str, set[str]]()

    def note(stage: str) -> Callable[[SmartEditProgress], None]:
        def report(progress: SmartEditProgress) -> None:
            reached[stage] = {name for name, each in everything.items() if each.grad is not None}

        return report

    class Captions:
        def draw(self, number: int) -> Sample:
            return Sample(text=f"picture {number}")

    for stage, samples in (("1", Captions()), ("2a", mixture()), ("2b", mixture())):
        settings: dict[str, Any] = {"stage": stage, "base": "x", "run": run(), "report": note(stage)}
        learn_smartedit(model, backbone, samples, recipe(steps=1), folder=tmp_path / stage, **settings)
        assert not model.training
        assert not any(each.requires_grad or each.grad is not None for each in everything.values())
    adapter = {f"mllm.{name}" for name in model.mllm.adapter_parameters()}
    rows = {"mllm.new_inputs", "mllm.new_outputs"}
    parts = {part: {n for n in everything if n.startswith(f"{part}.")} for part in ("qformer", "interaction", "unet")}
    assert reached["1"] == rows | parts["qformer"]
    assert reached["2a"] == rows | adapter | parts["qformer"] | parts["unet"]
    assert reached["2b"] == reached["2a"] | parts["interaction"]


@pytest.mark.parametrize(
    "more", [{"stage": "2a"}, {"identity": "other data"}, {"settings": recipe(seed=1)}], ids=["stage", "data", "recipe"]
)
def test_a_folder_of_another_run_is_refused(start: Path, unbroken: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    shutil.copy(unbroken / "state.safetensors", tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 99}\n')
    with pytest.raises(SessionError, match="belongs to"):
        learn(start, tmp_path, **more)
    assert log_of(tmp_path) == [{"step": 99}]


def test_a_finished_run_may_be_made_longer_with_fewer_at_once_and_a_broken_log(
    start: Path, unbroken: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 2, "lo\n')
    assert learn(start, tmp_path, recipe(steps=STEPS + 1, micro_batch=1)) == STEPS + 1
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4, 5]


def test_all_that_began_at_random_is_the_first_process_s(start: Path, tmp_path: Path) -> None:
    shared = list[torch.Tensor]()

    class Recording(AcceleratedTeam):
        def share(self, tensors: Sequence[torch.Tensor]) -> None:
            shared.extend(tensors)

    config = BackboneConfig(model=str(start), device="cpu")
    model, backbone = load_smartedit(start, config), Backbone.load(config, "smartedit")
    settings: dict[str, Any] = {"stage": "2b", "base": "x", "team": Recording(cpu=True), "max_seconds": 0.0}
    learn_smartedit(model, backbone, mixture(), recipe(), folder=tmp_path, **settings)
    given = {id(each) for each in shared}
    waves = [each for name, each in model.interaction.named_buffers() if "gaussian" in name]
    assert waves
    assert all(id(each) in given for each in (*waves, *model.trainable("2b").values()))
    model.requires_grad_(False)


def test_what_cannot_be_read_is_named_once_and_each_stage_meets_other_samples(start: Path, tmp_path: Path) -> None:
    numbers = dict[str, set[int]]()

    class Told:
        def __init__(self, stage: str) -> None:
            self.seen = numbers.setdefault(stage, set())

        def draw(self, number: int) -> Sample:
            self.seen.add(number)
            return replace(mixture().draw(number), skipped=("edit 7: no\npicture",))

    config = BackboneConfig(model=str(start), device="cpu")
    model, backbone = load_smartedit(start, config), Backbone.load(config, "smartedit")
    for stage in ("2a", "2b"):
        settings: dict[str, Any] = {"stage": stage, "folder": tmp_path / stage, "base": "x", "run": run()}
        learn_smartedit(model, backbone, Told(stage), recipe(steps=1, batch=2), **settings)
        assert (tmp_path / stage / "skipped.txt").read_text() == "edit 7: no picture\n"
    assert len(numbers["2a"]) == len(numbers["2b"]) == 2
    assert not numbers["2a"] & numbers["2b"]


def test_half_precision_is_refused(start: Path, tmp_path: Path) -> None:
    config = BackboneConfig(model=str(start), device="cpu")
    half = Backbone.load(BackboneConfig(model=str(start), device="cpu", dtype="bfloat16"), "smartedit")
    with pytest.raises(ModelError, match="in float32 to train"):
        learn_smartedit(load_smartedit(start, config), half, mixture(), recipe(), stage="2b", folder=tmp_path, base="x")


def member(start: Path, folder: Path) -> None:
    """What each process of a team, or one that is going to be killed, does."""
    torch.set_num_threads(1)
    team = AcceleratedTeam(cpu=True)
    learn(start, folder, team=team, run=run(workers=1))
    team.close()


def launch(start: Path, folder: Path, processes: int) -> list["subprocess.Popen[bytes]"]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    code = (
        f"import runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['member'](Path({str(start)!r}), Path({str(folder)!r}))"
    )
    sizes = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | meeting | sizes | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]


@pytest.fixture
def launched() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that do not outlive the test."""
    processes = list["subprocess.Popen[bytes]"]()
    yield processes
    for each in processes:
        each.kill()
        each.wait()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    start: Path, unbroken: Path, tmp_path: Path, launched: list["subprocess.Popen[bytes]"]
) -> None:
    launched += launch(start, tmp_path, 2)
    assert [each.wait(300) for each in launched] == [0, 0]
    assert_alike(unbroken, tmp_path)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_the_same(
    start: Path, unbroken: Path, tmp_path: Path, launched: list["subprocess.Popen[bytes]"]
) -> None:
    launched += launch(start, tmp_path, 1)
    end = time.monotonic() + 300
    while not (tmp_path / "state.safetensors").exists():
        assert launched[0].poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    launched[0].send_signal(signal.SIGKILL)
    launched[0].wait()
    assert learn(start, tmp_path) == STEPS
    assert_same(unbroken, tmp_path)
