"""Masks: from attention maps to regions, and between resolutions.

Attention masks follow FoI (arXiv 2312.10113, Eq. 1-2): mean map of the keyword, 3 x 3 blur, repeated squaring with
min-max normalisation, threshold.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ..core.errors import InputError
from ..core.types import Image, LatentMask, Latents, Mask

_CORE = 0.999
"""Value from which a pixel is fully inside a mask."""
_COVERED = 0.2
"""Share of a cell that must be fully inside."""


def keyword_map(
    probs: Float[Tensor, "batch query key"], columns: Sequence[int], rows: int, width: int
) -> Float[Tensor, "batch 1 rows width"]:
    """Mean attention of a keyword's tokens, on the grid of its layer."""
    return probs[:, :, list(columns)].mean(-1).unflatten(1, (rows, width))[:, None]


def normalise_map(attention: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch 1 rows columns"]:
    """Min-max to [0, 1] for each picture; a constant map (up to rounding) gives zeros."""
    low, high = attention.amin((2, 3), keepdim=True), attention.amax((2, 3), keepdim=True)
    spread = high - low
    rounding = 16 * torch.finfo(attention.dtype).eps * high.abs()
    return torch.where(spread > rounding, (attention - low) / spread.clamp(min=torch.finfo(attention.dtype).tiny), 0.0)


def sharpen_map(
    attention: Float[Tensor, "batch 1 rows columns"], *, squarings: int, blur: bool = True
) -> Float[Tensor, "batch 1 rows columns"]:
    """Blur with a 3 x 3 Gaussian (sigma 0.5, reflecting), then square and normalise `squarings` times.

    Source: FoI, arXiv 2312.10113, Eq. 2, read as its text says: normalise after each square, so that the result ends in
    [0, 1]. The blur is Attend-and-Excite's (arXiv 2301.13826).
    """
    if blur and min(attention.shape[-2:]) > 1:
        attention = gaussian_blur(attention, [3, 3], [0.5, 0.5])
    if squarings == 0:
        return normalise_map(attention)
    for _ in range(squarings):
        attention = normalise_map(attention**2)
    return attention


def threshold_map(
    attention: Float[Tensor, "batch 1 rows columns"], threshold: float | Float[Tensor, " batch"]
) -> Float[Tensor, "batch 1 rows columns"]:
    """1 where the map reaches the threshold (one for all, or one per picture), and is not zero everywhere."""
    bound = threshold.view(-1, 1, 1, 1) if isinstance(threshold, Tensor) else threshold
    return ((attention >= bound) & (attention > 0)).float()


def union(masks: Sequence[Mask]) -> Mask:
    """Largest of several masks at every pixel."""
    return torch.stack(list(masks)).amax(0)


def mask_to_grid(mask: Mask, rows: int, columns: int) -> Float[Tensor, "batch 1 rows columns"]:
    """A binary mask on another grid: nearest when growing; when shrinking, the cells that are inside by more than half.

    Regions too small for that survive: a cell that is only touched counts if no cell around it is inside by half. Where
    one grid is the other halved a few times (rounding up, as a UNet does), each coarse cell stands for exactly its own
    square of fine cells, so that going to the finer grid and back changes nothing.
    """
    binary = (mask >= 0.5).float()
    height, width = mask.shape[-2:]
    if rows * columns > height * width:
        cell = cell_size(rows, columns, height, width)
        if cell is None:
            return F.interpolate(binary, (rows, columns), mode="nearest")
        return F.interpolate(binary, scale_factor=float(cell), mode="nearest")[..., :rows, :columns]
    cell = cell_size(height, width, rows, columns)
    if cell is None:
        share = F.adaptive_avg_pool2d(binary, (rows, columns))
    else:
        share = F.avg_pool2d(binary, cell, ceil_mode=True)
    inside = (share > 0.5).float()
    lonely = (share > 0) & (F.max_pool2d(inside, 3, stride=1, padding=1) == 0)
    return torch.where(lonely, 1.0, inside)


def cell_size(height: int, width: int, rows: int, columns: int) -> int | None:
    """Side of a coarse cell in fine ones, where `rows x columns` is `height x width` halved a few times; else None."""
    cell = 1
    while (-(-height // cell), -(-width // cell)) != (rows, columns):
        if cell > max(height, width):
            return None
        cell *= 2
    return cell


def region_to_grid(mask: Mask, rows: int, columns: int) -> Float[Tensor, "batch 1 rows columns"]:
    """A picture mask from outside on the grid of the latents: cells of which more than a fifth is fully inside.

    Only the full core of a soft mask counts, so that a mask from `grid_to_mask` comes back as the cells it was made of.
    A mask too small for any cell keeps the cells it touches.
    """
    peak = mask.amax((1, 2, 3), keepdim=True)
    share = F.adaptive_avg_pool2d(((mask >= _CORE * peak) & (peak > 0)).float(), (rows, columns))
    cells = (share > _COVERED).float()
    touched = (F.adaptive_max_pool2d(mask * (peak > 0), (rows, columns)) >= (0.5 * peak).clamp(min=1e-6)).float()
    return torch.where(cells.amax((1, 2, 3), keepdim=True) > 0, cells, touched)


def grid_to_mask(grid: Float[Tensor, "batch 1 rows columns"], height: int, width: int) -> Mask:
    """A cell mask at picture size: 1 on its cells, fading to 0 over half a cell around them."""
    rows, columns = grid.shape[-2:]
    cell = cell_size(height, width, rows, columns)
    size = (height, width) if cell is None else (rows * cell, columns * cell)
    fading = 2 * F.interpolate(grid, size, mode="bilinear", align_corners=False)
    cells = F.interpolate(grid, size, mode="nearest")
    return torch.maximum(fading, cells)[..., :height, :width].clamp(0, 1)


def dilate_mask(mask: Mask, pixels: int) -> Mask:
    """Grow a mask by a square of `pixels` on every side; negative shrinks it."""
    if pixels == 0:
        return mask
    size = 2 * abs(pixels) + 1
    grown = F.max_pool2d(mask if pixels > 0 else 1 - mask, size, stride=1, padding=abs(pixels))
    return grown if pixels > 0 else 1 - grown


def feather_mask(mask: Mask, pixels: int) -> Mask:
    """Soften a mask's edge over about `pixels` on its inside; what was 0 stays 0, so that nothing outside changes."""
    if pixels == 0:
        return mask
    if pixels >= min(mask.shape[-2:]):
        size = f"{mask.shape[-1]}x{mask.shape[-2]}"
        raise InputError(f"a mask of {size} pixels cannot be feathered over {pixels}: lower mask_feather")
    blurred = gaussian_blur(dilate_mask(mask, -pixels), [2 * pixels + 1] * 2, [max(pixels / 2, 0.3)] * 2)
    return torch.where(mask > 0, blurred, 0.0).clamp(0, 1) * mask


def composite(inside: Image, outside: Image, mask: Mask) -> Image:
    """`inside` where the mask is 1, exactly `outside` where it is 0, a mixture between."""
    mixed = inside * mask + outside * (1 - mask)
    return torch.where(mask == 0, outside, mixed)


def composite_latents(inside: Latents, outside: Latents, mask: LatentMask) -> Latents:
    """`inside` where the mask is 1, exactly `outside` where it is 0, a mixture between."""
    return torch.where(mask == 0, outside, mask * inside + (1 - mask) * outside)


def difference_map(
    difference: Float[Tensor, "batch map channels rows columns"], *, clip: float
) -> Float[Tensor, "batch 1 rows columns"]:
    """DiffEdit's map in [0, 1] from differences of noise predictions; zeros where there is no difference at all.

    Args:
        difference: of the predictions under two captions, for several noises.
        clip: differences above this many times the mean count as that.

    Source: DiffEdit, arXiv 2210.11427, section 3.2, step 1, with the clipping of its appendix.
    """
    mean = difference.abs().mean((1, 2))[:, None]
    most = clip * mean.mean((1, 2, 3), keepdim=True)
    return torch.where(most > 0, mean.clamp(max=most) / most.clamp(min=torch.finfo(mean.dtype).tiny), 0.0)


def outside_change(image: Image, reference: Image, mask: Mask) -> Float[Tensor, " batch"]:
    """Mean absolute difference over the pixels where the mask is 0; 0 where there are none."""
    outside = (mask == 0).float()
    total = ((image - reference).abs().mean(1, keepdim=True) * outside).sum((1, 2, 3))
    return total / outside.sum((1, 2, 3)).clamp(min=1)
