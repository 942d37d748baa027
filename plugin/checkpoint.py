"""Checkpoints of nerfstudio: finding, checking and reading them.

nerfstudio loads weights with `strict=False`, so that missing ones pass in silence, and a wrong model config shows up
as a blurred scene hours later. Here a checkpoint is checked before anything is spent on it.

Importing this module has one effect, on purpose: torch's safe loader then reads the numpy numbers that nerfstudio's
checkpoints hold. Since nerfstudio imports the plugin for every ns-* command, `ns-eval`, `ns-render` and `ns-viewer` of
other methods work again too where torch is new enough to refuse them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from ..editors import InputError, ModelError

try:
    from numpy._core.multiarray import scalar as _numpy_scalar
except ImportError:
    from numpy.core.multiarray import scalar as _numpy_scalar  # type: ignore[no-redef]

# nerfstudio's schedulers keep their learning rates as numpy numbers, which torch >= 2.6 refuses to read. Allowing
# these three harmless types keeps the safe loader.
torch.serialization.add_safe_globals([_numpy_scalar, np.dtype, type(np.dtype(np.float64))])

MODEL_FOLDER = "nerfstudio_models"
MODEL_PREFIX = "_model."
_IGNORED = ("_model.lpips.",)
_GAUSSIANS = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")

SceneKind = Literal["nerfacto", "splatfacto"]
METHOD_FOR: dict[SceneKind, str] = {"nerfacto": "maskedit", "splatfacto": "maskedit-splat"}
"""The method that edits a kind of scene."""


def find_checkpoint(folder: Path, step: int | None = None, scene: SceneKind = "nerfacto") -> Path:
    """The newest checkpoint of a folder, or that of a step.

    Args:
        folder: `nerfstudio_models` of a run, or the run itself.
        step: training step; None = the newest.
        scene: the kind that is looked for, for the advice.

    Raises:
        InputError: if there is none.
    """
    inner = folder / MODEL_FOLDER
    folder = inner if inner.is_dir() else folder
    found = sorted(folder.glob("step-*.ckpt")) if folder.is_dir() else []
    if step is not None:
        found = [path for path in found if path.name == f"step-{step:09d}.ckpt"]
    if not found:
        what = "checkpoint" if step is None else f"checkpoint of step {step}"
        raise InputError(
            f"expected a {what} in {folder}, found none: give --load-dir RUN/{MODEL_FOLDER} of a {scene} run"
        )
    return found[-1]


def read_checkpoint(path: Path, scene: SceneKind | None = "nerfacto") -> dict[str, Any]:
    """Read a checkpoint safely, into main memory.

    Args:
        path: the file.
        scene: the kind it must be of; None = any that can be edited.

    Raises:
        ModelError: if the file is damaged or not a checkpoint of such a scene.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors for damaged files.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"cannot read the checkpoint {path} ({reason}): give another with --load-dir or --load-step"
        ) from error
    if not isinstance(state, dict) or not {"pipeline", "step"} <= state.keys():
        raise ModelError(f"{path} is not a checkpoint of nerfstudio: give one that ns-train has written")
    state["pipeline"] = plain_keys(state["pipeline"])
    check_scene_kind(path, state["pipeline"], scene or scene_kind_of(state["pipeline"]) or "nerfacto")
    return state


def plain_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights under the names they have on one device, whatever wraps pipeline or model on several."""
    names = {name: name.removeprefix("module.").replace("_model.module.", "_model.", 1) for name in state}
    return {names[name]: value for name, value in state.items()}


def scene_kind_of(weights: Mapping[str, Any]) -> SceneKind | None:
    """The kind of scene that some weights are of; None = one that can't be edited."""
    names = list(weights)
    if any(name in ("_model.gauss_params.means", "_model.means") for name in names):
        return "splatfacto"
    wanted = ("_model.field.mlp_base", "_model.proposal_networks.")
    is_nerfacto = all(any(name.startswith(prefix) for name in names) for prefix in wanted)
    return "nerfacto" if is_nerfacto else None


def check_scene_kind(path: Path, weights: Mapping[str, Any], wanted: SceneKind) -> None:
    """Refuse the checkpoint of another kind of scene.

    Raises:
        ModelError: naming what it is.
    """
    found = scene_kind_of(weights)
    if found == wanted:
        return
    advice = (
        f"train one with `ns-train {wanted}`, or let this run reconstruct it with --pipeline.reconstruct-steps 30000"
    )
    if found is not None:
        raise ModelError(
            f"{path} is a {found} scene and this method edits {wanted} scenes: edit it with `ns-train "
            f"{METHOD_FOR[found]}`, {advice}"
        )
    kinds = {".".join(name.split(".")[:2]) for name in weights}
    kinds = sorted(kind for kind in kinds if kind.startswith(MODEL_PREFIX))
    raise ModelError(f"{path} is not a {wanted} scene (it holds {', '.join(kinds[:4]) or 'no model'}): {advice}")


def model_weights(path: Path, stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored weights under the names of the pipeline, after comparing names and shapes.

    The number of Gaussians is the checkpoint's: densification changes it all the time.

    Args:
        path: where they come from.
        stored: "pipeline" of a checkpoint.
        expected: the state dict they are to fill.

    Raises:
        ModelError: if one is missing, unknown or of another shape.
    """
    weights = {n: value for n, value in stored.items() if n.startswith(MODEL_PREFIX) and not n.startswith(_IGNORED)}
    weights = {_todays_name(name): value for name, value in weights.items()}
    expected = {name: value for name, value in expected.items() if name.startswith(MODEL_PREFIX)}
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    advice = "set the --pipeline.model options and photos (--pipeline.datamanager) that the scene was trained with"
    if missing or unknown:
        detail = f"{len(missing)} missing" + (f" such as {missing[0]}" if missing else "")
        detail += f", {len(unknown)} unknown" + (f" such as {unknown[0]}" if unknown else "")
        raise ModelError(f"the weights in {path} do not fit this model ({detail}): {advice}")
    gaussians = {len(value) for name, value in weights.items() if _is_per_gaussian(name)}
    if len(gaussians) > 1:
        raise ModelError(
            f"{path} is damaged: its tensors are of {sorted(gaussians)} Gaussians; give another --load-step"
        )
    for name, value in weights.items():
        was, now = tuple(value.shape), tuple(expected[name].shape)
        if _is_per_gaussian(name):
            now = (*was[:1], *now[1:])
        if was != now:
            hint = advice
            if "embedding_appearance" in name or "camera_optimizer" in name:
                hint = (
                    f"the scene was trained on {was[0]} photos and {now[0]} are given: pass the same --data and the "
                    "same options after nerfstudio-data (such as --eval-mode)"
                )
            raise ModelError(
                f"{name.removeprefix(MODEL_PREFIX)} in {path} has shape {was}, this model needs {now}: {hint}"
            )
    return weights


def _is_per_gaussian(name: str) -> bool:
    return name.startswith("_model.gauss_params.")


def _todays_name(name: str) -> str:
    """The name of a weight; older versions of splatfacto kept the Gaussians among their own attributes."""
    inner = name.removeprefix(MODEL_PREFIX)
    return f"{MODEL_PREFIX}gauss_params.{inner}" if inner in _GAUSSIANS else name


def check_same_space(source_run: Path, transform: Tensor, scale: float) -> None:
    """Refuse photos whose cameras lie elsewhere than those the scene was trained on.

    Args:
        source_run: folder of the run that trained the scene.
        transform: the transform the data parser applied to the poses now.
        scale: and the scale.

    Raises:
        ModelError: if the run recorded others.
    """
    path = source_run / "dataparser_transforms.json"
    if not path.is_file():
        return
    was = json.loads(path.read_text())
    close = np.allclose(was["transform"], transform.tolist(), atol=1e-4) and abs(was["scale"] - scale) < 1e-4 * abs(
        scale
    )
    if not close:
        raise ModelError(
            f"the cameras do not lie where those of {source_run} lay: pass the same --data and the same options after "
            "nerfstudio-data (such as --orientation-method, --center-method, --auto-scale-poses)"
        )


class _PlainLoader(yaml.SafeLoader):
    """Reads nerfstudio's config.yml as plain data: objects become dicts, and no code is called."""


def _plain(loader: _PlainLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) and node.value else suffix


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


@dataclass(frozen=True, kw_only=True)
class SourceRun:
    """What the config.yml beside a checkpoint says."""

    method: str
    model: dict[str, Any]
    """Fields of the model's config, as plain data."""


def read_source_run(checkpoint: Path) -> SourceRun | None:
    """Read the config of the run a checkpoint belongs to; None when it is not there."""
    path = checkpoint.parent.parent / "config.yml"
    if not path.is_file():
        return None
    try:
        content = yaml.load(path.read_text(), Loader=_PlainLoader)
        return SourceRun(method=str(content["method_name"]), model=dict(content["pipeline"]["model"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"cannot read {path} ({error}): give the checkpoint of a run that ns-train has written"
        ) from error


def adopt_model_config(given: Any, default: Any, stored: Mapping[str, Any], keep: frozenset[str]) -> Any:
    """The model config of the source run, except where the user asked for something else.

    Args:
        given: the config as parsed; a field that differs from `default` was asked for.
        default: the method's own config.
        stored: the source run's fields, as plain data.
        keep: fields that are this method's business.
    """
    changes: dict[str, Any] = {}
    for item in fields(given):
        mine, usual = getattr(given, item.name), getattr(default, item.name)
        if item.name not in stored or item.name in keep or item.name.startswith("_"):
            continue
        theirs = stored[item.name]
        if is_dataclass(mine) and isinstance(theirs, Mapping):
            changes[item.name] = adopt_model_config(mine, usual, theirs, keep)
        elif mine == usual:
            changes[item.name] = tuple(theirs) if isinstance(mine, tuple) and theirs is not None else theirs
    return replace(given, **changes)
