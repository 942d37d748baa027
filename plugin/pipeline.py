"""nerfstudio's pipeline with dataset updates: training steps edit; rendering, evaluating and viewing never do."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from .carrier import EditCarrier
from .consistency import ViewTies
from .datamanager import MaskeditDataManager
from .editor import SceneEditorConfig
from .edits import SceneEdits
from .lift import LiftedMasks
from .lift_scene import StartScene
from .model import MaskeditModel
from .options import MaskeditPipelineConfig
from .protect_run import Protection
from .ranks import RankEdits, Ranks
from .replica import SceneReplica
from .scene import SceneRenderer, ViewRender
from .session import EditSession
from .slot import Settings, as_image
from .splat_data import MaskeditSplatDataManager
from .splat_model import MaskeditSplatModel
from .update import Draw, EditSchedule, seed_for
from .view_masks import FoundMasks, ViewMasks
from .worker import EditWorker


class MaskeditPipeline(VanillaPipeline):
    """Draws rays, carries out the edits that are due, and trains. Without `begin` it is a plain nerfacto pipeline."""

    config: MaskeditPipelineConfig
    datamanager: MaskeditDataManager | MaskeditSplatDataManager

    def __init__(self, config: MaskeditPipelineConfig, device: Any, **kwargs: Any) -> None:
        super().__init__(config, device, **kwargs)
        if isinstance(self.model, MaskeditModel):
            self.model.patch_size = config.datamanager.patch_size
        self.edits: SceneEdits | None = None
        self.carrier: EditCarrier | None = None
        self._rank = int(kwargs.get("local_rank", 0))
        self._protection: Protection | None = None
        self._seed: int | None = None
        self.renderer = SceneRenderer(self.scene_model, self.datamanager)

    @property
    def scene_model(self) -> MaskeditModel | MaskeditSplatModel:
        """The model under its own type."""
        assert isinstance(self.model, MaskeditModel | MaskeditSplatModel)
        return self.model

    def begin(
        self,
        session: EditSession,
        *,
        seed: int,
        planned_steps: int,
        report: Callable[[str], None],
        has_scene: bool = True,
    ) -> SceneEdits:
        """Get ready to edit.

        Args:
            session: where edits are stored.
            seed: of every random draw of training.
            planned_steps: edit steps of the run.
            report: receives one line for each edit.
            has_scene: False = there is nothing to render yet, and a dry run starts from the photos themselves.
        """
        config = self.config
        schedule = EditSchedule(
            kind=config.schedule,
            rate=config.edit_rate,
            sweep_every=config.sweep_every,
            count=config.edit_count,
            views=len(self.datamanager.views),
            lower=config.lower_bound,
            upper=config.upper_bound,
            seed=seed,
            shares_noise=config.consistency.noise == "shared",
        )
        masks = self._choose_masks(session, seed, report)
        # Each rank draws rays of its own; what is edited, and how, is the same on all.
        self._seed = seed + self._rank
        self.edits = SceneEdits(
            data=self.datamanager,
            session=session,
            schedule=schedule,
            editor_config=self._own_editor(),
            settings=Settings(instructions=config.read_instructions()),
            masks=masks,
            render=self.renderer.render if has_scene else self._photo,
            report=report,
            planned=config.dry_run or schedule.planned(planned_steps),
            ties=ViewTies(
                config.consistency,
                self.datamanager.camera,
                seed=seed,
                far_plane=float(getattr(config.model, "far_plane", "inf")),
            ),
        )
        self.carrier = self.edits
        if config.protect and isinstance(masks, LiftedMasks):
            self._protection = Protection(self.edits, masks, self.scene_model)
        return self.edits

    def _choose_masks(self, session: EditSession, seed: int, report: Callable[[str], None]) -> ViewMasks:
        config, skips = self.config, self.config.nothing_found == "skip"
        if config.masks == "lifted":
            if isinstance(self.scene_model, MaskeditModel):
                self.scene_model.vote_resolution = config.lift.resolution
                self.scene_model.protection = config.protection
            scene = StartScene(self.scene_model, self.datamanager, session)
            if scene.exists or not config.dry_run:
                return LiftedMasks(
                    session, self.datamanager, scene, config.lift, seed=seed, report=report, skip_empty=skips
                )
            report("there is no scene yet to lift masks through: this dry run takes those found in each photo")
        return FoundMasks(session, reuse=config.masks != "every-edit", skip_empty=skips)

    def _own_editor(self) -> SceneEditorConfig:
        """The editor's config; with several devices each has its editor on its own."""
        editor = self.config.editor
        return editor if self.world_size == 1 else replace(editor, device=str(self.device))

    def carry(self, ranks: Ranks, *, step: int, report: Callable[[str], None]) -> None:
        """Choose how edits are carried out: within the training step, beside it, or divided over devices.

        Args:
            ranks: of the run.
            step: the edit step that comes next.
            report: receives a line at the end.
        """
        assert self.edits is not None
        if ranks.size > 1:
            self.carrier = RankEdits(self.edits, ranks)
            if self.config.edit_count % ranks.size:
                report(
                    f"edits come {self.config.edit_count} at a time, so some of {ranks.size} devices wait for others: "
                    f"pass --pipeline.edit-count {ranks.size} to keep all of them busy"
                )
        elif self.config.edit_beside:
            device = self.editor_device
            replica = SceneReplica(self.scene_model, self.datamanager, device)
            self.carrier = EditWorker(self.edits, replica, device=device, step=step, report=report)

    @property
    def editor_device(self) -> torch.device:
        """Where the editor works."""
        from ..editors import resolve_device

        return resolve_device(self._own_editor().device, self.config.editor.dtype)[0]

    def set_step(self, step: int) -> int:
        """Switch between reconstruction and editing; returns the edit step, negative while reconstructing."""
        assert self.edits is not None
        edit_step = step - self.edits.session.edit_start
        self.scene_model.set_editing(edit_step >= 0)
        self.datamanager.uses_patches = edit_step >= 0
        return edit_step

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training step.

        Rays are drawn first, then the due edits are made, as in Instruct-NeRF2NeRF; a step of a sweep trains on what it
        has just edited, as in Instruct-GS2GS.
        """
        if self.edits is None or self.carrier is None or self._seed is None:
            return super().get_train_loss_dict(step)
        edit_step = self.set_step(step)
        if edit_step >= 0:
            self.edits.repeat_undo(edit_step)
        schedule = self.edits.schedule
        if edit_step >= 0 and schedule.edits_first:
            self.carrier.run_due(edit_step)
        self.datamanager.focus = schedule.focus(edit_step)
        seed_everything(seed_for(self._seed, Draw.RAYS, step))
        ray_bundle, batch = self.datamanager.next_train(step)
        if edit_step >= 0 and not schedule.edits_first:
            self.carrier.run_due(edit_step)
        if edit_step >= 0 and self._protection is not None:
            self._protection.update(self.edits.session.clock(edit_step))
        seed_everything(seed_for(self._seed, Draw.FORWARD, step))
        outputs = self._model(ray_bundle)
        metrics = self.scene_model.get_metrics_dict(outputs, batch)
        return outputs, self.scene_model.get_loss_dict(outputs, batch, metrics), metrics

    def _photo(self, view: int) -> ViewRender:
        """The photo itself, where there is no scene yet; what it shows lies nowhere."""
        image = as_image(self.datamanager.original(view))
        return ViewRender(image=image, points=torch.full((*image.shape[2:], 3), torch.nan))


def seed_everything(seed: int) -> None:
    """Seed the global generators, from which nerfstudio draws its rays and samples."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
