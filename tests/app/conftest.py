"""Shared by the tests of the command line: small pictures, and a way to call it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from maskedit.app.cli import main
from maskedit.app.demo_scene import SceneResult, SceneSettings, edit_scene
from maskedit.editors import BackboneConfig, resize_image, save_image


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


@dataclass(frozen=True)
class SceneRun:
    """A scene that `ns-train maskedit` has reconstructed and edited for a few steps."""

    folder: Path
    result: SceneResult
    settings: SceneSettings

    @property
    def run(self) -> Path:
        """The run's own folder."""
        return self.folder / "runs" / "blocks" / "maskedit-tiny" / "demo"


@pytest.fixture(scope="session")
def scene_run(ip2p_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SceneRun:
    """One real run for all tests that look at a finished one."""
    folder = tmp_path_factory.mktemp("demo") / "scene"
    settings = SceneSettings(reconstruct_steps=6, edit_steps=4, edit_rate=4, edit_count=2, lower_bound=0.5, frames=2)
    result = edit_scene(folder, BackboneConfig(model=str(ip2p_folder)), "cpu", settings)
    return SceneRun(folder=folder, result=result, settings=settings)


@pytest.fixture
def flags(ip2p_folder: Path, tmp_path: Path) -> list[object]:
    """Few steps on a tiny InstructPix2Pix checkpoint."""
    return ["--model", ip2p_folder, "--output", tmp_path / "out", "--steps", 2, "--size", 32]


@pytest.fixture
def sd_flags(sd_folder: Path, tmp_path: Path) -> list[object]:
    """Few steps on a tiny text-to-image checkpoint."""
    return ["--model", sd_folder, "--output", tmp_path / "out", "--steps", 4, "--size", 32]


@pytest.fixture
def clipseg_flags(clipseg_folder: Path) -> list[object]:
    """A tiny segmenter."""
    return ["--grounding.segmenter", "clipseg", "--grounding.clipseg", clipseg_folder]


@pytest.fixture
def mask_file(tmp_path: Path) -> Path:
    """A mask for the first two pictures: a rectangle."""
    mask = torch.zeros(1, 1, 24, 32)
    mask[..., 5:20, 10:28] = 1
    return save_image(mask, tmp_path / "mask.png")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five frames of a blurred picture that moves by one pixel a frame, as a folder of pictures."""
    generator = torch.Generator().manual_seed(1)
    scene = resize_image(torch.rand(1, 3, 6, 8, generator=generator), 24, 40)
    for frame in range(5):
        save_image(scene[..., frame : frame + 32], tmp_path / "in" / "walk" / f"frame_{frame}.png")
    return tmp_path / "in" / "walk"


@pytest.fixture
def clip_flags(ip2p_folder: Path, tmp_path: Path) -> list[object]:
    """A short fit, and few steps on a tiny InstructPix2Pix checkpoint."""
    model = ["--model", ip2p_folder, "--steps", 2, "--edit-size", 32]
    return [*model, "--output", tmp_path / "out", "--flow.method", "dis", "--fit.steps", 3, "--minimum-psnr", 0]
