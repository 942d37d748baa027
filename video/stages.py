"""The edit of a clip in stages that resume: prepare, fit, edit, render.

Source: CoDeF (arXiv 2308.07926). What a stage made lies in the run folder (`run.py`); it is made again when something
that decides it has changed, and everything that follows from it too.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..editors import Captions, Editor, Grounder, InputError, Instruction, SessionError
from .edit_run import EditOrder, EditSummary, edit_run
from .editing import Arrange
from .fitting import FitSummary, check_quality, fit_segments, forget_outdated, summarize_fit
from .frame_mask import FrameMask
from .options import VideoConfig, options_to_record, record_to_options
from .preparing import Report, Stage, prepare_flow, prepare_frames, prepare_masks, prepare_segments
from .rendering import RenderSummary, find_rendered, lost_sound, render_clip, render_mark
from .run import RunFolder, describe_source
from .run_files import RunFiles
from .stored import StoredClip


def saved_config(folder: Path) -> VideoConfig:
    """The settings that a run was prepared with.

    Raises:
        SessionError: if there is no such run.
    """
    return record_to_options(VideoConfig, RunFolder(folder).value("config"))


class VideoRun:
    """A clip on its way from the source to the result."""

    def __init__(
        self,
        folder: Path,
        config: VideoConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        offline: bool = False,
    ) -> None:
        """A new run, or one that goes on.

        Args:
            folder: the run's.
            config: settings; None = those that it was prepared with.
            device: where fields are fitted and rendered.
            offline: never fetch weights of the flow's network.

        Raises:
            SessionError: if the folder is damaged, or holds no run and there is no config.
            InputError: if it holds something else.
        """
        self.folder = folder
        self.files = RunFiles(RunFolder(folder), config or saved_config(folder), device, offline=offline)
        self.reused: list[Stage] = []
        """Stages that were asked for and found finished."""

    @property
    def config(self) -> VideoConfig:
        """The settings."""
        return self.files.config

    def prepare(
        self,
        source: Path,
        *,
        grounder: Callable[[], Grounder] | None = None,
        about_grounder: object = None,
        report: Report | None = None,
    ) -> StoredClip:
        """Store working frames, motion and layer masks.

        Args:
            source: a video, a gif or a folder of pictures.
            grounder: loads a segmenter, for layers by phrase.
            about_grounder: what decides what it finds, such as its settings.
            report: told how it goes.

        Raises:
            InputError: if the clip cannot be read, or the run is one of another clip.
            SessionError: if another process works in the folder, or it cannot be written.
            NothingFoundError: if a phrase of the layers is found nowhere.
        """
        # A folder for a clip that cannot be read would only be in the way.
        describe_source(source)
        files = self.files
        with files.folder.lock():
            self._note("frames", prepare_frames(files, source, report))
            files.folder.store(config=options_to_record(files.config))
            prepare_segments(files)
            self._note("flow", prepare_flow(files, report))
            self._note("masks", prepare_masks(files, grounder, about_grounder, report))
            forget_outdated(files)
            # Flow that was given is held for the whole clip.
            files.forget()
        return files.clip

    def fit(self, report: Report | None = None) -> FitSummary:
        """Fit every segment, or go on with it; the clip is prepared.

        Raises:
            SessionError: if it is not, or another process works in the folder.
        """
        with self.files.folder.lock():
            if self.files.folder.mark_of("masks") is None:
                raise SessionError(f"the clip of {self.folder} is not prepared: run `maskedit video fit` on it first")
            summary = fit_segments(self.files, report)
        self._note("fit", summary.was_reused)
        return summary

    def fit_summary(self) -> FitSummary:
        """What is known of a finished fit.

        Raises:
            SessionError: if the clip is not fitted.
        """
        return summarize_fit(self.files, was_reused=True)

    def check_quality(self) -> None:
        """Refuse to edit what the fields give back badly; `edit` begins with it.

        Raises:
            QualityError: if the mean fidelity is below the configured one, unless any is accepted.
            SessionError: if the clip is not fitted.
        """
        check_quality(self.files)

    def edit(
        self,
        editor: Callable[[], Editor],
        instructions: Sequence[Instruction],
        settings: Mapping[str, Any],
        *,
        seed: int = 0,
        captions: Sequence[Captions] = (),
        mask: FrameMask | None = None,
        arrange: Arrange = "sheet",
        only_layers: Sequence[int] | None = None,
        report: Report | None = None,
    ) -> EditSummary:
        """Edit the canonical images.

        Args:
            editor: loads the editor, when it is needed.
            instructions: what to do.
            settings: what else decides the edit: editor, options, checkpoint. A change makes a new edit.
            seed: of the edit's noise.
            captions: before and after, for editors that read them.
            mask: where anything may change, painted on one frame; None = the editor decides.
            arrange: all canonical images in one picture, or each alone.
            only_layers: layers that may change, 0 = the background; None = all.
            report: told how it goes.

        Raises:
            SessionError: if the clip is not fitted.
            QualityError: if the fit is too bad.
            NothingFoundError: if the editor finds nothing to edit.
            InputError: if the mask or the layers do not fit the clip.
        """
        order = EditOrder(
            instructions=tuple(instructions),
            settings=settings,
            seed=seed,
            captions=tuple(captions),
            mask=mask,
            arrange=arrange,
            only_layers=None if only_layers is None else tuple(only_layers),
        )
        with self.files.folder.lock():
            check_quality(self.files)
            summary = edit_run(self.files, editor, order, report)
        self._note("edit", summary.was_reused)
        return summary

    def render(self, output: Path | None = None, report: Report | None = None) -> RenderSummary:
        """Write the edited clip, unless it is there.

        Args:
            output: ends in .mp4 or .gif, or is a folder of pictures; None = NAME_edited.mp4 in the run folder.
            report: told about frames done.

        Raises:
            SessionError: if nothing is edited yet.
            InputError: if the source has gone or changed, or the output cannot be written.
        """
        files, folder = self.files, self.files.folder
        with folder.lock():
            # An edit of fields that were fitted anew since lies elsewhere in them.
            if folder.mark_of("edit") is None or not folder.holds("edited_fit", folder.mark_of("fit")):
                raise SessionError(
                    f"nothing is edited in {self.folder} yet: run `maskedit video edit {self.folder}` first"
                )
            source = Path(folder.value("source")["path"])
            output = output or self.folder / f"{source.stem}_edited.mp4"
            if output.resolve() == source:
                raise InputError(f"the result would replace the clip {source}: choose another --output")
            known = find_rendered(files, output)
            if known is not None:
                self._note("render", True)
                return known
            folder.begin("render")
            mark = render_mark(files, output, with_sound=lost_sound(files) is None)
            summary = render_clip(files, output, report)
            folder.store(output=describe_source(output))
            folder.finish("render", mark)
        return summary

    def _note(self, stage: Stage, was_reused: bool) -> None:
        if was_reused:
            self.reused.append(stage)
