"""nerfstudio's pipeline with dataset updates: training steps edit; rendering, evaluating and viewing never do."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from ..editors import Image, InputError, Instruction, ModelError, fingerprint_brush, fingerprint_checkpoint
from .check import check_editor_is_there
from .datamanager import MaskeditDataManager, MaskeditDataManagerConfig
from .editor import SceneEditorConfig
from .edits import EditRules, SceneEdits
from .model import MaskeditModel, MaskeditModelConfig
from .session import EditSession
from .slot import Settings
from .storage import from_bytes
from .update import TRAIN_TIMESTEPS, Draw, EditSchedule, seed_for


@dataclass
class MaskeditPipelineConfig(VanillaPipelineConfig):
    """What to edit, with what, and how often."""

    _target: type = field(default_factory=lambda: MaskeditPipeline)
    datamanager: MaskeditDataManagerConfig = field(default_factory=MaskeditDataManagerConfig)
    """Photos and rays."""
    model: MaskeditModelConfig = field(default_factory=MaskeditModelConfig)
    """The scene; the options of a loaded checkpoint are taken over, except those given here."""
    editor: SceneEditorConfig = field(default_factory=SceneEditorConfig)
    """The editor of single pictures."""
    instructions: tuple[str, ...] = ()
    """What to change, e.g. "make the red cube blue"; several are carried out together, each in its own region."""
    keywords: tuple[str, ...] = ()
    """For each instruction the words that name the object; "" or no list = chosen by the editor. Read by foi."""
    strengths: tuple[float, ...] = ()
    """For each instruction its emphasis in [-10, 10]; empty = 1 for all."""
    edit_rate: int = 10
    """Training steps from one edit to the next."""
    edit_count: int = 1
    """Views edited together, as one batch."""
    lower_bound: float = 0.02
    """Lowest noise level an edit starts from, as a share of the noise schedule; drawn anew for every edit. Editors that
    invert the picture (instructedit, diffedit, mdp) draw none and run at their own encoding ratio."""
    upper_bound: float = 0.98
    """Highest noise level."""
    masks: Literal["first-edit", "every-edit"] = "first-edit"
    """Whether a view keeps the masks of its first edit, or they are found anew each time."""
    nothing_found: Literal["skip", "stop"] = "skip"
    """A view in which nothing is found keeps its photo, or stops the run. Nothing found anywhere always stops it."""
    reconstruct_steps: int = 0
    """Steps of plain nerfacto training before edit step 0, for a run without a checkpoint (nerfacto takes 30000)."""
    resume: bool = True
    """Whether a checkpoint of a maskedit run continues that run; False = a new edit begins from what it made."""
    dry_run: int = 0
    """Edit that many views, write their strips and masks, and end before training; 0 = train."""

    def __post_init__(self) -> None:
        if self.edit_rate < 1:
            raise ValueError(f"edit-rate must be at least 1, got {self.edit_rate}")
        if self.edit_count < 1:
            raise ValueError(f"edit-count must be at least 1, got {self.edit_count}")
        if not 0 < self.lower_bound <= self.upper_bound <= 1:
            raise ValueError(
                f"expected 0 < lower-bound <= upper-bound <= 1, got {self.lower_bound:g} and {self.upper_bound:g}"
            )
        for name in ("reconstruct_steps", "dry_run"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name.replace('_', '-')} must be at least 0, got {getattr(self, name)}")
        for name in ("keywords", "strengths"):
            values = getattr(self, name)
            if values and len(values) != len(self.instructions):
                raise ValueError(
                    f"expected one of {name} for each of {len(self.instructions)} instructions, got {len(values)}"
                )
        if self.instructions:
            self.read_instructions()

    def read_instructions(self) -> tuple[Instruction, ...]:
        """The instructions with their keywords and strengths.

        Raises:
            InputError: if there are none, or one makes no sense.
        """
        if not self.instructions:
            raise InputError('expected an instruction, got none: pass --pipeline.instructions "make the red cube blue"')
        keywords = self.keywords or ("",) * len(self.instructions)
        strengths = self.strengths or (1.0,) * len(self.instructions)
        return tuple(
            Instruction(text=text, keyword=keyword or None, strength=strength)
            for text, keyword, strength in zip(self.instructions, keywords, strengths, strict=True)
        )

    def check(self) -> None:
        """Refuse settings that could not work, before anything is loaded.

        Raises:
            InputError: naming the flag to change.
        """
        check_editor_is_there(self.editor, self.read_instructions(), fetch=self.reconstruct_steps > 0)
        self._check_noise_levels()
        if self.model.use_lpips and self.datamanager.patch_size < 2:
            raise InputError(
                "LPIPS compares patches and patch-size is 1: pass --pipeline.datamanager.patch-size 32 or "
                "--pipeline.model.use-lpips False"
            )

    def _check_noise_levels(self) -> None:
        sampler, steps = self.editor.resolved("sampler"), self.editor.resolved("steps")
        if not self.editor.draws_noise:
            if self.editor.encoding_ratio * steps < 1 - 1e-6:
                raise InputError(
                    f"encoding-ratio {self.editor.encoding_ratio:g} leaves none of {steps} steps: pass "
                    f"--pipeline.editor.{self.editor.name}.encoding-ratio {1 / steps:g} or more"
                )
            return
        if sampler == "ddim" and round(self.lower_bound * TRAIN_TIMESTEPS) < steps:
            raise InputError(
                f"lower-bound {self.lower_bound:g} leaves fewer than the {steps} noise levels the editor steps through:"
                f" pass --pipeline.lower-bound {steps / TRAIN_TIMESTEPS:g} or more"
            )
        one_at_a_time = self.edit_count == 1 or self.editor.chosen.chunk == 1
        if sampler == "euler_ancestral" and self.lower_bound < self.upper_bound and not one_at_a_time:
            raise InputError(
                f"euler_ancestral starts all views of a batch at one noise level, and {self.edit_count} are edited "
                f"together: pass --pipeline.editor.{self.editor.name}.sampler ddim or --pipeline.edit-count 1"
            )

    def session_settings(self, seed: int) -> dict[str, Any]:
        """What must be the same when a session is continued."""
        return {
            "instructions": self.instructions,
            "keywords": self.keywords,
            "strengths": self.strengths,
            "editor": self.editor.name,
            "model": self.editor.model_for(self.editor.kind),
            "checkpoint": fingerprint_checkpoint(self.editor, self.editor.kind),
            "editor options": asdict(self.editor.chosen),
            "brush": fingerprint_brush(getattr(self.editor.chosen, "brush", None)),
            "edit rate": self.edit_rate,
            "edit count": self.edit_count,
            "noise levels": (self.lower_bound, self.upper_bound),
            "masks": self.masks,
            "nothing found": self.nothing_found,
            "reconstruct steps": self.reconstruct_steps,
            "rays per batch": self.datamanager.train_num_rays_per_batch,
            "patch size": self.datamanager.patch_size,
            "use lpips": self.model.use_lpips,
            "seed": seed,
        }


class MaskeditPipeline(VanillaPipeline):
    """Draws rays, carries out the edits that are due, and trains. Without `begin` it is a plain nerfacto pipeline."""

    config: MaskeditPipelineConfig
    datamanager: MaskeditDataManager

    def __init__(self, config: MaskeditPipelineConfig, device: Any, **kwargs: Any) -> None:
        super().__init__(config, device, **kwargs)
        self.scene_model.patch_size = config.datamanager.patch_size
        self.edits: SceneEdits | None = None
        self._seed: int | None = None

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
            rules=EditRules(
                reuse_masks=config.masks == "first-edit",
                skip_empty=config.nothing_found == "skip",
                planned=config.dry_run or schedule.planned(planned_steps),
            ),
            render=self.render_view if has_scene else self._photo,
            report=report,
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

    @torch.no_grad()
    def render_view(self, view: int) -> Image:
        """The current scene as a camera of the working set sees it, with its optimised pose.

        Raises:
            ModelError: if the scene has weights that are not numbers.
        """
        was_training = self.scene_model.training
        self.scene_model.eval()
        try:
            camera = self.datamanager.camera(view)
            camera.camera_to_worlds = self._optimised_pose(view, camera.camera_to_worlds)
            # Half precision is for training; an edit should not depend on it.
            with torch.autocast(device_type=self.device.type, enabled=False):
                color = self.scene_model.get_outputs_for_camera(camera)["rgb"]
        finally:
            self.scene_model.train(was_training)
        # nerfacto renders NaN as black, so its weights are asked.
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise ModelError(
                "the scene has become NaN: continue from an older checkpoint (--load-step) or lower the learning rates"
            )
        return color.float().clamp(0, 1).permute(2, 0, 1)[None].cpu()

    def _photo(self, view: int) -> Image:
        return from_bytes(self.datamanager.original(view)).permute(2, 0, 1)[None]

    def _optimised_pose(self, view: int, poses: torch.Tensor) -> torch.Tensor:
        optimizer = self.scene_model.camera_optimizer
        if optimizer.config.mode == "off":
            return poses
        correction = optimizer(torch.tensor([self.datamanager.views[view]], device=self.device)).to(poses)
        rotation = correction[:, :3, :3] @ poses[..., :3, :3]
        translation = poses[..., :3, 3:] + correction[:, :3, 3:]
        return torch.cat([rotation, translation], dim=-1)

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
            for record in self.edits.run((turn,), settings):
                strips.append(record.strip or f"{record.photo}: {record.reason}")
        return tuple(strips)


def seed_everything(seed: int) -> None:
    """Seed the global generators, from which nerfstudio draws its rays and samples."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
