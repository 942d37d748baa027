"""Flags of clips: those of the settings, under their names."""

from pathlib import Path

import pytest
import tyro

from maskedit.app.flags import OptionError
from maskedit.app.video_options import RenderChoice, VideoFlags, join_video_options, override_render
from maskedit.video.options import FramesConfig, RenderConfig, VideoConfig
from maskedit.video.writing import WriteConfig


def parse(*words: str) -> VideoConfig:
    return join_video_options(tyro.cli(VideoFlags, args=words))


def test_no_flags_are_the_defaults() -> None:
    assert parse() == VideoConfig()
    assert join_video_options(VideoFlags(), accept_quality=True) == VideoConfig(accept_quality=True)


def test_flags_reach_their_settings() -> None:
    found = parse(
        *("--size", "128", "--start", "0.5", "--frames", "8", "--stride", "2", "--minimum-psnr", "20"),
        *("--flow.method", "dis", "--fit.steps", "7", "--segments.length", "9", "--segments.overlap", "3"),
        *("--layers.masks", "a", "--layers.masks", "b", "--layers.phrases", "dog", "--render.file.crf", "3"),
    )
    assert found.frames == FramesConfig(size=128, start=0.5, frames=8, stride=2)
    assert (found.flow.method, found.fit.steps, found.minimum_psnr) == ("dis", 7, 20.0)
    assert (found.segments.length, found.segments.overlap) == (9, 3)
    assert (found.layers.masks, found.layers.phrases) == ((Path("a"), Path("b")), ("dog",))
    assert found.render == RenderConfig(file=WriteConfig(crf=3))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--size", "8"), r"^--size must be at least 16, got 8"),
        (("--frames", "1"), r"^--frames must be at least 2, got 1"),
        (("--fit.steps", "0"), r"^--fit\.steps must be at least 1, got 0"),
        (("--segments.overlap", "80"), r"^--segments\.overlap must be from 0 to half the length"),
        (("--render.file.crf", "60"), r"^--render\.file\.crf must be between 0 and 51, got 60"),
        (("--minimum-psnr", "-1"), r"^--minimum-psnr must be at least 0, got -1"),
    ],
)
def test_complaints_name_the_flag(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        parse(*words)


def test_a_run_is_rendered_as_before_but_for_what_is_chosen() -> None:
    saved = RenderConfig(transfer="residual", file=WriteConfig(crf=30, sound=False))
    assert override_render(saved, RenderChoice()) == saved
    words = ["--size", "working", "--transfer", "replace", "--file.crf", "5", "--file.sound", "True"]
    chosen = override_render(saved, tyro.cli(RenderChoice, args=words))
    assert chosen == RenderConfig(size="working", file=WriteConfig(crf=5))
    with pytest.raises(OptionError, match=r"^--render\.file\.crf must be between 0 and 51, got 99"):
        override_render(saved, tyro.cli(RenderChoice, args=["--file.crf", "99"]))
