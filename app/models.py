"""Loads checkpoints for the commands, quietly, and says what a checkpoint does not understand."""

from typing import TYPE_CHECKING

from ..editors import BackboneConfig, CheckpointKind
from .progress import waiting, warn

if TYPE_CHECKING:
    from ..editors import Backbone


def load_backbone(
    config: BackboneConfig, kind: CheckpointKind = "instruct-pix2pix", *, own_pictures: bool = True
) -> "Backbone":
    """Load a checkpoint; one line warns where it knows only some kind of pictures.

    Args:
        config: which one.
        kind: what the editor needs, which decides between the published ones and within the embedded set.
        own_pictures: False = the pictures are of the blocks world for certain, so there is nothing to warn of.

    Raises:
        ModelError: if it is missing or cannot be loaded.
    """
    # diffusers and transformers take seconds to import, which a call for help should not wait for.
    from ..editors import Backbone

    model = config.model_for(kind)
    with waiting(f"loading {model}"):
        silence_libraries()
        backbone = Backbone.load(config, kind)
    if own_pictures and backbone.preset.knows:
        warn(f"{model} only knows {backbone.preset.knows}; it will not understand other pictures")
    return backbone


def silence_libraries() -> None:
    """Keep the libraries' own bars and hints off the terminal; what matters becomes an error or a warning of ours."""
    import diffusers
    import huggingface_hub
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    # The hub's client writes a line about each attempt to reach it.
    huggingface_hub.logging.set_verbosity_error()
