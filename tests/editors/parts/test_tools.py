"""Planning and grounding of a request: what language and detectors decide, once, and what stays as the user said."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    BackboneConfig,
    CaptionerConfig,
    Captions,
    EditRequest,
    GroundingConfig,
    InputError,
    Instruction,
    LanguageConfig,
    MissingExtraError,
    ModelError,
    NothingFoundError,
    ParsedInstruction,
    Tools,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.language_rules import RuleLanguage
from maskedit.editors.parts.tools import ground_phrases, ground_request, plan_request, split_instruction

Pictures = Callable[..., torch.Tensor]
BLUE = Instruction(text="make the red cube blue")
BALL = Instruction(text="remove the ball")


class CountingLanguage:
    """The rules, counting what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.rules = RuleLanguage()

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        self.asked.append((instruction, description))
        return self.rules.parse(instruction, description)


class FixedCaptioner:
    """Describes each picture by its place in the batch."""

    def describe(self, image: torch.Tensor) -> tuple[str, ...]:
        return ("Photo of a red cube and a ball", "Photo of a red cube, a ball and a dog")[: len(image)]


def tools_of(backbone: Backbone, language: Any, **others: Any) -> Tools:
    return Tools(backbone, language=language, **others)


def request(image: torch.Tensor, *instructions: Instruction, **changes: Any) -> EditRequest:
    return EditRequest(image=image, instructions=instructions or (BLUE,), **changes)


def plan(made: EditRequest, tools: Tools) -> EditRequest:
    """As an editor does that looks for objects."""
    return plan_request(made, tools, wants_phrases=True, wants_regions=True)


def test_language_is_asked_once_for_all_pictures(sd_backbone: Backbone, pictures: Pictures) -> None:
    language = CountingLanguage()
    planned = plan(request(pictures(3)), tools_of(sd_backbone, language))
    assert language.asked == [(BLUE.text, None)]
    assert planned.captions == (Captions(source="photo of a red cube", target="photo of a blue cube"),) * 3
    assert planned.instructions[0].phrases == ("red cube",)


def test_a_chat_model_is_looked_for_beside_the_checkpoint(sd_backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "owner" / "tiny").mkdir(parents=True)
    backbone = copy(sd_backbone)
    backbone.origin = BackboneConfig(model_dir=tmp_path, offline=True)
    with pytest.raises(ModelError, match=r"no config\.json in .*owner/tiny: expected a chat model"):
        _ = tools_of(backbone, LanguageConfig(provider="chat", model="owner/tiny")).language


def test_nothing_is_asked_that_the_user_has_said(sd_backbone: Backbone, pictures: Pictures) -> None:
    language = CountingLanguage()
    own = Captions(source="a", target="b")
    said = request(pictures(), replace(BLUE, phrases=("cube",)), captions=(own,))
    assert plan(said, tools_of(sd_backbone, language)) is said
    masked = request(pictures(), captions=(own,), mask=torch.ones(1, 1, 64, 64))
    assert plan(masked, tools_of(sd_backbone, language)) is masked
    assert language.asked == []
    captioned = plan(request(pictures(), captions=(own,)), tools_of(sd_backbone, language))
    assert (captioned.captions, captioned.instructions[0].phrases) == ((own,), ("red cube",))


def test_descriptions_make_captions_picture_by_picture(sd_backbone: Backbone, pictures: Pictures) -> None:
    """With a description, an instruction goes on from what the ones before made of it."""
    tools = tools_of(sd_backbone, CountingLanguage(), captioner=FixedCaptioner())
    planned = plan(request(pictures(2), BLUE, BALL), tools)
    assert [caption.source for caption in planned.captions] == [
        "Photo of a red cube and a ball",
        "Photo of a red cube, a ball and a dog",
    ]
    assert "dog" in planned.captions[1].target
    for caption in planned.captions:
        assert "blue cube" in caption.target
        assert "ball" not in caption.target


def test_captions_that_are_given_hold_for_all_regions(sd_backbone: Backbone, pictures: Pictures) -> None:
    tools, own = tools_of(sd_backbone, LanguageConfig()), Captions(source="a", target="b")
    both = Instruction(text="make the red cube blue and remove the ball")
    planned = plan(request(pictures(), both, captions=(own,)), tools)
    assert [(each.phrases, each.captions) for each in planned.instructions] == [(("red cube", "ball"), ())]
    assert planned.region_captions == ()


def test_a_mask_for_everything_is_one_region(sd_backbone: Backbone, pictures: Pictures) -> None:
    tools, mask = tools_of(sd_backbone, LanguageConfig()), torch.ones(1, 1, 64, 64)
    planned = plan(request(pictures(), BLUE, BALL, mask=mask), tools)
    assert planned.region_captions == ()
    assert planned.captions[0].target == "photo of a blue cube, photo of an empty background"
    own = plan(request(pictures(), BLUE, replace(BALL, mask=mask), mask=mask), tools)
    assert [captions[0].target for captions in own.region_captions] == [
        "photo of a blue cube",
        "photo of an empty background",
    ]


def test_planning_twice_changes_nothing(sd_backbone: Backbone, pictures: Pictures) -> None:
    language = CountingLanguage()
    tools = tools_of(sd_backbone, language)
    planned = plan(request(pictures(2), BLUE, Instruction(text="make the ball red and remove the dog")), tools)
    asked = len(language.asked)
    assert [each.phrases for each in planned.instructions] == [("red cube",), ("ball",), ("dog",)]
    assert plan(planned, tools) is planned
    assert len(language.asked) == asked


def test_tools_have_one_memory_of_inversions(sd_backbone: Backbone) -> None:
    tools = tools_of(sd_backbone, LanguageConfig())
    assert tools.inverter is tools.inverter


def test_a_compound_instruction_is_taken_apart(sd_backbone: Backbone) -> None:
    tools = tools_of(sd_backbone, LanguageConfig())
    parts = split_instruction(Instruction(text="make the red cube blue and remove the ball", strength=0.5), tools)
    assert [(part.text, part.keyword, part.strength) for part in parts] == [
        ("make the red cube blue", "red cube", 0.5),
        ("remove the ball", "ball", 0.5),
    ]
    masked = replace(BALL, mask=torch.ones(1, 1, 4, 4))
    for whole in (replace(BALL, keyword="ball"), replace(BALL, phrases=("ball",)), masked):
        assert split_instruction(whole, tools)[0] is whole
    (one,) = split_instruction(BLUE, tools)
    assert one == replace(BLUE, keyword="red cube")
    assert split_instruction(one, tools)[0] is one


def test_what_cannot_be_taken_apart_stays_whole_and_says_so(sd_backbone: Backbone) -> None:
    language = CountingLanguage()
    (whole,) = split_instruction(Instruction(text="hello there"), tools_of(sd_backbone, language))
    assert (whole.text, whole.keyword) == ("hello there", "hello there")
    assert whole.note == (
        "'hello there' is carried out as one edit, it could not be taken apart: expected a request to edit"
    )
    assert split_instruction(whole, tools_of(sd_backbone, language)) == (whole,)
    assert len(language.asked) == 1


def test_each_instruction_gets_the_mask_of_its_phrases(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    tools = tools_of(sd_backbone, LanguageConfig(), grounding=grounder)
    both = Instruction(text="make everything green", phrases=("red cube", "ball"))
    own = torch.full((2, 1, 64, 64), 0.5)
    planned = request(pictures(2), both, replace(BALL, mask=own), replace(BALL, phrases=("ball",)))
    found, trace = ground_request(planned, tools, global_edit=False, chunk=1)
    masks = [instruction.mask for instruction in found.instructions]
    assert torch.equal(masks[1], own)
    assert masks[2].sum() == 2 * 20 * 16
    assert masks[0].sum() == 2 * (24 * 32 + 20 * 16)
    assert grounder.asked == [(1, ("red cube", "ball"))] * 2
    assert [[one.phrase for one in row] for row in trace] == [["red cube", "ball"]] * 2


def test_each_picture_is_searched_for_its_own_phrases(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    """Pictures with the same phrases go to the segmenter together, and the masks come back in order."""
    tools = tools_of(sd_backbone, LanguageConfig(), grounding=grounder)
    own = replace(BLUE, phrases=("red cube", "ball"), phrases_by_image=(("red cube",), ("ball",), ("red cube",)))
    found, trace = ground_request(request(pictures(3), own), tools, global_edit=False, chunk=None)
    assert grounder.asked == [(2, ("red cube",)), (1, ("ball",))]
    mask = found.instructions[0].mask
    assert mask is not None
    assert mask.sum((1, 2, 3)).tolist() == [24 * 32, 20 * 16, 24 * 32]
    assert [[one.phrase for one in row] for row in trace] == [["red cube"], ["ball"], ["red cube"]]
    nothing = replace(own, phrases_by_image=(("red cube",), (), ("red cube",)))
    with pytest.raises(InputError, match="names no object"):
        ground_request(request(pictures(3), nothing), tools, global_edit=False, chunk=None)


def test_a_mask_of_the_request_or_a_global_edit_needs_no_detector(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    tools = tools_of(sd_backbone, LanguageConfig(), grounding=grounder)
    masked = request(pictures(), mask=torch.ones(1, 1, 64, 64))
    assert ground_request(masked, tools, global_edit=False, chunk=None) == (masked, ())
    whole, _ = ground_request(request(pictures()), tools, global_edit=True, chunk=None)
    assert bool((whole.instructions[0].mask == 1).all())
    assert grounder.asked == []


def test_what_is_not_found_is_an_error(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    tools = tools_of(sd_backbone, LanguageConfig(), grounding=grounder)
    with pytest.raises(NothingFoundError, match="'hat'"):
        ground_request(request(pictures(), replace(BLUE, phrases=("hat",))), tools, global_edit=False, chunk=None)
    with pytest.raises(InputError, match="names no object to look for: pass --global-edit"):
        ground_request(request(pictures(), replace(BLUE, phrases=())), tools, global_edit=False, chunk=None)


def test_tools_load_when_they_are_needed_and_where_the_checkpoint_came_from(
    sd_folder: Path, clipseg_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights" / "owner").mkdir(parents=True)
    (tmp_path / "weights" / "owner" / "finder").symlink_to(clipseg_folder)
    config = BackboneConfig(model=str(sd_folder), device="cpu", model_dir=tmp_path / "weights", offline=True)
    backbone = Backbone.load(config, "text-to-image")
    grounding = GroundingConfig(segmenter="clipseg", clipseg="owner/finder", mask_threshold=0.0)
    tools = Tools(backbone, language=LanguageConfig(), grounding=grounding)
    found = tools.grounder.ground(torch.rand(1, 3, 64, 64), ["cube"])
    assert found[0][0].phrase == "cube"
    assert tools.grounder is tools.grounder
    nowhere = Tools(backbone, language=LanguageConfig(), grounding=replace(grounding, clipseg="owner/nowhere"))
    with pytest.raises(ModelError, match="owner/nowhere"):
        _ = nowhere.grounder


def test_a_captioner_is_nobody_unless_enabled(sd_backbone: Backbone) -> None:
    assert Tools(sd_backbone, language=LanguageConfig()).captioner is None
    assert Tools(sd_backbone, language=LanguageConfig(), captioner=CaptionerConfig()).captioner is None
    wanted = Tools(sd_backbone, language=LanguageConfig(), captioner=CaptionerConfig(enabled=True, model="no/where"))
    with pytest.raises((ModelError, MissingExtraError), match="no/where"):
        _ = wanted.captioner


def test_only_instructions_with_phrases_are_confined(backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    tools = tools_of(backbone, RuleLanguage(), grounding=grounder)
    named = replace(BLUE, phrases=("red cube",))
    asked = request(pictures(), BALL, named)
    found, ((trace,),) = ground_phrases(asked, tools, chunk=None)
    assert (found.instructions[0], trace.phrase) == (BALL, "red cube")
    mask = found.instructions[1].mask
    assert mask is not None and 0 < mask.mean() < 1
    for decided in (request(pictures()), replace(asked, mask=torch.ones(1, 1, 64, 64))):
        assert ground_phrases(decided, tools, chunk=None) == (decided, ())
