"""What to edit, with what and how often, as flags of `ns-train`."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal

from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

from ..editors import (
    InputError,
    Instruction,
    fingerprint_brush,
    fingerprint_checkpoint,
    fingerprint_mllm,
    options_that_count,
)
from .check import check_device, check_editor_is_there
from .checkpoint import SceneKind
from .consistency import ConsistencyConfig
from .datamanager import MaskeditDataManagerConfig
from .editor import SceneEditorConfig
from .lift_options import LiftConfig, ProtectConfig
from .model import MaskeditModelConfig
from .update import TRAIN_TIMESTEPS, ScheduleName


def _pipeline_class() -> type:
    from .pipeline import MaskeditPipeline

    return MaskeditPipeline


@dataclass
class MaskeditPipelineConfig(VanillaPipelineConfig):
    """What to edit, with what, and how often."""

    scene_kind: ClassVar[SceneKind] = "nerfacto"
    _target: type = field(default_factory=_pipeline_class)
    datamanager: MaskeditDataManagerConfig = field(default_factory=MaskeditDataManagerConfig)
    """Photos and rays."""
    model: MaskeditModelConfig = field(default_factory=MaskeditModelConfig)
    """The scene; the options of a loaded checkpoint are taken over, except those given here."""
    editor: SceneEditorConfig = field(default_factory=SceneEditorConfig)
    """The editor of single pictures."""
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """What makes views agree about an edit before the scene averages them."""
    instructions: tuple[str, ...] = ()
    """What to change, e.g. "make the red cube blue"; several are carried out together, each in its own region."""
    keywords: tuple[str, ...] = ()
    """For each instruction the words that name the object; "" or no list = chosen by the editor. Read by foi."""
    strengths: tuple[float, ...] = ()
    """For each instruction its emphasis in [-10, 10]; empty = 1 for all."""
    schedule: ScheduleName = "views"
    """`views` edits some views every --pipeline.edit-rate steps, as Instruct-NeRF2NeRF does; `sweeps` edits all views,
    one step after the other, every --pipeline.sweep-every steps, as Instruct-GS2GS does."""
    edit_rate: int = 10
    """Training steps from one edit to the next; read by the schedule views."""
    sweep_every: int = 2500
    """Training steps from the beginning of one sweep over all views to the next; read by the schedule sweeps."""
    edit_count: int = 1
    """Views edited together, as one batch."""
    lower_bound: float = 0.02
    """Lowest noise level an edit starts from, as a share of the noise schedule; drawn anew for every edit. Editors that
    invert the picture (instructedit, diffedit, mdp) draw none and run at their own encoding ratio."""
    upper_bound: float = 0.98
    """Highest noise level."""
    masks: Literal["first-edit", "every-edit", "lifted"] = "first-edit"
    """Whether a view keeps the masks of its first edit, they are found anew each time, or those of all photos are
    lifted into the scene before the first edit, so that all views share one region, whatever was found in each."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    """How masks are lifted into the scene."""
    protect: bool = False
    """Whether the scene itself is held as it was outside the lifted region while it trains; needs masks lifted."""
    protection: ProtectConfig = field(default_factory=ProtectConfig)
    """How firmly."""
    nothing_found: Literal["skip", "stop"] = "skip"
    """A view in which nothing is found keeps its photo, or stops the run. Nothing found anywhere always stops it."""
    reconstruct_steps: int = 0
    """Steps of plain nerfacto training before edit step 0, for a run without a checkpoint (nerfacto takes 30000)."""
    resume: bool = True
    """Whether a checkpoint of a maskedit run continues that run; False = a new edit begins from what it made."""
    edit_beside: bool = False
    """Whether edits are made beside training, on --pipeline.editor.device, instead of holding it up; a run is then no
    longer repeated bit for bit, but keeps every edit that was finished, whenever it is killed."""
    dry_run: int = 0
    """Edit at least that many views, write their strips and masks, say what the run would take, and end; 0 = train."""

    def __post_init__(self) -> None:
        if self.edit_rate < 1:
            raise ValueError(f"edit-rate must be at least 1, got {self.edit_rate}")
        if self.sweep_every < 1:
            raise ValueError(f"sweep-every must be at least 1, got {self.sweep_every}")
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
        """The instructions with their keywords and strengths; without any, the editor's brush is the instruction.

        Raises:
            InputError: if there are none and the editor has no brush, or one makes no sense.
        """
        texts, brush = self.instructions, self.editor.brush
        if not texts and brush is not None:
            texts = (brush.stem,)
        if not texts:
            raise InputError('expected an instruction, got none: pass --pipeline.instructions "make the red cube blue"')
        keywords = self.keywords or ("",) * len(texts)
        strengths = self.strengths or (1.0,) * len(texts)
        return tuple(
            Instruction(text=text, keyword=keyword or None, strength=strength)
            for text, keyword, strength in zip(texts, keywords, strengths, strict=True)
        )

    def check(self) -> None:
        """Refuse settings that could not work, before anything is loaded.

        Raises:
            InputError: naming the flag to change.
        """
        check_editor_is_there(self.editor, self.read_instructions(), fetch=self.reconstruct_steps > 0)
        self._check_noise_levels()
        self.consistency.check(self.editor, self.edit_count)
        self._check_switches()
        if self.protect and self.masks != "lifted":
            raise InputError(
                f"protection needs one region for all views and masks are {self.masks}: pass --pipeline.masks lifted"
            )
        self.check_scene()

    def _check_switches(self) -> None:
        """Refuse flags that nobody would read, because what they belong to is not switched on."""
        lift, held, ties = (changed_options(each) for each in (self.lift, self.protection, self.consistency))
        shares = self.consistency.share_views
        # For each flag that is given, the switch it needs.
        needs = {f"lift.{name}": "masks lifted" for name in lift if self.masks != "lifted"}
        needs |= {f"protection.{name}": "protect True" for name in held if not self.protect}
        if self.consistency.noise != "anchored":
            needs |= {f"consistency.{name}": "consistency.noise anchored" for name in ties & {"cell"}}
        if shares != "references":
            own = ties & {"references", *(("own-share",) if shares == "none" else ())}
            needs |= {f"consistency.{name}": "consistency.share-views references" for name in own}
        if held and self.scene_kind == "splatfacto":
            raise InputError(
                f"--pipeline.protection.{min(held)} is read for nerfacto scenes alone, of Gaussians outside the region "
                "nothing changes at all: leave it out"
            )
        for flag, switch in sorted(needs.items()):
            raise InputError(
                f"--pipeline.{flag} is given and nothing would read it: pass --pipeline.{switch} or leave it out"
            )

    def check_machine(self, device_type: str) -> None:
        """Refuse a machine on which the scene can't be trained.

        Args:
            device_type: `--machine.device-type`.

        Raises:
            InputError: saying what is missing.
        """
        check_device(device_type)

    def check_scene(self) -> None:
        """Refuse settings of photos and model that could not work together.

        Raises:
            InputError: naming the flag to change.
        """
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

    def scene_settings(self) -> dict[str, Any]:
        """What of photos and model must be the same when a session is continued."""
        return {
            "rays per batch": self.datamanager.train_num_rays_per_batch,
            "patch size": self.datamanager.patch_size,
            "use lpips": self.model.use_lpips,
            "lpips weight": self.model.lpips_loss_mult,
        }

    def session_settings(self, seed: int) -> dict[str, Any]:
        """What must be the same when a session is continued."""
        return {
            "instructions": self.instructions,
            "keywords": self.keywords,
            "strengths": self.strengths,
            "editor": self.editor.name,
            "model": self.editor.model_for(self.editor.kind),
            "checkpoint": fingerprint_checkpoint(self.editor, self.editor.kind),
            "editor options": options_that_count(self.editor.chosen),
            "brush": fingerprint_brush(getattr(self.editor.chosen, "brush", None)),
            "language model": fingerprint_mllm(self.editor) if self.editor.kind == "smartedit" else "",
            "schedule": self.schedule,
            "edit rate": self.edit_rate,
            "sweep every": self.sweep_every,
            "edit count": self.edit_count,
            "noise levels": (self.lower_bound, self.upper_bound),
            "consistency": asdict(self.consistency),
            "masks": self.masks,
            "lift": asdict(self.lift),
            "protect": self.protect,
            "protection": asdict(self.protection),
            "nothing found": self.nothing_found,
            "reconstruct steps": self.reconstruct_steps,
            "edit beside": self.edit_beside,
            "scene": self.scene_kind,
            **self.scene_settings(),
            "seed": seed,
        }


def changed_options(options: Any) -> set[str]:
    """Names of the flags of some options that differ from their defaults."""
    usual = type(options)()
    return {
        each.name.replace("_", "-")
        for each in fields(options)
        if getattr(options, each.name) != getattr(usual, each.name)
    }


def model_options(config: Any, without: frozenset[str]) -> dict[str, Any]:
    """The options of a model as plain data, for a session.

    Args:
        config: the model's.
        without: fields that may change while a session goes on, or are kept under another name.
    """
    given = {item.name: getattr(config, item.name) for item in fields(config) if not item.name.startswith("_")}
    return {
        name: model_options(value, without) if is_dataclass(value) else value
        for name, value in given.items()
        if name not in without
    }
