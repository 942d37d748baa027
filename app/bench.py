"""`maskedit bench foi` and `maskedit bench speed`: tables on the terminal and as JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro

from ..bench.foi import FoIBenchConfig, run_foi_bench
from ..bench.speed import SpeedBenchConfig, run_speed_bench
from ..bench.table import Document, print_table, write_json
from ..editors import BackboneConfig
from .models import load_backbone, silence_libraries
from .pictures import check_output
from .progress import labelled_bar, waiting


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


Bench: TypeAlias = (
    Annotated[FoIBench, tyro.conf.subcommand("foi")] | Annotated[SpeedBench, tyro.conf.subcommand("speed")]
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
        if target is not None:
            write_json(document, target)
            print(f"figures: {target}")
