"""`maskedit train embedded`: trains the small model set that is part of maskedit, in slices that resume."""

import shlex
import sys
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..bench.embedded.export import export_set
from ..bench.embedded.train import EmbeddedRecipe, TrainedSet, train_embedded
from ..editors import InputError, ModelError
from .models import silence_libraries
from .pictures import check_output
from .progress import format_seconds


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train the embedded set on the blocks world, slice by slice; run the same command again to go on."""

    what: Annotated[tyro.conf.Positional[Literal["embedded"]], tyro.conf.arg(metavar="embedded")] = "embedded"
    """What to train: the embedded set."""
    folder: Path
    """Where data, state and results live; a gigabyte or two. Give the same folder to go on."""
    minutes: float = 9.0
    """Length of this slice. A shard of data that has begun is finished, so it may take a little longer."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, ..."""
    export: Path | None = None
    """Folder for the checkpoint, written after every slice once the editor has begun to learn; None = FOLDER/export."""
    install: bool = False
    """When finished, also make it the embedded set of this installation, for `--model embedded`."""
    recipe: EmbeddedRecipe = field(default_factory=EmbeddedRecipe)
    """What is trained; a folder belongs to one recipe."""

    def run(self) -> None:
        """Train one slice and say where it stands."""
        import torch

        if self.minutes <= 0:
            raise InputError(f"--minutes must be above 0, got {self.minutes:g}")
        target = self.export or self.folder / "export"
        check_output(self.folder, flag="--folder")
        check_output(target, flag="--export")
        if target.is_dir() and any(target.iterdir()) and not (target / "model_index.json").is_file():
            raise InputError(f"{target} holds something other than a checkpoint: choose another --export")
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = self.device if self.device != "auto" else str(found or "cpu")
        silence_libraries()
        print(f"training on {device} for {format_seconds(60 * self.minutes)} in {self.folder}")
        try:
            trained = train_embedded(
                self.recipe, self.folder, device=device, max_seconds=60 * self.minutes, report=print
            )
        except FloatingPointError as error:
            raise ModelError(f"training failed: {error}") from error
        except RuntimeError as error:
            if "CUDA" not in str(error):
                raise
            raise InputError(f"cannot train on {device!r} ({error}): pass --device cpu") from error
        self._conclude(trained, target)

    def _conclude(self, trained: TrainedSet | None, target: Path) -> None:
        steps = self.recipe.editor.optimize.steps
        if trained is not None:
            export_set(trained, target)
            print(f"checkpoint at step {trained.step} of {steps}: {target}")
        if trained is None or trained.step < steps:
            stage = "before the editor's first step" if trained is None else f"at step {trained.step} of {steps}"
            print(f"not finished ({stage}); go on with:\n  maskedit {shlex.join(sys.argv[1:])}")
            return
        print("finished")
        if self.install:
            place = Path(str(files("maskedit.editors.embedded"))) / "instruct-pix2pix"
            export_set(trained, place)
            print(f"installed as the embedded set: {place}")
