"""What an edit of one view would look like now, without a trace: neither session nor working set learn of it."""

from dataclasses import dataclass, replace

from jaxtyping import UInt8
from torch import Tensor

from .carrier import EditWork
from .edits import SceneEdits
from .slot import Settings
from .view_masks import FoundMasks

LATER = 10**9
"""An edit step after all others."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """An edit that nobody keeps."""

    view: int
    before: UInt8[Tensor, "height width 3"]
    """The photo."""
    after: UInt8[Tensor, "height width 3"] | None = None
    """None = nothing was found."""
    mask: UInt8[Tensor, "height width"] | None = None
    """Where the edit acts."""
    reason: str = ""
    """Why there is no edit."""
    seconds: float = 0.0


def preview_edit(
    edits: SceneEdits, view: int, settings: Settings, *, noise_level: float, reuses_masks: bool = True
) -> Preview:
    """Edit a view of the current scene.

    A view keeps the masks that it has for these instructions; otherwise they are found in its photo, also where the
    run's own edits would take masks that are lifted from all views.

    Args:
        edits: of the run.
        view: place of the view in the working set.
        settings: instructions, editor and guidance.
        noise_level: share of the noise schedule to start from, in (0, 1]; editors that invert read none.
        reuses_masks: whether a view keeps the masks of its first edit.

    Raises:
        MaskeditError: if the editor can't be loaded, does not understand the instructions, or fails.
    """
    # Masks of any edit step serve.
    turn = replace(edits.schedule.turn(view, step=LATER), view=view, noise_level=noise_level)
    masks = FoundMasks(edits.session, reuse=reuses_masks)
    (draft,) = edits.draft(EditWork(turns=(turn,), settings=settings), masks=masks, keeps_plan=False)
    return Preview(
        view=view,
        before=edits.data.original(view),
        after=draft.image,
        mask=draft.used,
        reason=draft.record.reason,
        seconds=draft.seconds,
    )


def shown_edit(edits: SceneEdits, view: int, step: int) -> Preview:
    """What a view shows at an edit step: its last edit that was not taken back, or its photo.

    Args:
        edits: of the run.
        view: place of the view in the working set.
        step: the edit step that comes next.
    """
    session, before = edits.session, edits.data.original(view)
    record = session.working_set(session.clock(step)).get(view)
    if record is None:
        return Preview(view=view, before=before, reason="no edit is shown in this view")
    return Preview(view=view, before=before, after=session.image_of(record), mask=session.mask_at(str(record.mask)))
