"""Shared by the tests of videos: clips of all kinds, segments of known fields, an editor of a real tiny model."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskedit.editors import (
    BackboneConfig,
    Captions,
    Editor,
    Grounder,
    Inpaint,
    InpaintConfig,
    Instruction,
    LanguageConfig,
    NothingFoundError,
    Tools,
)
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.grounding import Found
from maskedit.video.fields import DenseCanonical, DenseDeformation
from maskedit.video.fit import ClipFit, FitConfig, shape_for
from maskedit.video.flow import FlowConfig
from maskedit.video.options import VideoConfig
from maskedit.video.segments import Segment, SegmentConfig
from maskedit.video.stages import VideoRun
from maskedit.video.timeline import Timeline
from maskedit.video.writing import write_clip


class ColorGrounder:
    """A segmenter that finds what has a colour, whatever it is asked for."""

    def __init__(self, *color: float) -> None:
        self.color = torch.tensor(color).view(3, 1, 1)

    def ground(self, image: torch.Tensor, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        return tuple(tuple(self._find(each, phrase) for phrase in phrases) for each in image)

    def _find(self, image: torch.Tensor, phrase: str) -> Found:
        mask = ((image - self.color).abs() < 0.2).all(0).float()[None]
        if not mask.any():
            raise NothingFoundError(phrase, score=0.1, threshold=0.3)
        rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
        box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
        return Found(phrase=phrase, mask=mask, boxes=box, scores=torch.tensor([0.9]))


@pytest.fixture(scope="session")
def red_editor(inpainting_folder: Path) -> Editor:
    """Paints over what is red, with a tiny random inpainting checkpoint."""
    backbone = Backbone.load(BackboneConfig(model=str(inpainting_folder), device="cpu"), "inpainting")
    tools = Tools(backbone, language=LanguageConfig(), grounding=ColorGrounder(1.0, 0.0, 0.0))
    return Inpaint(backbone, InpaintConfig(steps=2), tools=tools)


@pytest.fixture(scope="session")
def make_grounder() -> Callable[..., Grounder]:
    """Makes a segmenter that finds a colour."""
    return ColorGrounder


@pytest.fixture(scope="session")
def red_grounder() -> Grounder:
    """Finds what is red."""
    return ColorGrounder(1.0, 0.0, 0.0)


RUN_CONFIG = VideoConfig(
    flow=FlowConfig(method="dis"), fit=FitConfig(steps=30, margin=0.2), segments=SegmentConfig(length=6, overlap=2)
)
RUN_EDIT = {
    "instructions": (Instruction(text="make the red cube blue"),),
    "settings": {"editor": "inpaint"},
    "captions": (Captions(source="a red cube", target="a blue cube"),),
}


@pytest.fixture(scope="session")
def slide(scene: torch.Tensor) -> torch.Tensor:
    """8 frames of 48x32 pixels: the camera slides to the right over the scene, a pixel a frame."""
    return torch.cat([(scene[..., 12:44, 8 + n : 56 + n] * 255).round().to(torch.uint8) for n in range(8)])


@pytest.fixture(scope="session")
def slide_folder(tmp_path_factory: pytest.TempPathFactory, slide: torch.Tensor) -> Path:
    """The same as a clip on disk; never changed."""
    folder = tmp_path_factory.mktemp("clip") / "slide"
    write_clip(folder, slide, Timeline.steady(len(slide), 12.0))
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, slide_folder: Path, red_editor: Editor) -> Path:
    """The run of `slide_folder` in two segments, up to the rendered clip; copy it before changing it."""
    run = VideoRun(tmp_path_factory.mktemp("run") / "run", RUN_CONFIG)
    run.prepare(slide_folder)
    run.fit()
    run.edit(lambda: red_editor, **RUN_EDIT)
    run.render()
    return run.folder


@pytest.fixture(scope="session")
def run_config() -> VideoConfig:
    """The settings of `finished_run`."""
    return RUN_CONFIG


@pytest.fixture(scope="session")
def run_edit() -> dict[str, Any]:
    """What `finished_run` asked of its editor."""
    return RUN_EDIT


@pytest.fixture(scope="session")
def make_segment() -> Callable[..., Segment]:
    """Makes a segment of frames 32 high and 48 wide: each layer has a picture, and slides across it by whole pixels."""

    def make(
        pictures: Sequence[torch.Tensor],
        shifts: Sequence[Sequence[int]],
        *,
        first: int = 0,
        masks: torch.Tensor | None = None,
        margin: float = 0.25,
    ) -> Segment:
        count = len(shifts[0])
        config = FitConfig(margin=margin)
        fit = ClipFit(config, shape_for(count, 32, 48, config), len(pictures), "cpu")
        for layer, picture, pixels in zip(fit.layers, pictures, shifts, strict=True):
            assert isinstance(layer.canonical, DenseCanonical) and isinstance(layer.deformation, DenseDeformation)
            layer.canonical.start_from(picture[..., :32, :48])
            if picture.shape[-2:] == (fit.shape.canonical_height, fit.shape.canonical_width):
                with torch.no_grad():
                    layer.canonical.pictures[-1].copy_(picture)
            offsets = torch.zeros(count, 2, 32, 48)
            offsets[:, 0] = (torch.tensor(pixels) / 48).view(count, 1, 1)
            layer.deformation.start_from(offsets, torch.ones(count, 1, 32, 48))
        return Segment(rows=slice(first, first + count), fit=fit, masks=masks)

    return make


@pytest.fixture(scope="session")
def scene() -> torch.Tensor:
    """A picture as large as the canonical image of `make_segment`, 56 high and 72 wide: smooth, with a red square."""
    ys, xs = torch.linspace(0, 1, 56)[:, None], torch.linspace(0, 1, 72)[None]
    picture = torch.stack([0.3 + 0.2 * ys.expand(56, 72), 0.4 + 0.3 * xs.expand(56, 72), 0.5 + 0.3 * ys * xs])[None]
    picture[..., 22:34, 28:40] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    return picture


def _moving(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture, "height width 3", unlike itself upside down or mirrored, whose middle moves with its number."""
    ys, xs = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    waves = np.sin(5 * xs + 0.3 * number), np.sin(3 * ys + xs), ys * xs + 0.02 * number
    return (255 * np.stack([0.5 + 0.4 * waves[0], 0.5 + 0.3 * waves[1], 0.7 * waves[2] % 1], -1)).astype(np.uint8)


@pytest.fixture(scope="session")
def moving() -> Callable[..., np.ndarray]:
    """Makes the frames of `make_video`."""
    return _moving


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Encodes frames with PyAV alone, so that readers meet files that are not of our own writer.

    `times` are in 1/600 s; the sound is a beep of 0.1 s at the beginning of each second but the first.
    """
    import av

    def make(
        path: Path,
        *,
        frames: Sequence[np.ndarray] | int = 12,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        muxer: dict[str, str] | None = None,
        times: Sequence[int] | None = None,
        turned: tuple[int, bool, bool] | None = None,
        aspect: Fraction | None = None,
        sound: str | None = None,
        rate: int = 44100,
    ) -> Path:
        frames = [_moving(number) for number in range(frames)] if isinstance(frames, int) else frames
        times = [50 * number for number in range(len(frames))] if times is None else times
        with av.open(str(path), "w", options=muxer or {}) as container:
            stream = container.add_stream(codec, rate=12, options=options or {})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, 12 if path.suffix == ".avi" else 600)
            if turned:
                stream.set_display_rotation(*turned)
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            beep = container.add_stream(sound, rate=rate, layout="mono") if sound else None
            for time, pixels in zip(times, frames, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 600)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if beep is not None:
                seconds = np.arange(rate * times[-1] // 600) / rate
                wave = 0.4 * np.sin(2 * np.pi * 440 * seconds) * (seconds % 1 < 0.1) * (seconds >= 1)
                frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
                container.mux(beep.encode(frame))
                container.mux(beep.encode(None))
        return path

    return make
