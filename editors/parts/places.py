"""Where the models around an editor are, without loading any: segmenters, captioners and language models; light.

One set of rules for loading, for `maskedit doctor` and for the check before an edit: a local copy first
(MODEL_DIR/owner/name, MODEL_DIR/name, the folder or file itself), then the cache of the hub, then the hub if it may be
asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

from ..core.checkpoint import (
    EMBEDDED,
    BackboneConfig,
    CheckpointKind,
    fingerprint_weights,
    locate_checkpoint,
    missing_message,
)
from ..core.errors import ModelError
from .editor_names import EDITORS, EditorConfig, name_of
from .grounding_options import CaptionerConfig, GroundingConfig
from .language_options import LanguageConfig

ToolRole: TypeAlias = Literal["segmenter", "detector", "sam", "captioner", "chat model"]


@dataclass(frozen=True, kw_only=True)
class ToolModel:
    """A model that stands beside an editor."""

    role: ToolRole
    model: str
    """Folder, file or hub id; `embedded` = of the embedded set."""
    revision: str | None = None
    """Commit or tag of a hub id."""


def named_tools(
    config: EditorConfig, *, embedded: bool, looks: bool = True, reads: bool = True, phrases: bool = False
) -> tuple[ToolModel, ...]:
    """The models that an editor's options name beside its checkpoint.

    Args:
        config: the options.
        embedded: whether the editor runs on the embedded set.
        looks: whether objects must be found; not where a mask says it all.
        reads: whether instructions must be read; not where captions and phrases say it all.
        phrases: whether phrases are given; an editor that may change anything looks for nothing else.
    """
    tools: list[ToolModel] = []
    grounding: GroundingConfig | None = getattr(config, "grounding", None)
    looks = looks and (phrases or EDITORS[name_of(config)].has_mask)
    if looks and grounding is not None and not getattr(config, "global_edit", False):
        tools += segmenter_tools(grounding.resolved(embedded=embedded))
    captioner: CaptionerConfig | None = getattr(config, "captioner", None)
    if reads and captioner is not None and captioner.enabled:
        tools.append(ToolModel(role="captioner", model=captioner.model))
    language: LanguageConfig | None = getattr(config, "language", None)
    if reads and language is not None and language.provider == "chat" and getattr(config, "split", True):
        tools.append(ToolModel(role="chat model", model=language.model_name(), revision=language.revision))
    return tuple(tools)


def segmenter_tools(grounding: GroundingConfig) -> tuple[ToolModel, ...]:
    """The models that find objects.

    Args:
        grounding: names the segmenter, see `GroundingConfig.resolved`.
    """
    if grounding.segmenter == "clipseg":
        return (ToolModel(role="segmenter", model=grounding.clipseg),)
    return (ToolModel(role="detector", model=grounding.detector), ToolModel(role="sam", model=grounding.sam))


def find_tool(tool: ToolModel, *, model_dir: Path | None) -> Path | None:
    """Folder or file of a model on this machine; None = the hub would have to be asked.

    Raises:
        ModelError: if it is named by a folder or file that is not there or is no such model.
    """
    location = _locate_tool(tool, model_dir)
    return location if isinstance(location, Path) else find_in_cache(location, "config.json", tool.revision)


def fingerprint_tool(tool: ToolModel, *, model_dir: Path | None) -> str:
    """What tells a model from another one in the same place; of one on the hub, its name and revision.

    Args:
        tool: the model.
        model_dir: folder with local copies, looked up first.

    Raises:
        ModelError: if it is named by a folder or file that is not there or is no such model.
    """
    location = _locate_tool(tool, model_dir)
    if isinstance(location, str):
        return f"{location}@{tool.revision or 'default branch'}"
    return fingerprint_weights(location)


def _locate_tool(tool: ToolModel, model_dir: Path | None) -> Path | str:
    """Folder or file of a model, or its hub id where no local copy is found."""
    if tool.role == "sam":
        return locate_sam(tool.model, model_dir=model_dir)
    if tool.role == "segmenter" and tool.model == EMBEDDED:
        return embedded_segmenter()
    return locate_pretrained(tool.model, role=tool.role, model_dir=model_dir)


def require_models(
    config: EditorConfig,
    checkpoint: BackboneConfig,
    kind: CheckpointKind,
    *,
    looks: bool = True,
    reads: bool = True,
    phrases: bool = False,
) -> None:
    """Refuse an editor whose checkpoint or whose tools could not be loaded; nothing is loaded to find that out.

    Args:
        config: the editor's options.
        checkpoint: names the checkpoint.
        kind: what the editor needs.
        looks: see `named_tools`.
        reads: see `named_tools`.
        phrases: see `named_tools`.

    Raises:
        ModelError: about the first model that is not on this machine and that the hub does not give either.
    """
    location = locate_checkpoint(checkpoint, kind)
    if isinstance(location, str) and find_in_cache(location, "model_index.json", checkpoint.revision) is None:
        place, revision = checkpoint.model_dir, checkpoint.revision
        _require("checkpoint", location, "model_index.json", revision, model_dir=place, offline=checkpoint.offline)
    embedded = checkpoint.model_for(kind) == EMBEDDED
    tools = named_tools(config, embedded=embedded, looks=looks, reads=reads, phrases=phrases)
    require_tools(tools, model_dir=checkpoint.model_dir, offline=checkpoint.offline)


def require_tools(tools: Sequence[ToolModel], *, model_dir: Path | None, offline: bool) -> None:
    """Refuse models that could not be loaded; nothing is loaded to find that out.

    Args:
        tools: the models.
        model_dir: folder with local copies, looked up first.
        offline: never ask the hub.

    Raises:
        ModelError: about the first one that is not on this machine and that the hub does not give either.
    """
    for tool in tools:
        if find_tool(tool, model_dir=model_dir) is None:
            _require(tool.role, tool.model, "config.json", tool.revision, model_dir=model_dir, offline=offline)


def _require(what: str, name: str, file: str, revision: str | None, *, model_dir: Path | None, offline: bool) -> None:
    problem = ""
    if not offline:
        try:
            return _ask_hub(name, file, revision)
        except Exception as error:  # The hub's client raises errors of several libraries.
            problem = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ModelError(missing_message(f"the {what}", name, model_dir=model_dir, problem=problem))


def _ask_hub(name: str, file: str, revision: str | None) -> None:
    from huggingface_hub import hf_hub_download, logging

    # The client would write a line about each of its attempts.
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        hf_hub_download(name, file, revision=revision)
    finally:
        logging.set_verbosity(level)


def find_in_cache(name: str, file: str, revision: str | None = None) -> Path | None:
    """Folder of a model in the hub's cache, told by one of its files."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file, revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def locate_pretrained(name: str, *, role: str, model_dir: Path | None) -> Path | str:
    """Folder of a model in transformers layout, or its hub id where no local copy is found.

    Args:
        name: folder or hub id.
        role: what messages call it, such as "detector".
        model_dir: folder with local copies, looked up first.

    Raises:
        ModelError: if a folder was named and is not there, or has no configuration.
    """
    named = Path(name).expanduser()
    for place in _places(named, name, model_dir):
        if place.is_dir():
            if not (place / "config.json").is_file():
                raise ModelError(f"no config.json in {place}: expected a {role} in transformers layout")
            return place
    if name.count("/") != 1 or named.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"expected a folder or a hub id owner/name as the {role}, found nothing at {name!r}")
    return name


def locate_sam(name: str, *, model_dir: Path | None = None) -> Path:
    """Where the file of SAM's weights is.

    Args:
        name: the file.
        model_dir: folder in which it is looked up first.

    Raises:
        ModelError: if it is nowhere.
    """
    named = Path(name).expanduser()
    for place in _places(named, name, model_dir):
        if place.is_file():
            return place
    where = "" if model_dir is None else f" nor in {model_dir}"
    raise ModelError(
        f"no weights of SAM at {name!r}{where}: fetch sam_vit_h_4b8939.pth from "
        "github.com/facebookresearch/segment-anything and pass --grounding.sam FILE"
    )


def _places(named: Path, name: str, model_dir: Path | None) -> list[Path]:
    return [named] if model_dir is None else [model_dir / name, model_dir / named.name, named]


def embedded_segmenter() -> Path:
    """Folder of the segmenter of the embedded set.

    Raises:
        ModelError: if it is not installed.
    """
    folder = Path(str(files("maskedit.editors.embedded"))) / "clipseg"
    if not (folder / "config.json").is_file():
        raise ModelError("the embedded segmenter is not installed: train it with `maskedit train embedded`")
    return folder
