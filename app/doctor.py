"""`maskedit doctor`: what is installed, which checkpoints are here, and what each editor still needs."""

import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..editors import PUBLISHED, BackboneConfig, ModelError, locate_checkpoint

PACKAGES = ("maskedit", "torch", "torchvision", "diffusers", "transformers", "nerfstudio", "segment-anything")
METHODS = "nerfstudio.method_configs"
"""Where nerfstudio looks for methods of other packages."""
EDITORS = {"foi": ("instruct-pix2pix",), "ip2p": ("instruct-pix2pix",)}
"""Kinds of checkpoint that each editor needs."""


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """What is known about a checkpoint that editors could use."""

    model: str
    """As given to --model."""
    kind: str
    place: str | None
    """Folder; None = not on this machine."""
    loads: bool | None
    """Whether every network of it could be loaded; None = not tried."""
    note: str
    """What to do about it, or what it is for."""


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

    def run(self) -> None:
        """Examine everything and print it."""
        findings = self.examine()
        if self.json:
            print(json.dumps(findings, indent=2))
        else:
            _print_findings(findings)

    def examine(self) -> dict[str, Any]:
        """Everything that is found, as JSON can hold it."""
        names = ["embedded", PUBLISHED["instruct-pix2pix"], *([self.model] if self.model else [])]
        configs = [BackboneConfig(model=name, model_dir=self.model_dir, offline=True, device="cpu") for name in names]
        checkpoints = [examine_checkpoint(config, load=self.load) for config in configs]
        usable = [state.model for state in checkpoints if state.place is not None and state.loads is not False]
        return {
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "ns_train_methods": sorted(e.name for e in entry_points(group=METHODS) if e.value.startswith("maskedit.")),
            "devices": _devices(),
            "ffmpeg": _find_ffmpeg(),
            "memory_gb": _memory(),
            "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
            "checkpoints": [asdict(state) for state in checkpoints],
            "editors": {
                name: {"needs": list(kinds), "usable": usable, "missing": [] if usable else list(kinds)}
                for name, kinds in EDITORS.items()
            },
        }


def examine_checkpoint(config: BackboneConfig, *, load: bool) -> CheckpointState:
    """Find a checkpoint without asking the network, and try to load it."""
    kind = "instruct-pix2pix"
    try:
        location = locate_checkpoint(config)
    except ModelError as error:
        return CheckpointState(model=config.model_for(kind), kind=kind, place=None, loads=None, note=str(error))
    place = location if isinstance(location, Path) else _in_hub_cache(location)
    if place is None:
        note = f"fetch it with `hf download {location}`, or put a copy at MODEL_DIR/{location} and pass --model-dir"
        return CheckpointState(model=config.model_for(kind), kind=kind, place=None, loads=None, note=note)
    found = CheckpointState(model=config.model_for(kind), kind=kind, place=str(place), loads=None, note="")
    return _load_checkpoint(config, found) if load else found


def _load_checkpoint(config: BackboneConfig, found: CheckpointState) -> CheckpointState:
    from ..editors import Backbone
    from .models import silence_libraries

    silence_libraries()
    try:
        backbone = Backbone.load(config)
        backbone.require("instruct-pix2pix", "foi")
    except ModelError as error:
        return replace(found, loads=False, note=str(error))
    return replace(found, loads=True, note=f"knows {backbone.preset.knows}" if backbone.preset.knows else "")


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "model_index.json")
    return Path(found).parent if isinstance(found, str) else None


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
    """The one in the path, which nerfstudio's commands want, and the one of imageio, which maskedit uses."""
    import imageio_ffmpeg

    try:
        bundled: str | None = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        bundled = None
    return {"path": shutil.which("ffmpeg"), "bundled": bundled}


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
        table.add_row(name, value or "[red]not installed[/red]")
    table.add_row("ns-train", ", ".join(findings["ns_train_methods"]) or "[red]no method: install maskedit again[/red]")
    for device in findings["devices"]:
        memory = f", {device['memory_gb']} GB" if "memory_gb" in device else ""
        cores = f", {device['cores']} cores, {device['threads']} threads" if "cores" in device else ""
        table.add_row(device["name"], f"{device['model']}{memory}{cores}".removeprefix(", "))
    ffmpeg = findings["ffmpeg"]
    table.add_row("ffmpeg", ffmpeg["path"] or "not in the path: ns-render needs it there")
    table.add_row("ffmpeg of imageio", ffmpeg["bundled"] or "[red]missing: no videos[/red]")
    memory = findings["memory_gb"]
    table.add_row("memory", f"{memory['available']} of {memory['total']} GB free")
    table.add_row("disk", f"{findings['disk_free_gb']} GB free here")
    for state in findings["checkpoints"]:
        words = {True: "loads", False: "[red]does not load[/red]", None: "found" if state["place"] else "not here"}
        table.add_row(f"model {state['model']}", f"{words[state['loads']]} {state['note']}".strip())
    for name, editor in findings["editors"].items():
        able = f"ready with {', '.join(editor['usable'])}"
        table.add_row(f"editor {name}", able if editor["usable"] else f"needs {', '.join(editor['missing'])}")
    console.print(table)
