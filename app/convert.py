"""`maskedit convert smartedit`: from the published SmartEdit weights to a checkpoint that every command loads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..editors import BackboneConfig, InputError, ModelError, SmartEditConversion
from .models import silence_libraries
from .pictures import check_output


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Turn weights of a layout of their own into a checkpoint; what is read is not changed."""

    what: Annotated[tyro.conf.Positional[Literal["smartedit"]], tyro.conf.arg(metavar="smartedit")] = "smartedit"
    """What to convert: SmartEdit."""
    task: tyro.conf.OmitArgPrefixes[SmartEditConversion]
    """What is converted, and where to."""
    model_dir: Path | None = None
    """Folder with local copies of CLIP, base and tokenizer, looked up before the hub."""
    offline: bool = False
    """Never ask the hub; use local folders and its cache only."""

    def run(self) -> None:
        """Convert, look whether all fits, and say how to go on."""
        from ..editors import check_smartedit, convert_smartedit

        output = self.task.output
        if output.exists():
            raise InputError(f"{output} is there already: choose another --output or remove it")
        check_output(output.parent)
        silence_libraries()
        config = BackboneConfig(model_dir=self.model_dir, offline=self.offline, device="cpu")
        convert_smartedit(self.task, config, report=print)
        for finding in check_smartedit(output, config, load=False):
            if not finding.fits:
                raise ModelError(f"{output} was written, but its {finding.what}: {finding.note}")
            print(f"{finding.what}: {finding.note}")
        print(f"written: {output}; ask it once for its answer with `maskedit doctor --smartedit {output}`")
