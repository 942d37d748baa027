"""`maskedit train embedded`: trains the small model set that is part of maskedit, in slices that resume.

`maskedit train smartedit` has a file of its own.
"""

import shlex
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..bench.embedded.export import PART_FOLDERS, export_part, install_part
from ..bench.embedded.train import PARTS, EmbeddedRecipe, Part, train_part
from ..editors import InputError, ModelError
from .models import silence_libraries
from .pictures import check_output
from .progress import format_seconds


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train the embedded set on the blocks world, slice by slice; run the same command again to go on.

    SmartEdit is trained on real pictures by `maskedit train smartedit`, which has flags of its own.
    """

    what: Annotated[tyro.conf.Positional[Literal["embedded"]], tyro.conf.arg(metavar="embedded")] = "embedded"
    """What to train: the embedded set."""
    folder: Path
    """Where data, state and results live; a gigabyte or two. Give the same folder to go on."""
    part: Part | None = None
    """Train only this part: `instruct` (the InstructPix2Pix checkpoint), `text-to-image`, `inpainting` (starts from the
    finished text-to-image part), `segmenter`, `clip` (starts from the installed editor and segmenter), `llava` (starts
    from the installed CLIP) or `smartedit` (starts from the finished llava part, which it holds, and the installed
    editor); None = all of them, one after another."""
    minutes: float = 9.0
    """Length of this slice. A shard of data that has begun is finished, so it may take a little longer."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, ..."""
    export: Path | None = None
    """Folder for the checkpoints, one folder each, written after every slice once their networks have begun to learn;
    None = FOLDER/export."""
    install: bool = False
    """Also make each part that is finished one of the embedded set of this installation, for `--model embedded`."""
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
        if target.is_dir() and {path.name for path in target.iterdir()} - set(PART_FOLDERS.values()):
            raise InputError(f"{target} holds something other than checkpoints of this set: choose another --export")
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = self.device if self.device != "auto" else str(found or "cpu")
        silence_libraries()
        print(f"training on {device} for {format_seconds(60 * self.minutes)} in {self.folder}")
        try:
            self._train(device, target)
        except FloatingPointError as error:
            raise ModelError(f"training failed: {error}") from error
        except RuntimeError as error:
            if "CUDA" not in str(error):
                raise
            raise InputError(f"cannot train on {device!r} ({error}): pass --device cpu") from error

    def _train(self, device: str, target: Path) -> None:
        """Train one part after another until the time is over."""
        end = time.monotonic() + 60 * self.minutes
        for part in PARTS if self.part is None else (self.part,):
            left = end - time.monotonic()
            trained = train_part(part, self.recipe, self.folder, device=device, max_seconds=left, report=print)
            steps = self.recipe.steps(part)
            if trained is not None:
                print(f"checkpoint at step {trained.step} of {steps}: {export_part(part, trained, target)}")
            if trained is None or trained.step < steps:
                stage = "before its first step" if trained is None else f"at step {trained.step} of {steps}"
                print(f"not finished ({part} {stage}); go on with:\n  maskedit {shlex.join(sys.argv[1:])}")
                return
            if self.install:
                place = install_part(part, trained, Path(str(files("maskedit.editors.embedded"))))
                if place is not None:
                    print(f"installed as part of the embedded set: {place}")
        print("finished")
