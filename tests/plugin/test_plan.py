"""Plans: what language decides, how it is stored, and what of it is known before an editor is loaded."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors import (
    CaptionerConfig,
    Captions,
    FoIConfig,
    InputError,
    InstructEditConfig,
    Instruction,
    LanguageConfig,
    MDPConfig,
    ParseError,
)
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.plan import ScenePlan, check_plan, make_plan, plan_early

BLUE = Instruction(text="make the red cube blue", strength=0.5)
REMOVE = Instruction(text="remove the ball", keyword="ball")
WINTER = Instruction(text="make it look like winter")


def test_a_plan_is_stored_as_it_is() -> None:
    plan = ScenePlan(
        instructions=(Instruction(text="make the cube blue", phrases=("cube", "box")), REMOVE),
        captions=(Captions(source="", target="a blue cube"),),
    )
    assert ScenePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("instructions", [(BLUE,), (BLUE, REMOVE)])
def test_the_early_plan_is_the_editors_own(captioned: Any, instructions: tuple[Instruction, ...]) -> None:
    _, editor, language, _ = captioned()
    made = make_plan(editor, torch.zeros(1, 3, 16, 16), instructions)
    assert made == plan_early(InstructEditConfig(), instructions)
    assert len(language.asked) == len(instructions)
    assert made.instructions[0].phrases == ("red cube",)
    assert made.instructions[0].strength == 0.5


def test_the_early_plan_joins_captions_as_editors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = Captions(source="one", target="another")
    monkeypatch.setattr("maskedit.editors.parts.tools.read_instructions", lambda *given: ((("cube",),), joined))
    plan = plan_early(InstructEditConfig(), (BLUE,))
    assert plan == ScenePlan(instructions=(replace(BLUE, phrases=("cube",)),), captions=(joined,))


def test_rules_alone_plan_early() -> None:
    assert plan_early(FoIConfig(), (BLUE,)) == ScenePlan(instructions=(BLUE,))
    for config in (
        MDPConfig(language=LanguageConfig(provider="chat")),
        InstructEditConfig(captioner=CaptionerConfig(enabled=True)),
    ):
        assert plan_early(config, (BLUE,)) is None
    with pytest.raises(ParseError):
        plan_early(MDPConfig(), (BLUE, Instruction(text="blorb")))


def test_a_plan_without_an_object_is_for_whole_pictures_only() -> None:
    plan = plan_early(InstructEditConfig(), (BLUE, WINTER))
    assert plan is not None
    for name in ("instructedit", "inpaint"):
        with pytest.raises(InputError, match=f"winter.*--pipeline.editor.{name}.global-edit True"):
            check_plan(SceneEditorConfig(name=name), plan, None)  # type: ignore[arg-type]
    check_plan(SceneEditorConfig(name="mdp"), plan, None)
    check_plan(SceneEditorConfig(name="instructedit", instructedit=InstructEditConfig(global_edit=True)), plan, None)


def test_captions_must_fit_the_text_encoder(captioned: Any) -> None:
    config, editor, _, _ = captioned()
    tokenizer = editor.backbone.tokenizer
    cube = Instruction(text="make the cube blue", phrases=("cube",))
    fits = Captions(source="", target="a" * 75)
    check_plan(config, ScenePlan(instructions=(cube,), captions=(fits,)), tokenizer)
    long = Captions(source="a" * 76, target="a cube")
    with pytest.raises(InputError, match="at most 75 tokens, got 76"):
        check_plan(config, ScenePlan(instructions=(cube,), captions=(long,)), tokenizer)
