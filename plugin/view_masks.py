"""Where the masks of a view come from: found in its photo, once or at every edit."""

from typing import Protocol, runtime_checkable

from ..editors import Editor, NothingFoundError
from .session import EditSession
from .slot import EditView, Settings, find_masks, mask_request
from .storage import to_bytes


@runtime_checkable
class ViewMasks(Protocol):
    """Gives views their masks."""

    def prepare(self, editor: Editor, settings: Settings, step: int) -> None:
        """Do once what serves all views at an edit step; where several devices edit, one of them does it for all.

        Args:
            editor: that finds masks.
            settings: planned.
            step: the edit step.
        """
        ...

    def fill(self, editor: Editor, view: EditView, settings: Settings) -> str | None:
        """Set the masks of a view.

        Args:
            editor: that finds masks.
            view: whose `masks` are set, and `files` where they are stored already.
            settings: planned.

        Returns:
            None, or why there is nothing to edit in this view.

        Raises:
            NothingFoundError: if nothing was found and that is to stop the run.
        """
        ...


class FoundMasks:
    """Masks that the editor finds in the view's own photo.

    Args:
        session: where masks of earlier edits are stored.
        reuse: the masks of a view's first edit serve all its edits.
        skip_empty: a view in which nothing is found is left as it is; otherwise it is an error.
    """

    def __init__(self, session: EditSession, *, reuse: bool = True, skip_empty: bool = True) -> None:
        self.session, self.reuse, self.skip_empty = session, reuse, skip_empty

    def prepare(self, editor: Editor, settings: Settings, step: int) -> None:
        """Each view is looked at by itself."""

    def fill(self, editor: Editor, view: EditView, settings: Settings) -> str | None:
        """Set the masks of a view; see `ViewMasks`."""
        texts = tuple(i.text for i in settings.instructions)
        if self.reuse:
            first = self.session.found_masks(view.turn.view, texts, view.turn.step, settings.editor)
            if first is not None and first.image is None:
                return first.reason
            if first is not None:
                view.files = first.masks
                view.masks = tuple(self.session.mask_at(name) for name in first.masks)
                return None
        try:
            found = find_masks(editor, mask_request(view, settings))
        except NothingFoundError as error:
            if not self.skip_empty:
                raise
            return str(error)
        # The editor gets the mask as it is stored, so that a resumed run gives it the same.
        view.masks = tuple(to_bytes(mask[0, 0]) for mask in found)
        return None
