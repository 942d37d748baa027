"""Flags of editors: what is shared, what is one editor's own, and what a complaint names."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tyro
from beartype.door import is_bearable

from maskedit.app.options import OPTIONS, EditorFlags, OptionError, editor_flags, join_options, split_options
from maskedit.editors import (
    EDITORS,
    CaptionerConfig,
    DiffEditConfig,
    EditorName,
    FoIConfig,
    GroundingConfig,
    InpaintConfig,
    InstructEditConfig,
    IP2PConfig,
    LanguageConfig,
    MDPConfig,
    name_of,
)

VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, 2, 64, 0.0, 0.25, 0.5, 1.0, 2.5),
    *("paper", "ddim", "nearest", "bilinear", "cover", "reference", "sample", "space", "executed", "ones", "cosine"),
    "4bit",
    *(("down",), ("mid", "up"), (0.1,), ()),
    LanguageConfig(provider="chat", temperature=0.6),
    CaptionerConfig(enabled=True, question="What?"),
    Path("brush.safetensors"),
    GroundingConfig(segmenter="clipseg", retry_thresholds=(), mask_mode="first"),
)
"""At least one allowed value for every option beside its default."""


def changed(flags: Any, **values: Any) -> Any:
    """Flags with some values, by the names of their groups: `changed(flags, foi={"boost": 0.2})`."""
    return replace(flags, **{group: replace(getattr(flags, group), **own) for group, own in values.items()})


def variants(editor: EditorName) -> list[Any]:
    """The options of an editor with each option changed by itself to all allowed values above."""
    plain = EDITORS[editor].config()
    found: list[Any] = []
    for declared in fields(plain):
        count = len(found)
        for value in VALUES:
            if value != getattr(plain, declared.name) and is_bearable(value, declared.type):
                try:
                    found.append(replace(plain, **{declared.name: value}))
                except ValueError:
                    continue
        assert len(found) > count, f"no other value of {declared.name} is tried"
    return found


@pytest.mark.parametrize("editor", EDITORS)
def test_splitting_and_joining_undo_each_other(editor: EditorName) -> None:
    for config in [EDITORS[editor].config(), *variants(editor)]:
        flags = split_options(config)
        joined = join_options(editor, flags)
        assert joined == config
        assert split_options(joined) == flags


@pytest.mark.parametrize("editor", EDITORS)
def test_flags_start_from_the_editors_own_defaults(editor: EditorName) -> None:
    assert join_options(editor, EditorFlags()) == EDITORS[editor].config()


def test_flags_join_to_the_options_of_any_editor_that_has_them() -> None:
    flags = changed(EditorFlags(), shared={"steps": 7, "keep_outside": "paper"}, language={"provider": "chat"})
    language = LanguageConfig(provider="chat")
    assert join_options("foi", flags) == FoIConfig(steps=7, keep_outside="paper", language=language)
    assert join_options("mdp", flags) == MDPConfig(steps=7, keep_outside="paper", language=language)
    assert join_options("ip2p", changed(EditorFlags(), shared={"steps": 7})) == IP2PConfig(steps=7)


@pytest.mark.parametrize(
    ("editor", "values", "expected"),
    [
        ("ip2p", {"shared": {"guidance_scale": 0.5}}, r"^--guidance-scale must be above 1, got 0.5"),
        ("foi", {"foi": {"mask_threshold": 2.0}}, r"^--foi.mask-threshold must be in \(0, 1\], got 2"),
        ("foi", {"language": {"temperature": 3.0}}, r"^--language.temperature must be in \[0, 2\], got 3"),
        ("inpaint", {"grounding": {"box_threshold": 1.0}}, r"^--grounding.box-threshold must be in \[0, 1\), got 1"),
        ("mdp", {"captioner": {"max_new_tokens": 0}}, r"^--captioner.max-new-tokens must be at least 1, got 0"),
        (
            "mdp",
            {"mdp": {"mix_from": 0.9, "mix_until": 0.5}},
            r"^--mdp.mix-from must be at most --mdp.mix-until, got 0.9 and 0.5",
        ),
        ("diffedit", {"shared": {"encoding_ratio": 0.0}}, r"^--encoding-ratio must be in \(0, 1\], got 0"),
        (
            "instructedit",
            {"shared": {"encoding_ratio": 0.01, "steps": 50}},
            r"^--encoding-ratio must be at least 1 / steps, got 0.01 with 50 steps",
        ),
        ("smartedit", {"smartedit": {"template": -1}}, r"^--smartedit.template must be at least 0, got -1"),
        ("foi", {"foi": {"rerun_first_step": True, "extract_at": 0.5}}, r"^--foi.rerun-first-step .* --foi.extract-at"),
    ],
)
def test_complaints_name_the_flag(editor: EditorName, values: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        join_options(editor, changed(EditorFlags(), **values))


@pytest.mark.parametrize(
    ("editor", "values", "expected"),
    [
        ("ip2p", {"foi": {"boost": 0.2}}, "ip2p has no --foi.boost: leave it out, or pass --editor foi"),
        ("foi", {"shared": {"encoding_ratio": 0.4}}, "foi has no --encoding-ratio: .* --editor instructedit or diffed"),
        ("diffedit", {"shared": {"noise_level": 0.4}}, "diffedit has no --noise-level: .* --editor foi or ip2p"),
        (
            "mdp",
            {"grounding": {"segmenter": "clipseg"}},
            "mdp has no --grounding.segmenter: .* or inpaint",
        ),
        ("ip2p", {"language": {"provider": "chat"}}, "ip2p has no --language.provider: "),
        ("ip2p", {"smartedit": {"quantize": "4bit"}}, "ip2p has no --smartedit.quantize: .* --editor smartedit"),
        ("inpaint", {"mdp": {"mix_until": 1.0}}, "inpaint has no --mdp.mix-until: .* --editor mdp"),
    ],
)
def test_flags_of_another_editor_are_refused(editor: EditorName, values: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        join_options(editor, changed(EditorFlags(), **values))


def test_what_a_preset_brought_is_no_choice_of_the_user() -> None:
    preset = split_options(FoIConfig(mask_squarings=2, steps=9))
    assert join_options("mdp", preset, base=preset) == MDPConfig(steps=9)
    with pytest.raises(OptionError, match=r"mdp has no --foi.mask-squarings"):
        join_options("mdp", changed(preset, foi={"mask_squarings": 5}), base=preset)


def test_every_option_has_one_flag_and_an_explanation() -> None:
    paths = [option.path for option in OPTIONS]
    assert len(set(paths)) == len(paths)
    assert all(option.help for option in OPTIONS)
    for editor, entry in EDITORS.items():
        own = [option.declared.name for option in OPTIONS if editor in option.editors]
        assert sorted(own) == sorted(f.name for f in fields(entry.config))


def test_options_are_flat_where_several_editors_have_them() -> None:
    flags = EditorFlags()
    assert {"steps", "keep_outside", "encoding_ratio", "mask_resize", "blend", "global_edit"} <= vars(
        flags.shared
    ).keys()
    assert {"boost", "mask_threshold", "mask_resize", "split"} <= vars(flags.foi).keys()
    assert vars(flags.diffedit).keys() == {"mask_threshold", "mask_maps", "mask_strength", "mask_clip"}
    assert vars(flags).keys() == {"shared", "foi", "diffedit", "mdp", "smartedit", "language", "captioner", "grounding"}


@pytest.mark.parametrize("config", [InstructEditConfig(), DiffEditConfig(), InpaintConfig()])
def test_options_know_their_editor(config: Any) -> None:
    assert join_options(name_of(config), split_options(config)) == config


def test_a_flag_may_be_renamed_where_a_command_has_one_of_its_name() -> None:
    kind = editor_flags(size="edit_size")
    flags = tyro.cli(kind, args=["--edit-size", "96", "--steps", "7"])
    assert join_options("ip2p", flags) == IP2PConfig(size=96, steps=7)
    assert split_options(IP2PConfig(size=96, steps=7), kind) == flags
    with pytest.raises(OptionError, match=r"^--edit-size must be at least"):
        join_options("ip2p", changed(flags, shared={"size": 0}))


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ({"model": "m"}, "rules reads no --language.model: leave it out, or pass --language.provider chat or openai"),
        ({"base_url": "http://localhost:9/v1"}, "rules reads no --language.base-url: .* --language.provider openai$"),
        ({"provider": "chat", "timeout": 9.0}, "chat reads no --language.timeout: .* --language.provider openai$"),
        ({"provider": "openai", "revision": "v1"}, "openai reads no --language.revision: .* --language.provider chat$"),
    ],
)
@pytest.mark.parametrize("editor", ["foi", "mdp", "inpaint"])
def test_what_the_language_provider_does_not_read_is_refused(
    editor: EditorName, language: dict[str, Any], expected: str
) -> None:
    with pytest.raises(OptionError, match=f"^the language provider {expected}"):
        join_options(editor, changed(EditorFlags(), language=language))


def test_what_a_preset_says_about_language_is_no_choice_of_the_user() -> None:
    base = split_options(MDPConfig(language=LanguageConfig(provider="chat", model="m")))
    flags = changed(base, language={"provider": "rules"})
    assert join_options("mdp", flags, base=base).language == LanguageConfig(model="m")
    with pytest.raises(OptionError, match=r"rules reads no --language\.model"):
        join_options("mdp", changed(flags, language={"model": "other"}), base=base)
