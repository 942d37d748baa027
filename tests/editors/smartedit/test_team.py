"""Two processes on the CPU: what they average and share, and that they learn what one process learns."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskedit.editors import OptimizeConfig, optimize
from maskedit.editors.smartedit.team import AcceleratedTeam, LearningTeam, in_buckets

STEPS = 5


def learn(team: LearningTeam | None) -> dict[str, torch.Tensor]:
    """A line through eight points, of which each process sees its part."""
    index, count = (0, 1) if team is None else (team.index, team.count)
    values = {"weight": torch.zeros(3, 2, requires_grad=True), "bias": torch.zeros(2, requires_grad=True)}

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        rows = torch.randn((8, 3), generator=generator)[index * 8 // count : (index + 1) * 8 // count]
        return ((rows @ values["weight"] + values["bias"] - rows[:, :2] - 1) ** 2).mean()

    optimize(values, loss, OptimizeConfig(steps=STEPS, learning_rate=0.1, warmup_steps=0), team=team)
    return {name: value.detach() for name, value in values.items()}


def member(folder: Path) -> None:
    """What each of the processes does."""
    team = AcceleratedTeam(cpu=True)
    mine = torch.full((2, 3), float(team.index))
    counts = torch.tensor([team.index, 10 + team.index])
    team.average([mine, torch.zeros(0)])
    averaged = mine.clone()
    mine.fill_(team.index + 5)
    team.share([mine, counts])
    results = {"averaged": averaged, "shared": mine, "counts": counts} | learn(team)
    save_file(results, folder / f"{team.index} of {team.count}.safetensors")
    team.wait()
    team.close()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    runs = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import runpy; runpy.run_path({__file__!r})['member'](__import__('pathlib').Path('.'))",
            ],
            cwd=tmp_path,
            env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    try:
        assert [run.wait(120) for run in runs] == [0, 0]
    finally:
        for run in runs:
            run.kill()
    alone = learn(None)
    for rank in range(2):
        results = load_file(tmp_path / f"{rank} of 2.safetensors")
        assert torch.equal(results["averaged"], torch.full((2, 3), 0.5))
        assert torch.equal(results["shared"], torch.full((2, 3), 5.0))
        assert results["counts"].tolist() == [0, 10]
        for name, value in alone.items():
            torch.testing.assert_close(results[name], value)


def test_one_process_is_a_team_of_one() -> None:
    team = AcceleratedTeam(cpu=True)
    assert isinstance(team, LearningTeam)
    assert (team.is_first, team.index, team.count, team.device.type) == (True, 0, 1, "cpu")
    value = torch.tensor([1.0, 2.0])
    team.average([value])
    team.share([value])
    team.wait()
    assert value.tolist() == [1, 2]
    with team.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_buckets_hold_every_tensor_once_by_kind() -> None:
    tensors = [torch.zeros(4), torch.zeros(3, dtype=torch.long), torch.zeros(2, 2), torch.zeros(5), torch.zeros(100)]
    buckets = list(in_buckets(tensors, 40))
    assert sorted(id(t) for bucket in buckets for t in bucket) == sorted(id(t) for t in tensors)
    assert all(len({t.dtype for t in bucket}) == 1 for bucket in buckets)
    assert [[t.numel() for t in bucket] for bucket in buckets] == [[4, 4], [5], [100], [3]]
