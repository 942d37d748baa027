"""What is found out before weights are loaded: whether the editor's checkpoint is there and can do what is asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..editors import (
    PRESET_FILE,
    InputError,
    InstructBrushConfig,
    Instruction,
    IP2PConfig,
    ModelError,
    SmartEditConfig,
    VisiiConfig,
    check_kind,
    has_language_model,
    locate_checkpoint,
    locate_part,
    make_language,
    read_header,
    require_models,
    require_smartedit,
)
from .editor import SceneEditorConfig
from .plan import check_plan, plan_early

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def check_device(kind: str) -> None:
    """Refuse a device that is not there, which nerfstudio would find out where no message is to be expected.

    Args:
        kind: `--machine.device-type`.

    Raises:
        InputError: if there is no such device.
    """
    from ..editors import resolve_device

    try:
        resolve_device(kind, "auto")
    except ModelError as error:
        raise InputError(
            f"expected a {kind} device, found none that works here: pass --machine.device-type cpu"
        ) from error


def check_editor_is_there(config: SceneEditorConfig, instructions: Sequence[Instruction], *, fetch: bool) -> None:
    """Refuse a checkpoint that is not there or of the wrong kind, and instructions it can't read; loads no weights.

    Args:
        config: names the checkpoint.
        instructions: what it is to be told.
        fetch: also ask the hub, because the first edit is hours away.

    Raises:
        ModelError: if the checkpoint is missing, can't be reached or is of another kind than the editor needs, or a
            model that finds objects or describes pictures is missing where edits are hours away.
        InputError: if the instructions are too long or not understood, or a keyword is not found in its instruction.
    """
    plan = plan_early(config.chosen, instructions)
    if plan is not None:
        check_plan(config, plan, None)
    _check_brush(config)
    location = locate_checkpoint(config, config.kind)
    if isinstance(location, Path):
        folder = location
    elif fetch:
        folder = _fetch_configuration(location, config)
    else:
        return
    check_kind(
        config.kind,
        config.name,
        int(_read_json(folder, "unet/config.json").get("in_channels", 4)),
        _latent_channels(folder, config),
        config.model_for(config.kind),
        told=has_language_model(folder),
        flag="--pipeline.editor.model",
    )
    if config.kind == "smartedit":
        require_smartedit(config)
    tokenizer = _load_tokenizer(folder, config)
    if plan is not None:
        check_plan(config, plan, tokenizer)
    if fetch:
        require_models(config.chosen, config, config.kind)


def _check_brush(config: SceneEditorConfig) -> None:
    """Refuse an editor that applies a learned instruction and has none, or another editor's."""
    if not hasattr(config.chosen, "brush"):
        return
    brush = config.brush
    if brush is None:
        flag = f"--pipeline.editor.{config.name}.brush"
        raise InputError(f"{config.name} applies a learned instruction, got none: pass {flag} FILE")
    kind = read_header(brush).kind
    if kind != config.name:
        raise InputError(f"{brush} is a brush of {kind}: pass --pipeline.editor.name {kind}")


def check_language_is_there(config: SceneEditorConfig) -> None:
    """Refuse a language server that could not be asked, and settings its provider does not read; nothing is sent.

    Raises:
        InputError: if a setting means nothing to the provider.
        LanguageError: if there is no key for the server.
        MissingExtraError: if the package for servers is not installed.
    """
    options = config.chosen
    if isinstance(options, IP2PConfig | InstructBrushConfig | VisiiConfig | SmartEditConfig):
        return
    language = options.language
    for name, readers in language.unread().items():
        flag = f"--pipeline.editor.{config.name}.language"
        raise InputError(
            f"the language provider {language.provider} reads no {flag}.{name.replace('_', '-')}: leave it out, or "
            f"pass {flag}.provider {' or '.join(readers)}"
        )
    if language.provider == "openai":
        make_language(language, model_dir=config.model_dir, offline=config.offline)


def _load_tokenizer(folder: Path, config: SceneEditorConfig) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer

    from ..editors import load_configuration

    return load_configuration(CLIPTokenizer, "from_pretrained", "tokenizer", folder, config)


def _fetch_configuration(location: str, config: SceneEditorConfig) -> Path:
    """A folder with the small files of a checkpoint on the hub: how its networks are built, and its tokenizer."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            location,
            revision=config.revision,
            local_files_only=config.offline,
            allow_patterns=["model_index.json", PRESET_FILE, "*/config.json", "tokenizer/*"],
        )
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise ModelError(
            f"the editor's checkpoint {location} can't be reached ({_first_line(error)}): pass a folder with "
            "--pipeline.editor.model or --pipeline.editor.model-dir"
        ) from error
    return Path(folder)


def _latent_channels(folder: Path, config: SceneEditorConfig) -> int:
    """Of its autoencoder, which may be that of the checkpoint it builds on; one on the hub is not asked."""
    place, _ = locate_part(folder, "vae", config)
    return 4 if isinstance(place, str) else int(_read_json(place, "vae/config.json").get("latent_channels", 4))


def _read_json(folder: Path | str, name: str) -> dict[str, Any]:
    path = Path(folder) / name
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({_first_line(error)}): fetch the whole checkpoint") from error
    if not isinstance(content, dict):
        raise ModelError(f"cannot read {path}: expected an object, got a {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
