"""Shared by the editors' tests: backbones on tiny random checkpoints, pictures, and attention edits that do nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors.core.attention import AttentionSite, Scores
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.checkpoint import BackboneConfig, CheckpointPreset
from maskedit.editors.core.errors import NothingFoundError
from maskedit.editors.parts.grounding import Found


@pytest.fixture(scope="session")
def backbone(ip2p_folder: Path) -> Backbone:
    """The tiny InstructPix2Pix on the CPU; its weights and preset are never changed."""
    return Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"))


@pytest.fixture(scope="session")
def sd_backbone(sd_folder: Path) -> Backbone:
    """The tiny Stable Diffusion on the CPU; never changed."""
    return Backbone.load(BackboneConfig(model=str(sd_folder), device="cpu"))


@pytest.fixture(scope="session")
def inpainting_backbone(inpainting_folder: Path) -> Backbone:
    """The tiny inpainting checkpoint on the CPU; never changed."""
    return Backbone.load(BackboneConfig(model=str(inpainting_folder), device="cpu"), "inpainting")


@pytest.fixture(scope="session")
def sd_variant(sd_backbone: Backbone) -> Callable[..., Backbone]:
    """Like `variant`, of the tiny Stable Diffusion."""
    return _variants(sd_backbone)


@pytest.fixture(scope="session")
def variant(backbone: Backbone) -> Callable[..., Backbone]:
    """Makes a backbone of the same networks with other scheduler settings or another preset, and empty caches."""
    return _variants(backbone)


def _variants(backbone: Backbone) -> Callable[..., Backbone]:
    def make(*, preset: CheckpointPreset | None = None, **scheduler: Any) -> Backbone:
        return Backbone(
            unet=backbone.unet,
            vae=backbone.vae,
            text_encoder=backbone.text_encoder,
            tokenizer=backbone.tokenizer,
            scheduler_config={**backbone.scheduler_config, **scheduler},
            preset=preset,
            name="variant",
        )

    return make


@pytest.fixture(scope="session")
def pictures() -> Callable[..., torch.Tensor]:
    """Makes random pictures, the same for the same arguments."""

    def make(count: int = 1, height: int = 64, width: int = 64, *, seed: int = 0) -> torch.Tensor:
        return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed))

    return make


class PassThrough:
    """Reads and writes what FoI reads and writes, and changes nothing: forces the explicit path."""

    def __init__(self, *, kinds: tuple[str, ...] = ("cross",)) -> None:
        self.reads = frozenset({"text", "image"})
        self.writes = frozenset({"text"})
        self.steps: list[int] = []
        self.kinds = kinds

    def begin_step(self, step: int) -> None:
        self.steps.append(step)

    def wants(self, site: AttentionSite, step: int) -> bool:
        return site.kind in self.kinds

    def edit_scores(self, scores: Mapping[str, Scores], site: AttentionSite) -> Mapping[str, Scores]:
        return {"text": scores["text"]}


@pytest.fixture
def pass_through() -> PassThrough:
    """An attention edit that does nothing, on every cross-attention layer."""
    return PassThrough()


class BoxGrounder:
    """A segmenter that knows where things are: each phrase has a box in pixels, others are not found."""

    def __init__(self, **boxes: tuple[int, int, int, int]) -> None:
        self.boxes = {phrase.replace("_", " "): box for phrase, box in boxes.items()}
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def ground(self, image: torch.Tensor, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        self.asked.append((len(image), tuple(phrases)))
        return tuple(tuple(self._find(phrase, *image.shape[-2:]) for phrase in phrases) for _ in image)

    def _find(self, phrase: str, height: int, width: int) -> Found:
        if phrase not in self.boxes:
            raise NothingFoundError(phrase, score=0.1, threshold=0.3)
        left, top, right, bottom = self.boxes[phrase]
        mask = torch.zeros(1, height, width)
        mask[:, top:bottom, left:right] = 1
        box = torch.tensor([[left, top, right, bottom]], dtype=torch.float32)
        return Found(phrase=phrase, mask=mask, boxes=box, scores=torch.tensor([0.9]))


@pytest.fixture
def grounder() -> BoxGrounder:
    """Knows a red cube on the left and a ball on the right of a picture of 64 pixels."""
    return BoxGrounder(red_cube=(8, 16, 32, 48), ball=(40, 8, 60, 24))
