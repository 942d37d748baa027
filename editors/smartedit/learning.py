"""Training SmartEdit, stage by stage, in slices that resume (arXiv 2312.06739, sections 4.3 and 5.1).

The loop is that of `core/optimize.py`. Its state lies in the run's folder, beside a log of one JSON object per line, a
list of the samples that could not be read, and the checkpoint; a run that is killed goes on from its last state and
ends the same, alone or in a team of as many.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..core.backbone import Backbone
from ..core.checkpoint import CheckpointPreset
from ..core.devices import PeakMemory
from ..core.errors import ModelError
from ..core.files import one_line_on_failure, write_atomic
from ..core.loading import quiet_loading
from ..core.optimize import OptimizeConfig, OptimizeProgress, optimize
from .batches import Drawing, StepReader
from .draws import first_sample
from .files import save_smartedit
from .losses import SmartEditLoss
from .model import SmartEditModel
from .recipe import SmartEditRecipe, SmartEditRun, SmartEditStage
from .team import LearningTeam

CHECKPOINT_FOLDER, LOG_FILE, STATE_FILE = "checkpoint", "log.jsonl", "state.safetensors"
SKIPPED_FILE = "skipped.txt"
_HINT = "free some space or choose another folder, then run the same command again; it goes on from the last state"


@dataclass(frozen=True, kw_only=True)
class SmartEditProgress:
    """One line of the log."""

    step: int
    steps: int
    loss: float
    """Mean since the last line, as are the next two."""
    talk: float
    """Cross-entropy of the language model's words."""
    diffusion: float
    """Diffusion loss, with zeros for talks; in stage 1 the distance to the text encoder."""
    seconds: float
    """Since this process began."""
    samples_per_second: float
    """Of all processes, since the last line."""
    memory: int | None
    """Peak in bytes since the last line; None where the system does not tell."""


def learn_smartedit(
    model: SmartEditModel,
    backbone: Backbone,
    mixture: Drawing,
    recipe: SmartEditRecipe,
    *,
    stage: SmartEditStage,
    folder: Path,
    base: str,
    preset: CheckpointPreset | None = None,
    run: SmartEditRun | None = None,
    team: LearningTeam | None = None,
    identity: str = "",
    max_seconds: float = math.inf,
    report: Callable[[SmartEditProgress], None] | None = None,
) -> int:
    """Train one stage for a slice; its weights change in place.

    Args:
        model: all before the UNet.
        backbone: the UNet, in float32, and what the checkpoint builds on.
        mixture: has the samples; pictures without size in common are squashed to the recipe's.
        recipe: what is trained, and how.
        stage: 1 on captions, 2a and 2b on edits and talks.
        folder: of the run, for state, log and checkpoint; a run that is resumed is given the same.
        base: checkpoint that has what this one lacks: a folder relative to FOLDER/checkpoint, or a hub id.
        preset: settings of the checkpoint; None = those of the backbone.
        run: how often things are written, and what saves memory.
        team: processes that train together; all must see the same folder. None = this one alone.
        identity: of everything else that decides the result, such as data and starting weights; the state of a run
            with another one is refused.
        max_seconds: stop (and save) after this long; call again to go on.
        report: told what is written to the log.

    Returns:
        The number of steps taken in all: the recipe's when it is finished.

    Raises:
        ModelError: if the checkpoint does not fit, or is not in float32.
        InputError: if the processes cannot share a batch evenly.
        SessionError: if the folder belongs to another run, or cannot be written.
        FloatingPointError: if the loss is not finite.
    """
    if backbone.dtype != torch.float32:
        raise ModelError(f"expected a UNet in float32 to train, got {backbone.dtype}: load it with that dtype")
    settings = run or SmartEditRun()
    with _learning(model, backbone, stage, recipe, settings) as parameters:
        learning = _Learning(
            model, backbone, mixture, recipe, stage, parameters, folder, settings, team, _mark(recipe, stage, identity)
        )
        return learning.go(base, preset or backbone.preset, max_seconds, report)


@dataclass(frozen=True, kw_only=True)
class _Slice(OptimizeConfig):
    """Some of the steps of a longer run, at its rates."""

    whole: OptimizeConfig = field(default_factory=lambda: OptimizeConfig(steps=1))

    def learning_rate_at(self, step: int) -> float:
        return self.whole.learning_rate_at(step)


class _Learning:
    """One run in one process."""

    def __init__(
        self,
        model: SmartEditModel,
        backbone: Backbone,
        mixture: Drawing,
        recipe: SmartEditRecipe,
        stage: SmartEditStage,
        parameters: dict[str, nn.Parameter],
        folder: Path,
        run: SmartEditRun,
        team: LearningTeam | None,
        identity: str,
    ) -> None:
        self.model, self.backbone, self.recipe, self.parameters = model, backbone, recipe, parameters
        self.folder, self.run, self.team, self.identity = folder, run, team, identity
        reader = StepReader(
            mixture,
            batch=recipe.batch,
            size=recipe.size,
            steps=recipe.steps,
            first=first_sample(stage),
            index=0 if team is None else team.index,
            count=1 if team is None else team.count,
            workers=run.workers,
            skipped=_Skipped(folder / SKIPPED_FILE),
        )
        self.loss = SmartEditLoss(
            model, backbone, recipe, reader, stage=stage, parameters=list(parameters.values()), team=team
        )

    def go(
        self,
        base: str,
        preset: CheckpointPreset,
        max_seconds: float,
        report: Callable[[SmartEditProgress], None] | None,
    ) -> int:
        """Learn until the last step, or until the time is over."""
        state, start = self.folder / STATE_FILE, time.monotonic()
        step = _steps_of(state)
        watch = _Watch(self.loss, self.recipe, self.folder / LOG_FILE, self.model.device, step, report)
        if self.team is not None:
            # A fresh LoRA or QFormer is random, and must be the same for all; so are the waves of the interaction.
            parts = (self.model.qformer, self.model.interaction)
            self.team.share([*self.parameters.values(), *(each for part in parts for each in part.buffers())])
        every = self.run.export_every or self.recipe.steps
        average: Mapping[str, Tensor] = {}
        # What looks at the memory must end with the run, however that ends.
        with closing(watch):
            while True:
                target = min(self.recipe.steps, (step // every + 1) * every)
                step, average = optimize(
                    self.parameters,
                    self.loss,
                    _Slice(**asdict(self.recipe.optimize) | {"steps": target}, whole=self.recipe.optimize),
                    state_path=state,
                    identity=self.identity,
                    save_every=self.run.save_every,
                    max_seconds=max_seconds - (time.monotonic() - start),
                    report=watch,
                    report_every=self.run.report_every,
                    team=self.team,
                )
                is_over = step < target or step >= self.recipe.steps
                if step % every == 0 or step >= self.recipe.steps:
                    self._export(average, base, preset)
                if is_over:
                    break
        if self._averages:
            _fill(self.parameters, average)
        return step

    @property
    def _averages(self) -> bool:
        return self.recipe.ema_decay > 0

    @property
    def _is_first(self) -> bool:
        return self.team is None or self.team.is_first

    def _export(self, average: Mapping[str, Float[Tensor, "..."]], base: str, preset: CheckpointPreset) -> None:
        """Write the checkpoint with averaged weights; the first process does."""
        if self._is_first:
            now = {name: value.detach().clone() for name, value in self.parameters.items()} if self._averages else {}
            _fill(self.parameters, average if self._averages else {})
            learned = any(name.startswith("unet.") for name in self.parameters)
            save_smartedit(
                self.model,
                self.backbone.unet,
                self.folder / CHECKPOINT_FOLDER,
                base=base,
                preset=preset,
                size=self.recipe.size // self.backbone.vae_scale_factor if learned else None,
            )
            _fill(self.parameters, now)
        if self.team is not None:
            self.team.wait()


class _Watch:
    """Writes the log and tells the caller."""

    def __init__(
        self,
        loss: SmartEditLoss,
        recipe: SmartEditRecipe,
        path: Path,
        device: torch.device,
        step: int,
        report: Callable[[SmartEditProgress], None] | None,
    ) -> None:
        self._loss, self._recipe, self._path, self._device, self._report = loss, recipe, path, device, report
        self._start = self._last = time.monotonic()
        self._step, self._memory = step, PeakMemory(device)
        self._is_trimmed = False

    def __call__(self, progress: OptimizeProgress) -> None:
        """Add a line for the steps since the last one."""
        if not self._is_trimmed:
            # Not before: a state of another run is refused, and its log stays what it was.
            self._forget_after(self._step)
            self._is_trimmed = True
        now, parts = time.monotonic(), self._loss.take_parts()
        samples = (progress.step - self._step) * self._recipe.batch
        line = SmartEditProgress(
            step=progress.step,
            steps=self._recipe.steps,
            loss=progress.loss,
            talk=parts.talk,
            diffusion=parts.diffusion,
            seconds=now - self._start,
            samples_per_second=samples / max(now - self._last, 1e-9),
            memory=self._memory.stop(),
        )
        self._step, self._last, self._memory = progress.step, now, PeakMemory(self._device)
        with one_line_on_failure(self._path, hint=_HINT), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
        if self._report is not None:
            self._report(line)

    def _forget_after(self, step: int) -> None:
        """Leave out what a run that was killed wrote of steps that will be taken again, and what is no whole line."""
        content = self._path.read_text(encoding="utf-8", errors="replace") if self._path.is_file() else ""
        kept = "".join(line for line in content.splitlines(True) if line.endswith("\n") and _step_of(line) <= step)
        write_atomic(self._path, lambda file: file.write(kept.encode()), hint=_HINT)

    def close(self) -> None:
        """Look at the memory no longer."""
        self._memory.stop()


class _Skipped:
    """Names what could not be read, each sample once; every process of a team adds to the same file."""

    def __init__(self, path: Path) -> None:
        self._path, self._known = path, set[str]()

    def __call__(self, reason: str) -> None:
        """Add a line, unless it is there."""
        line = " ".join(reason.split())
        if line in self._known:
            return
        self._known.add(line)
        with one_line_on_failure(self._path, hint=_HINT):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            known = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
            if line not in known:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def _step_of(line: str) -> float:
    """The step that a line of the log is about; none where the line is broken."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _steps_of(state: Path) -> int:
    """How many steps a state has taken; 0 where there is none, or one that `optimize` will refuse."""
    if not state.is_file():
        return 0
    try:
        with safe_open(state, framework="pt") as file:
            return int((file.metadata() or {})["step"].partition(" ")[0])
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0


def _mark(recipe: SmartEditRecipe, stage: SmartEditStage, identity: str) -> str:
    """What tells a run from others of the same tensors; a run at a constant rate may be made longer."""
    settings = asdict(recipe)
    # Whoever runs out of memory may go on with fewer at once.
    settings.pop("micro_batch")
    if recipe.schedule == "constant" and not recipe.warmup_share:
        settings.pop("steps")
    content = json.dumps([settings, stage, identity], sort_keys=True)
    return hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def _learning(
    model: SmartEditModel, backbone: Backbone, stage: SmartEditStage, recipe: SmartEditRecipe, run: SmartEditRun
) -> Generator[dict[str, nn.Parameter]]:
    """Let learn what the stage trains, by name, and freeze everything again on leaving."""
    unet, language = backbone.unet, model.mllm.language
    own = dict(model.trainable(stage))
    # The loop computes where the first of them is; the language model may be on another device.
    parameters = {name: own[name] for name in sorted(own, key=lambda name: name.startswith("mllm."))}
    try:
        if stage != "1":
            unet.requires_grad_(True)
            parameters |= {f"unet.{name}": each for name, each in unet.named_parameters()}
        if run.checkpointing:
            model.mllm.save_memory()
            unet.enable_gradient_checkpointing()
        for part in (model.qformer, model.interaction, language):
            part.train()
        # LoRA that is not trained is not disturbed either.
        for part, drops in ((model.qformer, recipe.dropout), (language, recipe.dropout and stage != "1")):
            for each in part.modules():
                if isinstance(each, nn.Dropout) and not drops:
                    each.eval()
        yield parameters
    finally:
        if run.checkpointing:
            # Newer versions of transformers call it otherwise; older ones know this name alone.
            with quiet_loading():
                language.gradient_checkpointing_disable()
            unet.disable_gradient_checkpointing()
        for each in parameters.values():
            each.grad = None
        model.requires_grad_(False).eval()
        unet.requires_grad_(False)


@torch.no_grad()
def _fill(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)
