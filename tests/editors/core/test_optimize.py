"""The optimisation loop: it learns, resumes to the same bits, and refuses states that are not its own."""

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import maskedit.editors.core.optimize as optimize_module
from maskedit.editors import ModelError, OptimizeConfig, OptimizeProgress, SessionError, optimize

STEPS = 24


def parameters() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "matrix": torch.randn((4, 5), generator=generator).requires_grad_(),
        "row": torch.randn((5,), generator=generator).requires_grad_(),
    }


def loss_of(values: dict[str, torch.Tensor]):
    """A noisy quadratic; all of its noise comes from the generator."""

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        inputs = torch.randn((8, 4), generator=generator)
        return ((inputs @ values["matrix"] + values["row"] - inputs.sum(1, keepdim=True)) ** 2).mean()

    return loss


def loss_until(values: dict[str, torch.Tensor], last: int):
    """The same, until the process is killed."""

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        if step == last:
            raise KeyboardInterrupt
        return loss_of(values)(step, generator)

    return loss


def config(**changes: float) -> OptimizeConfig:
    return OptimizeConfig(**{"steps": STEPS, "learning_rate": 0.05, "warmup_steps": 4, "weight_decay": 0.01, **changes})


def test_the_loss_falls() -> None:
    values, seen = parameters(), list[OptimizeProgress]()
    done, average = optimize(values, loss_of(values), config(steps=200), report=seen.append, report_every=20)
    assert done == 200
    assert [p.step for p in seen] == list(range(20, 201, 20))
    assert seen[-1].loss < 0.1 * seen[0].loss
    assert average.keys() == values.keys()


@pytest.mark.parametrize("cuts", [(1,), (7, 8), (5, 10, 15, 23)])
def test_slices_equal_an_unbroken_run_bit_for_bit(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    whole = parameters()
    _, whole_average = optimize(whole, loss_of(whole), config())
    path = tmp_path / "state.safetensors"
    for cut in cuts:
        # Every slice is a new process: new tensors, a new optimiser, only the file is left.
        killed = parameters()
        loss = loss_of(killed)

        def until(step: int, generator: torch.Generator, cut: int = cut, loss=loss) -> torch.Tensor:
            if step == cut:
                raise KeyboardInterrupt
            return loss(step, generator)

        with pytest.raises(KeyboardInterrupt):
            optimize(killed, until, config(), state_path=path, save_every=1)
    values = parameters()
    done, average = optimize(values, loss_of(values), config(), state_path=path, save_every=1)
    assert done == STEPS
    for name, value in whole.items():
        assert torch.equal(values[name], value)
        assert torch.equal(average[name], whole_average[name])


def test_a_slice_stops_in_time_and_says_how_far_it_got(tmp_path: Path) -> None:
    values = parameters()
    done, _ = optimize(values, loss_of(values), config(), state_path=tmp_path / "s.safetensors", max_seconds=0.0)
    assert done == 0
    done, _ = optimize(values, loss_of(values), config(), state_path=tmp_path / "s.safetensors")
    assert done == STEPS


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    values = parameters()
    _, average = optimize(values, loss_of(values), config(), state_path=path)
    again = parameters()

    def never(step: int, generator: torch.Generator) -> torch.Tensor:
        raise RuntimeError("a step was taken")

    done, average_again = optimize(again, never, config(), state_path=path)
    assert done == STEPS
    assert torch.equal(again["matrix"], values["matrix"])
    assert torch.equal(average_again["row"], average["row"])


@pytest.mark.parametrize("other", ["fewer", "more", "renamed", "reshaped"])
def test_a_state_of_other_tensors_is_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "state.safetensors"
    values = parameters()
    optimize(values, loss_of(values), config(), state_path=path)
    changed = {
        "fewer": {"matrix": values["matrix"]},
        "more": {**values, "extra": torch.zeros(1, requires_grad=True)},
        "renamed": {"matrix": values["matrix"], "column": values["row"]},
        "reshaped": {"matrix": values["matrix"], "row": torch.zeros(6, requires_grad=True)},
    }[other]
    with pytest.raises(SessionError, match="belongs to other tensors"):
        optimize(changed, loss_of(values), config(), state_path=path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_broken_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    values = parameters()
    with pytest.raises(SessionError, match="remove it to begin anew"):
        optimize(values, loss_of(values), config(), state_path=path)


def test_a_diverged_run_stops_and_saves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    values = parameters()
    loss = loss_of(values)

    def breaks(step: int, generator: torch.Generator) -> torch.Tensor:
        return loss(step, generator) * (float("nan") if step == 6 else 1.0)

    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        optimize(values, breaks, config(), state_path=path, save_every=2)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


def test_no_half_written_state_is_left(tmp_path: Path) -> None:
    values = parameters()
    optimize(values, loss_of(values), config(), state_path=tmp_path / "deep" / "state.safetensors", save_every=3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.safetensors"]


def test_without_an_average_the_last_weights_come_back() -> None:
    values = parameters()
    _, average = optimize(values, loss_of(values), config(ema_decay=0.0))
    assert torch.equal(average["matrix"], values["matrix"])


def test_without_an_average_no_second_copy_is_written_and_old_states_go_on(tmp_path: Path) -> None:
    path, values = tmp_path / "state.safetensors", parameters()
    settings = config(ema_decay=0.0, weight_decay=0.0)
    with pytest.raises(KeyboardInterrupt):
        optimize(values, loss_until(values, 5), settings, state_path=path, save_every=5)
    stored = load_file(path)
    assert not [name for name in stored if name.startswith("average.")]
    old = stored | {f"average.{name}": torch.zeros_like(value) for name, value in values.items()}
    save_file(old, path, metadata={"step": "5"})
    again, whole = parameters(), parameters()
    assert optimize(again, loss_of(again), settings, state_path=path)[0] == STEPS
    optimize(whole, loss_of(whole), settings)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_state_is_written_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, write = list[int](), optimize_module._save_state
    monkeypatch.setattr(optimize_module, "_save_state", lambda *given: (steps.append(given[1]), write(*given)))
    for _ in range(2):
        values = parameters()
        optimize(values, loss_of(values), config(), state_path=tmp_path / "state.safetensors", save_every=STEPS // 2)
    assert steps == [STEPS // 2, STEPS]


def test_the_learning_rate_warms_up_and_decays() -> None:
    rates = [config(steps=100, warmup_steps=10, final_share=0.1).learning_rate_at(step) for step in range(101)]
    assert rates[0] < rates[5] < rates[9]
    assert max(rates) <= 0.05
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.005)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"final_share": 1.5}, {"ema_decay": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)


class Team:
    """Two threads that learn the same tensors; what they average is averaged between them."""

    def __init__(self, first: bool, barrier: threading.Barrier, shared: dict[bool, list[torch.Tensor]]) -> None:
        self.is_first, self._barrier, self._shared = first, barrier, shared

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        self._shared[self.is_first] = [t.clone() for t in tensors]
        self._barrier.wait(60)
        means = [(a + b) / 2 for a, b in zip(self._shared[True], self._shared[False], strict=True)]
        self._barrier.wait(60)
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean)

    def wait(self) -> None:
        self._barrier.wait(60)


def rows_of(values: dict[str, torch.Tensor], rows: slice):
    """The loss of `loss_of`, of some of its eight samples."""

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        inputs = torch.randn((8, 4), generator=generator)[rows]
        return ((inputs @ values["matrix"] + values["row"] - inputs.sum(1, keepdim=True)) ** 2).mean()

    return loss


def test_terms_of_a_loss_equal_their_sum() -> None:
    whole, parts = parameters(), parameters()
    optimize(whole, loss_of(whole), config())
    halves = [rows_of(parts, slice(0, 4)), rows_of(parts, slice(4, 8))]

    def terms(step: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        start = generator.get_state()
        for half in halves:
            generator.set_state(start)
            yield half(step, generator) / 2

    optimize(parts, terms, config())
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)


def test_a_loss_without_terms_is_refused() -> None:
    values = parameters()
    with pytest.raises(ModelError, match="at least one term"):
        optimize(values, lambda step, generator: (), config())


def test_two_that_share_the_samples_learn_what_one_learns(tmp_path: Path) -> None:
    whole = parameters()
    _, whole_average = optimize(whole, loss_of(whole), config())
    barrier, shared, path = threading.Barrier(2), dict[bool, list[torch.Tensor]](), tmp_path / "state.safetensors"

    def learn(first: bool, limit: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], int]:
        values = parameters()
        loss, team = rows_of(values, slice(0, 4) if first else slice(4, 8)), Team(first, barrier, shared)
        seen = list[OptimizeProgress]()
        step, average = optimize(
            values, loss, config(), state_path=path, max_seconds=limit, report=seen.append, team=team
        )
        assert bool(seen) == (first and step > 0)
        return values, average, step

    # One of them has no time at all: both stop before the first step.
    with ThreadPoolExecutor(2) as pool:
        assert {run.result()[2] for run in [pool.submit(learn, True, 60.0), pool.submit(learn, False, 0.0)]} == {0}
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(learn, first, math.inf) for first in (True, False)]
        for values, average, step in (run.result() for run in runs):
            assert step == STEPS
            for name, value in whole.items():
                torch.testing.assert_close(values[name], value)
                torch.testing.assert_close(average[name], whole_average[name])
