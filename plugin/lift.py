"""Masks that are one region of the scene: found in all photos, lifted by votes, and seen from every view.

Before the first edit with some instructions the editor looks for their objects in the photos of ALL views. Each photo
votes, through the rays of its camera and the scene before the first edit, and every view gets the outcome as its mask:
also those in which nothing was found, and those in which the wrong thing was. See `lift_rule.py` for how votes count,
`lift_regions.py` for what users draw, `lift_store.py` for what is kept on disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..editors import Editor, EditRequest, NothingFoundError
from .edits import EmptySweepError
from .lift_options import LiftConfig
from .lift_regions import BoxRegion, MarkRegion, UserRegion, read_mark, regions_at, regions_for
from .lift_rule import FOUND, LiftedRegion, lift_masks
from .lift_scene import StartScene
from .lift_store import LiftKey, LiftStore
from .scene import SceneRenderer
from .session import EditSession
from .slot import EditView, Settings, as_image
from .update import Draw, seed_for
from .votes import SceneVotes, VotedScene
from .working_set import EditedPhotos

Boxes = tuple[Bool[Tensor, "rows columns"], ...]
Masks = tuple[Float[Tensor, "height width"], ...]
"""Of one view, for each instruction."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What the user gave about one instruction."""

    marks: tuple[tuple[MarkRegion, Float[Tensor, "height width"]], ...]
    limits: Boxes = ()
    """What each view sees of the box outside which nothing counts; () = no such box."""
    replaces: Boxes = ()
    """What each view sees of the box that is the region; () = no such box."""

    @property
    def suffices(self) -> bool:
        """Whether there is a region even where the editor finds nothing."""
        return bool(self.replaces) or any(mark.says_yes for mark, _ in self.marks)


class LiftedMasks:
    """Masks of one region of the scene; see `ViewMasks`.

    Args:
        session: whose folder keeps them and whose events hold the user's regions.
        data: photos and cameras.
        scene: through which they are lifted.
        config: how.
        seed: of the run; what the editor draws to find masks depends on it and the view alone.
        report: receives lines about the progress.
        skip_empty: a view that sees nothing of the region is left as it is; otherwise it is an error.
    """

    def __init__(
        self,
        session: EditSession,
        data: EditedPhotos,
        scene: StartScene,
        config: LiftConfig,
        *,
        seed: int,
        report: Callable[[str], None],
        skip_empty: bool = True,
    ) -> None:
        self.session, self.data, self.scene, self.config = session, data, scene, config
        self._seed, self._report, self._skip_empty = seed, report, skip_empty
        self._store = LiftStore(session.root)

    def prepare(self, editor: Editor, settings: Settings, step: int) -> None:
        """Lift the masks of all views where nobody has; see `ViewMasks`.

        Raises:
            EmptySweepError: if an instruction was found in no photo, or in places that do not agree.
        """
        regions = regions_at(self.session, step)
        key = LiftKey.of(settings, regions)
        if not self._store.is_lifted(key):
            self._lift(editor, settings, regions, key)

    def fill(self, editor: Editor, view: EditView, settings: Settings) -> str | None:
        """Set the masks of a view, after lifting those of all views where nobody has; see `ViewMasks`.

        Raises:
            EmptySweepError: if an instruction was found in no photo, or in places that do not agree.
            NothingFoundError: if this view sees nothing of it and that is to stop the run.
        """
        self.prepare(editor, settings, view.turn.step)
        key = LiftKey.of(settings, regions_at(self.session, view.turn.step))
        view.files = self._store.files(key, view.turn.view, len(settings.instructions))
        view.masks = tuple(self.session.mask_at(name) for name in view.files)
        if any(bool(mask.any()) for mask in view.masks):
            return None
        if not self._skip_empty:
            raise NothingFoundError(settings.instructions[0].text)
        return "the region is not in view"

    def region_key(self, settings: Settings, step: int) -> LiftKey | None:
        """The name of the region that edits are made in at an edit step; None = it is not lifted yet.

        Args:
            settings: planned.
            step: the edit step.
        """
        key = LiftKey.of(settings, regions_at(self.session, step))
        return key if self._store.is_lifted(key) else None

    def region(self, key: LiftKey, scene: VotedScene) -> SceneVotes:
        """Votes about a region that is lifted, all instructions together, to be asked about any camera.

        Args:
            key: its name.
            scene: through which cameras look: that of before the first edit, or that which trains.
        """
        votes = scene.make_votes()
        votes.restore(self._store.region(key))
        return votes

    def _lift(self, editor: Editor, settings: Settings, regions: Sequence[UserRegion], key: LiftKey) -> None:
        found = self._find(editor, settings, key)
        with self.scene.lend() as scene:
            self._lift_through(SceneRenderer(scene, self.data), found, settings, regions, key)

    def _lift_through(
        self,
        renderer: SceneRenderer,
        found: Sequence[Masks],
        settings: Settings,
        regions: Sequence[UserRegion],
        key: LiftKey,
    ) -> None:
        views = range(len(self.data.views))
        cameras = [renderer.camera(view) for view in views]
        lifted: list[LiftedRegion] = []
        for number, instruction in enumerate(settings.instructions):
            given = self._given(regions_for(regions, instruction.text), renderer)
            own = _within([masks[number] for masks in found], given)
            if not given.suffices and not any(bool((mask >= FOUND).any()) for mask in own):
                raise EmptySweepError(
                    f"nothing was found for {instruction.text!r} in any of {len(own)} photos: change "
                    "--pipeline.instructions, lower the mask threshold, or mark it in the viewer"
                )
            outcome = lift_masks(renderer.model.make_votes, cameras, own, self.config, given.marks)
            outcome = replace(outcome, masks=_limited(outcome.masks, given))
            if not any(bool((mask >= FOUND).any()) for mask in outcome.masks):
                raise EmptySweepError(
                    f"what was found for {instruction.text!r} lies elsewhere in each photo: change "
                    "--pipeline.instructions, lower --pipeline.lift.threshold, or mark it in the viewer"
                )
            self._report(_describe(instruction.text, own, outcome))
            lifted.append(outcome)
        region = renderer.model.make_votes()
        for view, camera in zip(views, cameras, strict=True):
            region.add(camera, torch.stack([each.masks[view] for each in lifted]).amax(dim=0))
        notes = {
            "instructions": [each.text for each in settings.instructions],
            "trust": [each.trust for each in lifted],
        }
        self._store.save(key, [[each.masks[view] for each in lifted] for view in views], region.state(), notes)

    def _find(self, editor: Editor, settings: Settings, key: LiftKey) -> list[Masks]:
        """What is found in the photo of each view for each instruction; black = nothing."""
        views, count = range(len(self.data.views)), len(settings.instructions)
        for first in range(0, len(views), self.config.batch):
            batch = views[first : first + self.config.batch]
            # A batch is found as a whole, so that it does not depend on where a run was killed.
            if any(self._store.found(key, view, count) is None for view in batch):
                for view, masks in zip(batch, self._find_batch(editor, settings, batch), strict=True):
                    self._store.save_found(key, view, masks)
                self._report(f"looking for masks in all photos: {batch[-1] + 1} of {len(views)}")
        return [self._store.found(key, view, count) or () for view in views]

    def _find_batch(self, editor: Editor, settings: Settings, views: Sequence[int]) -> list[Masks]:
        """What is found in some photos, which are asked about together as far as they show what is looked for."""
        found = self._find_together(editor, settings, views)
        return self._find_apart(editor, settings, views) if found is None else found

    def _find_together(self, editor: Editor, settings: Settings, views: Sequence[int]) -> list[Masks] | None:
        """What is found in some photos; None = in one of them at least there is nothing."""
        request = EditRequest(
            image=torch.cat([as_image(self.data.original(view)) for view in views]),
            instructions=settings.instructions,
            # Those of a view's first edit, so that the masks are those it would find by itself; but where the views of
            # a sweep share their noise, they would find them in that, and here each has its own.
            seeds=tuple(seed_for(self._seed, Draw.EDITOR, view) for view in views),
            captions=settings.captions[:1],
        )
        try:
            masks = editor.find_masks(request)
        except NothingFoundError:
            return None
        return [tuple(mask[row, 0].cpu() for mask in masks) for row in range(len(views))]

    def _find_apart(self, editor: Editor, settings: Settings, views: Sequence[int]) -> list[Masks]:
        """The same for photos in one of which at least there is nothing: by halves, until it is alone."""
        if len(views) == 1:
            return [self._find_each(editor, settings, views)]
        first, second = views[: len(views) // 2], views[len(views) // 2 :]
        found = self._find_together(editor, settings, first)
        if found is None:
            return [*self._find_apart(editor, settings, first), *self._find_batch(editor, settings, second)]
        # It must be in the second half then, which need not be asked as a whole.
        return [*found, *self._find_apart(editor, settings, second)]

    def _find_each(self, editor: Editor, settings: Settings, views: Sequence[int]) -> Masks:
        """The same for one photo that does not show the objects of all instructions; black = nothing."""
        height, width = self.data.photo_shape[1:]
        if len(settings.instructions) == 1:
            return (torch.zeros(height, width),)
        alone = [
            self._find_together(editor, replace(settings, instructions=(each,)), views)
            for each in settings.instructions
        ]
        return tuple(torch.zeros(height, width) if each is None else each[0][0] for each in alone)

    def _given(self, regions: Sequence[UserRegion], renderer: SceneRenderer) -> _Given:
        """What the user gave, as the views see it."""
        boxes = {each.how: each for each in regions if isinstance(each, BoxRegion)}
        marks = tuple((each, read_mark(self.session.root, each)) for each in regions if isinstance(each, MarkRegion))
        points = [renderer.render(view).points for view in range(len(self.data.views))] if boxes else []
        seen = {how: tuple(box.contains(each) for each in points) for how, box in boxes.items()}
        return _Given(marks=marks, limits=seen.get("limit", ()), replaces=seen.get("replace", ()))


def _within(found: Sequence[Float[Tensor, "rows columns"]], given: _Given) -> list[Float[Tensor, "rows columns"]]:
    """What photos vote for, where the user gave a box."""
    masks = [box.float() for box in given.replaces] if given.replaces else list(found)
    return [mask * box for mask, box in zip(masks, given.limits, strict=True)] if given.limits else masks


def _limited(
    masks: Sequence[Float[Tensor, "rows columns"]], given: _Given
) -> tuple[Float[Tensor, "rows columns"], ...]:
    """Lifted masks, of which nothing may lie outside the user's box."""
    return tuple(mask * box for mask, box in zip(masks, given.limits, strict=True)) if given.limits else tuple(masks)


def _describe(text: str, found: Sequence[Float[Tensor, "rows columns"]], outcome: LiftedRegion) -> str:
    seen = sum(bool((mask >= FOUND).any()) for mask in found)
    shown = sum(bool((mask >= FOUND).any()) for mask in outcome.masks)
    area = torch.stack([mask.mean() for mask in outcome.masks]).mean()
    return (
        f"lifted masks of {text!r}: found in {seen} of {len(found)} photos, in view in {shown}, "
        f"{float(area):.1%} of a picture, {outcome.share:.0%} of the votes agree"
    )
