"""`maskedit brush`: learn an instruction from pairs of pictures before and after an edit, and look at what was learned.

Beside OUT.safetensors a folder OUT_learning holds the state of the run, so that the same command goes on with it, the
loss of each segment by step as a table and as curves, and strips before | by the brush | after.
"""

import csv
import io
import json
import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import torch
import tyro

from ..configs import BRUSH_PRESETS, BrushPresetName
from ..editors import (
    BackboneConfig,
    BrushPairs,
    BrushRecipe,
    BrushStart,
    CaptionSearchConfig,
    EditRequest,
    Image,
    InputError,
    InstructBrushConfig,
    Instruction,
    ModelError,
    OptimizeProgress,
    PairFiles,
    PhraseConfig,
    SessionError,
    VisiiConfig,
    WatchConfig,
    find_pairs,
    find_phrases,
    load_brush,
    match_pairs,
    read_json,
    read_pairs,
    require_models,
    save_image,
    side_by_side,
    write_json,
)
from .brush_curves import draw_curves
from .models import load_backbone
from .pictures import check_output, write_text
from .progress import labelled_bar, warn

if TYPE_CHECKING:
    from ..editors import Backbone, Brush, BrushProgress, ClipScorer

T = TypeVar("T", bound="BrushLearnCommand")
_MOST_SHOWN = 4
"""Pairs in a preview, and names in a warning."""
_HINT = "choose another --out"


@dataclass(frozen=True, kw_only=True)
class BrushLearnCommand:
    """Learn an instruction from pairs of pictures; run the same command again to go on after an interruption."""

    pairs: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="PAIRS")] = None
    """Folder of pairs 0_0.png (before) and 0_1.png (after), 1_0.png and 1_1.png, ..., or with a folder `train` of such;
    not with --before and --after."""
    before: Path | None = None
    """Folder of pictures before the edit."""
    after: Path | None = None
    """Folder of pictures after it, of the same names."""
    out: Path = Path("brush.safetensors")
    """File of the brush."""
    name: str | None = None
    """What the brush is called in requests; None = as its file."""
    shots: int | None = None
    """How many pairs to learn from, the first ones, at least 1; None = all."""
    hold_out: int = 0
    """How many of the other pairs, the last ones, are only measured; the best brush by them is kept, and learning stops
    when it gets no better."""
    size: int | None = None
    """Longest side in pixels at which pairs are learned; None = the size the checkpoint was trained on."""
    clip: str | None = None
    """CLIP that looks at the pairs: `embedded`, a folder or a hub id such as openai/clip-vit-large-patch14; None =
    none."""
    start: BrushStart | None = None
    """Where learning starts: `text` = from --init-text, `phrases` = from two of a vocabulary that tell the sides apart,
    `content` = from a caption of the pictures after, the last two by --clip; None = `text` where there is one or no
    CLIP, else `phrases`, or `content` for Visii."""
    phrases: PhraseConfig = field(default_factory=PhraseConfig)
    """How phrases are found."""
    caption: CaptionSearchConfig = field(default_factory=CaptionSearchConfig)
    """How a caption is searched."""
    aligned: bool = True
    """Refuse pairs of which one picture is the other one shifted or mirrored, which is hardly ever the edit."""
    preview: bool = True
    """Make a strip before | by the brush | after at the end of every slice."""
    preset: BrushPresetName | None = None
    """A named checkpoint and recipe to start from; every other flag overrides it."""
    checkpoint: tyro.conf.OmitArgPrefixes[BackboneConfig] = field(default_factory=BackboneConfig)
    """Which checkpoint to learn on, and how to run it."""
    recipe: tyro.conf.OmitArgPrefixes[BrushRecipe] = field(default_factory=BrushRecipe)
    """How it is learned."""
    watch: tyro.conf.OmitArgPrefixes[WatchConfig] = field(default_factory=WatchConfig)
    """How often the run is looked at."""

    @classmethod
    def from_preset(cls: type[T], name: str) -> T:
        """A command whose defaults are a preset's; the plain one where there is no such preset."""
        if name not in BRUSH_PRESETS:
            return cls()
        preset = BRUSH_PRESETS[name]
        return cls(preset=name, **{field.name: getattr(preset, field.name) for field in fields(preset)})

    @property
    def begins_with(self) -> BrushStart:
        """Where learning starts, decided."""
        if self.start is not None:
            return self.start
        if self.recipe.init_text or self.clip is None:
            return "text"
        return "content" if self.recipe.kind == "visii" else "phrases"

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.out.with_name(f"{self.out.stem}_learning")

    def run(self) -> None:
        """Learn and write."""
        files = self._find()
        if self.out.suffix != ".safetensors":
            raise InputError(f"expected a .safetensors file for --out, got {self.out}: change its ending")
        if self.out.is_dir():
            raise InputError(f"expected a file for --out, but {self.out} is a folder: choose another --out")
        check_output(self.out.parent, flag="--out")
        check_output(self.folder, flag="--out")
        self._require_same_run()
        require_models(InstructBrushConfig(), self.checkpoint, "instruct-pix2pix", looks=False, reads=False)
        backbone = load_backbone(self.checkpoint)
        backbone.require("instruct-pix2pix", f"{self.recipe.kind}'s learning")
        clip = None
        if self.clip is not None and (self.begins_with != "text" or self.recipe.direction_weight):
            from ..editors import load_clip

            place = {"model_dir": self.checkpoint.model_dir, "offline": self.checkpoint.offline}
            clip = load_clip(self.clip, device=backbone.device, **place)
        size = self.size or backbone.native_size
        every = read_pairs(files, size=size, multiple=backbone.vae_scale_factor, aligned=self.aligned)
        shots = len(files) - self.hold_out if self.shots is None else self.shots
        learned, held_out = every.part(slice(0, shots)), None
        if self.hold_out:
            held_out = every.part(slice(len(files) - self.hold_out, len(files)))
        if unchanged := learned.require_change():
            warn(
                f"{len(unchanged)} of {len(learned.names)} pairs show no edit, their pictures before and after are the "
                f"same: {', '.join(unchanged[:_MOST_SHOWN])}{', ...' * (len(unchanged) > _MOST_SHOWN)}"
            )
        recipe = self._begin(learned, clip)
        brush = self._learn(backbone, learned, held_out, recipe, clip)
        brush.save(self.out)
        segments = ", ".join(f"{loss:.4f}" for loss in brush.header.losses)
        print(f"loss by segment, from the cleanest to the noisiest: {segments}")
        print(f"brush of step {brush.header.learned_steps}: {self.out}; losses and previews: {self.folder}")
        print(f"apply it: {self._apply_with(brush)}")

    def _apply_with(self, brush: "Brush") -> str:
        """The command that edits by a brush, with the checkpoint and where to find it."""
        place, header = self.checkpoint, brush.header
        words = ["maskedit", "edit", "PICTURE", "--editor", header.kind, "--brush", str(self.out)]
        if header.model != BackboneConfig().model_for("instruct-pix2pix"):
            words += ["--model", header.model]
        words += ["--revision", place.revision] if place.revision else []
        words += ["--model-dir", str(place.model_dir)] if place.model_dir else []
        words += ["--offline"] if place.offline else []
        return shlex.join(words)

    def _require_same_run(self, *, differs: str = "") -> None:
        """Refuse the folder of another run before anything that takes long.

        Args:
            differs: what is known to differ; empty = compare the recipe.

        Raises:
            SessionError: if it is of one.
        """
        path = self.folder / "run.json"
        if not path.is_file():
            return
        if not differs:
            stored = read_json(path, hint=_HINT)["settings"]
            # A text that is yet to be found is compared when it is known.
            wanted = {k: v for k, v in self.recipe.settings().items() if k != "init_text" or self.begins_with == "text"}
            differs = next((key for key, value in wanted.items() if stored.get(key) != value), "")
        if differs:
            raise SessionError(
                f"{self.folder} belongs to a run with other settings ({differs}): {_HINT}, or remove that run if "
                "nobody needs it"
            )

    def _find(self) -> tuple[PairFiles, ...]:
        """The files of the pairs.

        Raises:
            InputError: if it is not clear which, or there are too few.
        """
        if (self.pairs is None) == (self.before is None and self.after is None):
            raise InputError("expected a folder of pairs, or --before FOLDER and --after FOLDER: pass one of the two")
        if self.pairs is not None:
            files = find_pairs(self.pairs)
        elif self.before is None or self.after is None:
            raise InputError("expected --before and --after together, got one of them: pass both folders")
        else:
            files = match_pairs(self.before, self.after)
        if self.begins_with != "text" and self.recipe.init_text:
            raise InputError(
                f"--start {self.begins_with} finds the initial text, and --init-text gives it: pass one of the two"
            )
        if self.begins_with != "text" and self.clip is None:
            raise InputError(f"--start {self.begins_with} looks at the pairs with a CLIP, got none: pass --clip NAME")
        if self.hold_out < 0 or (self.shots is not None and self.shots < 1):
            raise InputError(f"--shots must be at least 1 and --hold-out at least 0, got {self.shots}, {self.hold_out}")
        wanted = (self.shots or 1) + self.hold_out
        if wanted > len(files):
            raise InputError(
                f"expected at least {wanted} pairs for --shots and --hold-out, found {len(files)}: lower one of them"
            )
        return files

    def _begin(self, pairs: BrushPairs, clip: "ClipScorer | None") -> BrushRecipe:
        """Find the initial text, where it is to be found, and tell what is learned from what."""
        recipe, count = self.recipe, len(pairs.names)
        held = f", measured on {self.hold_out} other{'s' * (self.hold_out != 1)}" if self.hold_out else ""
        print(f"learning from {_count(count, 'pair')}{held}, {_count(recipe.steps, 'step')}")
        if clip is not None and self.begins_with != "text":
            recipe = replace(recipe, init_text=self._find_text(pairs, clip))
        if recipe.init_text:
            print(f"initial text: {recipe.init_text!r}")
        else:
            hint = (
                "--init-text gives one, --clip finds one"
                if self.begins_with == "text"
                else "nothing told the sides apart"
            )
            print(f"no initial text ({hint}): learning {recipe.rows} tokens from the empty text")
        return recipe

    def _find_text(self, pairs: BrushPairs, clip: "ClipScorer") -> str:
        """The initial text that CLIP finds, or that it found when the same run began."""
        options = asdict(self.phrases if self.begins_with == "phrases" else self.caption)
        asked = {"start": self.begins_with, "clip": self.clip, "pairs": [*pairs.names], "options": options}
        asked = json.loads(json.dumps(asked, default=str))
        path = self.folder / "start.json"
        if path.is_file():
            stored = read_json(path, hint=_HINT)
            if stored.get("asked") == asked:
                return str(stored["text"])
            self._require_same_run(differs="start")
        if self.begins_with == "content":
            from ..editors import search_caption

            text = search_caption(pairs.after, clip, self.caption)
        else:
            found = find_phrases(pairs.before, pairs.after, clip, self.phrases, known=clip.phrases)
            for side, candidates in (("before", found.before), ("after", found.after)):
                scores = ", ".join(f"{each.phrase} ({each.sensitivity:+.3f})" for each in candidates)
                print(f"closest {side} the edit, and how much they tell it: {scores}")
            text = found.text
        write_json(path, {"asked": asked, "text": text}, hint=_HINT, error=InputError)
        return text

    def _learn(
        self,
        backbone: "Backbone",
        pairs: BrushPairs,
        held_out: BrushPairs | None,
        recipe: BrushRecipe,
        clip: "ClipScorer | None",
    ) -> "Brush":
        from ..editors import learn_brush

        with labelled_bar() as show:

            def report(progress: OptimizeProgress) -> None:
                show("learning", progress.step, progress.steps, f"loss {progress.loss:.4f}")

            def look(progress: "BrushProgress") -> None:
                self._write(progress, backbone, held_out or pairs)

            show("learning", 0, self.recipe.steps)
            try:
                return learn_brush(
                    backbone,
                    pairs,
                    recipe,
                    name=self.name or self.out.stem,
                    folder=self.folder,
                    held_out=held_out,
                    watch=self.watch,
                    clip=clip,
                    report=report,
                    look=look,
                )
            except FloatingPointError as error:
                raise ModelError(f"learning failed: {error}") from error

    def _write(self, progress: "BrushProgress", backbone: "Backbone", shown: BrushPairs) -> None:
        """The losses so far and, if asked for, a preview."""
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["step", *(f"segment {s}" for s in range(progress.curve.shape[1])), "held out"])
        for step, losses in enumerate(progress.curve.tolist(), start=1):
            rows.writerow([step, *(f"{loss:.6f}" for loss in losses), progress.held_out.get(step, "")])
        write_text(self.folder / "losses.csv", table.getvalue())
        write_text(self.folder / "losses.html", draw_curves(progress.curve, progress.held_out))
        held = f", held out {progress.held_out[progress.step]:.4f}" if progress.step in progress.held_out else ""
        lately = float(progress.curve[-self.watch.every :].nanmean())
        print(f"step {progress.step} of {progress.steps}: loss {lately:.4f}{held}", flush=True)
        if self.preview:
            strips = preview_brush(backbone, progress.brush, shown.part(slice(0, _MOST_SHOWN)), size=self.size)
            save_image(strips, self.folder / f"step_{progress.step:05d}.png")


def preview_brush(backbone: "Backbone", brush: "Brush", pairs: BrushPairs, *, size: int | None) -> Image:
    """Strips before | by the brush | after, one below another.

    Args:
        backbone: the checkpoint.
        brush: as it is.
        pairs: what to show.
        size: longest side at which the brush is learned; None = the checkpoint's own.
    """
    from ..editors import InstructBrush, Visii

    if brush.header.kind == "visii":
        editor = Visii(backbone, VisiiConfig(size=size), brush=brush)
    else:
        editor = InstructBrush(backbone, InstructBrushConfig(size=size), brush=brush)
    edited = editor.edit(EditRequest(image=pairs.before, instructions=(Instruction(text=brush.header.name),))).image
    sides = zip(pairs.before.split(1), edited.split(1), pairs.after.split(1), strict=True)
    return torch.cat([side_by_side(panels) for panels in sides], -2)


@dataclass(frozen=True, kw_only=True)
class BrushShowCommand:
    """Tell what made a brush."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The brush."""

    def run(self) -> None:
        """Print what its header says; its tensors are read all the same, so that no damaged file looks well."""
        header = load_brush(self.file).header
        text = repr(header.initial_text) if header.initial_text else "the empty text"
        widths = sorted(set(header.widths.values()))
        print(f"{self.file}: brush {header.name!r} of {header.kind}")
        print(f"learned on: {header.model} ({header.fingerprint})")
        print(f"from: {text}, {_count(header.pairs, 'pair')}, {_count(header.learned_steps, 'step')} of each segment")
        print(
            f"holds: {header.learn}, {_count(header.segments, 'segment')} of {_count(header.rows, 'token')} from row "
            f"{header.first_row}, {_count(len(header.widths), 'layer')} of widths {widths}"
        )
        print(
            f"edits with: {header.sampler}, {_count(header.sampling_steps, 'step')}, guidance "
            f"{header.guidance_scale:g}, image guidance {header.image_guidance_scale:g}"
        )
        print(f"loss by segment: {', '.join(f'{loss:.4f}' for loss in header.losses) or 'none'}")
        print(f"made by: {', '.join(f'{package} {version}' for package, version in header.versions.items())}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


Brushes: TypeAlias = (
    Annotated[BrushLearnCommand, tyro.conf.subcommand("learn")]
    | Annotated[BrushShowCommand, tyro.conf.subcommand("show")]
)


@dataclass(frozen=True, kw_only=True)
class BrushCommand:
    """Learn an instruction from pairs of pictures, or look at one."""

    what: Annotated[tyro.conf.OmitSubcommandPrefixes[Brushes], tyro.conf.arg(name="")]

    def run(self) -> None:
        """Run the one that was chosen."""
        self.what.run()
