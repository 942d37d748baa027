"""Plans: what language decides, how it is stored, and what of it is known before an editor is loaded."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from maskedit.editors import (
    CaptionerConfig,
    Captions,
    DiffEditConfig,
    EditRequest,
    FoIConfig,
    InpaintConfig,
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
        instructions=(
            Instruction(text="make the cube blue", phrases=("cube", "box")),
            REMOVE,
            Instruction(text="make it blue", captions=(Captions(source="a", target="b"),), note="taken as one edit"),
        ),
        captions=(Captions(source="", target="a blue cube"),),
    )
    assert ScenePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_of_an_older_version_is_read() -> None:
    """Its instructions have no captions: their regions go by the plan's, as they did when the session began."""
    stored = {
        "instructions": [{"text": BLUE.text, "keyword": None, "strength": 0.5, "phrases": ["cube"]}],
        "captions": [{"source": "", "target": "a blue cube"}],
    }
    plan = ScenePlan.from_json(stored)
    assert plan.instructions == (replace(BLUE, phrases=("cube",)),)
    assert plan.to_json() == stored


@pytest.mark.parametrize("instructions", [(BLUE,), (BLUE, REMOVE)])
def test_the_early_plan_is_the_editors_own(captioned: Any, instructions: tuple[Instruction, ...]) -> None:
    _, editor, language, _ = captioned()
    made = make_plan(editor, torch.zeros(1, 3, 16, 16), instructions)
    assert made == plan_early(InstructEditConfig(), instructions)
    assert len(language.asked) == len(instructions)
    assert made.instructions[0].phrases == ("red cube",)
    assert made.instructions[0].strength == 0.5


@pytest.mark.parametrize(
    ("config", "parts", "own"),
    [
        (InstructEditConfig(), 2, 1),
        (InpaintConfig(), 2, 1),
        (InstructEditConfig(global_edit=True), 1, 0),
        (DiffEditConfig(), 1, 0),
        (MDPConfig(), 1, 0),
    ],
)
def test_clauses_become_instructions_where_objects_are_looked_for(config: Any, parts: int, own: int) -> None:
    plan = plan_early(config, (Instruction(text="make the red cube blue and remove the ball"),))
    assert plan is not None
    assert [len(each.captions) for each in plan.instructions] == [own] * parts
    assert plan.captions == (Captions(source="photo of a red cube and a ball", target="photo of a blue cube"),)


def test_a_scene_s_plan_holds_the_captions_of_every_region(captioned: Any) -> None:
    _, editor, _, _ = captioned()
    both = (Instruction(text="make the red cube blue and remove the ball"),)
    made = make_plan(editor, torch.zeros(1, 3, 16, 16), both)
    assert made == plan_early(InstructEditConfig(), both)
    again = ScenePlan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    request = EditRequest(image=torch.zeros(2, 3, 16, 16), instructions=again.instructions, captions=again.captions)
    assert editor.plan(request) is request
    assert [len(each.captions) for each in request.instructions] == [2, 2]


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
    with pytest.raises(InputError, match="at most 75 tokens, got 76"):
        check_plan(config, ScenePlan(instructions=(replace(cube, captions=(long,)),), captions=(fits,)), tokenizer)
