"""`maskedit doctor`: what is installed, which checkpoints are here, and what each editor still needs."""

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..editors import (
    EDITORS,
    PUBLISHED,
    BackboneConfig,
    CaptionerConfig,
    CheckpointKind,
    EditorName,
    GroundingConfig,
    LanguageConfig,
    ModelError,
    ToolModel,
    find_in_cache,
    find_tool,
    locate_checkpoint,
    named_tools,
    require_smartedit,
)

PACKAGES = ("maskedit", "torch", "torchvision", "diffusers", "transformers", "nerfstudio", "segment-anything", "openai")
METHODS = "nerfstudio.method_configs"
"""Where nerfstudio looks for methods of other packages."""
KINDS: tuple[CheckpointKind, ...] = tuple(dict.fromkeys(entry.kind for entry in EDITORS.values()))
"""Kinds of checkpoint that editors need."""


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """What is known about a checkpoint that editors could use."""

    model: str
    """As given to --model."""
    kind: CheckpointKind
    place: str | None
    """Folder; None = not on this machine."""
    loads: bool | None
    """Whether every network of it could be loaded; None = not tried."""
    note: str
    """What to do about it, or what it is for."""


@dataclass(frozen=True, kw_only=True)
class ToolState:
    """What is known about a model that stands beside an editor."""

    role: str
    model: str
    place: str | None
    """Folder or file; None = not on this machine."""
    note: str
    """Where to get it, or what it is for."""


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Tell what is installed, which devices and checkpoints are here, and what each editor still needs."""

    json: bool = False
    """Print JSON instead of tables."""
    model: str | None = None
    """Another checkpoint to look at: a folder in diffusers layout, or a hub id."""
    model_dir: Path | None = None
    """Folder with local copies of hub checkpoints, as for `maskedit edit`."""
    load: bool = True
    """Load each checkpoint that is here; --no-load only looks for its files."""
    smartedit: Path | None = None
    """Folder of a SmartEdit checkpoint: look at nothing else, but whether the language model beside it is the one that
    it learned on. With --load it is also asked for its answer."""

    def run(self) -> None:
        """Examine everything and print it."""
        if self.smartedit is not None:
            self._check_smartedit(self.smartedit)
            return
        findings = self.examine()
        if self.json:
            print(json.dumps(findings, indent=2))
        else:
            _print_findings(findings)

    def _check_smartedit(self, folder: Path) -> None:
        """Print what a SmartEdit checkpoint's looks showed; the first that does not fit ends the command."""
        from ..editors import check_smartedit
        from .models import silence_libraries

        silence_libraries()
        findings = check_smartedit(folder, BackboneConfig(model_dir=self.model_dir, offline=True), load=self.load)
        fitting = [each for each in findings if each.fits]
        if self.json:
            print(json.dumps([asdict(each) for each in findings], indent=2))
        else:
            print("\n".join(f"{each.what}: {each.note}" for each in fitting))
        for each in findings[len(fitting) :]:
            raise ModelError(f"{each.what} of {folder}: {each.note}")

    def examine(self) -> dict[str, Any]:
        """Everything that is found, as JSON can hold it."""
        checkpoints = [
            examine_checkpoint(self._config(name), kind, load=self.load)
            for kind in KINDS
            for name in ("embedded", PUBLISHED[kind], *([self.model] if self.model else []))
        ]
        tools = examine_tools(self.model_dir)
        return {
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "ns_train_methods": sorted(e.name for e in entry_points(group=METHODS) if e.value.startswith("maskedit.")),
            "devices": _devices(),
            "ffmpeg": _find_ffmpeg(),
            "memory_gb": _memory(),
            "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
            "checkpoints": [asdict(state) for state in checkpoints],
            "tools": [asdict(state) for state in tools],
            "language_server": _language_server(),
            "editors": {name: _examine_editor(name, checkpoints, tools) for name in EDITORS},
        }

    def _config(self, name: str) -> BackboneConfig:
        return BackboneConfig(model=name, model_dir=self.model_dir, offline=True, device="cpu")


def _examine_editor(
    name: EditorName, checkpoints: Sequence[CheckpointState], tools: Sequence[ToolState]
) -> dict[str, Any]:
    kind = EDITORS[name].kind
    usable = [s.model for s in checkpoints if s.kind == kind and s.place is not None and s.loads is not False]
    lacking = {model: _lacking_tools(name, model, tools) for model in usable}
    return {
        "needs": kind,
        "usable": usable,
        "masks_only": [model for model, roles in lacking.items() if roles],
        "missing": ([] if usable else [kind]) + list(dict.fromkeys(r for roles in lacking.values() for r in roles)),
    }


def _lacking_tools(name: EditorName, model: str, tools: Sequence[ToolState]) -> list[str]:
    """What an editor lacks on a checkpoint to look for objects itself, with the default options of grounding."""
    here = {(tool.role, tool.model) for tool in tools if tool.place is not None}
    wanted = named_tools(EDITORS[name].config(), embedded=model == "embedded")
    return [tool.role for tool in wanted if (tool.role, tool.model) not in here]


def examine_checkpoint(config: BackboneConfig, kind: CheckpointKind, *, load: bool) -> CheckpointState:
    """Find a checkpoint without asking the network, and try to load it.

    Args:
        config: names it.
        kind: what editors would use it for.
        load: False = only look for its files.
    """
    nothing = CheckpointState(model=config.model_for(kind), kind=kind, place=None, loads=None, note="")
    try:
        location = locate_checkpoint(config, kind)
    except ModelError as error:
        return replace(nothing, note=str(error))
    place = location if isinstance(location, Path) else find_in_cache(location, "model_index.json")
    if place is None:
        return replace(nothing, note=_how_to_fetch(str(location)))
    found = replace(nothing, place=str(place))
    return _load_checkpoint(config, found) if load else found


def _load_checkpoint(config: BackboneConfig, found: CheckpointState) -> CheckpointState:
    from ..editors import Backbone
    from .models import silence_libraries

    silence_libraries()
    try:
        backbone = Backbone.load(config, found.kind)
        backbone.require(found.kind, next(name for name, entry in EDITORS.items() if entry.kind == found.kind))
        if found.kind == "smartedit":
            # Its language model is looked for and not loaded: it is larger than all else together.
            require_smartedit(config)
    except ModelError as error:
        return replace(found, loads=False, note=str(error))
    return replace(found, loads=True, note=f"knows {backbone.preset.knows}" if backbone.preset.knows else "")


def examine_tools(model_dir: Path | None) -> tuple[ToolState, ...]:
    """Find the segmenters and the captioner without loading them or asking the network."""
    grounding = GroundingConfig()
    tools = (
        ToolModel(role="segmenter", model="embedded"),
        ToolModel(role="detector", model=grounding.detector),
        ToolModel(role="sam", model=grounding.sam),
        ToolModel(role="segmenter", model=grounding.clipseg),
        ToolModel(role="captioner", model=CaptionerConfig().model),
    )
    return tuple(_examine_tool(tool, model_dir) for tool in tools)


def _examine_tool(tool: ToolModel, model_dir: Path | None) -> ToolState:
    found = ToolState(role=tool.role, model=tool.model, place=None, note="")
    try:
        place = find_tool(tool, model_dir=model_dir)
    except ModelError as error:
        return replace(found, note=str(error))
    if place is None:
        return replace(found, note=_how_to_fetch(tool.model))
    return replace(found, place=str(place), note="knows the blocks world" if tool.model == "embedded" else "")


def _language_server() -> dict[str, Any]:
    """Whether a server could be asked; the key itself is nobody's business."""
    variable = LanguageConfig().api_key_variable
    return {"package": _version("openai"), "variable": variable, "is_set": bool(os.environ.get(variable, "").strip())}


def _how_to_fetch(name: str) -> str:
    return f"fetch it with `hf download {name}`, or put a copy at MODEL_DIR/{name} and pass --model-dir"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    devices: list[dict[str, Any]] = [
        {"name": "cpu", "cores": os.cpu_count(), "threads": torch.get_num_threads(), "model": platform.processor()}
    ]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = round(properties.total_memory / 1e9, 1)
        devices.append({"name": f"cuda:{number}", "model": properties.name, "memory_gb": memory})
    return devices


def _find_ffmpeg() -> dict[str, str | None]:
    """The one in the path, which nerfstudio's commands want, and the encoder that clips are written with."""
    from av.codec import codecs_available

    encoder = next((name for name in ("libx264", "mpeg4") if name in codecs_available), None)
    return {"path": shutil.which("ffmpeg"), "encoder": encoder}


def _memory() -> dict[str, float | None]:
    info = Path("/proc/meminfo")
    if not info.is_file():
        return {"total": None, "available": None}
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    return {
        name: round(int(lines[key].split()[0]) * 1024 / 1e9, 1)
        for name, key in (("total", "MemTotal"), ("available", "MemAvailable"))
    }


def _print_findings(findings: dict[str, Any]) -> None:
    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("python", findings["python"])
    for name, value in findings["packages"].items():
        absent = "not installed, only asking a server needs it" if name == "openai" else "[red]not installed[/red]"
        table.add_row(name, value or absent)
    table.add_row("ns-train", ", ".join(findings["ns_train_methods"]) or "[red]no method: install maskedit again[/red]")
    for device in findings["devices"]:
        memory = f", {device['memory_gb']} GB" if "memory_gb" in device else ""
        cores = f", {device['cores']} cores, {device['threads']} threads" if "cores" in device else ""
        table.add_row(device["name"], f"{device['model']}{memory}{cores}".removeprefix(", "))
    ffmpeg = findings["ffmpeg"]
    table.add_row("ffmpeg", ffmpeg["path"] or "not in the path: ns-render needs it there")
    table.add_row(
        "clips", f"written with {ffmpeg['encoder']}" if ffmpeg["encoder"] else "[red]no encoder for mp4[/red]"
    )
    memory = findings["memory_gb"]
    table.add_row("memory", f"{memory['available']} of {memory['total']} GB free")
    table.add_row("disk", f"{findings['disk_free_gb']} GB free here")
    for state in findings["checkpoints"]:
        words = {True: "loads", False: "[red]does not load[/red]", None: "found" if state["place"] else "not here"}
        table.add_row(f"{state['kind']} {state['model']}", f"{words[state['loads']]} {state['note']}".strip())
    for state in findings["tools"]:
        found = "found" if state["place"] else "not here"
        table.add_row(f"{state['role']} {state['model']}", f"{found} {state['note']}".strip())
    server = findings["language_server"]
    table.add_row("key of a language server", f"{server['variable']} is {'set' if server['is_set'] else 'not set'}")
    for name, editor in findings["editors"].items():
        table.add_row(f"editor {name}", _describe_editor(editor))
    console.print(table)


def _describe_editor(editor: dict[str, Any]) -> str:
    if not editor["usable"]:
        return f"needs a checkpoint: {editor['needs']}"
    blind = editor["masks_only"]
    sighted = [model for model in editor["usable"] if model not in blind]
    able = [f"ready with {', '.join(sighted)}"] if sighted else []
    if blind:
        able.append(f"only where a mask is given with {', '.join(blind)}: no {' and no '.join(editor['missing'])} here")
    return "; ".join(able)
