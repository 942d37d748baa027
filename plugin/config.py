"""The methods `maskedit`, `maskedit-small`, `maskedit-tiny` and `maskedit-splat`, as nerfstudio finds them.

nerfstudio imports this module for every command and every method, so nothing heavy is imported here: no diffusers, no
transformers, no weights. The defaults are those of in2n, in2n-small and in2n-tiny of Instruct-NeRF2NeRF
(arXiv 2303.12789), and those of igs2gs of Instruct-GS2GS (github.com/cvachha/instruct-gs2gs), with the editor, its
masks and its checkpoint as flags.
"""

from typing import Any, Literal

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.plugins.types import MethodSpecification

from .datamanager import MaskeditDataManagerConfig
from .editor import SceneEditorConfig
from .model import MaskeditModelConfig
from .options import MaskeditPipelineConfig
from .splat_options import MaskeditSplatPipelineConfig
from .trainer import MaskeditTrainerConfig


def _optimizers() -> dict[str, Any]:
    def scene() -> dict[str, Any]:
        return {
            "optimizer": AdamOptimizerConfig(lr=1e-2, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=200000),
        }

    cameras = {
        "optimizer": AdamOptimizerConfig(lr=6e-4, eps=1e-8, weight_decay=1e-2),
        "scheduler": ExponentialDecaySchedulerConfig(lr_final=6e-6, max_steps=5000),
    }
    return {"proposal_networks": scene(), "fields": scene(), "camera_opt": cameras}


def _splat_optimizers() -> dict[str, Any]:
    def fixed(rate: float) -> dict[str, Any]:
        return {"optimizer": AdamOptimizerConfig(lr=rate, eps=1e-15), "scheduler": None}

    def falling(first: float, last: float, **options: Any) -> dict[str, Any]:
        scheduler = ExponentialDecaySchedulerConfig(lr_final=last, max_steps=30000, **options)
        return {"optimizer": AdamOptimizerConfig(lr=first, eps=1e-15), "scheduler": scheduler}

    return {
        "means": falling(1.6e-4, 1.6e-6),
        "features_dc": fixed(2.5e-3),
        "features_rest": fixed(2.5e-3 / 20),
        "opacities": fixed(0.05),
        "scales": fixed(5e-3),
        "quats": fixed(1e-3),
        "camera_opt": falling(1e-3, 5e-5),
        # Not in Instruct-GS2GS: splatfacto's own, for scenes that were trained with a bilateral grid.
        "bilateral_grid": falling(2e-3, 1e-4, warmup_steps=1000, lr_pre_warmup=0),
    }


def _method(
    name: str, *, steps: int, rays: int, patch_size: int, dtype: Literal["auto", "float32"]
) -> MaskeditTrainerConfig:
    return MaskeditTrainerConfig(
        method_name=name,
        steps_per_eval_batch=1000,
        steps_per_eval_image=100,
        steps_per_save=250,
        max_num_iterations=steps,
        mixed_precision=True,
        pipeline=MaskeditPipelineConfig(
            datamanager=MaskeditDataManagerConfig(
                train_num_rays_per_batch=rays, eval_num_rays_per_batch=4096, patch_size=patch_size
            ),
            model=MaskeditModelConfig(use_lpips=patch_size > 1),
            editor=SceneEditorConfig(dtype=dtype),
        ),
        optimizers=_optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    )


maskedit = MethodSpecification(
    config=_method("maskedit", steps=15000, rays=16384, patch_size=32, dtype="float32"),
    description="Edit a nerfacto scene by instruction and keep the rest; L1 and LPIPS, editor in full precision.",
)
maskedit_small = MethodSpecification(
    config=_method("maskedit-small", steps=30000, rays=16384, patch_size=32, dtype="auto"),
    description="maskedit with the editor in half precision, for less memory.",
)
maskedit_tiny = MethodSpecification(
    config=_method("maskedit-tiny", steps=30000, rays=4096, patch_size=1, dtype="auto"),
    description="maskedit with the editor in half precision, fewer rays and no LPIPS, for the least memory.",
)
maskedit_splat = MethodSpecification(
    config=MaskeditTrainerConfig(
        method_name="maskedit-splat",
        steps_per_eval_batch=0,
        steps_per_eval_image=100,
        steps_per_save=500,
        max_num_iterations=7500,
        mixed_precision=False,
        pipeline=MaskeditSplatPipelineConfig(),
        optimizers=_splat_optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
    description="Edit a splatfacto scene by instruction and keep the rest, all views in one sweep; needs a CUDA GPU.",
)
