"""Editor options as flags: what editors share is flat (`--steps`), the rest has the editor's name (`--foi.boost`).

The flags are the editors' own dataclasses. Those of an editor that the shared ones already cover are hidden, and
a value out of range becomes an error that names the flag.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, assert_never

import tyro

from ..editors import EditorConfig, EditorName, FoIConfig, IP2PConfig, MaskeditError

SHARED = tuple(f.name for f in fields(IP2PConfig))
"""Options of every editor: InstructPix2Pix has none that is not shared."""


class OptionError(MaskeditError):
    """The value of a flag is out of range."""


def _named_by_flag(message: str, names: tuple[str, ...], prefix: str) -> str:
    name = message.split(" ", maxsplit=1)[0]
    if name not in names:
        return message
    return f"--{prefix}{name.replace('_', '-')}" + message.removeprefix(name)


def _as_flags(config: type[Any], *, prefix: str, hidden: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A subclass for the parser: without the hidden options, and naming flags in its complaints."""
    declared = {f.name: f for f in fields(config)}

    def check(self: Any) -> None:
        try:
            config.__post_init__(self)
        except ValueError as error:
            raise OptionError(_named_by_flag(str(error), tuple(declared), prefix)) from error

    namespace: dict[str, Any] = {
        "__doc__": config.__doc__,
        "__module__": config.__module__,
        "__post_init__": check,
        "__annotations__": {name: Annotated[declared[name].type, tyro.conf.Suppress] for name in hidden},
        **{name: declared[name].default for name in hidden},
    }
    return dataclass(frozen=True, kw_only=True)(type(config.__name__, (config,), namespace))


SharedFlags = _as_flags(IP2PConfig, prefix="")
FoIFlags = _as_flags(FoIConfig, prefix="foi.", hidden=SHARED)


def join_options(editor: EditorName, shared: IP2PConfig, foi: FoIConfig) -> EditorConfig:
    """The options of the chosen editor.

    Raises:
        OptionError: if two options exclude each other.
    """
    common = {name: getattr(shared, name) for name in SHARED}
    try:
        match editor:
            case "ip2p":
                return IP2PConfig(**common)
            case "foi":
                own = {f.name: getattr(foi, f.name) for f in fields(FoIConfig) if f.name not in SHARED}
                return FoIConfig(**common, **own)
            case _:
                assert_never(editor)
    except ValueError as error:
        raise OptionError(str(error)) from error


def split_options(config: EditorConfig) -> tuple[IP2PConfig, FoIConfig]:
    """Defaults of the flags from an editor's options: the shared ones, and FoI's own."""
    shared = SharedFlags(**{name: getattr(config, name) for name in SHARED})
    if not isinstance(config, FoIConfig):
        return shared, FoIFlags()
    return shared, FoIFlags(**{f.name: getattr(config, f.name) for f in fields(FoIConfig) if f.name not in SHARED})
