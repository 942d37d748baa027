"""The one loop that learns tensors by gradient descent, in slices that resume exactly.

Everything random inside the loss must come from the generator it is handed: it is reseeded from (seed, step), so that
a run cut anywhere and resumed from its state file takes the same steps as an unbroken one.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .errors import ModelError, SessionError
from .files import write_tensors


@runtime_checkable
class LossFn(Protocol):
    """Computes the scalar loss of one step."""

    def __call__(self, step: int, generator: torch.Generator) -> Tensor | Iterable[Tensor]:
        """Loss of a step, or terms that add up to it; everything random in it comes from the generator.

        Terms are asked for one after another, and each is done with before the next one is computed, so that a batch
        may be larger than what memory holds at once.
        """
        ...


@runtime_checkable
class Team(Protocol):
    """Processes that learn the same tensors together, each from its own part of the samples of every step."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes the state and reports."""
        ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor."""
        ...

    def wait(self) -> None:
        """Until all processes are here."""
        ...


@dataclass(frozen=True, kw_only=True)
class OptimizeConfig:
    """How tensors are learned (AdamW, linear warm-up, cosine decay, an exponential moving average)."""

    steps: int
    """Total number of gradient steps."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    final_share: float = 0.05
    """Learning rate of the last step as a share of the peak, in [0, 1]."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, in [0, 1); 0 = there is none, the last weights are kept."""
    seed: int = 0
    """Seed of every random draw of the loss."""

    def __post_init__(self) -> None:
        for name, low, high in (("final_share", 0.0, 1.0), ("ema_decay", 0.0, 0.999999)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        share = self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * warm * share


@dataclass(frozen=True, kw_only=True)
class OptimizeProgress:
    """Where an optimisation stands."""

    step: int
    """Steps taken so far."""
    steps: int
    loss: float
    """Mean loss since the last report."""
    seconds: float
    """Seconds spent in this slice."""


def optimize(
    parameters: Mapping[str, Tensor],
    loss_fn: LossFn,
    config: OptimizeConfig,
    *,
    state_path: Path | None = None,
    identity: str = "",
    save_every: int = 500,
    max_seconds: float = math.inf,
    report: Callable[[OptimizeProgress], None] | None = None,
    report_every: int = 50,
    team: Team | None = None,
) -> tuple[int, dict[str, Tensor]]:
    """Minimise a loss over tensors, in place.

    Args:
        parameters: leaf tensors to learn, by name; changed in place.
        loss_fn: the loss of one step.
        config: rates, averages and the seed.
        state_path: safetensors file to resume from and to save to; None = not resumable.
        identity: of everything else that decides the result; a state of another one is refused.
        save_every: steps between saves.
        max_seconds: stop (and save) after this long; call again to go on.
        report: called every `report_every` steps and at the end.
        report_every: steps between reports.
        team: processes that take the same steps together: the loss of a step is the mean of theirs; None = this one
            alone. All of them must see the same state file; the first one writes it.

    Returns:
        The number of steps taken in all (`config.steps` when finished) and the averaged tensors by name; without an
        average, the parameters themselves, in the same memory.

    Raises:
        SessionError: if the state file belongs to other tensors, or to another run.
        FloatingPointError: if the loss is not finite; nothing of it is saved.
    """
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    keeps_average = config.ema_decay > 0
    average = {name: value.detach().clone() if keeps_average else value.detach() for name, value in parameters.items()}
    step, saved = 0, -1
    if state_path is not None and state_path.exists():
        step = saved = _load_state(state_path, identity, parameters, average, optimizer, keeps_average=keeps_average)
    device = next(iter(parameters.values())).device
    generator = torch.Generator(device)
    start, total, counted = time.monotonic(), torch.zeros((), device=device), 0
    writes = team is None or team.is_first
    while step < config.steps and not _is_over(start, max_seconds, device, team):
        generator.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss = _descend(loss_fn(step, generator), parameters, team)
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), config.max_grad_norm, error_if_nonfinite=False)
        optimizer.step()
        step += 1
        if keeps_average:
            decay = min(config.ema_decay, step / (step + 10))
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage]
                list(average.values()), [p.detach() for p in parameters.values()], 1 - decay
            )
        total, counted = total + loss, counted + 1
        if step % report_every == 0 or step == config.steps:
            mean = _finite_mean(total, counted, step)
            if report is not None and writes:
                seconds = time.monotonic() - start
                report(OptimizeProgress(step=step, steps=config.steps, loss=mean, seconds=seconds))
            total, counted = torch.zeros((), device=device), 0
        if state_path is not None and step % save_every == 0:
            _finite_mean(total, counted, step)
            if writes:
                _save_state(state_path, step, identity, parameters, average if keeps_average else {}, optimizer)
            saved = step
    if state_path is not None and saved != step:
        _finite_mean(total, counted, step)
        if writes:
            _save_state(state_path, step, identity, parameters, average if keeps_average else {}, optimizer)
    if team is not None:
        team.wait()
    return step, average


def _is_over(start: float, max_seconds: float, device: torch.device, team: Team | None) -> bool:
    """Whether the time of this slice is up; for all of a team as soon as it is for one."""
    over = time.monotonic() - start >= max_seconds
    if team is None or math.isinf(max_seconds):
        return over
    share = torch.tensor(float(over), device=device)
    team.average([share])
    return share.item() > 0


def _descend(loss: Tensor | Iterable[Tensor], parameters: Mapping[str, Tensor], team: Team | None) -> Tensor:
    """Gradients of a step's loss, term by term, and its value; with a team, the means over its processes."""
    total: Tensor | None = None
    for term in [loss] if isinstance(loss, Tensor) else loss:
        term.backward()
        total = term.detach() if total is None else total + term.detach()
    if total is None:
        raise ModelError("expected a loss of at least one term, got none")
    if team is not None:
        # A tensor that this process did not use still has the others' gradient.
        for value in parameters.values():
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        team.average([total, *(value.grad for value in parameters.values() if value.grad is not None)])
    return total


def _finite_mean(total: Tensor, counted: int, step: int) -> float:
    """Mean loss; checked before every save too, so that a state file never holds the ruins of a diverged run."""
    mean = (total / max(1, counted)).item()
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss is {mean} at step {step}: lower the learning rate")
    return mean


def _save_state(
    path: Path,
    step: int,
    identity: str,
    parameters: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"average.{name}": value for name, value in average.items()}
    for name, value in parameters.items():
        tensors[f"value.{name}"] = value.detach()
        for key, moment in optimizer.state.get(value, {}).items():
            tensors[f"{key}.{name}"] = moment
    hint = "free some space, then run the same command again; it goes on from the last state that was written"
    # One entry, so that equal states are equal files.
    write_tensors(path, tensors, hint=hint, metadata={"step": f"{step} {identity}".strip()})


def _load_state(
    path: Path,
    identity: str,
    parameters: Mapping[str, Tensor],
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    keeps_average: bool,
) -> int:
    try:
        stored = load_file(path)
        with safe_open(path, framework="pt") as file:
            count, _, stored_identity = file.metadata()["step"].partition(" ")
            step = int(count)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise SessionError(f"{path} is no state of an optimisation ({error}): remove it to begin anew") from error
    # Where no average is kept, that of a state that was written when there always was one is not needed.
    kinds = ("value", "average") if keeps_average else ("value",)
    shapes = {f"{kind}.{name}": p.shape for name, p in parameters.items() for kind in kinds}
    own = {key: value.shape for key, value in stored.items() if key.startswith(tuple(f"{kind}." for kind in kinds))}
    if own != shapes:
        raise SessionError(
            f"{path} belongs to other tensors than the {len(parameters)} to learn: remove it to begin anew"
        )
    if stored_identity != identity:
        raise SessionError(f"{path} belongs to another run of the same size: remove it to begin anew")
    for name, value in parameters.items():
        with torch.no_grad():
            value.copy_(stored[f"value.{name}"])
        if keeps_average:
            average[name].copy_(stored[f"average.{name}"])
        moments = {
            key: stored[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in stored
        }
        if moments:
            # AdamW keeps its count of steps on the CPU.
            optimizer.state[value] = {k: m if k == "step" else m.to(value.device) for k, m in moments.items()}
    return step
