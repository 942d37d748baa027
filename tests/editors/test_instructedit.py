"""InstructEdit: parse, ground, invert, denoise inside the mask; the specification's invariants I1 to I6 and I11."""

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.bench.blocks.pairs import make_pairs
from maskedit.editors import (
    BackboneConfig,
    Captions,
    EditRequest,
    InputError,
    InstructEdit,
    InstructEditConfig,
    Instruction,
    ModelError,
    NothingFoundError,
    Tools,
    load_image,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.sampling import sample
from maskedit.editors.parts.caption_pass import Inverter, prepare_captions
from maskedit.editors.parts.language_options import LanguageConfig

Pictures = Callable[..., torch.Tensor]
BLUE = Instruction(text="make the red cube blue")
CAPTIONS = Captions(source="photo of a red cube", target="photo of a blue cube")
STEPS = 10


def editor(backbone: Backbone, grounder: Any = None, **options: Any) -> InstructEdit:
    tools = Tools(backbone, language=LanguageConfig(), grounding=grounder)
    return InstructEdit(backbone, InstructEditConfig(**{"steps": STEPS, **options}), tools=tools)


def request(image: torch.Tensor, *instructions: Instruction, **changes: Any) -> EditRequest:
    return EditRequest(image=image, instructions=instructions or (BLUE,), **changes)


def box(count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, 1, 64, 64)
    mask[..., 16:48, 8:32] = 1
    return mask


def round_trip(backbone: Backbone, image: torch.Tensor) -> torch.Tensor:
    return backbone.decode(backbone.scale_latents(backbone.encode(image)))


def watch(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents after every step of a run, once its own hooks are through."""
    seen: list[torch.Tensor] = []

    def watched(*arguments: Any, hooks: Any = (), **options: Any) -> torch.Tensor:
        def keep(step: int, latents: torch.Tensor) -> torch.Tensor:
            seen.append(latents)
            return latents

        return sample(*arguments, hooks=(*hooks, keep), **options)

    monkeypatch.setattr("maskedit.editors.parts.caption_pass.sample", watched)
    return seen


def test_the_instruction_becomes_a_mask_and_an_edit_inside_it(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    image = pictures()
    result = editor(sd_backbone, grounder).edit(request(image))
    assert torch.equal(result.mask, box())
    outside = (box() == 0).expand_as(image)
    assert torch.equal(result.image[outside], image[outside])
    assert not torch.equal(result.image, image)
    trace = result.trace
    assert (trace.captions, trace.prompt) == ((CAPTIONS,), CAPTIONS.target)
    assert trace.grounding[0][0].boxes == ((8.0, 16.0, 32.0, 48.0),)
    assert json.loads(json.dumps(asdict(trace)))["grounding"][0][0]["scores"] == [0.9]


@pytest.mark.parametrize("blend", ["aligned", "reference"])
@pytest.mark.parametrize("ratio", [0.3, 0.7, 1.0])
def test_i1_an_empty_mask_ends_at_the_very_latents_it_began_with(
    sd_backbone: Backbone, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, blend: Any, ratio: float
) -> None:
    image, seen = pictures(), watch(monkeypatch)
    found = editor(sd_backbone, encoding_ratio=ratio, blend=blend, keep_outside="paper")
    result = found.edit(request(image, mask=torch.zeros(1, 1, 64, 64), captions=(CAPTIONS,)))
    clean = sd_backbone.scale_latents(sd_backbone.encode(image))
    # With the published blend they are point 1 of the path, which equals point 0 up to rounding.
    if blend == "aligned":
        assert torch.equal(seen[-1], clean)
    torch.testing.assert_close(seen[-1], clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.image, round_trip(sd_backbone, image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blend", ["aligned", "reference"])
def test_i2_outside_the_mask_latents_equal_the_inverted_ones_at_every_step(
    sd_backbone: Backbone, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, blend: Any
) -> None:
    image, seen = pictures(), watch(monkeypatch)
    found = editor(sd_backbone, blend=blend, encoding_ratio=0.6)
    made = request(image, mask=box(), captions=(CAPTIONS,))
    found.edit(made)
    path = prepare_captions(made, sd_backbone, found.settings, Inverter(sd_backbone), ratio=0.6).path
    outside = (box()[:, :, ::4, ::4] == 0).expand_as(path[0])
    assert len(seen) == 6
    for step, latents in enumerate(seen):
        point = 5 - step if blend == "aligned" else 6 - step
        assert torch.equal(latents[outside], path[point][outside])
        assert not torch.equal(latents[~outside], path[point][~outside])


class Constant(torch.nn.Module):
    """A UNet whose noise does not depend on the latents (`slope` 0), or on those of the same cell alone."""

    def __init__(self, original: torch.nn.Module, *, slope: float) -> None:
        super().__init__()
        self.config, self.device, self.dtype = original.config, original.device, original.dtype
        self.slope = slope

    def forward(self, latents: torch.Tensor, times: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(3))
        return (noise.expand_as(latents) + self.slope * latents,)


@pytest.fixture
def formula(sd_variant: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Backbone]:
    def make(slope: float) -> Backbone:
        backbone = sd_variant()
        monkeypatch.setattr(backbone, "unet", Constant(backbone.unet, slope=slope))
        return backbone

    return make


def test_i3_noise_that_is_always_the_same_gives_the_picture_back(
    formula: Callable[[float], Backbone], pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, image, seen = formula(0.0), pictures(), watch(monkeypatch)
    editor(backbone, global_edit=True, encoding_ratio=1.0).edit(request(image, captions=(CAPTIONS,)))
    clean = backbone.scale_latents(backbone.encode(image))
    torch.testing.assert_close(seen[-1], clean, atol=1e-4, rtol=1e-4)


def test_i4_both_blends_agree_inside_the_mask_for_pointwise_noise(
    formula: Callable[[float], Backbone], pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, image = formula(0.3), pictures()
    ends = []
    for blend in ("aligned", "reference"):
        seen = watch(monkeypatch)
        editor(backbone, blend=blend).edit(request(image, mask=box(), captions=(CAPTIONS,)))
        ends.append(torch.stack(seen))
        monkeypatch.undo()
        backbone = formula(0.3)
    inside = (box()[:, :, ::4, ::4] == 1).expand_as(ends[0][0])
    for aligned, reference in zip(*ends, strict=True):
        torch.testing.assert_close(aligned[inside], reference[inside], atol=1e-5, rtol=1e-5)


def test_i5_a_path_is_the_beginning_of_a_longer_one_and_calls_are_counted(
    sd_variant: Callable[..., Backbone], pictures: Pictures
) -> None:
    backbone, image = sd_variant(), pictures()
    found = editor(backbone)
    made = request(image, mask=box(), captions=(CAPTIONS,))
    paths = [prepare_captions(made, backbone, found.settings, Inverter(backbone), ratio=r).path for r in (0.4, 0.9)]
    assert [len(path) for path in paths] == [5, 10]
    assert torch.equal(paths[0], paths[1][:5])
    backbone.counts.clear()
    editor(backbone, encoding_ratio=0.6).edit(made)
    assert backbone.counts["unet"] == 6 + 6


def test_i11_where_the_render_is_the_photo_a_scene_s_edit_is_that_of_the_picture(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    photo = pictures()
    alone = editor(sd_backbone, grounder).edit(request(photo))
    scene = editor(sd_backbone, grounder).edit(request(photo.clone(), condition=photo))
    assert torch.equal(alone.image, scene.image)
    assert torch.equal(alone.mask, scene.mask)


def test_in_a_scene_the_render_is_edited_and_the_photo_kept(
    sd_variant: Callable[..., Backbone], pictures: Pictures, grounder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of photos are remembered: a later edit of the same view inverts its render alone."""
    backbone, photo, render, seen = sd_variant(), pictures(), pictures(seed=1), watch(monkeypatch)
    found = editor(backbone, grounder)
    result = found.edit(request(render, condition=photo))
    outside = (box() == 0).expand_as(photo)
    assert torch.equal(result.image[outside], photo[outside])
    clean = backbone.scale_latents(backbone.encode(photo))
    cells = (box()[:, :, ::4, ::4] == 0).expand_as(clean)
    assert torch.equal(seen[-1][cells], clean[cells])
    assert backbone.counts["unet"] == 5 + 5 + 5
    again = found.edit(request(render, condition=photo))
    assert backbone.counts["unet"] == 15 + 10
    assert torch.equal(again.image, result.image)


def test_renders_are_not_remembered(sd_variant: Callable[..., Backbone], pictures: Pictures, grounder: Any) -> None:
    backbone, photo = sd_variant(), pictures()
    found = editor(backbone, grounder)
    for seed in (1, 2, 1):
        found.edit(request(pictures(seed=seed), condition=photo))
    assert backbone.counts["image"] == 1 + 3


def test_time_spent_on_finding_counts(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    find = grounder.ground

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)
        return find(*arguments)

    grounder.ground = slowly
    assert editor(sd_backbone, grounder, steps=2).edit(request(pictures())).trace.seconds > 0.3


def test_several_instructions_act_where_each_of_them_is(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    image = pictures(2)
    result = editor(sd_backbone, grounder).edit(request(image, BLUE, Instruction(text="remove the ball")))
    assert grounder.asked == [(2, ("red cube", "ball"))]
    assert torch.equal(result.masks[0], box(2))
    assert torch.equal(result.mask, torch.maximum(*result.masks))
    assert result.trace.captions[0].source == "photo of a red cube, photo of a ball"
    own = [captions.target for captions in result.trace.region_captions[1]]
    assert own == ["photo of a blue cube", "photo of an empty background"]


class Spoken(Constant):
    """Noise that depends on the latents of the same cell and on the text."""

    def forward(self, latents: torch.Tensor, times: torch.Tensor, **given: Any) -> tuple[torch.Tensor]:
        (noise,) = super().forward(latents, times)
        # A random text encoder makes much the same of every text; its last bits tell them apart.
        seeds = [zlib.crc32(row.numpy().tobytes()) for row in given["encoder_hidden_states"]]
        heard = [torch.randn((1, 1, 1, 1), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return (noise + torch.cat(heard),)


def test_a_region_is_the_same_whatever_is_done_elsewhere(
    sd_variant: Callable[..., Backbone], pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to what a network sees of the other region: this one sees nothing. Where both act, both count."""
    backbone, image, seen = sd_variant(), pictures(), watch(monkeypatch)
    monkeypatch.setattr(backbone, "unet", Spoken(backbone.unet, slope=0.3))
    left, right = box(), box().roll(16, -1)
    given = [
        replace(BLUE, mask=left, captions=(replace(CAPTIONS, target="a blue cube"),)),
        replace(BLUE, mask=right, captions=(replace(CAPTIONS, target="a tree"),)),
    ]
    ends: list[torch.Tensor] = []
    for instructions in (given[:1], given[1:], given):
        editor(backbone).edit(request(image, *instructions, captions=(CAPTIONS,)))
        ends.append(seen[-1])
    cells = [(mask[:, :, ::4, ::4] == 1).expand_as(ends[0]) for mask in (left, right)]
    both = cells[0] & cells[1]
    assert both.any()
    assert not torch.allclose(ends[0][both], ends[1][both], atol=1e-2)
    for own, alone in zip(cells, ends[:2], strict=True):
        torch.testing.assert_close(ends[2][own & ~both], alone[own & ~both], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ends[2][both], (ends[0] + ends[1])[both] / 2, atol=1e-5, rtol=1e-5)
    assert backbone.counts["unet"] == 3 * (5 + 5)


def test_a_compound_instruction_acts_as_its_clauses(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    image, found = pictures(), editor(sd_backbone, grounder)
    compound = Instruction(text="make the red cube blue and remove the ball")
    result = found.edit(request(image, compound))
    assert len(result.masks) == 2
    assert [caption.target for caption in result.trace.region_captions[0]] == [
        "photo of a blue cube",
        "photo of an empty background",
    ]
    given = found.edit(request(image, compound, captions=(CAPTIONS,)))
    assert len(given.masks) == 1
    assert (given.trace.captions, given.trace.region_captions) == ((CAPTIONS,), ())


@pytest.fixture(scope="module")
def embedded() -> InstructEdit:
    """With the weights that ship with the package."""
    return InstructEdit(Backbone.load(BackboneConfig(model="embedded", device="cpu"), "text-to-image"))


@pytest.mark.parametrize(
    ("scene", "texts"),
    [
        (10, ("turn the large sphere purple", "paint the cylinder yellow")),
        (17, ("change the blue cylinder to cyan and make the large red sphere purple",)),
    ],
)
def test_two_objects_get_each_its_own_colour(embedded: InstructEdit, scene: int, texts: tuple[str, ...]) -> None:
    """On the blocks world: each region comes near the colour it truly has after the edit, and not the other's."""
    pairs = make_pairs("test", [scene], edits=2, kinds={"recolor": 1.0})
    result = embedded.edit(request(pairs.source, *(Instruction(text=text) for text in texts)))
    assert len(result.masks) == 2

    def colors(image: torch.Tensor) -> list[torch.Tensor]:
        insides = [mask.float() for mask in pairs.masks[0]]
        return [(image[0] * inside).sum((1, 2)) / inside.sum() for inside in insides]

    before, after, truth = colors(pairs.source), colors(result.image), colors(pairs.target)
    for number in (0, 1):
        left = (after[number] - truth[number]).norm()
        assert left < 0.4 * (before[number] - truth[number]).norm()
        assert left < 0.4 * (after[number] - truth[1 - number]).norm()


def test_a_batch_equals_single_edits(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    image = pictures(2)
    both = editor(sd_backbone, grounder).edit(request(image))
    for row in range(2):
        one = editor(sd_backbone, grounder).edit(request(image[row : row + 1]))
        torch.testing.assert_close(both.image[row : row + 1], one.image, atol=1e-4, rtol=1e-3)


def test_each_picture_may_have_its_own_captions(sd_backbone: Backbone, pictures: Pictures) -> None:
    image = pictures().repeat(2, 1, 1, 1)
    other = Captions(source="a dog", target="a cat")
    result = editor(sd_backbone).edit(request(image, mask=box(2), captions=(CAPTIONS, other)))
    assert not torch.equal(result.image[0], result.image[1])
    alone = editor(sd_backbone).edit(request(image[1:], mask=box(), captions=(other,)))
    torch.testing.assert_close(result.image[1:], alone.image, atol=1e-4, rtol=1e-3)


def test_a_plan_stays_as_it_is(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    found = editor(sd_backbone, grounder)
    planned = found.plan(request(pictures()))
    assert planned.instructions[0].phrases == ("red cube",)
    assert planned.captions == (CAPTIONS,)
    assert found.plan(planned) is planned
    edited = replace(planned, captions=(replace(CAPTIONS, target="photo of a dog"),))
    assert found.edit(edited).trace.prompt == "photo of a dog"


def test_nothing_found_is_an_error_with_the_score(sd_backbone: Backbone, pictures: Pictures, grounder: Any) -> None:
    with pytest.raises(NothingFoundError, match=r"'hat'.*score 0\.1, threshold 0\.3"):
        editor(sd_backbone, grounder).edit(request(pictures(), Instruction(text="make the hat blue")))


def test_a_change_of_the_whole_picture_wants_permission(
    sd_backbone: Backbone, pictures: Pictures, grounder: Any
) -> None:
    winter = Instruction(text="make it snow", phrases=())
    made = request(pictures(), winter, captions=(CAPTIONS,))
    with pytest.raises(InputError, match="--global-edit"):
        editor(sd_backbone, grounder).edit(made)
    whole = editor(sd_backbone, grounder, global_edit=True).edit(made)
    assert bool((whole.mask == 1).all())
    assert grounder.asked == []


def test_a_mask_too_thin_for_the_latents_is_said(sd_backbone: Backbone, pictures: Pictures) -> None:
    thin = torch.zeros(1, 1, 64, 64)
    thin[..., 18, 18] = 1
    made = request(pictures(), mask=thin, captions=(CAPTIONS,))
    result = editor(sd_backbone).edit(made)
    assert "too thin for the latents" in result.trace.warnings[0]
    covered = editor(sd_backbone, mask_resize="cover").edit(made)
    assert covered.trace.warnings == ()
    assert not torch.equal(covered.image, result.image)


def test_the_published_settings_are_the_defaults(sd_backbone: Backbone) -> None:
    made = InstructEdit(sd_backbone)
    assert (made.settings.steps, made.settings.guidance_scale, made.ratio) == (50, 7.5, 0.5)
    assert (made.config.grounding.box_threshold, made.config.grounding.text_threshold) == (0.30, 0.25)
    assert (made.config.blend, made.settings.mask_resize) == ("aligned", "nearest")


def test_the_kind_of_checkpoint_is_checked(backbone: Backbone) -> None:
    with pytest.raises(ModelError, match="instructedit needs a text-to-image checkpoint"):
        InstructEdit(backbone)


def test_a_photo_comes_back_in_its_own_size(sd_backbone: Backbone, real_data: Path, grounder: Any) -> None:
    photo = load_image(real_data / "images" / "cat_dog.jpg")[..., :1003, :]
    mask = torch.zeros_like(photo[:, :1])
    mask[..., : photo.shape[-2] // 2, :] = 1
    result = editor(sd_backbone, steps=4).edit(request(photo, mask=mask))
    assert result.image.shape == photo.shape
    assert torch.equal(result.image[..., photo.shape[-2] // 2 :, :], photo[..., photo.shape[-2] // 2 :, :])
