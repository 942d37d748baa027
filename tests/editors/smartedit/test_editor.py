"""SmartEdit as an editor: InstructPix2Pix told by a language model."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import (
    IP2P,
    BackboneConfig,
    CheckpointPreset,
    EditRequest,
    Instruction,
    IP2PConfig,
    ModelError,
    NothingFoundError,
    ViewSharing,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.guidance import InstructGuidance
from maskedit.editors.parts.instruct_pass import prepare_pass, resolve_run
from maskedit.editors.parts.smartedit_options import SmartEditConfig
from maskedit.editors.smartedit.editor import SmartEdit
from maskedit.editors.smartedit.files import load_smartedit
from maskedit.editors.smartedit.interaction import Interaction
from maskedit.editors.smartedit.model import SmartEditModel
from maskedit.editors.smartedit.reader import lay_out_reading

Pictures = Callable[..., torch.Tensor]
Make = Callable[..., SmartEdit]
RED = Instruction(text="make the cube red")
BALL = Instruction(text="remove the ball.")


@pytest.fixture(scope="session")
def loaded(smartedit_checkpoint: Path) -> SmartEditModel:
    """The model of the tiny checkpoint; never changed."""
    return load_smartedit(smartedit_checkpoint, BackboneConfig(device="cpu"))


@pytest.fixture
def make(loaded: SmartEditModel, variant: Callable[..., Backbone]) -> Make:
    """Makes an editor on a backbone of its own that remembers nothing."""

    def editor(**options: Any) -> SmartEdit:
        config = SmartEditConfig(**{"steps": 4, "sampler": "ddim", **options})
        return SmartEdit(variant(preset=CheckpointPreset()), config, model=loaded)

    return editor


def outcome(editor: SmartEdit, image: torch.Tensor, *instructions: Instruction, **request: Any) -> torch.Tensor:
    """The edited pictures."""
    return editor.edit(EditRequest(image=image, instructions=instructions or (RED,), **request)).image


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
@pytest.mark.parametrize("size", [(64, 64), (48, 64)])
def test_with_the_context_of_a_text_it_is_instruct_pix2pix_bit_for_bit(
    loaded: SmartEditModel, variant: Callable[..., Backbone], pictures: Pictures, sampler: Any, size: tuple[int, int]
) -> None:
    """I1: an interaction that has learned nothing changes nothing, and the rest is InstructPix2Pix."""
    backbone, image = variant(), pictures(2, *size)
    fresh = SmartEditModel(loaded.mllm, loaded.qformer, Interaction(loaded.architecture), loaded.architecture)
    said = backbone.embed([RED.text]).expand(2, -1, -1)
    reading = replace(loaded.read(image, [RED.text] * 2), contexts=said)
    context, features = fresh.condition(reading, (size[0] // 4, size[1] // 4))
    assert torch.equal(context, said)
    assert not features.any()

    config = IP2PConfig(sampler=sampler, steps=5, keep_outside="paper")
    request = EditRequest(image=image, instructions=(RED,), seeds=(3, 4))
    settings = resolve_run(config, backbone.preset.instruct, noise_level=1.0)
    run = prepare_pass(
        request, backbone, settings, lambda condition: lay_out_reading(backbone, condition, context, features)
    )
    guidance = InstructGuidance(guidance_scale=7.5, image_guidance_scale=1.5)
    assert torch.equal(run.run(guidance), IP2P(backbone, config).edit(request).image)


def test_it_is_the_pass_of_its_own_reading(make: Make, loaded: SmartEditModel, pictures: Pictures) -> None:
    """The same conditions made by hand, of a picture that needs no padding, give the same picture."""
    editor, image = make(keep_outside="paper"), pictures(2)
    request = EditRequest(image=image, instructions=(RED,))
    backbone = editor.backbone
    with torch.no_grad():
        context, features = loaded.condition(loaded.read(image, [RED.text] * 2), (16, 16))
    told = lay_out_reading(backbone, backbone.encode(image), context, features)
    expected = prepare_pass(request, backbone, editor.settings, lambda _: told).run(InstructGuidance())
    torch.testing.assert_close(editor.edit(request).image, expected, atol=1e-4, rtol=0)
    assert backbone.counts["unet"] == 8


def test_the_published_settings_are_the_defaults(
    loaded: SmartEditModel, variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    editor = SmartEdit(variant(), model=loaded)
    assert asdict(editor.settings) == {
        "sampler": "euler_ancestral",
        "steps": 100,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "noise_level": 1.0,
    }


def test_features_count_and_can_be_dropped(make: Make, pictures: Pictures) -> None:
    kept, dropped = (outcome(make(drop_features=drop), pictures()) for drop in (False, True))
    assert (kept - dropped).abs().max() > 1e-4


def test_instructions_are_read_as_one(make: Make, pictures: Pictures) -> None:
    editor = make()
    result = editor.edit(EditRequest(image=pictures(), instructions=(RED, BALL)))
    assert result.trace.prompt == "make the cube red, remove the ball"
    assert (len(result.masks), result.trace.mask_area, result.trace.warnings) == (2, (1.0,), ())
    joined = Instruction(text=result.trace.prompt)
    assert torch.equal(result.image, outcome(editor, pictures(), joined))
    assert editor.reader.readings == 1
    assert not torch.equal(result.image, outcome(editor, pictures()))


def test_regions_of_several_instructions_are_one_and_it_says_so(make: Make, pictures: Pictures) -> None:
    left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., :20], right[..., 40:] = 1, 1
    request = EditRequest(image=pictures(), instructions=(replace(RED, mask=left), replace(BALL, mask=right)))
    result = make().edit(request)
    (warning,) = result.trace.warnings
    assert "reads several instructions as one" in warning
    assert torch.equal(result.mask, left + right)
    outside = (result.mask == 0).expand_as(result.image)
    assert torch.equal(result.image[outside], request.image[outside])
    same = replace(request, instructions=(replace(RED, mask=left), replace(BALL, mask=left)))
    assert make().edit(same).trace.warnings == ()


def test_a_mask_confines_it_to_the_bit(make: Make, pictures: Pictures) -> None:
    image, mask = pictures(1, 50, 90), torch.zeros(1, 1, 50, 90)
    mask[..., 10:30, 20:70] = 1
    editor = make()
    request = EditRequest(image=image, instructions=(RED,), mask=mask)
    result = editor.edit(request)
    outside = (mask == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert not torch.equal(result.image[~outside], image[~outside])
    assert torch.equal(editor.find_masks(request)[0], mask)


def test_a_phrase_confines_it_too(make: Make, pictures: Pictures, grounder: Any) -> None:
    editor = make(grounding=SmartEditConfig().grounding)
    editor.tools.__dict__["grounder"] = grounder
    result = editor.edit(EditRequest(image=pictures(), instructions=(replace(RED, phrases=("red cube",)),)))
    expected = torch.zeros(1, 1, 64, 64)
    expected[..., 16:48, 8:32] = 1
    assert torch.equal(result.mask, expected)
    assert result.trace.grounding[0][0].phrase == "red cube"
    with pytest.raises(NothingFoundError):
        outcome(editor, pictures(), replace(RED, phrases=("zebra",)))
    assert editor.find_masks(EditRequest(image=pictures(), instructions=(RED,)))[0].min() == 1


def test_finding_masks_loads_and_reads_nothing(smartedit_checkpoint: Path, tmp_path: Path, pictures: Pictures) -> None:
    """A language model that could not be loaded is not missed before it reads."""
    folder = shutil.copytree(smartedit_checkpoint, tmp_path / "own")
    (folder / "mllm" / "model.safetensors").unlink()
    backbone = Backbone.load(BackboneConfig(model=str(folder), device="cpu"), "smartedit")
    editor = SmartEdit(backbone, SmartEditConfig(steps=1))
    request = EditRequest(image=pictures(), instructions=(RED,))
    assert editor.find_masks(request)[0].min() == 1
    for read in (editor.prepare, lambda: editor.edit(request)):
        with pytest.raises(ModelError, match="language model"):
            read()


def test_a_language_model_that_does_not_fit_is_refused_before_it_is_loaded(
    smartedit_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(smartedit_checkpoint, tmp_path / "own")
    (folder / "mllm" / "model.safetensors").unlink()
    path = folder / "smartedit" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "queries": 7}))
    backbone = Backbone.load(BackboneConfig(model=str(folder), device="cpu"), "smartedit")
    with pytest.raises(ModelError, match="reads 77 rows of its context, and its language model gives 7"):
        SmartEdit(backbone)


def test_a_scene_is_read_from_its_photos_once(make: Make, pictures: Pictures) -> None:
    """Renders change from edit to edit and the photo does not; other settings on the same tools remember, too."""
    editor, photo = make(), pictures(2, seed=9)
    for number in range(2):
        outcome(editor, pictures(2, seed=number), condition=photo, noise_levels=(0.5, 0.9))
    assert editor.reader.readings == 2
    other = SmartEdit(editor.backbone, replace(editor.config, guidance_scale=3.0), tools=editor.tools)
    outcome(other, pictures(2), condition=photo)
    assert editor.reader.readings == 2


def test_a_batch_equals_single_edits(make: Make, pictures: Pictures) -> None:
    editor, image = make(), pictures(2)
    batch = outcome(editor, image, seeds=(7, 8))
    for row in range(2):
        single = outcome(editor, image[row : row + 1], seeds=(7 + row,))
        torch.testing.assert_close(batch[row : row + 1], single, atol=1e-4, rtol=0)


def test_views_share_noise_and_attention_as_with_any_editor(make: Make, pictures: Pictures, one_noise: Any) -> None:
    editor = make()
    alone = outcome(editor, pictures(2), seeds=(3, 11))
    noisy = outcome(editor, pictures(2), seeds=(3, 11), noise=one_noise)
    assert not torch.equal(noisy[0], alone[0])
    torch.testing.assert_close(noisy[1], alone[1], atol=1e-4, rtol=0)
    together = outcome(editor, pictures(2), seeds=(3, 11), sharing=ViewSharing())
    assert ((alone - together).abs().amax((1, 2, 3)) > 1e-4).all()


def test_other_checkpoints_are_refused(sd_backbone: Backbone, backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="smartedit needs a SmartEdit checkpoint"):
        SmartEdit(sd_backbone)
    with pytest.raises(ModelError, match=r"smartedit/config\.json"):
        SmartEdit(backbone)


def test_the_trace_is_json(make: Make, pictures: Pictures) -> None:
    trace = make(drop_features=True).edit(EditRequest(image=pictures(), instructions=(RED,))).trace
    stored = json.loads(json.dumps(asdict(trace)))
    assert (stored["editor"], stored["settings"]["steps"]) == ("smartedit", 4)
    assert (stored["settings"]["template"], stored["settings"]["drop_features"]) == (0, True)


def test_half_precision_edits(smartedit_checkpoint: Path, pictures: Pictures) -> None:
    backbone = Backbone.load(
        BackboneConfig(model=str(smartedit_checkpoint), device="cpu", dtype="bfloat16"), "smartedit"
    )
    result = SmartEdit(backbone, SmartEditConfig(steps=2, keep_outside="paper")).edit(
        EditRequest(image=pictures(), instructions=(RED,))
    )
    assert result.image.isfinite().all()
