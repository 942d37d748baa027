"""Flags from settings: the same names, defaults and words, and complaints that say the flag."""

from dataclasses import dataclass, field, fields

import pytest
import tyro

from maskedit.app.flags import OptionError, build, default_of, docs_of, flag_name, stand_in


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part."""

    weight_of_it: float = 1.0
    """How much,
    in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight_of_it <= 1:
            raise ValueError(f"weight_of_it must be in [0, 1], got {self.weight_of_it:g}")


@dataclass(frozen=True, kw_only=True)
class Base:
    """Inherited settings."""

    steps: int = 3
    """How many steps."""


@dataclass(frozen=True, kw_only=True)
class Settings(Base):
    """Settings."""

    part: Part = field(default_factory=Part)
    """The part."""
    rate: float = 0.5
    """How fast."""

    def __post_init__(self) -> None:
        if self.rate > self.steps:
            raise ValueError(f"rate must be at most steps, got {self.rate:g} with {self.steps} steps")


def parse(*words: str) -> Settings:
    flags = tyro.cli(stand_in(Settings, "about"), args=words)
    return build(Settings, {f.name: (getattr(flags, f.name), (f.name,)) for f in fields(Settings)})


def test_words_defaults_and_parts_are_those_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs_of(Settings) == {"steps": "How many steps.", "part": "The part.", "rate": "How fast."}
    assert docs_of(Part) == {"weight_of_it": "How much, in [0, 1]."}
    assert [default_of(f) for f in fields(Settings)] == [3, Part(), 0.5]
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("--part.weight-of-it", "How much, in [0, 1].", "How many steps."))


def test_flags_become_settings() -> None:
    assert parse() == Settings()
    expected = Settings(steps=9, part=Part(weight_of_it=0.25))
    assert parse("--steps", "9", "--part.weight-of-it", "0.25") == expected


def test_complaints_name_the_flag() -> None:
    with pytest.raises(OptionError, match=r"^--part.weight-of-it must be in \[0, 1\], got 2$"):
        parse("--part.weight-of-it", "2")
    # Words of English stay as they are unless the complaint opens with them.
    with pytest.raises(OptionError, match=r"^--rate must be at most steps, got 4 with 3 steps$"):
        parse("--rate", "4")
    assert flag_name(("part", "weight_of_it")) == "--part.weight-of-it"
