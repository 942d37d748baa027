"""What to edit, with what and how often, as flags of `ns-train`."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

from ..editors import InputError, Instruction, fingerprint_brush, fingerprint_checkpoint
from .check import check_editor_is_there
from .datamanager import MaskeditDataManagerConfig
from .editor import SceneEditorConfig
from .model import MaskeditModelConfig
from .update import TRAIN_TIMESTEPS


def _pipeline_class() -> type:
    from .pipeline import MaskeditPipeline

    return MaskeditPipeline


@dataclass
class MaskeditPipelineConfig(VanillaPipelineConfig):
    """What to edit, with what, and how often."""

    _target: type = field(default_factory=_pipeline_class)
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
