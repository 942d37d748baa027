"""Loading the parts of a checkpoint: quietly, completely, from safetensors only, with errors that say what to do."""

import logging
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils import logging as transformers_logging

from .bases import locate_part
from .checkpoint import PRESET_FILE, BackboneConfig, missing_message
from .errors import ModelError

T = TypeVar("T")

_DESCRIPTIONS = ["model_index.json", PRESET_FILE, "*/*.json", "*/*.txt"]
_NETWORKS = [f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder")]
_VOCABULARIES = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"vocab.txt"}, {"spiece.model"})
"""Files that hold the vocabulary of a tokenizer, in any one of these forms."""


@contextmanager
def quiet_loading(*, keep_bars: bool = False) -> Generator[None]:
    """Silence the libraries' notices and progress bars for the length of a `with` block.

    Args:
        keep_bars: leave progress bars as they are, because something may be downloaded.
    """
    libraries = (diffusers_logging, transformers_logging)
    third_party = (UserWarning, FutureWarning, DeprecationWarning)
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity(logging.ERROR)
            if not keep_bars:
                library.disable_progress_bar()
        with warnings.catch_warnings():
            for category in third_party:
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar and not keep_bars:
                library.enable_progress_bar()


def fetch_checkpoint(location: Path | str, config: BackboneConfig) -> Path:
    """Folder of a checkpoint, with its descriptions and those of a backbone's networks that it has.

    Args:
        location: folder, or hub id, which is fetched into the hub's cache.
        config: how it is looked up.

    Raises:
        ModelError: if the hub does not give it.
    """
    if isinstance(location, Path):
        return location
    from huggingface_hub import snapshot_download

    return load_part(
        lambda: Path(
            snapshot_download(
                location,
                revision=config.revision,
                allow_patterns=[*_DESCRIPTIONS, *_NETWORKS],
                local_files_only=config.offline,
            )
        ),
        "checkpoint",
        location,
        config,
        subfolder="",
    )


def load_network(
    kind: Any, name: str, location: Path | str, config: BackboneConfig, *, subfolder: str | None = None, **options: Any
) -> Any:
    """One network of a checkpoint, with every one of its weights.

    Args:
        kind: its class, of diffusers or transformers.
        name: what messages call it.
        location: folder or hub id of the checkpoint.
        config: how the checkpoint is looked up.
        subfolder: where in the checkpoint it is; "" = the checkpoint is this one network; None = in `name`.
        options: handed to its loader.

    Raises:
        ModelError: if it is missing, is stored as pickle only, or lacks weights.
    """
    location, config = locate_part(location, name if subfolder is None else subfolder, config)

    def load() -> Any:
        return kind.from_pretrained(
            str(location),
            subfolder=name if subfolder is None else subfolder,
            use_safetensors=True,
            output_loading_info=True,
            **_hub(location, config),
            **options,
        )

    network, info = load_part(load, name, location, config, subfolder=subfolder)
    # The libraries would fill a gap with random numbers.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{name} of the checkpoint {location} lacks {len(missing)} weights ({missing[0]}, ...): fetch it again"
        )
    return network


def load_configuration(
    kind: Any, method: str, name: str, location: Path | str, config: BackboneConfig, *, subfolder: str | None = None
) -> Any:
    """A part without weights: a tokenizer, a processor, or the configuration of a scheduler.

    Raises:
        ModelError: if it is missing or cannot be understood.
    """
    folder = name if subfolder is None else subfolder
    location, config = locate_part(location, folder, config)
    # Without its vocabulary a tokenizer comes up empty instead of failing.
    if isinstance(location, Path) and issubclass(kind, PreTrainedTokenizerBase | ProcessorMixin):
        found = {path.name for path in (location / folder).glob("*")}
        if not any(files <= found for files in _VOCABULARIES):
            raise ModelError(
                f"{name} of the checkpoint {location} is missing or incomplete: fetch the whole checkpoint"
            )
    return load_part(
        lambda: getattr(kind, method)(str(location), subfolder=folder, **_hub(location, config)),
        name,
        location,
        config,
        subfolder=subfolder,
    )


def load_part(
    load: Callable[[], T], name: str, location: Path | str, config: BackboneConfig, *, subfolder: str | None = None
) -> T:
    """Run a loader of one part and turn its errors into one line.

    Raises:
        ModelError: if it fails.
    """
    try:
        return load()
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(location, Path):
            folder = location / (name if subfolder is None else subfolder)
            raise ModelError(_local_problem(folder, name, location, error)) from error
        what = f"the {name}" if subfolder == "" else f"the {name} of"
        problem = "" if config.offline else _first_line(error)
        raise ModelError(missing_message(what, location, model_dir=config.model_dir, problem=problem)) from error


def _local_problem(folder: Path, name: str, location: Path, error: Exception) -> str:
    pickles = [path for ending in ("bin", "ckpt", "pt", "pth") for path in sorted(folder.glob(f"*.{ending}"))]
    if pickles and not [*folder.glob("*.safetensors")]:
        return f"{folder} has only pickle weights ({pickles[0].name}), which may run code: convert them to safetensors"
    if not folder.is_dir():
        return f"{name} of the checkpoint {location} is missing: fetch the whole checkpoint"
    return f"{name} of the checkpoint {location} cannot be loaded: {_first_line(error)}"


def _hub(location: Path | str, config: BackboneConfig) -> dict[str, Any]:
    local = isinstance(location, Path)
    return {"local_files_only": local or config.offline, **({} if local else {"revision": config.revision})}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
