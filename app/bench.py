"""`maskedit bench`: tables on the terminal and as JSON."""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro

from ..bench.brush import BrushBenchConfig, run_brush_bench
from ..bench.foi import FoIBenchConfig, run_foi_bench
from ..bench.instructedit import InstructEditBenchConfig, run_instructedit_bench
from ..bench.language import run_language_bench
from ..bench.scene import SceneBenchConfig, run_scene_bench
from ..bench.scene_speed import SceneSpeedBenchConfig, run_scene_speed_bench
from ..bench.smartedit import run_smartedit_bench
from ..bench.smartedit_options import SmartEditBenchConfig
from ..bench.speed import SpeedBenchConfig, run_speed_bench
from ..bench.table import Document, print_table, write_json
from ..bench.video import VideoBenchConfig, run_video_bench
from ..bench.video_fields import VideoFieldsBenchConfig, run_video_fields_bench
from ..editors import BackboneConfig, InputError, LanguageConfig, make_language
from .models import load_backbone, silence_libraries
from .pictures import check_output
from .progress import labelled_bar, waiting
from .threads import choose_threads


@dataclass(frozen=True, kw_only=True)
class BrushBench:
    """InstructBrush, its ablations, Visii and InstructPix2Pix on edits that words describe badly; resumes in --out."""

    json: Path | None = None
    """File for the figures; None = the terminal and --out only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoint to learn on and edit with."""
    config: Annotated[BrushBenchConfig, tyro.conf.arg(name="")] = field(default_factory=BrushBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        check_output(self.config.out, flag="--out")
        backbone = load_backbone(self.checkpoint, own_pictures=self.config.top_bench is not None)
        with labelled_bar() as show:
            return run_brush_bench(backbone, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class FoIBench:
    """FoI against InstructPix2Pix and against doing nothing, on held-out scenes with exact truth."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoint to measure."""
    config: Annotated[FoIBenchConfig, tyro.conf.arg(name="")] = field(default_factory=FoIBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        backbone = load_backbone(self.checkpoint, own_pictures=False)
        with labelled_bar() as show:
            return run_foi_bench(backbone, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class InstructEditBench:
    """InstructEdit against DiffEdit, MDP, InstructPix2Pix and inpainting, on held-out scenes with exact truth."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoints to measure."""
    config: Annotated[InstructEditBenchConfig, tyro.conf.arg(name="")] = field(default_factory=InstructEditBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        silence_libraries()
        with labelled_bar() as show:
            return run_instructedit_bench(self.checkpoint, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class LanguageBench:
    """How often a language processor understands hand-written instructions."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    cases: Path = Path(str(files("maskedit.bench"))) / "language_cases" / "held_out.json"
    """File of instructions with what must come out of them; see bench/language.py."""
    failures: bool = False
    """List in the figures' file what went wrong; not for cases that are held out."""
    device: str = "cpu"
    """Where a chat model runs: `cpu`, `cuda`, ..."""
    model_dir: Path | None = None
    """Folder with local copies of chat models, looked up before the hub."""
    offline: bool = False
    """Never ask the hub for a chat model."""
    language: Annotated[LanguageConfig, tyro.conf.arg(name="")] = field(default_factory=LanguageConfig)
    """Which language processor."""

    def measure(self) -> Document:
        """Run the bench."""
        config = self.language
        for name, readers in config.unread().items():
            raise InputError(
                f"the provider {config.provider} reads no --{name.replace('_', '-')}: leave it out, or pass --provider "
                f"{' or '.join(readers)}"
            )
        with waiting("parsing"):
            processor = make_language(config, device=self.device, model_dir=self.model_dir, offline=self.offline)
            method = config.provider if config.model is None else f"{config.provider} {config.model}"
            return run_language_bench(self.cases, processor, method=method, show_failures=self.failures)


@dataclass(frozen=True, kw_only=True)
class SceneBench:
    """Scenes edited by Instruct-NeRF2NeRF's loop and by ours, with exact truth; goes on where it was interrupted."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoints edit."""
    config: Annotated[SceneBenchConfig, tyro.conf.arg(name="")] = field(default_factory=SceneBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        silence_libraries()
        choose_threads()
        with labelled_bar() as show:
            return run_scene_bench(self.checkpoint, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class SceneSpeedBench:
    """Edited views per minute: Instruct-NeRF2NeRF's edit call, one view at a time, against batches of ours."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoint edits; not read with --random-weights."""
    config: Annotated[SceneSpeedBenchConfig, tyro.conf.arg(name="")] = field(default_factory=SceneSpeedBenchConfig)
    """What to time."""

    def measure(self) -> Document:
        """Run the bench."""
        silence_libraries()
        with waiting("timing"):
            return run_scene_speed_bench(self.checkpoint, self.config)


@dataclass(frozen=True, kw_only=True)
class SmartEditBench:
    """SmartEdit, its ablations and other editors on edits whose words need a reader; resumes in --out."""

    json: Path | None = None
    """File for the figures; None = the terminal and --out only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoints to measure."""
    config: Annotated[SmartEditBenchConfig, tyro.conf.arg(name="")] = field(default_factory=SmartEditBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        check_output(self.config.out, flag="--out")
        silence_libraries()
        with labelled_bar() as show:
            return run_smartedit_bench(self.checkpoint, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class SpeedBench:
    """The core against diffusers' pipeline, and FoI against InstructPix2Pix: seconds per edit, with random weights."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    config: Annotated[SpeedBenchConfig, tyro.conf.arg(name="")] = field(default_factory=SpeedBenchConfig)
    """What to time."""

    def measure(self) -> Document:
        """Run the bench."""
        silence_libraries()
        with waiting("timing"):
            return run_speed_bench(self.config, report=print)


@dataclass(frozen=True, kw_only=True)
class VideoBench:
    """Clips edited by one canonical picture against clips edited frame by frame, with exact truth."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    checkpoint: Annotated[BackboneConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoint edits."""
    config: Annotated[VideoBenchConfig, tyro.conf.arg(name="")] = field(default_factory=VideoBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        backbone = load_backbone(self.checkpoint, own_pictures=False)
        with labelled_bar() as show:
            return run_video_bench(backbone, self.config, progress=show)


@dataclass(frozen=True, kw_only=True)
class VideoFieldsBench:
    """Kinds of fields against each other: how fast and how well each holds a clip."""

    json: Path | None = None
    """File for the figures; None = the terminal only."""
    config: Annotated[VideoFieldsBenchConfig, tyro.conf.arg(name="")] = field(default_factory=VideoFieldsBenchConfig)
    """What to measure."""

    def measure(self) -> Document:
        """Run the bench."""
        with labelled_bar() as show:
            return run_video_fields_bench(self.config, progress=show)


Bench: TypeAlias = (
    Annotated[BrushBench, tyro.conf.subcommand("brush")]
    | Annotated[FoIBench, tyro.conf.subcommand("foi")]
    | Annotated[InstructEditBench, tyro.conf.subcommand("instructedit")]
    | Annotated[LanguageBench, tyro.conf.subcommand("language")]
    | Annotated[SceneBench, tyro.conf.subcommand("scene")]
    | Annotated[SceneSpeedBench, tyro.conf.subcommand("scene-speed")]
    | Annotated[SmartEditBench, tyro.conf.subcommand("smartedit")]
    | Annotated[SpeedBench, tyro.conf.subcommand("speed")]
    | Annotated[VideoBench, tyro.conf.subcommand("video")]
    | Annotated[VideoFieldsBench, tyro.conf.subcommand("video-fields")]
)


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measure editors against exact truth, or their speed."""

    bench: Annotated[tyro.conf.OmitSubcommandPrefixes[Bench], tyro.conf.arg(name="")]

    def run(self) -> None:
        """Measure, print the table and write the JSON."""
        target = self.bench.json
        if target is not None:
            check_output(target.parent, flag="--json")
        document = self.bench.measure()
        print_table(document)
        for note in document.get("notes", ()):
            print(f"note: {note}")
        if target is not None:
            write_json(document, target)
            print(f"figures: {target}")
