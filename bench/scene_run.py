"""One scene of `maskedit bench scene`: reconstructed once, then edited from that checkpoint by each method.

Everything goes through the real trainers, in this process, because importing nerfstudio takes longer than some of these
runs. A scene has a folder:

    data/              the dataset with its truth
    runs/nerfacto/base, runs/maskedit-tiny/METHOD      what `ns-train` would leave
    METHOD.json        what was measured; it comes last
    METHOD.png         held-out cameras: before, after, truth
    METHOD.log         what the run said
"""

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import profiler, writer

from ..editors import BackboneConfig, Image, MaskeditError, NothingFoundError, resolve_device
from ..plugin.config import maskedit_tiny
from ..plugin.editor import SceneEditorConfig
from ..plugin.edits import EmptySweepError
from ..plugin.pipeline import seed_everything
from ..plugin.storage import from_bytes, read_mask
from ..plugin.trainer import MaskeditTrainer, MaskeditTrainerConfig
from .blocks import FIXED_REFERENCES, EditKind, MultiviewTruth, make_pairs, read_multiview, write_multiview
from .outcome import save_sheet
from .scene_methods import METHODS, SMALL_FIELD, SceneMethod, SceneMethodName, with_flags
from .scene_scores import SceneOutcome, measure_scene, region_psnrs, steps_to_share
from .scene_watch import TimedEditor, TrueEditor, forget_peak, peak_memory, wait_for, waited_share
from .table import Row

if TYPE_CHECKING:
    from .scene import SceneBenchConfig

_NEVER = 10**6
_SEED = 42
_BASE = "base"


class WatchedTrainer(MaskeditTrainer):
    """A run that is timed step by step and looked at between steps, in time that does not count.

    Args:
        config: of the run.
        look: called with the edit step that comes next.
        every: edit steps from one look to the next.
    """

    def __init__(self, config: MaskeditTrainerConfig, look: Callable[[int], None], every: int) -> None:
        super().__init__(config)
        self.look, self.every = look, every
        self.seconds: list[float] = []
        """Of each step."""

    def train_iteration(self, step: int) -> Any:
        """One step, its edits included."""
        if self.edit_step % self.every == 0:
            self.look(self.edit_step)
        device = torch.device(self.device)
        wait_for(device)
        start = time.perf_counter()
        result = super().train_iteration(step)
        wait_for(device)
        self.seconds.append(time.perf_counter() - start)
        return result


class SceneRuns:
    """The runs of one scene.

    Args:
        config: what to measure.
        number: of the scene.
        checkpoint: of the editors.
    """

    def __init__(self, config: "SceneBenchConfig", number: int, checkpoint: BackboneConfig) -> None:
        self.config, self.number, self.checkpoint = config, number, checkpoint
        self.folder = config.scene_folder(number)
        self.device = resolve_device(checkpoint.device, "auto")[0]

    def reconstruct(self) -> Row:
        """Write the dataset, train the scene before its edits and measure it; what an earlier try left is removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        config = self.config
        kinds: dict[EditKind, float] = {config.kinds[self.number % len(config.kinds)]: 1.0}
        spec = make_pairs(config.split, [self.number], kinds=kinds, references=FIXED_REFERENCES).specs[0]
        truth = write_multiview(
            self.folder / "data",
            spec.scene,
            spec.edits,
            views=config.views,
            held_out=config.held_out,
            size=config.size,
        )
        plain = TrainerConfig(
            method_name="nerfacto",
            pipeline=maskedit_tiny.config.pipeline,
            optimizers=maskedit_tiny.config.optimizers,
        )
        flags = self._common(_BASE) | {"max-num-iterations": config.base_steps}
        with _quiet(self.folder / f"{_BASE}.log"):
            run = with_flags(plain, flags)
            seed_everything(_SEED)
            # ns-train writes the configuration, which says how to read the checkpoint.
            run.save_config()
            trainer = Trainer(run)
            trainer.setup()
            trainer.train()
            before = _render_views(trainer.pipeline, truth)
        photos = truth.source[list(truth.training)]
        outcome = SceneOutcome(renders=before, before=before, photos=photos)
        return measure_scene(truth, outcome, shows_edit=False)

    def edit(self, name: SceneMethodName) -> tuple[Row, dict[str, Any]]:
        """Edit the scene by a method; what an earlier try left is removed.

        Returns:
            Its metrics, and what else is worth keeping.
        """
        shutil.rmtree(self.folder / "runs" / "maskedit-tiny" / name, ignore_errors=True)
        truth, method = read_multiview(self.folder / "data"), METHODS[name]
        history: list[tuple[int, float | None]] = []
        stopped = ""
        with _quiet(self.folder / f"{name}.log"):
            trainer = WatchedTrainer(
                self._edit_config(name, truth),
                lambda step: history.append((step, _psnr_inside(trainer.pipeline, truth))),
                self.config.check_every,
            )
            trainer.setup()
            editor = self._use_editor(trainer, method, truth)
            before = _render_views(trainer.pipeline, truth)
            forget_peak(self.device)
            try:
                trainer.train()
            except MaskeditError as error:
                # Anything else is no result: it must not be kept as one.
                if not isinstance(error.__cause__, EmptySweepError | NothingFoundError):
                    raise
                stopped = str(error)
            peak = peak_memory(self.device)
            after = _render_views(trainer.pipeline, truth)
            history.append((trainer.edit_step + 1, _psnr_inside(trainer.pipeline, truth)))
        made = _edited_views(trainer)
        figures = {
            "edited_views": made,
            "seconds_edit": None if method.is_true else editor.seconds_per_view,
            "edits_per_minute": 60 * made / sum(trainer.seconds) if trainer.seconds else None,
            "waited": waited_share(trainer.seconds),
            "steps_to_90": steps_to_share(history),
            "peak_mib": peak,
            "stopped": float(bool(stopped)),
        }
        outcome = SceneOutcome(
            renders=after,
            before=before,
            photos=_photos(trainer),
            masks=_used_masks(trainer, truth) if method.has_mask else None,
            figures=figures,
        )
        views = list(truth.held_out)
        save_sheet([before[views], after[views], truth.target[views]], self.folder / f"{name}.png", rows=len(views))
        kept = {"instruction": truth.instruction, "edits": made, "psnr_inside": history, "reason": stopped}
        return measure_scene(truth, outcome), kept

    def _edit_config(self, name: SceneMethodName, truth: MultiviewTruth) -> MaskeditTrainerConfig:
        config, method = self.config, METHODS[name]
        where = {each.name: getattr(self.checkpoint, each.name) for each in fields(BackboneConfig)}
        editor = SceneEditorConfig(
            **where, name=method.editor, foi=config.foi, ip2p=config.ip2p, instructedit=config.instructedit
        )
        flags = self._common(name) | {
            "load-dir": self.folder / "runs" / "nerfacto" / _BASE / "nerfstudio_models",
            "max-num-iterations": config.edit_steps,
            "pipeline.editor": editor,
            # As many edits as by the other schedule, where a method asks for this one.
            "pipeline.sweep-every": 10 * len(truth.training),
            "pipeline.instructions": tuple(edit.text for edit in truth.edits),
            "pipeline.keywords": tuple(edit.keyword for edit in truth.edits),
            **method.flags,
        }
        return with_flags(maskedit_tiny.config, flags)

    def _common(self, name: str) -> dict[str, Any]:
        """Flags of all runs of this scene."""
        steps = self.config.base_steps + self.config.edit_steps
        return {
            "data": self.folder / "data",
            "pipeline.datamanager.data": self.folder / "data",
            "pipeline.datamanager.dataparser.downscale-factor": 1,
            "output-dir": self.folder,
            "experiment-name": "runs",
            "timestamp": name,
            "vis": "tensorboard",
            "machine.device-type": self.device.type,
            "machine.seed": _SEED,
            # Half precision would make the scene of a GPU another one than that of a CPU.
            "mixed-precision": False,
            "steps-per-save": _NEVER,
            "steps-per-eval-batch": _NEVER,
            "steps-per-eval-image": _NEVER,
            "steps-per-eval-all-images": _NEVER,
            "logging.local-writer.enable": False,
            **SMALL_FIELD,
            "optimizers.fields.scheduler.max-steps": steps,
            "optimizers.proposal-networks.scheduler.max-steps": steps,
        }

    def _use_editor(self, trainer: WatchedTrainer, method: SceneMethod, truth: MultiviewTruth) -> TimedEditor:
        """Give the run an editor of its own: what one remembers of a scene must not make the next one faster."""
        config = trainer.config.pipeline.editor
        editor = TimedEditor(TrueEditor(truth) if method.is_true else config.make(config.load_backbone()), self.device)
        edits = trainer.pipeline.edits
        assert edits is not None, "a run that was set up has its edits"
        edits.use_editor(editor)
        return editor


def _edited_views(trainer: WatchedTrainer) -> int:
    session = trainer.session
    return 0 if session is None else sum(record.image is not None for record in session.records)


def _photos(trainer: WatchedTrainer) -> Image:
    """What the training views show, in their order."""
    data = trainer.pipeline.datamanager
    names = [data.photo_name(place) for place in range(len(data.views))]
    order = sorted(range(len(names)), key=names.__getitem__)
    return torch.stack([from_bytes(data.shown(place)).permute(2, 0, 1) for place in order])


def _used_masks(trainer: WatchedTrainer, truth: MultiviewTruth) -> dict[int, torch.Tensor | None]:
    """Where each view was edited the last time it had its turn."""
    session = trainer.session
    masks: dict[int, torch.Tensor | None] = {}
    for record in () if session is None else session.records:
        view = truth.names.index(Path(record.photo).stem)
        masks[view] = None if session is None or record.mask is None else read_mask(session.root / record.mask) >= 128
    return masks


def _psnr_inside(pipeline: Any, truth: MultiviewTruth) -> float | None:
    """Of the held-out cameras, as the scene is now."""
    views = list(truth.held_out)
    renders = _render_views(pipeline, truth, views)
    return region_psnrs(renders, truth.target[views], truth.changed[views])["psnr_changed"]


@torch.no_grad()
def _render_views(pipeline: Any, truth: MultiviewTruth, views: Sequence[int] | None = None) -> Image:
    """The scene as cameras of the dataset see it, all of them by default."""
    model, data = pipeline.model, pipeline.datamanager
    cameras = {
        truth.names.index(Path(file).stem): dataset.cameras[place : place + 1]
        for dataset in (data.train_dataset, data.eval_dataset)
        for place, file in enumerate(dataset.image_filenames)
    }
    was_training = model.training
    model.eval()
    try:
        colors = [
            model.get_outputs_for_camera(cameras[view].to(model.device))["rgb"]
            for view in (range(len(truth.names)) if views is None else views)
        ]
    finally:
        model.train(was_training)
    return torch.stack(colors).float().clamp(0, 1).permute(0, 3, 1, 2).cpu()


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Let nerfstudio talk to a file, and leave nothing of a run in its global lists."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file, warnings.catch_warnings(), redirect_stdout(file):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for each in writer.EVENT_WRITERS:
                if isinstance(each, writer.TensorboardWriter):
                    each.tb_writer.close()
            for kept in (writer.EVENT_WRITERS, writer.EVENT_STORAGE, writer.GLOBAL_BUFFER, profiler.PROFILER):
                kept.clear()
