"""The methods that `maskedit bench scene` compares, as flags of `ns-train maskedit-tiny`, and its small radiance field.

All methods edit as many views in as many training steps, from one checkpoint, with one optimiser:

- `in2n`: Instruct-NeRF2NeRF's loop as published (arXiv 2303.12789): InstructPix2Pix on whole pictures, one view every
  10 steps, noise levels from the whole range.
- `ip2p`: the same editor as rarely and with as much noise as the methods below, so that what masks are worth can be
  told from what the schedule is worth.
- `foi`, `instructedit`: four views together every 40 steps; FoI from much noise, as so few edits are made.
- `foi-...`, `instructedit-lifted`: the same with one thing more that the plugin can do: masks `lifted` into one region
  of the scene; `protect`, which also holds the scene outside it; noise `anchored` to surfaces; attention `shared` by
  the views of a batch; edits made beside training (`worker`; what is not made by the end is left out); and `sweeps`
  over all views at once. `foi-full` lifts, protects, anchors and shares.
- `true-edit`: the truly edited photos in place of an editor's: the most that any editor can reach in this loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from ..editors import EditorName, InputError

SceneMethodName = Literal[
    "in2n",
    "ip2p",
    "foi",
    "foi-lifted",
    "foi-protect",
    "foi-same-noise",
    "foi-anchored",
    "foi-shared",
    "foi-full",
    "foi-worker",
    "foi-sweeps",
    "instructedit",
    "instructedit-lifted",
    "true-edit",
]
FEWEST_VIEWS = 4
"""Views that are edited together."""
EDIT_PERIOD = 40
"""Edit steps after which all methods have edited as many views."""

SMALL_FIELD = {
    "pipeline.datamanager.train-num-rays-per-batch": 384,
    "pipeline.model.implementation": "torch",
    "pipeline.model.camera-optimizer.mode": "off",
    "pipeline.model.max-res": 128,
    "pipeline.model.num-levels": 8,
    "pipeline.model.log2-hashmap-size": 13,
    "pipeline.model.hidden-dim": 32,
    "pipeline.model.hidden-dim-color": 32,
    "pipeline.model.use-appearance-embedding": False,
    "pipeline.model.num-nerf-samples-per-ray": 12,
    "pipeline.model.num-proposal-samples-per-ray": 24,
    "pipeline.model.num-proposal-iterations": 1,
    "pipeline.model.proposal-net-args-list.0.log2-hashmap-size": 12,
    "pipeline.model.proposal-net-args-list.0.num-levels": 4,
    "pipeline.model.proposal-net-args-list.0.max-res": 64,
    "pipeline.model.average-init-density": 0.1,
    "pipeline.model.proposal-weights-anneal-max-num-iters": 100,
    "optimizers.fields.optimizer.lr": 0.02,
    "optimizers.fields.scheduler.lr-final": 0.005,
    "optimizers.proposal-networks.optimizer.lr": 0.02,
    "optimizers.proposal-networks.scheduler.lr-final": 0.005,
}
"""A radiance field that 64-pixel photos can fill and two CPU cores can train in a minute."""


@dataclass(frozen=True, kw_only=True)
class SceneMethod:
    """A row of the table."""

    editor: EditorName
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Flags of `ns-train maskedit-tiny`, without their dashes."""
    has_mask: bool = True
    """Whether the masks of its edits mean anything."""
    is_true: bool = False
    """Whether the truth takes the place of the editor."""


_RARE = {"pipeline.edit-rate": EDIT_PERIOD, "pipeline.edit-count": FEWEST_VIEWS, "pipeline.lower-bound": 0.7}
_WHOLE = {"pipeline.editor.ip2p.keep-outside": "paper"}
_LIFTED = {"pipeline.masks": "lifted"}
_PROTECTED = {**_LIFTED, "pipeline.protect": True}
_ANCHORED = {"pipeline.consistency.noise": "anchored"}
_SHARED = {"pipeline.consistency.share-views": "all"}


def _foi(flags: Mapping[str, Any] = MappingProxyType({})) -> SceneMethod:
    return SceneMethod(editor="foi", flags={**_RARE, **flags})


METHODS: Mapping[SceneMethodName, SceneMethod] = {
    "in2n": SceneMethod(
        editor="ip2p",
        flags={
            "pipeline.edit-rate": 10,
            "pipeline.edit-count": 1,
            "pipeline.lower-bound": 0.02,
            "pipeline.upper-bound": 0.98,
            **_WHOLE,
        },
        has_mask=False,
    ),
    "ip2p": SceneMethod(editor="ip2p", flags={**_RARE, **_WHOLE}, has_mask=False),
    "foi": _foi(),
    "foi-lifted": _foi(_LIFTED),
    "foi-protect": _foi(_PROTECTED),
    "foi-same-noise": _foi({"pipeline.consistency.noise": "shared"}),
    "foi-anchored": _foi(_ANCHORED),
    "foi-shared": _foi(_SHARED),
    "foi-full": _foi({**_PROTECTED, **_ANCHORED, **_SHARED}),
    "foi-worker": _foi({"pipeline.edit-beside": True}),
    "foi-sweeps": _foi({"pipeline.schedule": "sweeps"}),
    "instructedit": SceneMethod(editor="instructedit", flags=_RARE),
    "instructedit-lifted": SceneMethod(editor="instructedit", flags={**_RARE, **_LIFTED}),
    "true-edit": SceneMethod(editor="ip2p", flags={**_RARE, **_WHOLE}, has_mask=False, is_true=True),
}


def with_flags(config: Any, flags: Mapping[str, Any]) -> Any:
    """A configuration of nerfstudio with some of its flags set, as the command line would; the given one is left alone.

    Args:
        config: the configuration of a run.
        flags: by their names without the leading dashes. A single value given for a list of values is a list of one.

    Raises:
        InputError: if there is no such flag.
    """
    for name, value in flags.items():
        config = _with_flag(config, name.split("."), value, name)
    return config


def _with_flag(config: Any, path: list[str], value: Any, flag: str) -> Any:
    if not path:
        return (value,) if isinstance(config, tuple) and not isinstance(value, tuple) else value
    name, rest = path[0].replace("-", "_"), path[1:]
    if isinstance(config, list) and name.isdecimal() and int(name) < len(config):
        return [_with_flag(each, rest, value, flag) if i == int(name) else each for i, each in enumerate(config)]
    if isinstance(config, Mapping) and name in config:
        return {**config, name: _with_flag(config[name], rest, value, flag)}
    if is_dataclass(config) and not isinstance(config, type) and name in {each.name for each in fields(config)}:
        return replace(config, **{name: _with_flag(getattr(config, name), rest, value, flag)})
    raise InputError(f"this version of the plugin has no flag --{flag}: leave out the method that asks for it")
