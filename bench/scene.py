"""Scenes with exact truth, edited by Instruct-NeRF2NeRF's loop and by ours through the real trainer of the plugin.

Held-out scenes of the blocks world are reconstructed once from photos, saved as ordinary nerfstudio checkpoints, and
edited from there by each method of `scene_methods.py`, by one instruction; the metrics are those of `scene_scores.py`.
Besides the methods there are the rows `unedited`, the scene before editing, and `truth`, the pictures of the truly
edited scene.

The work takes minutes for each scene and method, so everything is kept in a folder: what is finished there is not done
again, and more scenes and methods may be added to it.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..editors import (
    BackboneConfig,
    CheckpointKind,
    FoIConfig,
    InputError,
    InstructEditConfig,
    IP2PConfig,
    fingerprint_checkpoint,
    read_json,
    resolve_device,
    write_json,
)
from .blocks import EditKind, read_multiview
from .scene_methods import EDIT_PERIOD, FEWEST_VIEWS, METHODS, SceneMethodName
from .scene_scores import measure_scene, reference_outcome, summarise_scenes
from .table import Document, Row, make_document

Progress: TypeAlias = Callable[[str, int, int], None]
SETTINGS_FILE = "settings.json"
UNEDITED, TRUTH = "unedited", "truth"
_SCENE_STEPS = 20
_HINT = "free some space or choose another --out, then run the same command again; what is finished is kept"
_DAMAGED = "remove it, then run the same command again"
_FREE = ("scenes", "first", "methods", "out")
"""Settings that may differ from one call to the next in a folder."""


@dataclass(frozen=True, kw_only=True)
class SceneBenchConfig:
    """What to measure."""

    scenes: int = 6
    """Scenes, at least 1."""
    first: int = 0
    """Number of the first one, at least 0."""
    split: Literal["test", "validation"] = "test"
    """Where scenes are from: `validation` to choose settings, `test` for figures."""
    kinds: tuple[EditKind, ...] = ("recolor", "remove", "resize")
    """Kinds of edit, scene by scene in turn."""
    methods: tuple[SceneMethodName, ...] = ("in2n", "foi", "instructedit")
    """What edits the scenes; leave out those whose checkpoint is not there."""
    out: Path = Path("outputs/bench_scene")
    """Folder for all that is made; what is finished in it is not done again."""
    base_steps: int = 700
    """Training steps before the first edit, at least 1."""
    edit_steps: int = 800
    """Training steps while editing, a multiple of 40: every tenth is an edited view."""
    check_every: int = 40
    """Edit steps from one look at the held-out cameras to the next, at least 1; the time of looking does not count."""
    views: int = 24
    """Cameras around a scene; at least 4 must be left for training."""
    held_out: int = 4
    """How many of them training never sees, at least 1."""
    size: int = 64
    """Side of the photos in pixels, at least 16."""
    foi: FoIConfig = field(default_factory=lambda: FoIConfig(sampler="ddim", steps=_SCENE_STEPS))
    ip2p: IP2PConfig = field(default_factory=lambda: IP2PConfig(sampler="ddim", steps=_SCENE_STEPS))
    instructedit: InstructEditConfig = field(default_factory=InstructEditConfig)

    def __post_init__(self) -> None:
        bounds = {"scenes": 1, "first": 0, "base_steps": 1, "check_every": 1, "held_out": 1, "size": 16}
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.edit_steps < EDIT_PERIOD or self.edit_steps % EDIT_PERIOD:
            raise ValueError(f"edit_steps must be a multiple of {EDIT_PERIOD}, got {self.edit_steps}")
        if self.views - self.held_out < FEWEST_VIEWS:
            raise ValueError(
                f"views must leave at least {FEWEST_VIEWS} for training, got {self.views} with {self.held_out} held out"
            )
        for name in ("kinds", "methods"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one, got none")

    def scene_folder(self, number: int) -> Path:
        """Where all of a scene lies."""
        return self.out / f"scene_{number:03d}"


def run_scene_bench(
    checkpoint: BackboneConfig, config: SceneBenchConfig | None = None, *, progress: Progress = lambda *_: None
) -> Document:
    """Measure what is not measured yet, and put all figures of the folder together.

    Args:
        checkpoint: names a set of checkpoints, of which those that the methods need are loaded.
        config: what to measure.
        progress: told how far it is.

    Raises:
        InputError: if the folder holds figures of other settings.
        ModelError: if a checkpoint is missing.
    """
    config = config or SceneBenchConfig()
    check_folder(checkpoint, config)
    numbers = range(config.first, config.first + config.scenes)
    total, done = len(numbers) * (1 + len(config.methods)), 0
    scenes: list[dict[str, Any]] = []
    for number in numbers:
        for name in (UNEDITED, *config.methods):
            progress(f"scene {number}, {name}", done, total)
            scenes.append({"scene": number, **_result(checkpoint, config, number, name)})
            done += 1
        scenes.append({"scene": number, "method": TRUTH, "row": _measure_truth(config, number)})
    rows = _summarise(config, scenes)
    return make_document(
        "scene", rows, resolve_device(checkpoint.device, "auto")[0], model=checkpoint.model, scenes=scenes
    )


def check_folder(checkpoint: BackboneConfig, config: SceneBenchConfig) -> None:
    """Begin the folder of a bench, or see that the one there is of the same settings.

    Raises:
        InputError: naming the first setting that differs.
    """
    kinds: tuple[CheckpointKind, ...] = ("instruct-pix2pix", "text-to-image")
    given = _plain({name: value for name, value in asdict(config).items() if name not in _FREE})
    given["checkpoints"] = {kind: fingerprint_checkpoint(checkpoint, kind) for kind in kinds}
    path = config.out / SETTINGS_FILE
    if not path.is_file():
        if config.out.is_dir() and any(config.out.iterdir()):
            raise InputError(f"{config.out} holds something that is not this bench's: choose another --out")
        write_json(path, given, hint=_HINT)
        return
    stored = read_json(path, hint=_DAMAGED)
    for name, value in given.items():
        if stored.get(name) != value:
            raise InputError(
                f"{config.out} was begun with {name} = {stored.get(name)!r}, this command has {value!r}: pass the "
                "former, or choose another --out"
            )


def _result(checkpoint: BackboneConfig, config: SceneBenchConfig, number: int, name: str) -> dict[str, Any]:
    """What a method made of a scene, from an earlier call where it is finished."""
    method = METHODS.get(name)  # pyright: ignore[reportArgumentType]
    definition = None if method is None else _plain(asdict(method))
    path = config.scene_folder(number) / f"{name}.json"
    if path.is_file():
        stored = read_json(path, hint=_DAMAGED)
        # A method that has come to mean something else since is measured anew.
        if stored["definition"] == definition:
            return stored
    # nerfstudio takes half a minute to import, which figures that are there already should not wait for.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from .scene_run import SceneRuns

    runs = SceneRuns(config, number, checkpoint)
    row, kept = (runs.reconstruct(), {}) if method is None else runs.edit(name)  # pyright: ignore[reportArgumentType]
    result = {"method": name, "definition": definition, "row": row, **kept}
    write_json(path, result, hint=_HINT)
    return _plain(result)


def _measure_truth(config: SceneBenchConfig, number: int) -> Row:
    truth = read_multiview(config.scene_folder(number) / "data")
    return measure_scene(truth, reference_outcome(truth, truth.target))


def _summarise(config: SceneBenchConfig, scenes: Sequence[dict[str, Any]]) -> list[Row]:
    """A row for each method, of all scenes and of each kind."""
    rows: list[Row] = []
    kinds = sorted({str(each["row"]["kind"]) for each in scenes})
    for name in (UNEDITED, TRUTH, *config.methods):
        own = [each["row"] for each in scenes if each["method"] == name]
        rows.append(summarise_scenes(name, "scenes", own))
        if len(kinds) > 1:
            rows += [summarise_scenes(name, kind, [row for row in own if row["kind"] == kind]) for kind in kinds]
    return rows


def _plain(content: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(content, default=str))
