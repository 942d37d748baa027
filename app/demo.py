"""`maskedit demo`: edits pictures, a scene and a clip of the blocks world; a report tells what was measured."""

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ..editors import BackboneConfig, InputError, MaskeditError, save_image, side_by_side
from .demo_pictures import NAMES, PictureSet, describe_pictures, edit_pictures, save_strips
from .demo_scene import SceneResult, SceneSettings, describe_scene, edit_scene
from .demo_video import VideoResult, VideoSettings, describe_video, edit_video
from .models import load_backbone
from .pictures import check_output, installed_versions, write_record
from .progress import format_seconds, labelled_bar, progress_bar, warn
from .report import Section, write_report
from .threads import choose_threads

if TYPE_CHECKING:
    from ..editors import Backbone

MARK = ".maskedit-demo"
"""Says that a folder was made by the demo and may be made anew."""
METHODS = 2


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Edit pictures, a scene and a clip of the blocks world; writes report.html and summary.json."""

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
    video: bool = True
    """Whether to edit a clip too."""
    clip: VideoSettings = field(default_factory=VideoSettings)
    """How long to work on the clip."""

    def run(self) -> None:
        """Do everything and write the report.

        Raises:
            MaskeditError: if the scene or the clip failed; the report then holds the rest.
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
        seconds = {"pictures": time.perf_counter() - start}
        # The clip is the shorter work of the two, and its result should not wait for a scene that fails.
        video, no_video = self._edit_video(backbone) if self.video else (None, None)
        seconds["video"] = time.perf_counter() - start - sum(seconds.values())
        scene, no_scene = self._edit_scene(backbone) if self.scene else (None, None)
        seconds["scene"] = time.perf_counter() - start - sum(seconds.values())
        seconds["all"] = time.perf_counter() - start
        summary = {
            "model": self.checkpoint.model_for("instruct-pix2pix"),
            "machine": describe_machine(backbone.device),
            "versions": installed_versions(),
            "pictures": {NAMES[one.instructions]: one.figures for one in sets},
            "scene": None if scene is None else {"instruction": scene.truth.instruction, **scene.figures},
            "scene_error": None if no_scene is None else str(no_scene),
            "video": None if video is None else {"instruction": video.instruction, **video.figures},
            "video_error": None if no_video is None else str(no_video),
            "seconds": seconds,
        }
        write_record(self.output / "summary.json", summary)
        sections = [
            self._introduction(summary),
            *(describe_pictures(one) for one in sets),
            *_section("A scene", scene and describe_scene(scene), no_scene),
            *_section("A clip", video and describe_video(video), no_video),
            LIMITS,
        ]
        report = write_report(self.output / "report.html", "maskedit: demo", sections)
        print(f"done in {format_seconds(seconds['all'])}: {report}")
        for failure in (no_scene, no_video):
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
            warn("the scene failed; the report holds the rest")
            return None, error
        for row, view in enumerate(result.truth.held_out):
            strip = side_by_side(
                [result.before[row : row + 1], result.after[row : row + 1], result.truth.target[[view]]]
            )
            save_image(strip, folder / "held_out" / f"{result.truth.names[view]}.png")
        return result, None

    def _edit_video(self, backbone: "Backbone") -> tuple[VideoResult | None, MaskeditError | None]:
        try:
            print("editing a clip with foi, by way of one canonical image and frame by frame", flush=True)
            with labelled_bar() as show:
                return edit_video(self.output / "video", backbone, self.clip, show=show), None
        except MaskeditError as error:
            warn("the clip failed; the report holds the rest")
            return None, error

    def _introduction(self, summary: dict[str, Any]) -> Section:
        machine, versions = summary["machine"], summary["versions"]
        packages = ", ".join(f"{name} {version}" for name, version in versions.items())
        return Section(
            title="What this is",
            parts=(
                f"Pictures, a scene and a clip edited by instruction with the checkpoint {summary['model']}, on "
                f"{machine['name']} ({machine['device']}, {machine['threads']} threads) in "
                f"{format_seconds(summary['seconds']['all'])}. {packages}.",
                "InstructPix2Pix may change the whole picture. FoI finds a region for each instruction and puts back "
                "every pixel outside; what it would have done there is measured too.",
            ),
        )


def _section(title: str, done: Section | None, failure: MaskeditError | None) -> tuple[Section, ...]:
    """The section of a part that was asked for; where it failed, one that says so."""
    if failure is not None:
        return (Section(title=title, parts=(f"It failed: {failure}",)),)
    return () if done is None else (done,)


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
        for name in ("pictures", "scene", "scene_ip2p", "video"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("report.html", "summary.json"):
            (folder / name).unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error}): choose another --output") from error
