"""The one loop that learns tensors by gradient descent, in slices that resume exactly.

Everything random inside the loss must come from the generator it is handed: it is reseeded from (seed, step), so that
a run cut anywhere and resumed from its state file takes the same steps as an unbroken one.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .errors import SessionError
from .files import write_tensors


@runtime_checkable
class LossFn(Protocol):
    """Computes the scalar loss of one step."""

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        """Loss of a step; everything random in it comes from the generator."""
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
    """Decay of the moving average of the weights, in [0, 1); 0 = keep the last weights."""
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

    Returns:
        The number of steps taken in all (`config.steps` when finished) and the averaged tensors by name.

    Raises:
        SessionError: if the state file belongs to other tensors, or to another run.
        FloatingPointError: if the loss is not finite; nothing of it is saved.
    """
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    average = {name: value.detach().clone() for name, value in parameters.items()}
    step = 0
    if state_path is not None and state_path.exists():
        step = _load_state(state_path, identity, parameters, average, optimizer)
    device = next(iter(parameters.values())).device
    generator = torch.Generator(device)
    start, total, counted = time.monotonic(), torch.zeros((), device=device), 0
    while step < config.steps and time.monotonic() - start < max_seconds:
        generator.manual_seed(config.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        loss = loss_fn(step, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), config.max_grad_norm, error_if_nonfinite=False)
        optimizer.step()
        step += 1
        decay = min(config.ema_decay, step / (step + 10))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage]
            list(average.values()), [p.detach() for p in parameters.values()], 1 - decay
        )
        total, counted = total + loss.detach(), counted + 1
        if step % report_every == 0 or step == config.steps:
            mean = _finite_mean(total, counted, step)
            if report is not None:
                seconds = time.monotonic() - start
                report(OptimizeProgress(step=step, steps=config.steps, loss=mean, seconds=seconds))
            total, counted = torch.zeros((), device=device), 0
        if state_path is not None and step % save_every == 0:
            _finite_mean(total, counted, step)
            _save_state(state_path, step, identity, parameters, average, optimizer)
    if state_path is not None:
        _finite_mean(total, counted, step)
        _save_state(state_path, step, identity, parameters, average, optimizer)
    return step, average


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
) -> int:
    try:
        stored = load_file(path)
        with safe_open(path, framework="pt") as file:
            count, _, stored_identity = file.metadata()["step"].partition(" ")
            step = int(count)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise SessionError(f"{path} is no state of an optimisation ({error}): remove it to begin anew") from error
    shapes = {f"{kind}.{name}": p.shape for name, p in parameters.items() for kind in ("value", "average")}
    own = {key: value.shape for key, value in stored.items() if key.startswith(("value.", "average."))}
    if own != shapes:
        raise SessionError(
            f"{path} belongs to other tensors than the {len(parameters)} to learn: remove it to begin anew"
        )
    if stored_identity != identity:
        raise SessionError(f"{path} belongs to another run of the same size: remove it to begin anew")
    for name, value in parameters.items():
        with torch.no_grad():
            value.copy_(stored[f"value.{name}"])
        average[name].copy_(stored[f"average.{name}"])
        moments = {
            key: stored[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in stored
        }
        if moments:
            # AdamW keeps its count of steps on the CPU.
            optimizer.state[value] = {k: m if k == "step" else m.to(value.device) for k, m in moments.items()}
    return step
