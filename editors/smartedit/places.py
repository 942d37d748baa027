"""Whether all of a SmartEdit checkpoint is there, and what tells its language model from another; nothing is loaded."""

from pathlib import Path

from ..core.checkpoint import BackboneConfig, fingerprint_weights, locate_checkpoint
from ..core.errors import ModelError
from ..parts.places import ToolModel, fingerprint_tool, require_tools

_PARTS = (
    "unet/config.json",
    "smartedit/model.safetensors",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)


def require_smartedit(config: BackboneConfig) -> None:
    """Refuse a checkpoint that lacks a part of SmartEdit, or whose language model is not to be had.

    Args:
        config: names the checkpoint; one on the hub is looked at when it is loaded.

    Raises:
        ModelError: about the first thing that is missing.
    """
    folder = locate_checkpoint(config, "smartedit")
    if isinstance(folder, str):
        return
    own = _named_mllm(folder)
    missing = next((part for part in _PARTS if not (folder / part).is_file()), None)
    if missing is not None:
        raise ModelError(f"no {missing} in {folder}: convert it with `maskedit convert smartedit`, or fetch it again")
    if isinstance(own, Path):
        if not (own / "config.json").is_file():
            raise ModelError(f"no config.json in {own}: expected the language model of {folder}, fetch it again")
        return
    require_tools([_as_tool(own)], model_dir=config.model_dir, offline=config.offline)


def fingerprint_mllm(config: BackboneConfig) -> str:
    """What tells the language model of a checkpoint from another one in the same place; of one on the hub, its name.

    Args:
        config: names the checkpoint.

    Raises:
        ModelError: if the checkpoint says nothing of a language model, or it is not there.
    """
    folder = locate_checkpoint(config, "smartedit")
    if isinstance(folder, str):
        return f"{folder}@{config.revision or 'default branch'}"
    own = _named_mllm(folder)
    if isinstance(own, Path):
        return fingerprint_weights(own)
    return fingerprint_tool(_as_tool(own), model_dir=config.model_dir)


def find_mllm(folder: Path, where: str) -> Path | str:
    """Folder of the language model in or beside a checkpoint, or the hub id that it is looked up by.

    Args:
        folder: of the checkpoint.
        where: what the checkpoint says: a folder relative to its own, or a hub id.

    Raises:
        ModelError: if it is the name of a folder that is not there.
    """
    own = folder / where
    if own.is_dir():
        return own
    if where.count("/") != 1 or Path(where).is_absolute() or where.startswith((".", "~")):
        raise ModelError(f"no language model in {own}, where {folder} has it: fetch or convert the whole checkpoint")
    return where


def _named_mllm(folder: Path) -> Path | str:
    # What reads the description loads transformers with it.
    from .files import read_description

    *_, where = read_description(folder)
    return find_mllm(folder, where)


def _as_tool(name: str) -> ToolModel:
    return ToolModel(role="chat model", model=name)
