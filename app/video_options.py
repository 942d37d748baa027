"""Options of clips as flags, made from the settings of `video/options.py`.

Which frames are taken stands without a prefix (`--size`, `--start`), the rest is named for what it is an option of
(`--fit.steps`). A value out of range becomes an error that names the flag.
"""

from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any

import tyro

from ..video.options import RenderConfig, VideoConfig
from .flags import FlagSpec, as_flag, build, docs_of, flags_class

FLAT = "frames"
"""The part of the settings whose flags have no prefix."""
_APART = ("accept_quality",)
"""Settings that commands have flags of their own for."""


def _all_flags() -> type[Any]:
    flags: list[FlagSpec] = []
    for declared in fields(VideoConfig):
        if declared.name in _APART:
            continue
        name, kind, default = as_flag(declared, docs_of(VideoConfig)[declared.name])
        if declared.name == FLAT:
            kind = tyro.conf.OmitArgPrefixes[kind]
        flags.append((name, tyro.conf.UseAppendAction[kind], default))
    return flags_class("VideoFlags", "Options of clips.", flags)


VideoFlags = _all_flags()
"""All flags as the parser reads them; `join_video_options` makes settings of them."""


def _choice(config: type[Any], about: str) -> type[Any]:
    """The flags of some settings where not given means as they are."""
    flags: list[FlagSpec] = []
    for declared in fields(config):
        kind: Any = declared.type
        words = docs_of(config)[declared.name]
        if isinstance(kind, type) and is_dataclass(kind):
            inner = _choice(kind, words)
            flags.append((declared.name, inner, field(default_factory=inner)))
        else:
            said = tyro.conf.arg(help=f"{words} Not given = as before.")
            flags.append((declared.name, Annotated[kind | None, said], field(default=None)))
    return flags_class(f"{config.__name__}Choice", about, flags)


RenderChoice = _choice(RenderConfig, "How the edited clip is made.")
"""The flags of rendering a run again; `override_render` makes settings of them."""


def join_video_options(flags: Any, *, accept_quality: bool = False) -> VideoConfig:
    """The settings of a clip.

    Args:
        flags: a `VideoFlags`.
        accept_quality: the setting of this name.

    Raises:
        OptionError: if a value is out of range.
    """
    values = {
        declared.name: (getattr(flags, declared.name), () if declared.name == FLAT else (declared.name,))
        for declared in fields(VideoConfig)
        if declared.name not in _APART
    }
    return build(VideoConfig, {**values, "accept_quality": (accept_quality, ("accept_quality",))})


def override_render(saved: RenderConfig, choice: Any) -> RenderConfig:
    """The settings of rendering, those that a run has where none is chosen.

    Args:
        saved: of the run.
        choice: a `RenderChoice`.

    Raises:
        OptionError: if a value is out of range.
    """
    return _override(saved, choice, ("render",))


def _override(saved: Any, choice: Any, path: tuple[str, ...]) -> Any:
    values: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for declared in fields(saved):
        own, chosen, where = getattr(saved, declared.name), getattr(choice, declared.name), (*path, declared.name)
        if is_dataclass(own):
            chosen = _override(own, chosen, where)
        values[declared.name] = (own if chosen is None else chosen, where)
    return build(type(saved), values)
