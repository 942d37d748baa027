"""What SmartEdit's tables measure: the background kept, and the foreground named (arXiv 2312.06739, section 5.1).

The paper says little about how; its published evaluation does this, here in mode `smartedit`. Pictures are resized to
256 x 256 (bicubic, 8 bit), masks likewise (nearest).

- `psnr` (dB), `ssim`, `lpips` (SqueezeNet): both pictures times the background's weight, 1 - mask / 255, over the whole
  frame. The blackened foreground thus counts as a perfect match: with a share `a` of foreground, PSNR is that of the
  background plus 10 log10(1 / (1 - a)): 0.46 dB more at 0.1, 1.55 at 0.3, 3.01 at 0.5.
- `clip`: 100 max(0, cos) of the edited picture and the label, within the box of all pixels that the mask has any of;
  its last row and column are left out, because their numbers are taken for ends.

Mode `strict` answers what these mean to ask: the foreground is where the mask is above 127; errors, the map of SSIM
and that of LPIPS are averaged over the background alone; the box has all of its pixels, and at least 16 x 16. Both
modes blacken the foreground first, so neither sees what was done there. Figures of two modes, of two networks for
LPIPS, or of two CLIPs are not comparable.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PilImage
from torch import Tensor

from ..editors import Image, bytes_to_image, image_to_pil
from .brush_scores import find_lpips, ssim
from .outcome import psnr
from .table import Row

RegionMode: TypeAlias = Literal["smartedit", "strict"]
Single: TypeAlias = Float[Tensor, "1 3 _ _"]
SingleMask: TypeAlias = Float[Tensor, "1 1 _ _"] | Bool[Tensor, "1 1 _ _"]
Frame: TypeAlias = Float[Tensor, "1 3 256 256"]
FRAME = 256
"""Side of what is measured, in pixels."""
_LEVEL = 127
_SMALLEST_BOX = 16
_OWN = ("psnr", "ssim", "lpips", "clip")
REGION_METRICS = (*_OWN, *(f"strict_{name}" for name in _OWN), "exact")
"""`exact` = the background is the source's, pixel for pixel, so that there is no PSNR: it is left out of the mean."""


@runtime_checkable
class LabelScorer(Protocol):
    """Anything that turns pictures and texts into vectors of length 1 that are close where they belong together."""

    def embed_images(self, image: Image) -> Float[Tensor, "batch width"]:
        """One vector a picture."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """One vector a text."""
        ...


class Lpips:
    """LPIPS as one number, and as a map."""

    def __init__(self, network: Any) -> None:
        """Use a network of torchmetrics; it stays as it is."""
        self._whole, self._map = network, copy(network)
        # The copy shares all weights.
        self._map.spatial = True

    @torch.no_grad()
    def distance(self, image: Image, truth: Image) -> Float[Tensor, " batch"]:
        """Of each picture in [0, 1]."""
        return self._whole(image, truth, normalize=True).flatten()

    @torch.no_grad()
    def distance_map(self, image: Image, truth: Image) -> Float[Tensor, "batch 1 height width"]:
        """Of each pixel of pictures in [0, 1]."""
        return self._map(image, truth, normalize=True)


def load_lpips(device: torch.device | str) -> Lpips | None:
    """LPIPS of SqueezeNet, or None where its weights are not on this machine."""
    network = find_lpips("squeeze", torch.device(device))
    return None if network is None else Lpips(network)


@dataclass(frozen=True, kw_only=True)
class RegionJudge:
    """Measures edited pictures in both modes."""

    lpips: Lpips | None = None
    """None = it is not told."""
    clip: LabelScorer | None = None
    """None = it is not told."""
    device: torch.device | str = "cpu"
    """Where LPIPS runs."""

    def score(self, edited: Single, source: Single, mask: SingleMask, label: str) -> dict[str, float]:
        """The figures of one picture; not a number where one has no meaning.

        Args:
            edited: RGB in [0, 1].
            source: what it was before.
            mask: 1 = foreground; of any size, as the pictures are.
            label: what the foreground is to show; empty = nobody says.

        Source: SmartEdit's published evaluation (test/metrics_evaluation.py) for the mode `smartedit`.
        """
        image, before, levels = to_frame(edited), to_frame(source), mask_levels(mask)
        row: dict[str, float] = {}
        for mode in get_args(RegionMode):
            prefix = "" if mode == "smartedit" else f"{mode}_"
            scores = self._score(image, before, levels, label, mode)
            row |= {f"{prefix}{name}": value for name, value in scores.items()}
        row["exact"] = float(row["psnr"] == math.inf)
        return row

    def _score(
        self, image: Frame, before: Frame, levels: UInt8[np.ndarray, "256 256"], label: str, mode: RegionMode
    ) -> dict[str, float]:
        foreground = levels if mode == "smartedit" else np.where(levels > _LEVEL, 255, 0).astype(np.uint8)
        weight = 1 - torch.from_numpy(foreground).float()[None, None] / 255
        sides = (image * weight, before * weight)
        background = torch.ones_like(weight) > 0 if mode == "smartedit" else weight > 0
        return {
            "psnr": _psnr(*sides, background),
            "ssim": _ssim(*sides, background, mode),
            "lpips": self._lpips(*sides, background, mode),
            "clip": self._clip(image, find_box(levels, mode=mode), label),
        }

    def _lpips(self, image: Frame, truth: Frame, background: Bool[Tensor, "1 1 h w"], mode: RegionMode) -> float:
        if self.lpips is None:
            return math.nan
        image, truth = image.to(self.device), truth.to(self.device)
        if mode == "smartedit":
            return float(self.lpips.distance(image, truth))
        return _mean(self.lpips.distance_map(image, truth).cpu(), background)

    def _clip(self, image: Frame, box: tuple[int, int, int, int] | None, label: str) -> float:
        if self.clip is None or box is None or not label:
            return math.nan
        left, top, right, bottom = box
        seen = self.clip.embed_images(image[..., top:bottom, left:right])
        return 100 * max(0.0, float((seen * self.clip.embed_texts([label])).sum()))


def mean_regions(rows: Sequence[Row]) -> Row:
    """Means over pictures; what is not finite is left out of a mean, and a mean of none is null."""
    means: Row = {}
    for name in REGION_METRICS:
        values = [value for row in rows if isinstance(value := row[name], float) and math.isfinite(value)]
        means[name] = sum(values) / len(values) if values else None
    return means


def to_frame(image: Single) -> Frame:
    """A picture at the size that is measured, of 8 bits."""
    resized = image_to_pil(image).resize((FRAME, FRAME), resample=PilImage.Resampling.BICUBIC)
    return bytes_to_image(torch.from_numpy(np.array(resized))[None])


def mask_levels(mask: SingleMask) -> UInt8[np.ndarray, "256 256"]:
    """A mask at the size that is measured, in levels of 0..255."""
    return np.array(image_to_pil(mask.float()).resize((FRAME, FRAME), resample=PilImage.Resampling.NEAREST))


def find_box(levels: UInt8[np.ndarray, "height width"], *, mode: RegionMode) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the foreground, the latter two excluded; None = nothing is left to look at."""
    rows, columns = np.nonzero(levels if mode == "smartedit" else levels > _LEVEL)
    if not len(rows):
        return None
    left, right = _side(columns, levels.shape[1], mode)
    top, bottom = _side(rows, levels.shape[0], mode)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _side(places: np.ndarray, length: int, mode: RegionMode) -> tuple[int, int]:
    first, last = int(places.min()), int(places.max())
    if mode == "smartedit":
        return first, last
    wide = max(last + 1 - first, min(_SMALLEST_BOX, length))
    start = min(max(0, (first + last + 1 - wide) // 2), length - wide)
    return start, start + wide


def _psnr(image: Frame, truth: Frame, background: Bool[Tensor, "1 1 h w"]) -> float:
    error = (image.double() - truth.double()).pow(2).mean(1, keepdim=True)
    return psnr(float(error[background].mean())) if bool(background.any()) else math.nan


def _ssim(image: Frame, truth: Frame, background: Bool[Tensor, "1 1 h w"], mode: RegionMode) -> float:
    if mode == "smartedit":
        return float(ssim(image, truth))
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(image, truth, data_range=1.0, reduction="none", return_full_image=True)
    return _mean(found[1].mean(1, keepdim=True), background)


def _mean(values: Float[Tensor, "1 1 h w"], background: Bool[Tensor, "1 1 h w"]) -> float:
    return float(values[background].mean()) if bool(background.any()) else math.nan
