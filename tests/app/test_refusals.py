"""What is refused before a model is loaded names the flag, and what will not be needed is not asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskedit.app.edit import EditCommand
from maskedit.app.refusals import Asked, needed_tools, refuse_what_cannot_run, refuse_words
from maskedit.editors import (
    BackboneConfig,
    CaptionerConfig,
    DiffEditConfig,
    EditorConfig,
    EditorName,
    FoIConfig,
    GroundingConfig,
    InpaintConfig,
    InputError,
    InstructEditConfig,
    LanguageConfig,
    LanguageError,
    MDPConfig,
    ModelError,
    SmartEditConfig,
    name_of,
)

TEXT = "make the cube blue"
CHAT = LanguageConfig(provider="chat", model="nobody/chat")
CAPTIONER = CaptionerConfig(enabled=True, model="nobody/captioner")


def test_commands_ask() -> None:
    assert isinstance(EditCommand(), Asked)


@pytest.mark.parametrize("editor", ["ip2p", "instructedit", "diffedit", "mdp", "inpaint", "smartedit"])
@pytest.mark.parametrize("words", [{"keyword": ("cube",)}, {"strength": (2.0,)}])
def test_words_that_only_foi_reads_are_refused_elsewhere(editor: EditorName, words: dict[str, Any]) -> None:
    refuse_words(EditCommand(editor="foi", **words))
    (name,) = words
    with pytest.raises(InputError, match=f"^{editor} reads no --{name}: leave it out or pass --editor foi$"):
        refuse_words(EditCommand(editor=editor, **words))


@pytest.mark.parametrize(
    ("editor", "words", "expected"),
    [
        ("diffedit", {"phrase": ("cube",)}, "diffedit looks for no phrases: leave --phrase out"),
        ("foi", {"target_caption": "a cube"}, "foi reads instructions and no captions"),
        ("smartedit", {"target_caption": "a cube"}, "smartedit reads instructions and no captions"),
        ("mdp", {"source_caption": "a cube"}, "expected --target-caption beside --source-caption"),
        (
            "mdp",
            {"source_caption": "a cube", "target_caption": " "},
            "got an empty text: describe it in --target-caption",
        ),
        (
            "diffedit",
            {"source_caption": "a cube", "target_caption": "A  cube"},
            "say the same, so nothing would differ",
        ),
        ("instructedit", {"source_caption": "x", "target_caption": "x"}, "say the same, so nothing would differ"),
    ],
)
def test_words_that_make_no_sense_are_refused(editor: EditorName, words: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        refuse_words(EditCommand(editor=editor, **words))
    assert "\n" not in str(caught.value)


def test_words_that_make_sense_are_taken() -> None:
    refuse_words(EditCommand(editor="inpaint", source_caption="a cube", target_caption="a cube", phrase=("cube",)))
    refuse_words(EditCommand(editor="diffedit", source_caption="a cube", target_caption="a ball"))
    refuse_words(EditCommand(editor="mdp", target_caption="a ball"))


@pytest.fixture
def refuse(sd_folder: Path) -> Callable[..., None]:
    """The check of an edit on a tiny checkpoint, without a network."""

    def check(options: EditorConfig, *, masks: bool = False, **words: Any) -> None:
        checkpoint = BackboneConfig(model=str(sd_folder), offline=True)
        asked = EditCommand(editor=name_of(options), checkpoint=checkpoint, **words)
        refuse_what_cannot_run(asked, options, has_masks=masks)

    return check


@pytest.mark.parametrize(
    ("options", "words", "kind", "expected"),
    [
        (MDPConfig(), {"api_key": "sk"}, InputError, "nothing reads --api-key: .* --language.provider openai"),
        (
            DiffEditConfig(encoding_ratio=0.001),
            {},
            InputError,
            r"--encoding-ratio must be at least 0\.02 to run one of 50 steps, got 0\.001",
        ),
        (
            DiffEditConfig(mask_strength=0.05, steps=10),
            {},
            InputError,
            r"--diffedit\.mask-strength must be at least 0\.1 to run one of 10 steps, got 0\.05",
        ),
        (MDPConfig(language=LanguageConfig(provider="openai")), {}, LanguageError, "no key for the language server"),
        (InstructEditConfig(), {}, ModelError, "the detector .* is not on this machine"),
        (MDPConfig(language=CHAT), {}, ModelError, "the chat model nobody/chat is not on this machine"),
        (DiffEditConfig(captioner=CAPTIONER), {}, ModelError, "the captioner nobody/captioner is not on this machine"),
    ],
)
def test_what_cannot_run_is_refused(
    options: EditorConfig,
    words: dict[str, Any],
    kind: type[Exception],
    expected: str,
    refuse: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(kind, match=expected) as caught:
        refuse(options, **words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (InstructEditConfig(), {"masks": True}),
        (InstructEditConfig(global_edit=True), {}),
        (MDPConfig(language=CHAT, captioner=CAPTIONER), {"target_caption": "a ball"}),
        (DiffEditConfig(encoding_ratio=0.02, mask_strength=0.02), {}),
    ],
)
def test_what_will_not_be_needed_may_be_missing(
    options: EditorConfig, given: dict[str, Any], refuse: Callable[..., None]
) -> None:
    refuse(options, **given)


def test_what_is_read_is_the_editors_own(clipseg_folder: Path, ip2p_folder: Path, refuse: Callable[..., None]) -> None:
    options = InstructEditConfig(
        grounding=GroundingConfig(segmenter="clipseg", clipseg=str(clipseg_folder)), language=CHAT
    )
    refuse(options, target_caption="a ball", phrase=("cube", "ball"))
    with pytest.raises(ModelError, match="the chat model"):
        refuse(options, target_caption="a ball", phrase=("cube", " , "))
    foi = EditCommand(checkpoint=BackboneConfig(model=str(ip2p_folder), offline=True), instruction=(TEXT,))
    with pytest.raises(ModelError, match="the chat model"):
        refuse_what_cannot_run(foi, FoIConfig(language=CHAT), has_masks=False)
    refuse_what_cannot_run(replace(foi, keyword=("cube",)), FoIConfig(language=CHAT), has_masks=False)
    refuse_what_cannot_run(foi, FoIConfig(language=CHAT, split=False), has_masks=False)
    refuse_what_cannot_run(foi, FoIConfig(language=CHAT), has_masks=True)


def test_the_embedded_set_has_all_its_editors_need() -> None:
    for options in (InstructEditConfig(), InpaintConfig(), DiffEditConfig(), MDPConfig(), FoIConfig()):
        asked = EditCommand(editor=name_of(options), checkpoint=BackboneConfig(model="embedded", offline=True))
        refuse_what_cannot_run(asked, options, has_masks=False)


def test_smartedit_needs_all_its_parts(smartedit_checkpoint: Path, ip2p_folder: Path) -> None:
    for model, expected in (
        (str(ip2p_folder), r"smartedit/config\.json"),
        (None, "convert it once with `maskedit convert smartedit`"),
        ("TencentARC/SmartEdit-13B", "maskedit convert smartedit"),
    ):
        asked = EditCommand(editor="smartedit", checkpoint=BackboneConfig(model=model, offline=True))
        with pytest.raises(ModelError, match=expected) as caught:
            refuse_what_cannot_run(asked, SmartEditConfig(), has_masks=False)
        assert "\n" not in str(caught.value)
    asked = EditCommand(editor="smartedit", checkpoint=BackboneConfig(model=str(smartedit_checkpoint), offline=True))
    refuse_what_cannot_run(asked, SmartEditConfig(), has_masks=False)


def test_who_finds_phrases_is_missed_before_a_language_model_is_loaded(smartedit_checkpoint: Path) -> None:
    checkpoint = BackboneConfig(model=str(smartedit_checkpoint), offline=True)
    asked = EditCommand(editor="smartedit", checkpoint=checkpoint, phrase=("red cube",))
    options = SmartEditConfig(grounding=GroundingConfig(segmenter="clipseg", clipseg="nobody/clipseg"))
    with pytest.raises(ModelError, match="the segmenter nobody/clipseg is not on this machine"):
        refuse_what_cannot_run(asked, options, has_masks=False)
    assert [tool.role for tool in needed_tools(asked, options, has_masks=False)] == ["segmenter"]
    refuse_what_cannot_run(asked, options, has_masks=True)
    refuse_what_cannot_run(replace(asked, phrase=(" , ",)), options, has_masks=False)
