"""Shared by the tests of the command line: small pictures, and a way to call it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from maskedit.app.cli import main
from maskedit.editors import save_image


@dataclass(frozen=True)
class Outcome:
    """What a call of the command line left."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `maskedit ARGUMENTS` in this process."""

    def run(*arguments: object) -> Outcome:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Outcome(code=code, out=out, err=err)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, ...]:
    """Three pictures of noise; the first two have the same size."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((24, 32), (24, 32), (32, 32))
    return tuple(
        save_image(torch.rand(1, 3, *size, generator=generator), tmp_path / "in" / f"p{i}.png")
        for i, size in enumerate(sizes)
    )
