"""The demo's scene: reconstructed and edited by the real `ns-train`, rendered, and measured against its true twin."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..bench.blocks import MultiviewTruth, OrbitCamera, make_pairs, orbit_cameras, render, write_multiview, write_video
from ..bench.scene_methods import SMALL_FIELD
from ..bench.scene_scores import region_psnrs
from ..editors import BackboneConfig, EditorName, Image, ModelError, load_image, resize_image
from .progress import labelled_bar
from .render_run import RunRenderer
from .report import Clip, Gallery, Section, Table
from .threads import thread_environment

SCENE = 859
"""A held-out scene of two large blocks that differ in colour and shape, chosen for being easy to see."""
VIEWS, HELD_OUT, SIZE = 24, 4, 64
TURNTABLE_ELEVATION, ENLARGED = math.radians(30), 4


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """How long to work on the scene."""

    reconstruct_steps: int = 700
    """Training steps before the first edit."""
    edit_steps: int = 400
    """Training steps while editing."""
    edit_rate: int = 20
    """Training steps from one batch of edits to the next."""
    edit_count: int = 4
    """Views edited together."""
    lower_bound: float = 0.7
    """Lowest noise level of an edit; few edits are made, so each of them starts from much noise."""
    frames: int = 24
    """Pictures of the turntable."""


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """The scene before and after, seen by the cameras that were held out of training."""

    truth: MultiviewTruth
    before: Image
    after: Image
    strips: tuple[Path, ...]
    """Pictures before | mask | after of what the editor made of some photos."""
    turntable: Path
    figures: dict[str, dict[str, float | None]]
    """PSNRs by what is compared with what."""


def edit_scene(
    folder: Path, checkpoint: BackboneConfig, device: str, settings: SceneSettings, editor: EditorName = "foi"
) -> SceneResult:
    """Write the dataset, run `ns-train maskedit` on it, render and measure.

    Args:
        folder: a new or empty folder.
        checkpoint: the editor's.
        device: kind of device to train on, `cpu` or another.
        settings: how long.
        editor: which editor edits the photos.

    Raises:
        ModelError: if the run fails.
    """
    spec = make_pairs("test", [SCENE], kinds={"recolor": 1.0}, references={"plain": 1.0}).specs[0]
    truth = write_multiview(folder / "data", spec.scene, spec.edits, views=VIEWS, held_out=HELD_OUT, size=SIZE)
    edits = math.ceil(settings.edit_steps / settings.edit_rate) * settings.edit_count
    _run_training(train_command(folder, truth, checkpoint, device, settings, editor), folder / "train.log", edits)
    renderer = RunRenderer(folder / "runs" / "blocks" / "maskedit-tiny" / "demo")
    held_out = [truth.cameras[view] for view in truth.held_out]
    orbit = orbit_cameras(settings.frames, elevation=(TURNTABLE_ELEVATION, TURNTABLE_ELEVATION))
    with labelled_bar() as show:
        seen: dict[str, list[Image]] = {}
        for name in ("before", "after"):
            renderer.load(name)
            frames: list[Image] = []
            for number, camera in enumerate((*held_out, *orbit)):
                frames.append(renderer.render(camera, SIZE))
                show(f"rendering the scene {name}", number + 1, len(held_out) + len(orbit))
            seen[name] = frames
    count = len(held_out)
    before, after = (torch.cat(seen[name][:count]) for name in ("before", "after"))
    turntable = folder / "turntable.mp4"
    columns = [torch.cat(seen["before"][count:]), torch.cat(seen["after"][count:]), _true_frames(truth, orbit)]
    write_turntable(turntable, columns)
    return SceneResult(
        truth=truth,
        before=before,
        after=after,
        strips=renderer.strips()[:4],
        turntable=turntable,
        figures=measure_scene(truth, before, after),
    )


def train_command(
    folder: Path,
    truth: MultiviewTruth,
    checkpoint: BackboneConfig,
    device: str,
    settings: SceneSettings,
    editor: EditorName = "foi",
) -> list[str]:
    """The command that reconstructs and edits the scene.

    Raises:
        ModelError: if nerfstudio's command is not installed beside this Python.
    """
    program = Path(sys.executable).with_name("ns-train")
    if not program.is_file():
        raise ModelError(f"expected nerfstudio's command at {program}, found none: install maskedit again")
    flags = {
        "data": folder / "data",
        "output-dir": folder / "runs",
        "experiment-name": "blocks",
        "timestamp": "demo",
        "vis": "tensorboard",
        "machine.device-type": device,
        "max-num-iterations": settings.edit_steps,
        "steps-per-save": 10**6,
        "steps-per-eval-batch": 10**6,
        "steps-per-eval-image": 10**6,
        "steps-per-eval-all-images": 10**6,
        "logging.local-writer.enable": False,
        "pipeline.reconstruct-steps": settings.reconstruct_steps,
        "pipeline.edit-rate": settings.edit_rate,
        "pipeline.edit-count": settings.edit_count,
        "pipeline.lower-bound": settings.lower_bound,
        "pipeline.editor.name": editor,
        "pipeline.editor.model": checkpoint.model,
        "pipeline.editor.offline": checkpoint.offline,
        **({} if checkpoint.model_dir is None else {"pipeline.editor.model-dir": checkpoint.model_dir}),
        **SMALL_FIELD,
        "optimizers.fields.scheduler.max-steps": settings.reconstruct_steps + settings.edit_steps,
        "optimizers.proposal-networks.scheduler.max-steps": settings.reconstruct_steps + settings.edit_steps,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["--pipeline.instructions", *(edit.text for edit in truth.edits)]
    words += ["--pipeline.keywords", *(edit.keyword for edit in truth.edits)]
    return [str(program), "maskedit-tiny", *words, "nerfstudio-data", "--downscale-factor", "1"]


def _run_training(command: Sequence[str], log: Path, edits: int) -> None:
    with labelled_bar() as show, _started(command, log) as lines:
        show("reconstructing and editing the scene", 0, edits)
        for line in lines:
            found = re.search(r"\bedit (\d+)/(\d+)", line)
            if found:
                show("editing the scene", int(found[1]), int(found[2]))


@contextmanager
def _started(command: Sequence[str], log: Path) -> Iterator[Iterator[str]]:
    """A running program and its lines, which also go to a log; it never outlives the block.

    Raises:
        ModelError: if it fails.
    """
    environment = {**os.environ, **thread_environment(), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    last = ""

    def read(stream: Iterable[str]) -> Iterator[str]:
        nonlocal last
        with log.open("w", encoding="utf-8") as file:
            file.write(" ".join(command) + "\n")
            for line in stream:
                file.write(line)
                last = line.strip() or last
                yield line

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None, "a pipe was asked for"
            yield read(process.stdout)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise ModelError(f"ns-train failed ({last}): see {log}")


def measure_scene(truth: MultiviewTruth, before: Image, after: Image) -> dict[str, dict[str, float | None]]:
    """PSNRs of the held-out views; `changed` is where the true edit changes the picture."""
    views = list(truth.held_out)
    source, target, changed = truth.source[views], truth.target[views], truth.changed[views]
    return {
        "reconstruction against the scene": region_psnrs(before, source, changed),
        "before editing against the edited scene": region_psnrs(before, target, changed),
        "after editing against the edited scene": region_psnrs(after, target, changed),
        "after editing against before": region_psnrs(after, before, changed),
    }


def _true_frames(truth: MultiviewTruth, cameras: Sequence[OrbitCamera]) -> Image:
    return render([truth.edited_scene] * len(cameras), cameras, height=SIZE, samples=2).rgb


def write_turntable(path: Path, columns: Sequence[Image]) -> None:
    """A clip with columns of frames side by side, enlarged, twice around."""
    side = ENLARGED * columns[0].shape[-1]
    joined = torch.cat([resize_image(column.clamp(0, 1), side, side) for column in columns], -1)
    write_video(path, torch.cat([joined, joined]), fps=10)


def describe_scene(result: SceneResult) -> Section:
    """The section of the report."""
    truth = result.truth
    rows = [
        (
            truth.names[view],
            (
                truth.source[view : view + 1],
                result.before[row : row + 1],
                result.after[row : row + 1],
                truth.target[view : view + 1],
            ),
        )
        for row, view in enumerate(truth.held_out)
    ]
    return Section(
        title=f"A scene: {truth.instruction}",
        parts=(
            f"{len(truth.training)} photos of {SIZE} pixels, reconstructed and edited in one run of ns-train "
            "maskedit-tiny with FoI, then rendered from cameras that were held out of training.",
            Clip(
                caption="Around the scene: reconstructed before editing | after editing | the truly edited scene.",
                path=result.turntable,
            ),
            Table(
                caption="PSNR in dB over all pixels of the held-out cameras: where the true edit changes the picture, "
                "where it does not, and everywhere.",
                columns=("", "changed", "unchanged", "whole"),
                rows=tuple(
                    (name, row["psnr_changed"], row["psnr_unchanged"], row["psnr_whole"])
                    for name, row in result.figures.items()
                ),
            ),
            Gallery(columns=("photo", "before", "after", "truth"), rows=tuple(rows)),
            "What the editor made of training photos during the run: before, mask, after.",
            Gallery(columns=("edit",), rows=tuple(("", (load_image(path),)) for path in result.strips), width=400),
        ),
    )
