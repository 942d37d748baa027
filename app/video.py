"""`maskedit video`: a clip and an instruction in; the edited clip out, by way of a canonical image that is edited once.

`maskedit video fit`, `edit` and `render` are its stages by themselves. All of them go on from the run folder.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..editors import (
    EDITORS,
    BackboneConfig,
    Editor,
    EditorConfig,
    GroundingConfig,
    InputError,
    NothingFoundError,
    ToolModel,
    fingerprint_brush,
    fingerprint_checkpoint,
    fingerprint_mllm,
    fingerprint_tool,
    options_that_count,
    require_tools,
    segmenter_tools,
)
from ..video.editing import Arrange
from ..video.frame_mask import FrameMask
from ..video.stages import VideoRun, saved_config
from .asking import AskCommand
from .flags import build, stand_in
from .options import editor_flags
from .progress import waiting
from .refusals import needed_tools, refuse_what_cannot_run
from .video_files import (
    Format,
    Places,
    check_frame_mask,
    check_layers,
    check_masks,
    find_clip,
    find_run,
    name_of_clip,
    place,
    place_result,
    read_frame_mask,
)
from .video_lines import stage_bar, tell_clip, tell_edit, tell_fit, tell_result
from .video_options import RenderChoice, VideoFlags, join_video_options, override_render

if TYPE_CHECKING:
    import torch

    from ..editors import Grounder

ClipEditorFlags = editor_flags(size="edit_size")
"""Flags of editors beside those of clips, which have a --size of their own."""
GroundingFlags = stand_in(GroundingConfig, "Who finds the phrases of layers.")


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Finds the phrases of layers."""

    config: GroundingConfig
    device: str
    model_dir: Path | None
    offline: bool
    embedded: bool

    @property
    def tools(self) -> tuple[ToolModel, ...]:
        """The models that it consists of."""
        return segmenter_tools(self.config.resolved(embedded=self.embedded))

    def check(self) -> None:
        """Refuse one that could not be loaded.

        Raises:
            ModelError: if one of its models is missing.
        """
        require_tools(self.tools, model_dir=self.model_dir, offline=self.offline)

    def describe(self) -> dict[str, Any]:
        """What decides what it finds."""
        models = [fingerprint_tool(tool, model_dir=self.model_dir) for tool in self.tools]
        return {"grounding": asdict(self.config), "embedded": self.embedded, "models": models}

    def load(self) -> "Grounder":
        """Load it, which only some clips need."""
        from ..editors import load_grounder

        return load_grounder(
            self.config,
            device=_device(self.device),
            model_dir=self.model_dir,
            offline=self.offline,
            embedded=self.embedded,
        )


@dataclass(frozen=True, kw_only=True)
class ClipCommand:
    """A command that takes a clip."""

    clip: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="CLIP")] = None
    """A video, a gif or a folder of pictures, of two frames or more."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of what is made on the way, from which the same command goes on; None = NAME_run beside the result."""
    clip_flags: Annotated[Any, tyro.conf.arg(name="", constructor=VideoFlags)] = field(default_factory=VideoFlags)
    """Options of the clip."""


@dataclass(frozen=True, kw_only=True)
class ClipEditCommand(AskCommand):
    """A command that edits canonical images."""

    mask: Path | None = None
    """Where it may change, painted on one frame of the clip, white = may; None = the editor decides."""
    mask_frame: int | None = None
    """Frame that --mask is painted on, counted from 0 among those taken; None = 0."""
    only_layer: tyro.conf.UseAppendAction[tuple[int, ...]] = ()
    """Layer that may change, 0 = the background, 1 = the first of --layers. Repeat it for more; none given = all."""
    arrange: Arrange = "sheet"
    """Several canonical images are edited in one `sheet`, so that they change alike, or each alone as a `batch`."""
    seed: int = 0
    """Seed of the edit."""
    accept_quality: bool = False
    """Edit even a clip that comes back worse than --minimum-psnr."""
    flags: Annotated[Any, tyro.conf.arg(name="", constructor=ClipEditorFlags)] = field(default_factory=ClipEditorFlags)
    """Options of the editors."""

    @property
    def has_masks(self) -> bool:
        """Whether a mask was given that says where to edit."""
        return self.mask is not None

    def check(self) -> FrameMask | None:
        """Refuse what cannot work before anything is computed; gives the painted mask.

        Raises:
            MaskeditError: about the first thing that is wrong.
        """
        self.instructions()
        self.captions()
        painted = read_frame_mask(self.mask, self.mask_frame)
        refuse_what_cannot_run(self, self.options, has_masks=self.has_masks)
        return painted

    def edit_run(self, run: VideoRun, painted: FrameMask | None) -> None:
        """Edit the canonical images of a fitted clip.

        Raises:
            InputError: if nothing is found in them, or the mask fits no frame.
        """
        options, kind = self.options, EDITORS[self.editor].kind
        if painted is not None:
            check_frame_mask(painted, run.files.clip)
        settings = {
            "editor": self.editor,
            "options": options_that_count(options),
            "model": self.checkpoint.model_for(kind),
            "checkpoint": fingerprint_checkpoint(self.checkpoint, kind),
            "dtype": _dtype(self.checkpoint),
            "tools": {
                tool.role: fingerprint_tool(tool, model_dir=self.checkpoint.model_dir)
                for tool in needed_tools(self, options, has_masks=self.has_masks)
            },
        }
        if hasattr(options, "brush"):
            settings["brush"] = fingerprint_brush(getattr(options, "brush", None))
        if kind == "smartedit":
            settings["mllm"] = fingerprint_mllm(self.checkpoint)
        with ExitStack() as stack:

            def load() -> Editor:
                editor, _ = self.load(options)
                stack.enter_context(waiting("editing the canonical image"))
                return editor

            try:
                summary = run.edit(
                    load,
                    self.instructions(),
                    settings,
                    seed=self.seed,
                    captions=self.captions(),
                    mask=painted,
                    arrange=self.arrange,
                    only_layers=self.only_layer or None,
                )
            except NothingFoundError as error:
                raise InputError(f"{error} (searched: {run.folder / 'canonical'}/*.png)") from error
        tell_edit(summary)


@dataclass(frozen=True, kw_only=True)
class VideoCommand(ClipEditCommand, ClipCommand):
    """Edit a clip by instruction: fit a canonical image to it, edit that once, and carry the edit into every frame.

    `maskedit video fit CLIP`, `edit RUN` and `render RUN` do this in stages; a clip of such a name is given as ./fit.
    """

    output: Path = Path("outputs")
    """The edited clip, if it ends in .mp4 or .gif; else a folder for NAME_edited.mp4."""
    format: Format = "mp4"
    """What is written into a folder: `mp4`, `gif`, or `png` = a folder of pictures."""
    dry_run: bool = False
    """Only show where the edit would act, in a canonical image that is fitted roughly, and say how long all would
    take."""

    @property
    def options(self) -> EditorConfig:
        """The options of the chosen editor; those of grounding may also be for layers alone."""
        if self.clip_flags.layers.phrases and not self._looks_for_phrases:
            plain = replace(self, flags=replace(self.flags, grounding=ClipEditorFlags().grounding))
            return super(VideoCommand, plain).options
        return super().options

    def run(self) -> None:
        """Do everything."""
        clip = find_clip(self.clip, 'maskedit video CLIP --instruction "make the red cube blue"')
        painted, config = self.check(), join_video_options(self.clip_flags, accept_quality=self.accept_quality)
        check_layers(self.only_layer, config)
        places = place(clip, output=self.output, run=self.run_folder, kind=self.format)
        offline = self.checkpoint.offline
        run = VideoRun(places.run, config, device=_device(self.checkpoint.device), offline=offline)
        segmenter = Segmenter(
            config=_grounding(self.flags.grounding),
            device=self.checkpoint.device,
            model_dir=self.checkpoint.model_dir,
            offline=offline,
            embedded=self.checkpoint.model_for(EDITORS[self.editor].kind) == "embedded",
        )
        prepare_run(run, clip, segmenter)
        if painted is not None:
            check_frame_mask(painted, run.files.clip)
        if self.dry_run:
            self._preview(run, clip, places, painted)
            return
        fit_run(run)
        self.edit_run(run, painted)
        render_run(run, clip, places.result)

    def _preview(self, run: VideoRun, clip: Path, places: Places, painted: FrameMask | None) -> None:
        from .video_preview import preview_edit

        editor, _ = self.load(self.options, edits=False)
        with waiting("fitting roughly"):
            found = preview_edit(
                run,
                editor,
                self.instructions(),
                captions=self.captions(),
                seed=self.seed,
                mask=painted,
                has_mask=EDITORS[self.editor].has_mask or any(each.phrases for each in self.instructions()),
                only_layers=self.only_layer or None,
                arrange=self.arrange,
            )
        folder, name = places.result.parent, name_of_clip(clip)
        found.write(folder, name)
        print(found.describe(folder, name))


@dataclass(frozen=True, kw_only=True)
class FitCommand(ClipCommand):
    """Fit a canonical image and its motion to a clip; the first stage of `maskedit video`, and the long one."""

    output: Path = Path("outputs")
    """Folder for the run folder, where --run names none."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    model_dir: Path | None = None
    """Folder with local copies of segmenters, looked up as MODEL_DIR/owner/name and MODEL_DIR/name before the hub."""
    offline: bool = False
    """Never ask the hub; use local folders and its cache only."""
    grounding: Annotated[Any, tyro.conf.arg(constructor=GroundingFlags)] = field(default_factory=GroundingFlags)
    """Who finds the phrases of --layers.phrases."""

    def run(self) -> None:
        """Prepare and fit."""
        clip = find_clip(self.clip, "maskedit video fit CLIP")
        places = place(clip, output=self.output, run=self.run_folder, kind="png")
        config = join_video_options(self.clip_flags)
        run = VideoRun(places.run, config, device=_device(self.device), offline=self.offline)
        segmenter = Segmenter(
            config=_grounding(self.grounding),
            device=self.device,
            model_dir=self.model_dir,
            offline=self.offline,
            embedded=False,
        )
        prepare_run(run, clip, segmenter)
        fit_run(run)
        print(f"canonical images: {run.folder / 'canonical'}")
        print(f'next: maskedit video edit {run.folder} --instruction "..."')


@dataclass(frozen=True, kw_only=True)
class EditRunCommand(ClipEditCommand):
    """Edit the canonical images of a clip that is fitted; the second stage of `maskedit video`."""

    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """The run folder of `maskedit video fit`."""

    def run(self) -> None:
        """Edit."""
        folder = find_run(self.folder, "maskedit video edit RUN --instruction TEXT")
        painted = self.check()
        config = replace(saved_config(folder), accept_quality=self.accept_quality)
        check_layers(self.only_layer, config)
        self.edit_run(VideoRun(folder, config, device=_device(self.checkpoint.device)), painted)
        print(f"next: maskedit video render {folder}")


@dataclass(frozen=True, kw_only=True)
class RenderCommand:
    """Carry an edit of the canonical images into every frame; the last stage of `maskedit video`."""

    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """The run folder of `maskedit video edit`."""
    output: Path | None = None
    """The edited clip, if it ends in .mp4 or .gif; else a folder for NAME_edited.mp4. None = beside the run folder."""
    format: Format = "mp4"
    """What is written into a folder: `mp4`, `gif`, or `png` = a folder of pictures."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    render: Annotated[Any, tyro.conf.arg(constructor=RenderChoice)] = field(default_factory=RenderChoice)
    """How the edited clip is made."""

    def run(self) -> None:
        """Render."""
        folder = find_run(self.folder, "maskedit video render RUN")
        saved = saved_config(folder)
        config = replace(saved, render=override_render(saved.render, self.render))
        run = VideoRun(folder, config, device=_device(self.device))
        clip = Path(run.files.folder.value("source")["path"])
        output = self.output or folder.resolve().parent
        render_run(run, clip, place_result(name_of_clip(clip), output, self.format))


def prepare_run(run: VideoRun, clip: Path, segmenter: Segmenter) -> None:
    """Store working frames, motion and layers, and say what is worked on."""
    about, layers = None, run.config.layers
    check_masks(layers.masks)
    if layers.phrases:
        segmenter.check()
        about = segmenter.describe()
    with stage_bar() as report:
        stored = run.prepare(clip, grounder=segmenter.load, about_grounder=about, report=report)
    tell_clip(clip, stored)


def fit_run(run: VideoRun) -> None:
    """Fit a prepared clip, and say how well."""
    with stage_bar() as report:
        summary = run.fit(report)
    tell_fit(summary)


def render_run(run: VideoRun, clip: Path, result: Path) -> None:
    """Write the edited clip, and say what came out."""
    with stage_bar() as report:
        summary = run.render(result, report)
    tell_result(clip, summary)


def _grounding(flags: Any) -> GroundingConfig:
    values = {name: (value, ("grounding", name)) for name, value in vars(flags).items()}
    return build(GroundingConfig, values)


def _device(name: str) -> "torch.device":
    # The module brings diffusers, which a call for help should not wait for.
    from ..editors import resolve_device

    return resolve_device(name, "auto")[0]


def _dtype(checkpoint: BackboneConfig) -> str:
    from ..editors import resolve_device

    return str(resolve_device(checkpoint.device, checkpoint.dtype)[1]).removeprefix("torch.")
