"""`maskedit train smartedit`: trains SmartEdit on sets of pictures, on one device or on many.

Several processes are started by a launcher that knows the devices; each of them runs this same command.
"""

import json
import math
import os
import shlex
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import tyro

from ..bench.smartedit_data import describe_shares, open_sources, published_shares
from ..configs import SMARTEDIT_PRESETS, SmartEditPresetName
from ..editors import (
    PUBLISHED,
    BackboneConfig,
    CheckpointKind,
    InputError,
    Mixture,
    ModelError,
    SampleSource,
    SmartEditArchitecture,
    SmartEditRecipe,
    SmartEditRun,
    SmartEditStage,
    ToolModel,
    fingerprint_checkpoint,
    fingerprint_mllm,
    fingerprint_tool,
    load_preset,
    locate_checkpoint,
)
from .models import silence_libraries
from .pictures import check_output
from .progress import format_seconds

if TYPE_CHECKING:
    from ..editors import AcceleratedTeam, Backbone, SmartEditModel, SmartEditProgress

T = TypeVar("T", bound="SmartEditTrainCommand")
_CHECKPOINT, _SKIPPED = "checkpoint", "skipped.txt"
_STAGES: dict[str, SmartEditStage] = {"1": "1", "2": "2b", "2a": "2a", "2b": "2b"}


@dataclass(frozen=True, kw_only=True)
class SmartEditTrainCommand:
    """Train one stage of SmartEdit; run the same command again to go on.

    Several devices train together when a launcher starts it: `accelerate launch --num_processes 8 -m maskedit.app train
    smartedit ...`, or `torchrun --nproc_per_node 8 -m maskedit.app train smartedit ...`; the words are the same.
    """

    stage: Literal["1", "2", "2a", "2b"] = "2b"
    """`1` = QFormer and new tokens, on captions; `2a` = the UNet and LoRA too, on edits and talks; `2b`, or `2` = BIM
    too. The recipe's defaults are what is published for the stage."""
    data: dict[str, Path] = field(default_factory=dict[str, Path])
    """Sets by name, each with its folder: `--data magicbrush FOLDER llava FOLDER`. Known are cc12m (captions, for stage
    1), instructpix2pix, magicbrush, cocostuff, refcoco, grefcoco, reasonseg, llava and synthetic."""
    folder: Path = Path("smartedit")
    """Where state, log and checkpoint are kept; give the same folder to go on."""
    start_from: Path | None = None
    """SmartEdit checkpoint to start from, such as that of the stage before; None = from --mllm and --base."""
    mllm: str | None = None
    """LLaVA to begin with, a folder or a hub id in transformers layout; not with --start-from, which has one."""
    base: str | None = None
    """InstructPix2Pix checkpoint with the UNet that learns, a folder or a hub id; None = that of --start-from, or the
    published one."""
    shares: dict[str, float] = field(default_factory=dict[str, float])
    """How often each set is drawn from, in proportion: `--shares magicbrush 1 llava 0.5`; empty = as published."""
    preset: SmartEditPresetName | None = None
    """Named settings to start from; every other flag overrides them."""
    minutes: float | None = None
    """Stop (and save) after this long; None = train to the end."""
    device: str = "auto"
    """`auto` = the device the launcher gives, CUDA where there is one; `cuda` = the same, but never the CPU; `cpu`."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What is computed in; learned weights are float32 either way. `auto` = bfloat16 on CUDA, float32 elsewhere."""
    mllm_device: str | None = None
    """Device of the language model; None = that of the rest."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Bits of the language model's frozen weights; None = all of them."""
    lora_rank: int = 8
    """Rank of a new LoRA; the paper says 16, the released weights have 8."""
    lora_alpha: int = 16
    """A new LoRA is scaled by this over the rank; the paper says 27."""
    architecture: SmartEditArchitecture = field(default_factory=SmartEditArchitecture)
    """Sizes of what is new between the language model and the UNet; not read with --start-from."""
    model_dir: Path | None = None
    """Folder with local copies of checkpoints, looked up before the hub."""
    offline: bool = False
    """Never ask the hub."""
    recipe: SmartEditRecipe = field(default_factory=SmartEditRecipe)
    """What is trained; a folder belongs to one recipe."""
    run_settings: Annotated[SmartEditRun, tyro.conf.arg(name="")] = field(default_factory=SmartEditRun)
    """How the run is carried out."""

    @classmethod
    def from_preset(cls: type[T], name: str) -> T:
        """A command whose defaults are a preset's; the plain one where there is no such preset."""
        if name not in SMARTEDIT_PRESETS:
            return cls()
        preset = SMARTEDIT_PRESETS[name]
        return cls(preset=name, **{each.name: getattr(preset, each.name) for each in fields(preset)})

    @classmethod
    def from_stage(cls: type[T], stage: str) -> T:
        """A command whose recipe is the published one of a stage; the plain one where there is no such stage."""
        published = {preset.stage: preset.recipe for preset in SMARTEDIT_PRESETS.values()}
        own = _STAGES.get(stage)
        return cls() if own is None else cls(stage=own, recipe=published[own])

    def run(self) -> None:
        """Train and say where it stands."""
        self._check()
        silence_libraries()
        sources = self._open()
        import torch

        from ..editors import AcceleratedTeam

        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        known = ["auto", "cpu"] if found is None else ["auto", "cpu", found.type]
        if self.device not in known:
            names = f"{', '.join(known[:-1])} or {known[-1]}"
            raise InputError(f"expected --device {names}, got {self.device!r}: the launcher chooses devices")
        usual = "float32" if found is None or self.device == "cpu" else "bfloat16"
        precision = usual if self.precision == "auto" else self.precision
        team = AcceleratedTeam(precision=precision, cpu=self.device == "cpu")
        try:
            self._train(team, sources, precision)
        except FloatingPointError as error:
            raise ModelError(f"training failed: {error}") from error
        finally:
            team.close()

    def _check(self) -> None:
        """Refuse what cannot be trained before anything is loaded."""
        if (self.start_from is None) == (self.mllm is None):
            raise InputError(
                "expected a LLaVA to begin with or a checkpoint to start from: pass --mllm or --start-from"
            )
        if self.minutes is not None and self.minutes <= 0:
            raise InputError(f"--minutes must be above 0, got {self.minutes:g}")
        wanted = self._stage if self.preset is None else SMARTEDIT_PRESETS[self.preset].stage
        if wanted != self._stage:
            raise InputError(f"--preset {self.preset} is of stage {wanted}, got --stage {self.stage}: leave out one")
        if self.start_from is not None and not (self.start_from / "smartedit" / "config.json").is_file():
            raise InputError(f"expected a SmartEdit checkpoint at {self.start_from}, found none: correct --start-from")
        check_output(self.folder, flag="--folder")

    @property
    def _stage(self) -> SmartEditStage:
        return _STAGES[self.stage]

    def _open(self) -> dict[str, SampleSource]:
        """The sets, each with a share.

        Raises:
            InputError: if a set is missing, of no use in this stage, or has a share and is not there.
        """
        if not self.data:
            raise InputError("expected at least one set to learn from, got none: pass --data NAME FOLDER")
        wrong = [name for name in self.data if (name == "cc12m") != (self._stage == "1")]
        if wrong:
            wanted = "captions (cc12m)" if self._stage == "1" else "edits and talks, no captions"
            raise InputError(f"stage {self.stage} learns from {wanted}, got {wrong[0]}: leave it out of --data")
        unknown = sorted(set(self.shares) - set(self.data))
        if unknown:
            raise InputError(f"--shares names {unknown[0]!r}, which --data does not have: pass its folder, too")
        return open_sources(self.data)

    def _train(self, team: "AcceleratedTeam", sources: dict[str, SampleSource], precision: str) -> None:
        from ..editors import learn_smartedit

        shares = self.shares or published_shares(sources)
        try:
            mixture = Mixture(sources, shares, seed=self.recipe.seed, strict=self.run_settings.strict)
        except ValueError as error:
            raise InputError(f"--shares cannot be drawn from: {error}") from error

        def say(line: str) -> None:
            if team.is_first:
                print(line, flush=True)

        def report(progress: "SmartEditProgress") -> None:
            memory = "" if progress.memory is None else f", {progress.memory / 2**30:.1f} GiB"
            say(
                f"step {progress.step} of {progress.steps}: loss {progress.loss:.4f} (talk {progress.talk:.4f}, "
                f"diffusion {progress.diffusion:.4f}), {progress.samples_per_second:.2f} samples/s{memory}"
            )

        length = "to the end" if self.minutes is None else f"for {format_seconds(60 * self.minutes)}"
        say(f"training stage {self._stage} {length} on {team.count} x {team.device.type} in {self.folder}")
        say(describe_shares(sources) if not self.shares else f"drawn from: {shares}")
        model, backbone, base = self._load(str(team.device))
        step = learn_smartedit(
            model,
            backbone,
            mixture,
            self.recipe,
            stage=self._stage,
            folder=self.folder,
            base=base,
            run=self.run_settings,
            team=team,
            identity=self._identity(sources, precision),
            max_seconds=math.inf if self.minutes is None else 60 * self.minutes,
            report=report,
        )
        if step < self.recipe.steps:
            command = f"{_launched(team.count)} {shlex.join(sys.argv[1:])}"
            say(f"not finished (step {step} of {self.recipe.steps}); go on with:\n  {command}")
        else:
            say(f"finished: {self.folder / _CHECKPOINT}")
        if (self.folder / _SKIPPED).is_file():
            say(f"some samples could not be read, others took their places: {self.folder / _SKIPPED}")

    @property
    def _base_config(self) -> BackboneConfig:
        """The checkpoint whose UNet learns."""
        unnamed = None if self.start_from is None else str(self.start_from)
        return BackboneConfig(
            model=self.base or unnamed or PUBLISHED["instruct-pix2pix"],
            model_dir=self.model_dir,
            offline=self.offline,
            dtype="float32",
        )

    @property
    def _base_kind(self) -> CheckpointKind:
        return "smartedit" if self.base is None and self.start_from is not None else "instruct-pix2pix"

    def _load(self, device: str) -> "tuple[SmartEditModel, Backbone, str]":
        """The networks, and how the new checkpoint names the one that it builds on."""
        import torch

        from ..editors import Backbone, LoraOptions, begin_smartedit, load_smartedit

        config, kind = replace(self._base_config, device=device), self._base_kind
        backbone = Backbone.load(config, kind)
        backbone.require(kind, "the training of SmartEdit")
        place, bits = self.mllm_device, self.quantize
        if self.start_from is not None:
            model = load_smartedit(self.start_from, config, mllm_device=place, quantize=bits)
        else:
            # What begins at random is the same in every process and in every run.
            places = {torch.device(each) for each in (device, place) if each is not None}
            with torch.random.fork_rng(devices=[each for each in places if each.type != "cpu"]):
                torch.manual_seed(self.recipe.seed)
                lora = LoraOptions(rank=self.lora_rank, alpha=self.lora_alpha)
                model = begin_smartedit(
                    self.mllm or "", config, self.architecture, lora=lora, mllm_device=place, quantize=bits
                )
        return model, backbone, self._name_base(locate_checkpoint(config, kind))

    def _name_base(self, location: Path | str) -> str:
        """The checkpoint that the new one takes its other parts from, as seen from its folder."""
        if isinstance(location, Path) and load_preset(location).base and not (location / "vae").is_dir():
            base = load_preset(location).base
            location = location / base if (location / base).is_dir() else base
        if isinstance(location, str):
            return location
        return os.path.relpath(location.resolve(), (self.folder / _CHECKPOINT).resolve())

    def _identity(self, sources: dict[str, SampleSource], precision: str) -> str:
        """Of data and starting weights: what tells this run from others beside its recipe.

        How many samples a set has is left out, so that a run may go on when some of them turn out to be damaged.
        """
        if self.start_from is None:
            mllm = ToolModel(role="chat model", model=self.mllm or "")
            start = [
                fingerprint_tool(mllm, model_dir=self.model_dir),
                asdict(self.architecture),
                self.lora_rank,
                self.lora_alpha,
            ]
        else:
            config = BackboneConfig(model=str(self.start_from), model_dir=self.model_dir, offline=self.offline)
            start = [fingerprint_checkpoint(config, "smartedit"), fingerprint_mllm(config)]
        base = fingerprint_checkpoint(self._base_config, self._base_kind)
        shares = self.shares or "published"
        return json.dumps([start, base, sorted(sources), shares, precision, self.quantize], sort_keys=True)


def _launched(processes: int) -> str:
    """How the program was started: by itself, or by the launcher of several processes."""
    if processes == 1:
        return "maskedit"
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return f"accelerate launch --num_processes {processes} -m maskedit.app"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    nodes = f"--nnodes {processes // here} " if here < processes else ""
    return f"torchrun {nodes}--nproc_per_node {here} -m maskedit.app"
