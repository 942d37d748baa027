"""A toy scene on disk, editors that need no weights, and runs small enough to train in a second."""

import copy
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from maskedit.editors import (
    EditRequest,
    EditResult,
    EditTrace,
    Instruction,
    LanguageConfig,
    Mask,
    NothingFoundError,
    ParsedInstruction,
    Tools,
    make_language,
)
from maskedit.editors.parts.grounding import Found
from maskedit.plugin.config import maskedit_splat, maskedit_tiny
from maskedit.plugin.datamanager import MaskeditDataManager
from maskedit.plugin.editor import SceneEditorConfig
from maskedit.plugin.edits import SceneEdits
from maskedit.plugin.scene import ViewRender
from maskedit.plugin.session import EditSession
from maskedit.plugin.slot import Settings
from maskedit.plugin.storage import from_bytes
from maskedit.plugin.trainer import MaskeditTrainer, MaskeditTrainerConfig
from maskedit.plugin.update import EditSchedule
from maskedit.plugin.view_masks import FoundMasks

SIDE = 16
VIEWS = 4
RED = (Instruction(text="make the square red"),)
# What nerfstudio's own data loaders, cameras and samplers make torch say.
NERFSTUDIO_WARNINGS = (
    "ignore:This DataLoader will create:UserWarning",
    "ignore:Using a non-tuple sequence:UserWarning",
    "ignore:torch.meshgrid:UserWarning",
    "ignore:Importing .* from .torchmetrics.functional. was deprecated:FutureWarning",
    "ignore:This property will be removed in 2.0.0:DeprecationWarning",
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
    "ignore:Converting a tensor with requires_grad:UserWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let nerfstudio's warnings pass in the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in NERFSTUDIO_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


def write_scene(folder: Path, *, views: int = VIEWS, side: int = SIDE) -> Path:
    """Photos of a coloured square from cameras on a circle, in nerfstudio's layout."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    frames: list[dict[str, Any]] = []
    for view in range(views):
        angle = 2 * math.pi * view / views
        photo = rng.integers(90, 120, (side, side, 3), dtype=np.uint8)
        photo[side // 4 : side // 2, side // 4 : side // 2] = (200, 40 + 20 * view, 40)
        Picture.fromarray(photo).save(folder / "images" / f"{view}.png")
        pose = np.eye(4)
        pose[:3, 0] = (-math.sin(angle), math.cos(angle), 0)
        pose[:3, 1] = (0, 0, 1)
        pose[:3, 2] = (math.cos(angle), math.sin(angle), 0)
        pose[:3, 3] = 3 * pose[:3, 2]
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": pose.tolist()})
    camera = {"w": side, "h": side, "fl_x": side, "fl_y": side, "cx": side / 2, "cy": side / 2}
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    return folder


class PaintEditor:
    """Paints a colour, mixed with seeded noise, into the middle of the picture, and remembers what it was asked."""

    def __init__(self, *, color: float = 0.9, noise: float = 0.05, blind_to: tuple[str, ...] = ()) -> None:
        self.color, self.noise, self.blind_to = color, noise, blind_to
        self.requests: list[EditRequest] = []
        self.before: Callable[[EditRequest], None] = lambda request: None

    def plan(self, request: EditRequest) -> EditRequest:
        return request

    def edit(self, request: EditRequest) -> EditResult:
        self.requests.append(request)
        self.before(request)
        masks = self.find_masks(request)
        mask = torch.stack(masks).amax(dim=0)
        drawn = torch.cat(
            [
                torch.randn(1, *request.image.shape[1:], generator=torch.Generator().manual_seed(s))
                for s in request.seeds
            ]
        )
        painted = (0.5 * request.image + 0.5 * self.color + self.noise * drawn).clamp(0, 1)
        image = mask * painted + (1 - mask) * request.preserved
        trace = EditTrace(editor="paint", mask_area=tuple(mask.mean((1, 2, 3)).tolist()))
        return EditResult(image=image, mask=mask, masks=masks, trace=trace)

    def find_masks(self, request: EditRequest) -> tuple[Mask, ...]:
        for instruction in request.instructions:
            if instruction.text in self.blind_to:
                raise NothingFoundError(instruction.text, score=0.1, threshold=0.5)
        middle = torch.zeros_like(request.image[:, :1])
        height, width = middle.shape[-2:]
        middle[..., height // 4 : height // 2, width // 4 : width // 2] = 1
        return tuple(middle if i.mask is None else i.mask for i in request.instructions)


class CountedLanguage:
    """The rules, and what they were asked."""

    def __init__(self) -> None:
        self.rules, self.asked = make_language(LanguageConfig()), list[str]()

    def parse(self, instruction: str, description: str | None = None) -> ParsedInstruction:
        self.asked.append(instruction)
        return self.rules.parse(instruction, description)


class SquareGrounder:
    """Finds the square of the toy scene for every phrase, and remembers what it was asked."""

    def __init__(self, *, blind_at: tuple[int, ...] = ()) -> None:
        self.blind_at, self.asked = blind_at, list[tuple[str, ...]]()

    def ground(self, image: torch.Tensor, phrases: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        self.asked.append(tuple(phrases))
        if len(self.asked) in self.blind_at:
            raise NothingFoundError(phrases[0], score=0.1, threshold=0.3)
        side = image.shape[-1]
        mask = torch.zeros(1, side, side)
        mask[:, side // 4 : side // 2, side // 4 : side // 2] = 1
        box = torch.tensor([[side / 4, side / 4, side / 2, side / 2]])
        found = [Found(phrase=p, mask=mask, boxes=box, scores=torch.tensor([0.9])) for p in phrases]
        return tuple(tuple(found) for _ in image)


@pytest.fixture
def captioned(sd_folder: Path) -> Callable[..., Any]:
    """Editors on captions at 16 pixels, each with its config, the language processor and the segmenter it asks."""

    def build(name: Any = "instructedit", *, blind_at: tuple[int, ...] = (), **options: Any) -> Any:
        plain = SceneEditorConfig(name=name)
        chosen = type(plain.chosen)(**{"size": 16, "steps": 4, **options})
        config = SceneEditorConfig(name=name, model=str(sd_folder), device="cpu", **{name: chosen})
        backbone = config.load_backbone()
        language, grounder = CountedLanguage(), SquareGrounder(blind_at=blind_at)
        like: Any = config.make(backbone)
        editor = type(like)(backbone, chosen, tools=Tools(backbone, language=language, grounding=grounder))
        return config, editor, language, grounder

    return build


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "toy")


def tiny_config(scene: Path, output: Path, **pipeline: Any) -> MaskeditTrainerConfig:
    """A run of maskedit-tiny with a scene of a few thousand parameters."""
    config = copy.deepcopy(maskedit_tiny.config)
    assert isinstance(config, MaskeditTrainerConfig)
    config.output_dir, config.experiment_name, config.timestamp = output, "toy", "run"
    config.machine.device_type, config.vis, config.data = "cpu", "tensorboard", scene
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.max_num_iterations, config.steps_per_save = 8, 4
    config.steps_per_eval_batch = config.steps_per_eval_image = 10**6
    data = config.pipeline.datamanager
    data.data, data.train_num_rays_per_batch, data.eval_num_rays_per_batch = scene, 64, 64
    data.dataparser.eval_mode = "all"  # type: ignore[union-attr]
    model = config.pipeline.model
    model.implementation, model.num_levels, model.log2_hashmap_size, model.max_res = "torch", 2, 8, 32
    model.hidden_dim = model.hidden_dim_color = 8
    model.appearance_embed_dim, model.num_nerf_samples_per_ray, model.num_proposal_samples_per_ray = 4, 4, (8,)
    model.num_proposal_iterations, model.average_init_density = 1, 0.1
    model.proposal_net_args_list = [
        {"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 16, "use_linear": False}
    ]
    config.pipeline.instructions, config.pipeline.edit_rate = ("make the red square white",), 2
    config.pipeline.reconstruct_steps = 3
    for name, value in pipeline.items():
        setattr(config.pipeline, name, value)
    return config


def splat_config(scene: Path, output: Path, **pipeline: Any) -> MaskeditTrainerConfig:
    """A run of maskedit-splat with some dozen Gaussians, in the middle of which splatfacto densifies."""
    config = copy.deepcopy(maskedit_splat.config)
    assert isinstance(config, MaskeditTrainerConfig)
    config.output_dir, config.experiment_name, config.timestamp = output, "toy", "run"
    config.machine.device_type, config.vis, config.data = "cpu", "tensorboard", scene
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.max_num_iterations, config.steps_per_save = 8, 3
    config.steps_per_eval_image = config.steps_per_eval_all_images = 10**6
    data = config.pipeline.datamanager
    data.data, data.dataparser.eval_mode = scene, "all"  # type: ignore[union-attr]
    model: Any = config.pipeline.model
    model.num_random, model.random_scale, model.sh_degree, model.sh_degree_interval = 40, 2.0, 1, 4
    model.num_downscales, model.warmup_length, model.refine_every, model.reset_alpha_every = 0, 2, 2, 4
    model.densify_grad_thresh, model.densify_size_thresh, model.split_screen_size = 4.6e-3, 0.45, 10.0
    model.cull_alpha_thresh, model.cull_scale_thresh, model.cull_screen_size = 0.0785, 0.9, 10.0
    config.pipeline.instructions, config.pipeline.sweep_every = ("make the red square white",), 6
    config.pipeline.reconstruct_steps = 3
    for name, value in pipeline.items():
        setattr(config.pipeline, name, value)
    return config


@pytest.fixture(scope="session")
def paint() -> type[PaintEditor]:
    """An editor without weights."""
    return PaintEditor


# Fixtures of a module need configs too.
PaintEditor.config_of = staticmethod(tiny_config)  # type: ignore[attr-defined]
PaintEditor.splat_config_of = staticmethod(splat_config)  # type: ignore[attr-defined]


@pytest.fixture
def load(scene: Path, tmp_path: Path) -> Callable[..., MaskeditDataManager]:
    """Read the toy scene, or another folder: `load(folder, **options)`."""

    def build(folder: Path = scene, **options: Any) -> MaskeditDataManager:
        data = tiny_config(folder, tmp_path).pipeline.datamanager
        for name, value in options.items():
            setattr(data, name, value)
        return data.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)

    return build


class ToyScene:
    """One picture for each view; training moves it half of the way to the working set."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.pictures = torch.stack([from_bytes(data.original(view)) for view in range(len(data.views))])

    def render(self, view: int) -> ViewRender:
        """The picture, on a wall."""
        picture = self.pictures[view]
        return ViewRender(image=picture.permute(2, 0, 1)[None].clone(), points=torch.zeros_like(picture))

    def train(self) -> float:
        step = self.data.batch["image"] - self.pictures
        self.pictures += 0.5 * step
        return float(step.abs().max())


@pytest.fixture
def toy(load: Any, tmp_path: Path) -> Callable[..., tuple[SceneEdits, ToyScene, list[str]]]:
    def build(
        editor: Any,
        *,
        instructions: Any = RED,
        folder: str = "session",
        **options: Any,
    ) -> Any:
        data = load()
        scene = ToyScene(data)
        lines: list[str] = []
        fields = {"rate": 1, "count": 1, "lower": 0.02, "upper": 0.98, "seed": 0} | options.pop("schedule", {})
        session = options.pop("session", None) or EditSession.create(
            tmp_path / folder, settings={}, start_step=0, edit_start=0, source=None
        )
        edits = SceneEdits(
            data=data,
            session=session,
            schedule=EditSchedule(views=len(data.views), **fields),
            editor_config=options.pop("editor_config", SceneEditorConfig()),
            settings=Settings(instructions=instructions),
            planned=options.pop("planned", 0),
            ties=options.pop("ties", None),
            masks=FoundMasks(session, **options),
            render=scene.render,
            report=lines.append,
        )
        if editor is not None:
            edits.use_editor(editor)
        return edits, scene, lines

    return build


@pytest.fixture
def config(scene: Path, tmp_path: Path) -> Callable[..., MaskeditTrainerConfig]:
    """Configs of runs of the test: `config(**pipeline_options)`."""
    return lambda folder=tmp_path, **pipeline: tiny_config(scene, folder, **pipeline)


Run = Callable[..., MaskeditTrainer]


@pytest.fixture
def start(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Set up a run: `start(editor, **pipeline_options)`; a config may be given instead."""
    # The editor's checkpoint is looked for before a run begins, and these runs use none.
    monkeypatch.setattr("maskedit.plugin.options.check_editor_is_there", lambda *given, **options: None)

    def begin(editor: Any = None, config: MaskeditTrainerConfig | None = None, **pipeline: Any) -> MaskeditTrainer:
        trainer = MaskeditTrainer(config or tiny_config(scene, tmp_path, **pipeline))
        trainer.setup()
        assert trainer.pipeline.edits is not None
        trainer.pipeline.edits.use_editor(editor or PaintEditor())
        return trainer

    return begin


def rasterize_on_cpu(patch: pytest.MonkeyPatch) -> None:
    """Let runs of maskedit-splat begin without a GPU, on the rasteriser beside this file."""
    spec = importlib.util.spec_from_file_location("cpu_rasterizer", Path(__file__).parent / "cpu_rasterizer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.rasterize_on_cpu(patch)
    patch.setattr("maskedit.plugin.splat_options.check_kernels", lambda device_type: None)


PaintEditor.rasterize_on_cpu = staticmethod(rasterize_on_cpu)  # type: ignore[attr-defined]


@pytest.fixture
def splats(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MaskeditTrainerConfig]:
    """Configs of runs of maskedit-splat that need no GPU: `splats(**pipeline_options)`."""
    rasterize_on_cpu(monkeypatch)
    return lambda folder=tmp_path, **pipeline: splat_config(scene, folder, **pipeline)


@pytest.fixture
def ball() -> Any:
    """The scene of known_scene.py, whose rays and masks are known exactly."""
    spec = importlib.util.spec_from_file_location("known_scene", Path(__file__).parent / "known_scene.py")
    assert spec is not None
    assert spec.loader is not None
    known = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(known)
    return known.BallScene()


@pytest.fixture(autouse=True)
def fresh_writers() -> Iterator[None]:
    """nerfstudio collects its log writers in global lists."""
    from nerfstudio.utils import profiler, writer

    yield
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    profiler.PROFILER.clear()
