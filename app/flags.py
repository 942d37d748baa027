"""Flags made from settings, so that no list of them is kept by hand.

A settings class becomes a class of flags with the same names, defaults and explanations, and without its checks. Those
are made when settings are built from the flags, where the name of each flag is known and a complaint can say it.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import tyro

from ..editors import MaskeditError

FlagSpec = tuple[str, Any, Any]
"""Name, type and field of a flag, as `make_dataclass` takes them."""


class OptionError(MaskeditError):
    """The value of a flag is out of range, or the chosen editor has no such flag."""


def default_of(declared: "Field[Any]") -> Any:
    """The value a setting has unless told otherwise."""
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


@cache
def docs_of(config: type[Any]) -> dict[str, str]:
    """The docstring under each field, inherited ones too; Python itself does not keep them."""
    found: dict[str, str] = {}
    for owner in reversed([c for c in config.__mro__ if is_dataclass(c)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for line, following in pairwise(lines):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[line.target.id] = " ".join(text.split())
                    case _:
                        pass
    return found


def as_flag(declared: "Field[Any]", help_text: str) -> FlagSpec:
    """The flag of a setting; settings that are a class of their own become a group of flags."""
    kind: Any = declared.type
    if is_dataclass(kind):
        kind = stand_in(kind, help_text)
        return declared.name, kind, field(default_factory=kind)
    return declared.name, Annotated[kind, tyro.conf.arg(help=help_text)], field(default=default_of(declared))


def flags_class(name: str, about: str, flags: list[FlagSpec], **attributes: Any) -> type[Any]:
    """A class of flags.

    Args:
        name: of the class.
        about: its explanation.
        flags: in the order of `--help`.
        attributes: what else the class knows.
    """
    namespace = {"__doc__": about, "__module__": __name__, **attributes}
    return make_dataclass(name, flags, frozen=True, kw_only=True, namespace=namespace)


@cache
def stand_in(config: type[Any], about: str) -> type[Any]:
    """Flags for all settings of a class, unchecked: the check is made where the flag's name is known."""
    docs = docs_of(config)
    return flags_class(f"{config.__name__}Flags", about, [as_flag(f, docs[f.name]) for f in fields(config)])


def flag_name(path: tuple[str, ...]) -> str:
    """A flag as it is written."""
    return f"--{'.'.join(path).replace('_', '-')}"


def build(config: type[Any], values: Mapping[str, tuple[Any, tuple[str, ...]]]) -> Any:
    """Settings from flags.

    Args:
        config: class of the settings.
        values: for each field its value, flags of a group included, and the path that its flag is written with.

    Raises:
        OptionError: if a value is out of range.
    """
    ready: dict[str, Any] = {}
    for declared in fields(config):
        value, path = values[declared.name]
        if is_dataclass(value):
            part: Any = declared.type
            value = build(part, {f.name: (getattr(value, f.name), (*path, f.name)) for f in fields(value)})
        ready[declared.name] = value
    try:
        return config(**ready)
    except ValueError as error:
        raise OptionError(_naming_flags(str(error), {name: path for name, (_, path) in values.items()})) from error


def _naming_flags(message: str, paths: dict[str, tuple[str, ...]]) -> str:
    """A complaint with flags for names: for the word it opens with, and for all that can be no words of English."""

    def name_flag(found: re.Match[str]) -> str:
        word = found[0]
        return flag_name(paths[word]) if word in paths and (found.start() == 0 or "_" in word) else word

    return re.sub(r"\w+", name_flag, message)
