"""What a method made of a scene with exact truth, measured.

Metrics, each the mean over scenes of a value per scene; those in dB take the error over the pixels of all held-out
cameras before the logarithm:

- `psnr_inside`, `psnr_outside`, `psnr_whole` (dB): renders for held-out cameras against the truly edited scene: where
  the true edit changes the picture, where it does not, and everywhere.
- `psnr_outside_before` (dB): the same renders outside against those of the scene before editing; the scene's own blur
  thus hides no over-editing.
- `warp_inside`, `warp_whole`: how much renders of neighbouring cameras disagree, in grey levels of 255: the mean
  |difference| along the exact flow of the edited scene, where nothing hides it. Light does not follow the flow, and
  looking between pixels costs some, so it says something beside the row of the truth. Blur makes it smaller.
- `warp_photos_inside`, `warp_photos`: the same of the training photos as they were edited last: what the editor's views
  disagree about before the scene averages them.
- `mask_iou`: the masks in which views were edited last against the silhouettes of the edited blocks before and after,
  over the training views that show any of these; a view in which nothing was found counts as an empty mask.
- `views_without_mask`: share of the views that had their turn and in which nothing was found the last time.
- `edited_views`: how many edits were made.
- `seconds_edit`: per edited view, in the editor alone, the finding of masks included and the first batch left out.
- `edits_per_minute`: edited views per minute of training and editing, all that belongs to them included. Edits made
  beside training go on during the looks at held-out cameras, whose time does not count.
- `waited`: share of that time in which training waited for edits.
- `steps_to_90`: edit steps until `psnr_inside` had gone 90% of its way, looked at every `check_every` steps.
- `peak_mib`: most memory, of the device or, on a CPU, of the process, models and nerfstudio included.
- `stopped`: share of the scenes in which the run ended early, because nothing to edit was found in any view. They count
  as they were left.

A value without meaning is left out of its mean; a mean of none is null.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import Image
from ..video.metrics import warp_error
from .blocks import MultiviewTruth, Scene, optical_flow
from .table import Row
from .video_scores import mean

QUALITY = ("psnr_inside", "psnr_outside", "psnr_whole", "psnr_outside_before")
STEADINESS = ("warp_inside", "warp_whole", "warp_photos_inside", "warp_photos")
METRICS = (
    *(*QUALITY, *STEADINESS, "mask_iou", "views_without_mask"),
    *("edited_views", "seconds_edit", "edits_per_minute", "waited", "steps_to_90", "peak_mib", "stopped"),
)
SHARE_OF_WAY = 0.9
_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class SceneOutcome:
    """What a method made of a scene."""

    renders: Image
    """For all cameras of the dataset, in the order of the truth."""
    before: Image
    """The same before editing."""
    photos: Float[Tensor, "photo 3 height width"]
    """What the training views show at the end, in their order."""
    masks: Mapping[int, Bool[Tensor, "height width"] | None] | None = None
    """For each training view that had its turn, by its place in the truth: where it was edited the last time; None =
    nothing was found. None for all = the method has no masks."""
    figures: Mapping[str, float | int | None] = field(default_factory=dict)
    """What was measured while it ran."""


def region_psnrs(image: Image, truth: Image, changed: Bool[Tensor, "batch 1 height width"]) -> dict[str, float | None]:
    """PSNR in dB against true pictures where the true edit changes them, elsewhere, and everywhere.

    Errors are averaged over the pixels of all pictures before the logarithm; None = no error, or no pixel. The metrics
    of edited pictures (`outcome.py`) are others: means over pictures, against other references.
    """
    error = (image - truth).pow(2).mean(1, keepdim=True)
    regions = {"changed": changed, "unchanged": ~changed, "whole": torch.ones_like(changed)}
    found: dict[str, float | None] = {}
    for name, region in regions.items():
        average = float(error[region].mean()) if bool(region.any()) else 0.0
        found[f"psnr_{name}"] = -10 * math.log10(average) if average > 0 else None
    return found


def measure_scene(truth: MultiviewTruth, outcome: SceneOutcome, *, shows_edit: bool = True) -> Row:
    """The metrics of one scene.

    Args:
        truth: of the scene.
        outcome: what was made of it.
        shows_edit: False = it was left unedited, so that pixels move as in the scene before.
    """
    views = list(truth.held_out)
    target, changed = truth.target[views], truth.changed[views]
    after, before = outcome.renders[views], outcome.before[views]
    psnrs, kept = region_psnrs(after, target, changed), region_psnrs(after, before, changed)
    scene, everywhere = truth.edited_scene if shows_edit else truth.scene, tuple(range(len(truth.names)))
    warped = warp_errors(truth, scene, everywhere, outcome.renders)
    photos = warp_errors(truth, scene, truth.training, outcome.photos)
    row: Row = dict.fromkeys(METRICS)
    row |= {
        "kind": truth.edits[0].kind,
        "psnr_inside": psnrs["psnr_changed"],
        "psnr_outside": psnrs["psnr_unchanged"],
        "psnr_whole": psnrs["psnr_whole"],
        "psnr_outside_before": kept["psnr_unchanged"],
        "warp_inside": warped[0],
        "warp_whole": warped[1],
        "warp_photos_inside": photos[0],
        "warp_photos": photos[1],
        **mask_figures(truth, outcome.masks),
        **outcome.figures,
    }
    return row


def warp_errors(
    truth: MultiviewTruth, scene: Scene, views: Sequence[int], pictures: Image
) -> tuple[float | None, float | None]:
    """How much pictures for neighbouring cameras disagree along the exact flow of a scene, in grey levels of 255.

    Args:
        truth: gives the cameras, and where the true edit changes what they see.
        scene: whose flow.
        views: places of the pictures in the truth, in the order of the orbit; the last one is followed by the first.
        pictures: one for each of them.

    Returns:
        Where the true edit changes the picture, and everywhere; None where nothing is seen by two neighbours.
    """
    cameras = [truth.cameras[view] for view in views]
    scenes = [scene] * len(cameras)
    flow = optical_flow(scenes, cameras, scenes, [*cameras[1:], cameras[0]], height=pictures.shape[-1])
    there, around = ~flow.occluded, torch.cat([pictures, pictures[:1]])
    inside = there & truth.changed[list(views), 0]
    found = (warp_error(around, flow.flow, where) for where in (inside, there))
    values = [_LEVELS * value if math.isfinite(value) else None for value in found]
    return values[0], values[1]


def mask_figures(
    truth: MultiviewTruth, masks: Mapping[int, Bool[Tensor, "height width"] | None] | None
) -> dict[str, float | None]:
    """How well masks fit, and how often there was none."""
    if not masks:
        return {"mask_iou": None, "views_without_mask": None}
    fits: list[float] = []
    for view, mask in masks.items():
        true = truth.mask[view, 0]
        if bool(true.any()):
            both, either = (0, 1) if mask is None else (int((mask & true).sum()), int((mask | true).sum()))
            fits.append(both / either)
    missing = sum(mask is None for mask in masks.values())
    return {"mask_iou": _number(mean(fits)), "views_without_mask": missing / len(masks)}


def steps_to_share(history: Sequence[tuple[int, float | None]], share: float = SHARE_OF_WAY) -> int | None:
    """The first edit step at which a figure had gone a share of its way from the first value to the last.

    Args:
        history: edit steps and values; at least the first and the last.
        share: in (0, 1].

    Returns:
        None where the figure did not rise.
    """
    known = [(step, value) for step, value in history if value is not None]
    if len(known) < 2 or known[-1][1] <= known[0][1]:
        return None
    goal = known[0][1] + share * (known[-1][1] - known[0][1])
    return next(step for step, value in known if value >= goal)


def summarise_scenes(method: str, name: str, values: Sequence[Row]) -> Row:
    """Means over scenes."""
    row: Row = {"method": method, "set": name, "scenes": len(values)}
    for metric in METRICS:
        numbers = [float(value) for each in values if isinstance(value := each.get(metric), int | float)]
        row[metric] = _number(mean(numbers))
    return row


def reference_outcome(truth: MultiviewTruth, pictures: Float[Tensor, "view 3 height width"]) -> SceneOutcome:
    """Pictures of all views in place of renders and photos: of a scene that needs no rendering."""
    return SceneOutcome(renders=pictures, before=truth.source, photos=pictures[list(truth.training)])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
