"""Regions on the latents: one for all instructions, or each with its own captions and weight."""

import torch

from maskedit.editors import Captions, EditRequest, Instruction
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.caption_pass import embed_branches, latent_mask
from maskedit.editors.parts.regions import one_region, own_regions, put_on_latents

IMAGE = torch.zeros(2, 3, 16, 16)
ALL = Captions(source="a cube and a ball", target="a blue cube and a green ball")
CUBE = Captions(source="a cube", target="a blue cube")
BALL = Captions(source="a ball", target="a green ball")


def side(*, left: bool) -> torch.Tensor:
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., slice(0, 8) if left else slice(8, 14)] = 1
    return mask


def request(*own: Captions | None) -> EditRequest:
    instructions = tuple(
        Instruction(text="make it blue", captions=() if each is None else (each,), mask=side(left=number == 0))
        for number, each in enumerate(own)
    )
    return EditRequest(image=IMAGE, instructions=instructions, captions=(ALL,))


def masks(made: EditRequest) -> list[torch.Tensor]:
    return [each.mask for each in made.instructions if each.mask is not None]


def test_without_captions_of_their_own_all_masks_are_one_region() -> None:
    made = request(None, None)
    regions = put_on_latents(made, masks(made), (4, 4), "nearest")
    cells, warnings = latent_mask(masks(made), (4, 4), "nearest")
    assert torch.equal(regions.cells, cells)
    assert regions.targets == {"text": (ALL.target, ALL.target)}
    assert (regions.weights, regions.warnings) == (None, warnings)
    assert regions.guidance(3.0).branches == ("text", "uncond")
    assert one_region(made, cells).targets == regions.targets


def test_each_region_has_a_branch_with_its_captions() -> None:
    made = request(CUBE, BALL)
    regions = put_on_latents(made, masks(made), (4, 4), "nearest")
    assert regions.targets == {"text": (CUBE.target,) * 2, "text_2": (BALL.target,) * 2}
    assert regions.weights is not None
    assert regions.weights["text"][0, 0, 0].tolist() == [1, 1, 0, 0]
    assert regions.weights["text_2"][0, 0, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(regions.cells, torch.ones(2, 1, 4, 4))
    assert regions.guidance(3.0).branches == ("text", "text_2", "uncond")


def test_an_instruction_without_captions_goes_by_those_of_the_request() -> None:
    made = request(CUBE, None)
    regions = put_on_latents(made, masks(made), (4, 4), "nearest")
    assert regions.targets == {"text": (CUBE.target,) * 2, "text_2": (ALL.target,) * 2}


def test_regions_that_read_alike_share_a_branch() -> None:
    cells = [torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)]
    regions = own_regions(request(CUBE, CUBE), cells, ("thin", "thin"))
    assert regions.targets == {"text": (CUBE.target,) * 2}
    assert (regions.weights, regions.warnings) == (None, ("thin",))
    assert torch.equal(regions.cells, cells[1])


def test_a_mask_too_thin_for_the_latents_is_said_though_another_is_not() -> None:
    made, thin = request(CUBE, BALL), torch.zeros(2, 1, 16, 16)
    thin[..., 1, 1] = 1
    regions = put_on_latents(made, [thin, side(left=False)], (4, 4), "nearest")
    assert len(regions.warnings) == 1
    assert "too thin" in regions.warnings[0]
    kept = put_on_latents(made, [thin, side(left=False)], (4, 4), "cover")
    assert kept.warnings == ()
    assert bool(kept.cells[0, 0, 0, 0])


def test_branches_without_captions_read_the_empty_text(sd_backbone: Backbone) -> None:
    texts = embed_branches(sd_backbone, ("text", "text_2", "uncond"), {"text": ("a",), "text_2": ("b", "a")})
    assert torch.equal(texts["uncond"], sd_backbone.embed([""]))
    assert torch.equal(texts["text_2"][1:], texts["text"])
    assert texts["text_2"].shape[0] == 2
