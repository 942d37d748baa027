"""Shared by the editors' tests: backbones on tiny random checkpoints, pictures, and attention edits that do nothing."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class OneNoise:
    """Gives every picture the noise of one seed, and remembers which part of the latents was filled."""

    def __init__(self, seed: int = 11, asked: list[tuple[int, tuple[float, float]]] | None = None) -> None:
        self.seed = seed
        self.settings: dict[str, Any] = {"seed": seed}
        self.asked = [] if asked is None else asked

    def rows(self, rows: slice) -> "OneNoise":
        return OneNoise(self.seed, self.asked)

    def draw(self, own: torch.Tensor, *, filled: tuple[float, float]) -> torch.Tensor:
        self.asked.append((len(own), filled))
        return torch.randn(own.shape[1:], generator=torch.Generator().manual_seed(self.seed)).expand_as(own)


@pytest.fixture
def one_noise() -> OneNoise:
    """A source that gives every picture the same noise as a seed of 11."""
    return OneNoise()


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


class ChatServer(ThreadingHTTPServer):
    """Speaks the chat interface on this machine: answers with what `reply` makes of a request, keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ChatHandler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.reply: Callable[[dict[str, Any]], tuple[int, Any]] = lambda asked: (500, {})
        """Gives status and body (JSON, or bytes as they are) for what was asked."""

    @property
    def url(self) -> str:
        """Its address, as a language processor wants it."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _ChatHandler(BaseHTTPRequestHandler):
    server: ChatServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.server.keys.append(self.headers.get("Authorization", ""))
        known = self.path == "/v1/chat/completions"
        status, body = self.server.reply(asked) if known else (404, {"error": {"message": "no such path"}})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            # The client has given up waiting.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A real server on this machine, for the time of a test."""
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
