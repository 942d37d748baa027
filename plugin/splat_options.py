"""The options of `ns-train maskedit-splat`, and what a machine needs for it.

The defaults are those of Instruct-GS2GS (github.com/cvachha/instruct-gs2gs): all views are edited in one go, seldom, so
the edits are stronger than those of single views: more noise and more text guidance.
"""

import shutil
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from ..editors import EDITORS, EditorConfig, InputError, load_preset, locate_checkpoint
from .checkpoint import SceneKind
from .editor import SceneEditorConfig
from .options import MaskeditPipelineConfig
from .splat_data import MaskeditSplatDataManagerConfig
from .splat_model import MaskeditSplatModelConfig
from .update import ScheduleName

TEXT_GUIDANCE = 12.5
"""Of Instruct-GS2GS, for checkpoints that are used at the published InstructPix2Pix's own text guidance."""
PUBLISHED_GUIDANCE = 7.5


@dataclass(frozen=True, kw_only=True)
class SplatEditorConfig(SceneEditorConfig):
    """The editor and the checkpoint it runs on.

    Editors that read instructions have text guidance 12.5 where neither a flag nor the checkpoint's own preset gives
    another.
    """

    @property
    def chosen(self) -> EditorConfig:
        """The options of the editor that is used."""
        chosen: Any = super().chosen
        if EDITORS[self.name].reads_captions or chosen.guidance_scale is not None:
            return chosen
        # Settings belong to a checkpoint: one that wants another scale than the published keeps its own.
        preset = load_preset(locate_checkpoint(self, self.kind)).instruct.guidance_scale
        return replace(chosen, guidance_scale=TEXT_GUIDANCE) if preset == PUBLISHED_GUIDANCE else chosen


@dataclass
class MaskeditSplatPipelineConfig(MaskeditPipelineConfig):
    """What to edit, with what, and how often."""

    scene_kind: ClassVar[SceneKind] = "splatfacto"
    datamanager: MaskeditSplatDataManagerConfig = field(default_factory=MaskeditSplatDataManagerConfig)
    """Photos."""
    model: MaskeditSplatModelConfig = field(default_factory=MaskeditSplatModelConfig)
    """The scene; the options of a loaded checkpoint are taken over, except those given here."""
    editor: SplatEditorConfig = field(default_factory=SplatEditorConfig)
    """The editor of single pictures."""
    schedule: ScheduleName = "sweeps"
    """`sweeps` edits all views, one step after the other, every --pipeline.sweep-every steps, as Instruct-GS2GS does;
    `views` edits some views every --pipeline.edit-rate steps, as Instruct-NeRF2NeRF does."""
    lower_bound: float = 0.7
    """Lowest noise level an edit starts from, as a share of the noise schedule; drawn anew for every edit."""
    reconstruct_steps: int = 0
    """Steps of plain splatfacto training before edit step 0, for a run without a checkpoint; splatfacto takes 30000."""

    def check_machine(self, device_type: str) -> None:
        """Refuse a machine without a CUDA GPU or without gsplat's kernels.

        Raises:
            InputError: saying what is missing.
        """
        check_kernels(device_type)

    def check_scene(self) -> None:
        """Nothing of photos and model can fail to work together."""

    def scene_settings(self) -> dict[str, Any]:
        """What of photos and model must be the same when a session is continued."""
        return {"photo order": self.datamanager.train_cameras_sampling_seed}


def check_kernels(device_type: str) -> None:
    """Refuse a machine on which gsplat can't rasterise; nothing is built or loaded for it.

    Args:
        device_type: `--machine.device-type`.

    Raises:
        InputError: saying what is missing.
    """
    instead = "use `ns-train maskedit`, which edits nerfacto scenes on any machine"
    if device_type in ("cpu", "mps") or not torch.cuda.is_available():
        found = "none works here" if device_type not in ("cpu", "mps") else f"--machine.device-type is {device_type}"
        raise InputError(f"maskedit-splat needs a CUDA GPU, {found}: {instead}")
    # gsplat takes kernels that came with its wheel, or builds them with nvcc when they are first used.
    if find_spec("gsplat.csrc") is None and shutil.which("nvcc") is None:
        raise InputError(
            "maskedit-splat needs gsplat's CUDA kernels, which are not built here, and found no nvcc to build them: "
            f"install a wheel of gsplat for torch {torch.__version__}, or that CUDA's toolkit; or {instead}"
        )
