"""nerfstudio's pipeline with dataset updates: training steps edit; rendering, evaluating and viewing never do."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from .datamanager import MaskeditDataManager
from .edits import EditWork, SceneEdits
from .model import MaskeditModel
from .options import MaskeditPipelineConfig
from .scene import SceneRenderer, ViewRender
from .session import EditSession
from .slot import Settings, as_image
from .update import Draw, EditSchedule, seed_for
from .view_masks import FoundMasks


class MaskeditPipeline(VanillaPipeline):
    """Draws rays, carries out the edits that are due, and trains. Without `begin` it is a plain nerfacto pipeline."""

    config: MaskeditPipelineConfig
    datamanager: MaskeditDataManager

    def __init__(self, config: MaskeditPipelineConfig, device: Any, **kwargs: Any) -> None:
        super().__init__(config, device, **kwargs)
        self.scene_model.patch_size = config.datamanager.patch_size
        self.edits: SceneEdits | None = None
        self._seed: int | None = None
        self.renderer = SceneRenderer(self.scene_model, self.datamanager)

    @property
    def scene_model(self) -> MaskeditModel:
        """The model under its own type."""
        assert isinstance(self.model, MaskeditModel)
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
            rate=config.edit_rate,
            count=config.edit_count,
            views=len(self.datamanager.views),
            lower=config.lower_bound,
            upper=config.upper_bound,
            seed=seed,
        )
        self._seed = seed
        self.edits = SceneEdits(
            data=self.datamanager,
            session=session,
            schedule=schedule,
            editor_config=config.editor,
            settings=Settings(instructions=config.read_instructions()),
            masks=FoundMasks(session, reuse=config.masks == "first-edit", skip_empty=config.nothing_found == "skip"),
            render=self.renderer.render if has_scene else self._photo,
            report=report,
            planned=config.dry_run or schedule.planned(planned_steps),
        )
        return self.edits

    def set_step(self, step: int) -> int:
        """Switch between reconstruction and editing; returns the edit step, negative while reconstructing."""
        assert self.edits is not None
        edit_step = step - self.edits.session.edit_start
        self.scene_model.set_editing(edit_step >= 0)
        self.datamanager.uses_patches = edit_step >= 0
        return edit_step

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training step: rays are drawn first, then the due edits are made, as in Instruct-NeRF2NeRF."""
        if self.edits is None or self._seed is None:
            return super().get_train_loss_dict(step)
        edit_step = self.set_step(step)
        if edit_step >= 0:
            self.edits.repeat_undo(edit_step)
        seed_everything(seed_for(self._seed, Draw.RAYS, step))
        ray_bundle, batch = self.datamanager.next_train(step)
        if edit_step >= 0:
            self.edits.run_due(edit_step)
        seed_everything(seed_for(self._seed, Draw.FORWARD, step))
        outputs = self._model(ray_bundle)
        metrics = self.scene_model.get_metrics_dict(outputs, batch)
        return outputs, self.scene_model.get_loss_dict(outputs, batch, metrics), metrics

    def _photo(self, view: int) -> ViewRender:
        """The photo itself, where there is no scene yet; what it shows lies nowhere."""
        image = as_image(self.datamanager.original(view))
        return ViewRender(image=image, points=torch.full((*image.shape[2:], 3), torch.nan))

    def dry_run(self, count: int) -> tuple[str, ...]:
        """Edit some views without training; returns the strips written."""
        assert self.edits is not None
        views = len(self.datamanager.views)
        count = min(count, views)
        strips: list[str] = []
        settings = self.edits.settings_at(0)
        for number in range(count):
            view = number * views // count
            turn = replace(self.edits.schedule.turn(number, step=number), view=view)
            for record in self.edits.run(EditWork(turns=(turn,), settings=settings)):
                strips.append(record.strip or f"{record.photo}: {record.reason}")
        return tuple(strips)


def seed_everything(seed: int) -> None:
    """Seed the global generators, from which nerfstudio draws its rays and samples."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
