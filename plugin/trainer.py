"""nerfstudio's trainer with step counts of its own, checkpoints that a kill can't tear, and resuming that is exact.

Training steps go on from the checkpoint's, because nerfacto's samplers depend on them; edit steps are counted from the
step at which editing began, `EditSession.edit_start`. `--max-num-iterations` means edit steps, whatever nerfstudio's
own loop takes it for (1.1.5 adds it to the checkpoint's step, later versions count that step in): the loop is given
more than enough and stopped at the end.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from ..editors import InputError, MaskeditError, ModelError
from .carrier import EditCarrier
from .check import check_language_is_there
from .checkpoint import (
    adopt_model_config,
    check_same_space,
    model_weights,
    plain_keys,
    read_checkpoint,
    read_source_run,
)
from .dry_run import DryRun, StepCost
from .edits import SceneEdits
from .lift_scene import read_start
from .options import MaskeditPipelineConfig, model_options
from .pipeline import MaskeditPipeline, seed_everything
from .ranks import Ranks, check_ranks, find_start_together, follow_first, meets
from .session import FOLDER, EditSession
from .session_lock import hold_session, release_session
from .start import DRY_RUN_FOLDER, Start, continue_in_place, one_line, pictures_left, remove_newer
from .storage import one_line_on_failure, probe_folder, write_checkpoint
from .update import Draw, seed_for
from .viewer import EditControls

ENDLESS = 10**9
"""More steps than any run takes."""
KEPT_MODEL_FIELDS = frozenset({"eval_num_rays_per_chunk", "prompt", "use_lpips", "lpips_loss_mult"})
"""Model options that are this method's business and not taken over from a checkpoint."""


@dataclass
class MaskeditTrainerConfig(TrainerConfig):
    """A run of maskedit."""

    _target: type = field(default_factory=lambda: MaskeditTrainer)
    pipeline: MaskeditPipelineConfig = field(default_factory=MaskeditPipelineConfig)
    """What to edit, with what, and how often."""
    max_num_iterations: int = 15000
    """Edit steps of the whole run, however often it is interrupted; steps of reconstruction come on top."""

    def save_config(self) -> None:
        """Write config.yml; ns-train does so before anything else, so a folder that can't be written shows here."""
        path = self.get_base_dir() / "config.yml"
        with one_line(), one_line_on_failure(path):
            # nerfstudio starts the processes after this, and their refusals would come with tracebacks.
            check_ranks(self)
            # The options that a run goes on with are those in its file, and the same command may lack some of them.
            if not (path.is_file() and EditSession.exists(self.get_base_dir())):
                super().save_config()


class MaskeditTrainer(Trainer):
    """Trains a scene on photos that are edited meanwhile."""

    config: MaskeditTrainerConfig
    pipeline: MaskeditPipeline

    def __init__(self, config: MaskeditTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        with one_line():
            config.pipeline.check_machine(config.machine.device_type)
            # The caller's config stays as it is; this copy is brought in line with the checkpoint.
            given = replace(config, pipeline=replace(config.pipeline))
            check_ranks(given)
            self.ranks = Ranks.join(world_size)
            config = self.ranks.first(lambda: continue_in_place(given))
            self._asked_precision = config.mixed_precision
            # Half precision is for GPUs; nerfstudio would say so and warn about its scaler.
            config.mixed_precision &= config.machine.device_type != "cpu"
            super().__init__(config, local_rank, world_size)
        self.session: EditSession | None = None
        self.requests: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.controls: EditControls | None = None
        self._edit_steps = config.max_num_iterations
        self._last_step: int | None = None
        self._start: Start
        self._state: dict[str, Any] | None = None

    @property
    def edit_step(self) -> int:
        """Edit step that comes next or is under way; negative while reconstructing."""
        return self.step - self._session.edit_start

    @property
    def next_edit_step(self) -> int:
        """The same by the session's clock, 0 while reconstructing."""
        # A run that is over counts the step it has made last.
        return self._session.clock(max(0, self.edit_step + (self.training_state == "completed")))

    @property
    def end_step(self) -> int:
        """Training step at which the run is over."""
        return self._session.edit_start + self._edit_steps

    @property
    def _session(self) -> EditSession:
        assert self.session is not None
        return self.session

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Check everything that can be checked, then build the scene and read the checkpoint."""
        with one_line():
            self.config.pipeline.check()
            self._start = find_start_together(self.ranks, self.config)
            session, asked = self._start.session, self.config.pipeline.read_instructions()
            if session is None or session.plan(asked) is None:
                check_language_is_there(self.config.pipeline.editor)
            if self.ranks.is_first:
                probe_folder(self.base_dir)
            self._adopt_model()
            seed_everything(seed_for(self.config.machine.seed, Draw.SETUP, 1))
            super().setup(test_mode)

    def setup_optimizers(self) -> Optimizers:
        """Build the optimisers; the pipeline is there now and the viewer is not yet, so its controls are made here."""
        if self.config.is_viewer_enabled():
            self.controls = EditControls(self)
        return super().setup_optimizers()

    def _adopt_model(self) -> None:
        """Take over the model options of the checkpoint's run, and write them to this run's config.yml."""
        checkpoint = self._start.checkpoint
        self._state = None if checkpoint is None else read_checkpoint(checkpoint, self.config.pipeline.scene_kind)
        run = None if checkpoint is None else read_source_run(checkpoint)
        if run is not None:
            given = self.config.pipeline.model
            self.config.pipeline.model = adopt_model_config(given, type(given)(), run.model, KEPT_MODEL_FIELDS)
        if self._start.session is None and self.ranks.is_first:
            self.config.save_config()

    def _load_checkpoint(self) -> None:
        """Read the checkpoint found before, open the session and bring the working set to the same step."""
        start, state = self._start, self._state
        self._state = None
        if start.checkpoint is not None:
            outputs = self.pipeline.datamanager.train_dataparser_outputs
            run = start.checkpoint.parent.parent
            check_same_space(run, outputs.dataparser_transform, float(outputs.dataparser_scale))
        first = 0 if state is None else int(state["step"]) + 1
        self.session = start.session or self.ranks.share_session(lambda: self._create_session(first))
        session = self._session
        session.check_settings(self._own_settings())
        for view, picture in session.base().items():
            self.pipeline.datamanager.replace_original(view, picture)
        # The generation of another run's checkpoint is that of its own session.
        is_own = start.session is not None and start.checkpoint in [*self.checkpoint_dir.glob("step-*.ckpt")]
        was_reset = session.generation != ((state or {}).get("maskedit", {}).get("generation", 0) if is_own else 0)
        if was_reset:
            # The newest checkpoint is older than the reset, so the run goes on from the first scene.
            self._restore_start()
            first = session.edit_start
        elif state is not None and start.checkpoint is not None:
            self._restore(start.checkpoint, state)
            if is_own and self.ranks.is_first:
                # Before the edits that they were trained on are forgotten.
                remove_newer(start.checkpoint)
        self._start_step = self.step = first
        self._begin(has_scene=was_reset or state is not None or session.edit_start > first)
        # nerfstudio's own progress display measures against this.
        self.config.max_num_iterations = self.end_step

    def _begin(self, *, has_scene: bool) -> None:
        session, pipeline = self._session, self.pipeline
        edits = pipeline.begin(
            session,
            seed=self.config.machine.seed,
            planned_steps=self._edit_steps,
            has_scene=has_scene,
            report=self._say,
        )
        beside = self.config.pipeline.edit_beside
        newer = sum(record.step >= self.edit_step for record in session.records)
        if not beside:
            session.roll_back(self.next_edit_step)
        edits.show(self.next_edit_step)
        if self.controls is not None:
            self.controls.begin()
        pipeline.set_step(self._start_step)
        if self.config.pipeline.dry_run:
            return
        pipeline.carry(self.ranks, step=max(0, self.edit_step), report=self._say)
        pipeline.scene_model.load_perceptual()
        if self._start.session is not None:
            self._say(
                f"continuing the session at {session.root}: edit step {self.edit_step} of {self._edit_steps}, "
                f"{newer} newer edits are {'kept' if beside else 'made again'}"
            )
        elif self.edit_step < 0:
            self._say(f"reconstructing the scene for {-self.edit_step} steps before the first edit")
        planned, views = edits.planned, edits.schedule.views
        self._say(
            f"{self._edit_steps} edit steps: {planned} edits of {views} views, {planned / views:.1f} sweeps, "
            f"kept in {session.root}"
        )

    def _say(self, line: str) -> None:
        """Log a line, once for all devices, and show it in the viewer."""
        if self.controls is not None:
            self.controls.report(line)
        elif self.ranks.is_first:
            CONSOLE.log(line)

    def _create_session(self, first: int) -> EditSession:
        pipeline, data, checkpoint = self.config.pipeline, self.pipeline.datamanager, self._start.checkpoint
        root = self.base_dir / (DRY_RUN_FOLDER if pipeline.dry_run else FOLDER)
        if pipeline.dry_run and root.is_dir():
            shutil.rmtree(root)
        settings = pipeline.session_settings(self.config.machine.seed) | self._own_settings()
        root.mkdir(parents=True, exist_ok=True)
        hold_session(root)
        return EditSession.create(
            root,
            settings=settings,
            start_step=first,
            edit_start=first + pipeline.reconstruct_steps,
            source=None if checkpoint is None else str(checkpoint.resolve()),
            photos=[str(data.photo_file(view)) for view in range(len(data.views))],
            base=pictures_left(checkpoint, first, self._photo_settings()),
        )

    def _photo_settings(self) -> dict[str, Any]:
        """Number, height and width of the photos, and which ones they are: subsets have the same number."""
        data = self.pipeline.datamanager
        names = {str(view): data.photo_name(view) for view in range(len(data.views))}
        return {"photos": list(data.photo_shape), "photo names": names}

    def _own_settings(self) -> dict[str, Any]:
        """What must be the same when the session is continued, and is known only when everything is built."""
        options = model_options(self.config.pipeline.model, KEPT_MODEL_FIELDS)
        return {"mixed precision": self._asked_precision, "model options": options, **self._photo_settings()}

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        """Weights, optimisers, schedules and sampler of a checkpoint."""
        weights = model_weights(path, state["pipeline"], plain_keys(self.pipeline.state_dict()))
        self.pipeline.load_pipeline(weights, state["step"])
        groups = set(self.optimizers.optimizers)
        if set(state["optimizers"]) != groups:
            raise ModelError(
                f"{path} has optimisers for {sorted(state['optimizers'])}, this run for {sorted(groups)}: pass the "
                "--pipeline.model.camera-optimizer.mode that the scene was trained with"
            )
        self.optimizers.load_optimizers(state["optimizers"])
        if "schedulers" in state and self.config.load_scheduler:
            self.optimizers.load_schedulers(state["schedulers"])
        if state["scalers"]:
            # A scaler that was switched off, as on a CPU, has nothing to say, and one that is on would refuse that.
            self.grad_scaler.load_state_dict(state["scalers"])
        self.pipeline.scene_model.restore_training_state(int(state["step"]), state.get("maskedit", {}))

    def _restore_start(self) -> None:
        """Bring the scene back to what it was before the first edit."""
        self._restore(*read_start(self._session, self.config.pipeline.scene_kind))

    def train(self) -> None:
        """Train to the end, or edit a few views if that is all that was asked for."""
        with one_line():
            try:
                if self.config.pipeline.dry_run:
                    self._dry_run()
                elif self._start_step >= self.end_step:
                    CONSOLE.log(
                        f"this run is complete ({self._edit_steps} edit steps): raise --max-num-iterations to go on"
                    )
                else:
                    self.config.max_num_iterations = ENDLESS
                    super().train()
            finally:
                self._carrier.close()
                release_session(self._session.root)

    def _dry_run(self) -> None:
        # Without the trainer's own `train_iteration`: it answers the viewer and writes the first scene.
        dry_run = DryRun(self, super().train_iteration)
        edit = dry_run.edit(self.config.pipeline.dry_run)
        try:
            step: StepCost | MaskeditError = dry_run.train()
        except MaskeditError as error:
            step = error
        CONSOLE.print("\n".join(dry_run.describe(edit, step, self._edit_steps)), highlight=False, markup=False)

    @property
    def _session_edits(self) -> SceneEdits:
        assert self.pipeline.edits is not None
        return self.pipeline.edits

    @property
    def _carrier(self) -> EditCarrier:
        assert self.pipeline.carrier is not None
        return self.pipeline.carrier

    def train_iteration(self, step: int) -> Any:
        """One step, preceded by what the user asked for meanwhile."""
        with one_line():
            self._answer_requests()
            session = self._session
            is_first_edit = step == session.edit_start > session.start_step and session.generation == 0
            if is_first_edit and self.ranks.is_first:
                self._write_checkpoint(session.start_checkpoint, step - 1)
            result = super().train_iteration(step)
        self._last_step = step
        if self.controls is not None:
            self.controls.refresh()
        if step + 1 >= self.end_step:
            self.stop_training = True
        return result

    def _answer_requests(self) -> None:
        edits, step = self._session_edits, self.edit_step
        if not meets(self.ranks, edits, step):
            return
        while not self.requests.empty():
            self.requests.get()()
        follow_first(self.ranks, edits, step, self._restore_start)

    def undo(self, to: int | None = None) -> int:
        """Take back edits; the scene then trains towards the photos before them.

        Args:
            to: an earlier edit step, to whose photos and instructions the run goes back; None = the last sweep of edits
                is taken back.

        Returns:
            How many views show another photo now.
        """
        self._carrier.recall(forget=False)
        step = self.next_edit_step
        count = self._session.undo(step) if to is None else self._session.undo_to(step, to)
        self._session_edits.show(step)
        return count

    def reset(self) -> None:
        """Go back to the original photos and the scene before the first edit; edit steps count from 0 again."""
        if self.edit_step < 0:
            raise InputError("nothing to reset: the scene is still being reconstructed, and no edit has been made")
        start = read_start(self._session, self.config.pipeline.scene_kind)
        self._carrier.recall(forget=True)
        self._session.reset(edit_start=self.step)
        self._restore(*start)
        self._session_edits.show(0)

    def save_checkpoint(self, step: int) -> None:
        """Save the scene in one move, then remove the checkpoints it replaces."""
        if not self.ranks.is_first:
            return
        with one_line():
            path = self.checkpoint_dir / f"step-{step:09d}.ckpt"
            self._write_checkpoint(path, step)
            for other in self.checkpoint_dir.glob("step-*.ckpt"):
                # A newer step than this can only come from before a reset.
                if other.name > path.name or (self.config.save_only_latest_checkpoint and other != path):
                    other.unlink()

    def _write_checkpoint(self, path: Path, step: int) -> None:
        state = {
            "step": step,
            "pipeline": plain_keys(self.pipeline.state_dict()),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.optimizers.items()},
            "schedulers": {name: each.state_dict() for name, each in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "maskedit": {"generation": self._session.generation, **self.pipeline.scene_model.training_state()},
        }
        # nerfstudio takes every file of the checkpoint folder for a checkpoint, so the partial one lies elsewhere.
        write_checkpoint(path, state, partial=self.base_dir / "checkpoint.partial")

    def _after_train(self) -> None:
        """Save under the last step that was trained; nerfstudio's loop may have counted one more."""
        if self._last_step is None:
            return
        self.step = self._last_step
        with one_line():
            try:
                self._carrier.finish()
            except MaskeditError:
                # The last edit is lost; what was trained meanwhile need not be.
                self.save_checkpoint(self.step)
                raise
        if self.controls is not None:
            self.callbacks.append(self.controls.at_end)
        super()._after_train()
