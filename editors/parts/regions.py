"""Where latents may change, and under which captions: one region for all instructions, or one for each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.checkpoint import MaskResize
from ..core.guidance import TextGuidance, region_weights
from ..core.types import Branch, LatentMask, Mask
from .caption_pass import latent_mask
from .masks import union
from .request import EditRequest


@dataclass(frozen=True, kw_only=True)
class Regions:
    """What a run needs to know of masks and captions."""

    cells: LatentMask
    """Where anything may change."""
    targets: Mapping[Branch, tuple[str, ...]]
    """The edited captions of each text branch, one for each picture."""
    weights: Mapping[Branch, LatentMask] | None = None
    """Where each of them holds; None = one text, everywhere."""
    warnings: tuple[str, ...] = ()

    def guidance(self, scale: float) -> TextGuidance:
        """Guidance of every region by its own text."""
        return TextGuidance(guidance_scale=scale, weights=self.weights)


def one_region(request: EditRequest, cells: LatentMask, warnings: tuple[str, ...] = ()) -> Regions:
    """The captions of the request hold everywhere.

    Args:
        request: with captions.
        cells: where anything may change.
        warnings: about them.
    """
    return Regions(cells=cells, targets={"text": tuple(c.target for c in request.captions)}, warnings=warnings)


def own_regions(request: EditRequest, cells: Sequence[LatentMask], warnings: Sequence[str] = ()) -> Regions:
    """Each instruction's captions hold in its own region; those that read alike share a branch.

    Args:
        request: whose instructions have captions.
        cells: the region of each of them.
        warnings: about them.
    """
    groups: dict[tuple[str, ...], list[LatentMask]] = {}
    for captions, own in zip(request.region_captions, cells, strict=True):
        groups.setdefault(tuple(each.target for each in captions), []).append(own)
    names = ("text", *(f"text_{number}" for number in range(2, len(groups) + 1)))
    targets = dict(zip(names, groups, strict=True))
    masks = {name: union(own) for name, own in zip(names, groups.values(), strict=True)}
    return Regions(
        cells=union(cells),
        targets=targets,
        weights=region_weights(masks) if len(masks) > 1 else None,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def put_on_latents(request: EditRequest, masks: Sequence[Mask], size: tuple[int, int], how: MaskResize) -> Regions:
    """The regions of a request with captions, on the grid of the latents.

    Args:
        request: at working size.
        masks: of its instructions.
        size: rows and columns of the latents.
        how: see `latent_mask`.
    """
    if not request.region_captions:
        cells, warnings = latent_mask(masks, size, how)
        return one_region(request, cells, warnings)
    put = [latent_mask([mask], size, how) for mask in masks]
    return own_regions(request, [cells for cells, _ in put], [warning for _, said in put for warning in said])
