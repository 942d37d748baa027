"""What is measured beside SmartEdit, and the checkpoint each method runs on.

Every method is given the instruction and nothing else: FoI finds its keywords and InstructEdit its captions with the
rules of the language parser, so that what is measured is who reads best.

- `unedited`, and `truth`, where there is one: what doing nothing gives, and what a perfect edit does.
- `ip2p`, `foi`, `instructedit`, `smartedit`.
- variants: further checkpoint folders by a name, such as ablations of SmartEdit (its interaction, its mixture of data)
  or an InstructPix2Pix that learned from the same pairs; a folder with `smartedit/config.json` is run by SmartEdit, any
  other by InstructPix2Pix, with the options of these.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from ..editors import (
    EDITORS,
    Backbone,
    BackboneConfig,
    CheckpointKind,
    EditorConfig,
    ModelError,
    fingerprint_checkpoint,
    fingerprint_mllm,
    fingerprint_tool,
    locate_checkpoint,
    name_of,
    named_tools,
    require_models,
    require_smartedit,
)
from .smartedit_options import METHODS, SmartEditBenchConfig, SmartEditMethod

_EMBEDDED = "embedded"
_FLAG = "--smartedit-model"


@dataclass(frozen=True, kw_only=True)
class ReadingMethod:
    """A row of the table."""

    name: str
    config: EditorConfig | None
    """None = nothing is run."""
    checkpoint: BackboneConfig

    @property
    def kind(self) -> CheckpointKind:
        """Checkpoints it runs on."""
        return "instruct-pix2pix" if self.config is None else EDITORS[name_of(self.config)].kind

    @property
    def has_mask(self) -> bool:
        """Whether it finds by itself where to act."""
        return self.config is not None and EDITORS[name_of(self.config)].has_mask

    @property
    def origin(self) -> str:
        """Name of its checkpoint."""
        return self.checkpoint.model_for(self.kind)

    def settings(self) -> dict[str, object]:
        """All of it that decides what it makes of a picture."""
        if self.config is None:
            return {}
        own = self.checkpoint
        tools = named_tools(self.config, embedded=self.origin == _EMBEDDED)
        return {
            "editor": name_of(self.config),
            # How many pictures run at once changes nothing, and what is measured is the model's own picture.
            "options": replace(self.config, chunk=None, keep_outside="paper"),
            "checkpoint": fingerprint_checkpoint(own, self.kind),
            "language model": fingerprint_mllm(own) if self.kind == "smartedit" else "",
            "tools": {tool.role: fingerprint_tool(tool, model_dir=own.model_dir) for tool in tools},
        }


def list_methods(
    checkpoint: BackboneConfig, config: SmartEditBenchConfig, *, has_truth: bool = True
) -> tuple[tuple[ReadingMethod, ...], tuple[str, ...]]:
    """The methods that are to be measured, and a line about each that is left out.

    Args:
        checkpoint: names the set of checkpoints.
        config: which methods.
        has_truth: whether the truly edited pictures are known.

    Raises:
        ModelError: if the checkpoint or a tool of one that was asked for is not there.
    """
    wanted = config.methods or tuple(name for name in METHODS if has_truth or name != "truth")
    methods: list[ReadingMethod] = []
    notes: list[str] = []
    for name in wanted:
        if name == "truth" and not has_truth:
            raise ModelError("nobody knows the true edits of these pictures: leave truth out of --methods")
        if name == "smartedit" and not config.methods and not _has_smartedit(checkpoint, config):
            notes.append(f"smartedit is left out: the embedded set has none; pass {_FLAG} FOLDER to measure one")
            continue
        methods.append(_find_method(name, checkpoint, config))
    return (*methods, *(_find_variant(text, checkpoint, config) for text in config.variants)), tuple(notes)


def _has_smartedit(checkpoint: BackboneConfig, config: SmartEditBenchConfig) -> bool:
    """Whether one may be expected: any but the embedded set has to have it."""
    if config.smartedit_model is not None or checkpoint.model != _EMBEDDED:
        return True
    try:
        locate_checkpoint(checkpoint, "smartedit")
    except ModelError:
        return False
    return True


def _find_method(name: SmartEditMethod, checkpoint: BackboneConfig, config: SmartEditBenchConfig) -> ReadingMethod:
    if name in ("unedited", "truth"):
        return ReadingMethod(name=name, config=None, checkpoint=checkpoint)
    editor: EditorConfig = getattr(config, name)
    if name == "smartedit" and config.smartedit_model is not None:
        checkpoint = replace(checkpoint, model=config.smartedit_model, revision=None)
    method = ReadingMethod(name=name, config=editor, checkpoint=checkpoint)
    hint = f"pass {_FLAG} FOLDER, or leave" if name == "smartedit" else "or leave"
    try:
        _require(method)
    except ModelError as error:
        raise ModelError(f"{error}; {hint} {name} out of --methods") from error
    return method


def _require(method: ReadingMethod) -> None:
    """Refuse a method whose checkpoint or whose tools could not be loaded; nothing is loaded to find that out."""
    assert method.config is not None, "what is only shown needs no checkpoint"
    if method.kind == "smartedit":
        location = locate_checkpoint(method.checkpoint, method.kind)
        if isinstance(location, Path) and not _is_smartedit(location):
            raise ModelError(f"expected a SmartEdit checkpoint, found no smartedit/config.json in {location}")
        require_smartedit(method.checkpoint)
    require_models(method.config, method.checkpoint, method.kind)


def _is_smartedit(location: Path) -> bool:
    return (location / "smartedit" / "config.json").is_file()


def _find_variant(text: str, checkpoint: BackboneConfig, config: SmartEditBenchConfig) -> ReadingMethod:
    name, _, folder = text.partition("=")
    own = replace(checkpoint, model=folder, revision=None)
    location = locate_checkpoint(own, "smartedit")
    if isinstance(location, str):
        raise ModelError(f"expected --variants NAME=FOLDER with a checkpoint folder, found none at {folder!r}")
    editor = config.smartedit if _is_smartedit(location) else config.ip2p
    method = ReadingMethod(name=name, config=editor, checkpoint=own)
    _require(method)
    return method


class Backbones:
    """Loads checkpoints, one at a time: published ones fill a device."""

    def __init__(self) -> None:
        self._held: tuple[CheckpointKind, BackboneConfig] | None = None
        self._backbone: Backbone | None = None

    def load(self, method: ReadingMethod) -> Backbone:
        """The checkpoint of a method, loaded unless the last one was the same.

        Raises:
            ModelError: if it is of another kind than the method needs.
        """
        wanted = (method.kind, method.checkpoint)
        if self._backbone is None or self._held != wanted:
            # Before the next one is loaded, so that there are never two.
            self._backbone = None
            backbone = Backbone.load(method.checkpoint, method.kind)
            backbone.require(method.kind, method.name)
            self._held, self._backbone = wanted, backbone
        return self._backbone
