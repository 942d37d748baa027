"""`maskedit demo`: edits pictures and a scene of the blocks world, and writes a report with what was measured."""

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ..editors import BackboneConfig, InputError, MaskeditError, save_image, side_by_side
from .demo_pictures import NAMES, PictureSet, describe_pictures, edit_pictures, save_strips
from .demo_scene import SceneResult, SceneSettings, describe_scene, edit_scene
from .models import load_backbone
from .pictures import check_output, installed_versions, write_record
from .progress import format_seconds, progress_bar, warn
from .report import Section, write_report
from .threads import choose_threads

if TYPE_CHECKING:
    from ..editors import Backbone

MARK = ".maskedit-demo"
"""Says that a folder was made by the demo and may be made anew."""
METHODS = 2


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Edit pictures and a scene of the blocks world with both editors; writes report.html and summary.json."""

    output: Path = Path("outputs/demo")
    """Folder for the results; an earlier demo in it is replaced."""
    pictures: int = 8
    """Pictures with one instruction, and as many with two."""
    scene: bool = True
    """Whether to reconstruct and edit a scene too, which takes most of the time."""
    checkpoint: tyro.conf.OmitArgPrefixes[BackboneConfig] = field(
        default_factory=lambda: BackboneConfig(model="embedded", offline=True)
    )
    """Which checkpoint to load; the demo's pictures are of the world that the embedded one knows."""
    length: SceneSettings = field(default_factory=SceneSettings)
    """How long to work on the scene."""

    def run(self) -> None:
        """Do everything and write the report.

        Raises:
            MaskeditError: if the scene failed; the report then holds the pictures.
        """
        from ..bench.table import describe_machine

        if self.pictures < 1:
            raise InputError(f"--pictures must be at least 1, got {self.pictures}")
        start_folder(self.output)
        choose_threads()
        start = time.perf_counter()
        backbone = load_backbone(self.checkpoint, own_pictures=False)
        sets = self._edit_pictures(backbone)
        for one in sets:
            save_strips(one, self.output / "pictures")
        pictures_seconds = time.perf_counter() - start
        scene, failure = self._edit_scene(backbone) if self.scene else (None, None)
        seconds = time.perf_counter() - start
        summary = {
            "model": self.checkpoint.model_for("instruct-pix2pix"),
            "machine": describe_machine(backbone.device),
            "versions": installed_versions(),
            "pictures": {NAMES[one.instructions]: one.figures for one in sets},
            "scene": None if scene is None else {"instruction": scene.truth.instruction, **scene.figures},
            "scene_error": None if failure is None else str(failure),
            "seconds": {"pictures": pictures_seconds, "scene": seconds - pictures_seconds, "all": seconds},
        }
        write_record(self.output / "summary.json", summary)
        report = write_report(
            self.output / "report.html", "maskedit: demo", self._sections(sets, scene, failure, summary)
        )
        print(f"done in {format_seconds(seconds)}: {report}")
        if failure is not None:
            raise failure

    def _edit_pictures(self, backbone: "Backbone") -> tuple[PictureSet, ...]:
        print(f"editing {len(NAMES) * self.pictures} pictures with ip2p and foi", flush=True)
        with progress_bar("editing pictures", METHODS * len(NAMES) * self.pictures) as step:
            return tuple(edit_pictures(backbone, instructions=count, count=self.pictures, step=step) for count in NAMES)

    def _edit_scene(self, backbone: "Backbone") -> tuple[SceneResult | None, MaskeditError | None]:
        folder = self.output / "scene"
        try:
            print("reconstructing a scene and editing it with foi, then with ip2p; some minutes each", flush=True)
            result = edit_scene(folder, self.checkpoint, backbone.device.type, self.length, "foi")
            # The same again without masks, to see what they are worth in a scene.
            other = edit_scene(self.output / "scene_ip2p", self.checkpoint, backbone.device.type, self.length, "ip2p")
            edited = {
                f"{name}, with ip2p": figures for name, figures in other.figures.items() if name.startswith("after")
            }
            result = replace(result, figures={**result.figures, **edited})
        except MaskeditError as error:
            warn("the scene failed; the report holds the pictures")
            return None, error
        for row, view in enumerate(result.truth.held_out):
            strip = side_by_side(
                [result.before[row : row + 1], result.after[row : row + 1], result.truth.target[[view]]]
            )
            save_image(strip, folder / "held_out" / f"{result.truth.names[view]}.png")
        return result, None

    def _sections(
        self,
        sets: tuple[PictureSet, ...],
        scene: SceneResult | None,
        failure: MaskeditError | None,
        summary: dict[str, Any],
    ) -> list[Section]:
        sections = [self._introduction(summary), *(describe_pictures(one) for one in sets)]
        if scene is not None:
            sections.append(describe_scene(scene))
        elif failure is not None:
            sections.append(Section(title="A scene", parts=(f"It failed: {failure}",)))
        return [*sections, LIMITS]

    def _introduction(self, summary: dict[str, Any]) -> Section:
        machine, versions = summary["machine"], summary["versions"]
        packages = ", ".join(f"{name} {version}" for name, version in versions.items())
        return Section(
            title="What this is",
            parts=(
                f"Pictures and a scene edited by instruction with the checkpoint {summary['model']}, on "
                f"{machine['name']} ({machine['device']}, {machine['threads']} threads) in "
                f"{format_seconds(summary['seconds']['all'])}. {packages}.",
                "InstructPix2Pix may change the whole picture. FoI finds a region for each instruction and puts back "
                "every pixel outside; what it would have done there is measured too.",
            ),
        )


LIMITS = Section(
    title="What was measured, and what was not",
    parts=(
        "Measured: every picture here against the truly edited scene, which the renderer of the blocks world knows "
        "exactly. None of these scenes was used in training.",
        "Not measured: photos, and the published checkpoints. The embedded checkpoint is small, knows only the blocks "
        "world, and its localisation was trained with the renderer's masks, so its figures say nothing about "
        "the published model's. A few pictures make a demonstration; `maskedit bench foi` measures hundreds.",
    ),
)


def start_folder(folder: Path) -> None:
    """Make the demo's folder, or empty an earlier demo's.

    Raises:
        InputError: if it holds something else.
    """
    check_output(folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise InputError(f"{folder} holds something that is not an earlier demo: choose another --output")
        for name in ("pictures", "scene"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("report.html", "summary.json"):
            (folder / name).unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error}): choose another --output") from error
