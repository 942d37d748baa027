"""What a method made of pictures whose edit is known from pairs: InstructBrush's metrics (arXiv 2403.18660, section 5).

For each edit the mean over its pictures held out, the whole picture against the truth:

- `psnr` (dB): 10 log10(1 / MSE); pictures without any error are left out of the mean.
- `ssim`: Gaussian window of 11 pixels, sigma 1.5, the mean over pixels and channels.
- `lpips`: of AlexNet; only where its weights are, which this bench never fetches.
- `direct`: 1 - cos(D_out, D_ref) of mean CLIP embeddings, lower is better, in [0, 2]: D_ref leads from the pictures
  before to those after in the pairs that were learned from, D_out from the pictures held out to what became of them.
  Only where a CLIP is given; without a meaning for pictures that did not change.

`Global`, `Local` and all are means over edits, each edit counting once, as in the paper's tables.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..editors import BrushPairs, Image
from .outcome import psnr
from .table import Row

QUALITY = ("psnr", "ssim", "lpips", "direct")
COSTS = ("seconds_step", "seconds_sample", "seconds_edit", "peak_mib", "brush_mib")
_SMALLEST_DIRECTION = 1e-6

Same: TypeAlias = Float[Tensor, "batch 3 height width"]
Perceptual: TypeAlias = Callable[[Image, Image], Tensor]
"""LPIPS of pictures in [0, 1], one value a picture."""


@runtime_checkable
class PictureEncoder(Protocol):
    """Anything that turns pictures into vectors whose directions mean something."""

    def embed_images(self, image: Image) -> Float[Tensor, "batch width"]:
        """One vector of length 1 a picture."""
        ...


def ssim(image: Same, truth: Same) -> Float[Tensor, " batch"]:
    """Structural similarity of each picture, at most 1.

    Source: Wang et al. 2004; window 11, sigma 1.5, k1 0.01, k2 0.03, a range of 1.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(image, truth, data_range=1.0, reduction="none")
    return found if isinstance(found, Tensor) else found[0]


def direct(
    before: Float[Tensor, "test width"],
    edited: Float[Tensor, "test width"],
    learned_before: Float[Tensor, "train width"],
    learned_after: Float[Tensor, "train width"],
) -> float:
    """How far the direction of edits is from that of the pairs they were learned from, in [0, 2]; nan without one.

    Source: InstructBrush, Eq. 8, read as a distance: the paper prints a decrease as the improvement.
    """
    made, meant = edited.mean(0) - before.mean(0), learned_after.mean(0) - learned_before.mean(0)
    if min(float(made.norm()), float(meant.norm())) < _SMALLEST_DIRECTION:
        return math.nan
    return 1 - float(torch.nn.functional.cosine_similarity(made, meant, dim=0))


def load_perceptual(device: torch.device) -> Perceptual | None:
    """LPIPS of AlexNet, or None where the weights are not on this machine."""
    net = find_lpips("alex", device)
    if net is None:
        return None
    return lambda image, truth: net(image.to(device), truth.to(device), normalize=True).flatten()


def find_lpips(name: Literal["alex", "squeeze"], device: torch.device) -> Any | None:
    """The network of LPIPS, or None where its weights are not on this machine."""
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights

    weights = AlexNet_Weights.IMAGENET1K_V1 if name == "alex" else SqueezeNet1_1_Weights.IMAGENET1K_V1
    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]).is_file():
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    net = LearnedPerceptualImagePatchSimilarity(net_type=name, normalize=True).net.to(device)
    return net.requires_grad_(False).eval()


def score_edit(
    edited: Image,
    test: BrushPairs,
    learned: BrushPairs,
    *,
    perceptual: Perceptual | None = None,
    encoder: PictureEncoder | None = None,
) -> Row:
    """The metrics of one edit; those that cannot be told are null.

    Args:
        edited: what became of the pictures held out.
        test: these pictures and the truth.
        learned: the pairs that the edit was learned from.
        perceptual: LPIPS.
        encoder: CLIP.
    """
    errors = (edited - test.after).pow(2).mean((1, 2, 3)).tolist()
    row: Row = {
        "psnr": _mean([psnr(error) for error in errors]),
        "ssim": _mean(ssim(edited, test.after).tolist()),
        "lpips": None if perceptual is None else _mean(perceptual(edited, test.after).tolist()),
        "direct": None,
    }
    if encoder is not None:
        sides = (test.before, edited, learned.before, learned.after)
        row["direct"] = _mean([direct(*(encoder.embed_images(side).cpu() for side in sides))])
    return row


def summarise_edits(method: str, shots: int | None, name: str, rows: Sequence[Row]) -> Row:
    """Means over edits, each of them counting once; a mean of none is null."""
    found: Row = {"method": method, "shots": shots, "set": name, "edits": len(rows)}
    for metric in (*QUALITY, *COSTS):
        found[metric] = _mean([v for row in rows if isinstance(v := row.get(metric), float)])
    return found


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
