"""Shared by the tests of video edits: fitted segments whose fields are known, and an editor of a real, tiny model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from maskedit.editors import BackboneConfig, Editor, Inpaint, InpaintConfig, LanguageConfig, NothingFoundError, Tools
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.grounding import Found
from maskedit.video.fields import DenseCanonical, DenseDeformation
from maskedit.video.fit import ClipFit, FitConfig, shape_for
from maskedit.video.segments import Segment


class RedGrounder:
    """A segmenter that finds what is red, whatever it is asked for."""

    def ground(self, image: torch.Tensor, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        return tuple(tuple(self._find(each, phrase) for phrase in phrases) for each in image)

    def _find(self, image: torch.Tensor, phrase: str) -> Found:
        mask = ((image[0] > 0.8) & (image[1:] < 0.2).all(0)).float()[None]
        if not mask.any():
            raise NothingFoundError(phrase, score=0.1, threshold=0.3)
        rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
        box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
        return Found(phrase=phrase, mask=mask, boxes=box, scores=torch.tensor([0.9]))


@pytest.fixture(scope="session")
def red_editor(inpainting_folder: Path) -> Editor:
    """Paints over what is red, with a tiny random inpainting checkpoint."""
    backbone = Backbone.load(BackboneConfig(model=str(inpainting_folder), device="cpu"), "inpainting")
    tools = Tools(backbone, language=LanguageConfig(), grounding=RedGrounder())
    return Inpaint(backbone, InpaintConfig(steps=2), tools=tools)


@pytest.fixture(scope="session")
def make_segment() -> Callable[..., Segment]:
    """Makes a segment of frames 32 high and 48 wide: each layer has a picture, and slides across it by whole pixels."""

    def make(
        pictures: Sequence[torch.Tensor],
        shifts: Sequence[Sequence[int]],
        *,
        first: int = 0,
        masks: torch.Tensor | None = None,
        margin: float = 0.25,
    ) -> Segment:
        count = len(shifts[0])
        config = FitConfig(margin=margin)
        fit = ClipFit(config, shape_for(count, 32, 48, config), len(pictures), "cpu")
        for layer, picture, pixels in zip(fit.layers, pictures, shifts, strict=True):
            assert isinstance(layer.canonical, DenseCanonical) and isinstance(layer.deformation, DenseDeformation)
            layer.canonical.start_from(picture[..., :32, :48])
            if picture.shape[-2:] == (fit.shape.canonical_height, fit.shape.canonical_width):
                with torch.no_grad():
                    layer.canonical.pictures[-1].copy_(picture)
            offsets = torch.zeros(count, 2, 32, 48)
            offsets[:, 0] = (torch.tensor(pixels) / 48).view(count, 1, 1)
            layer.deformation.start_from(offsets, torch.ones(count, 1, 32, 48))
        return Segment(rows=slice(first, first + count), fit=fit, masks=masks)

    return make


@pytest.fixture(scope="session")
def scene() -> torch.Tensor:
    """A picture as large as the canonical image of `make_segment`, 56 high and 72 wide: smooth, with a red square."""
    ys, xs = torch.linspace(0, 1, 56)[:, None], torch.linspace(0, 1, 72)[None]
    picture = torch.stack([0.3 + 0.2 * ys.expand(56, 72), 0.4 + 0.3 * xs.expand(56, 72), 0.5 + 0.3 * ys * xs])[None]
    picture[..., 22:34, 28:40] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    return picture
