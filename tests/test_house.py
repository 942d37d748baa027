"""Rules of the house that hold for every file: one loop, one place for devices, light imports, no local traces."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FOLDERS = ("editors", "plugin", "video", "bench", "configs", "app")
MAX_LINES = 400
PUBLIC_HOSTS = {
    "127.0.0.1",
    "arxiv.org",
    "docs.nerf.studio",
    "doi.org",
    "example.com",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "localhost",
    "semver.org",
    "www.apache.org",
}

Rule = Callable[[ast.AST], str | None]


def terminal_name(node: ast.AST) -> str:
    """`step` of `self.scheduler.step`, `unet` of `unet`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def samples_by_itself(node: ast.AST) -> str | None:
    """Calls of a UNet or of a scheduler's step, and loops over timesteps: they belong to editors/core."""
    if isinstance(node, ast.Call):
        called = terminal_name(node.func)
        owner = terminal_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if called == "unet" or (called == "forward" and owner == "unet"):
            return "calls a UNet"
        if called == "step" and owner.endswith("scheduler") and not owner.startswith("lr_"):
            return "steps a scheduler"
    if isinstance(node, ast.For | ast.AsyncFor):
        names = {terminal_name(part) for part in (*ast.walk(node.iter), *ast.walk(node.target))}
        if any(name.lstrip("_") in {"timestep", "timesteps"} for name in names):
            return "loops over timesteps"
    return None


def chooses_device_or_dtype(node: ast.AST) -> str | None:
    """Hard-coded CUDA devices and half precision: they belong to editors/core/backbone.py."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        called = node.func.attr
        return f"calls .{called}()" if called in {"cuda", "half", "bfloat16"} else None
    if isinstance(node, ast.Attribute) and terminal_name(node.value) == "torch":
        return f"names torch.{node.attr}" if node.attr in {"float16", "half", "bfloat16"} else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"cuda(:\d+)?", node.value):
        return f"names the device {node.value!r}"
    return None


def broken(rule: Rule, sources: dict[str, str], *, except_under: str) -> list[str]:
    """Where source files break a rule."""
    return [
        f"{path}:{getattr(node, 'lineno', 0)}: {complaint}"
        for path, text in sources.items()
        if not path.startswith(except_under)
        for node in ast.walk(ast.parse(text))
        if (complaint := rule(node))
    ]


def source_files(root: Path) -> Iterator[Path]:
    """Every source file of the project."""
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


@pytest.fixture(scope="module")
def sources(repository: Path) -> dict[str, str]:
    return {path.relative_to(repository).as_posix(): path.read_text("utf-8") for path in source_files(repository)}


@pytest.fixture(scope="module")
def python_files(repository: Path, sources: dict[str, str]) -> dict[str, str]:
    """Sources and tests."""
    tests = {p.relative_to(repository).as_posix(): p.read_text("utf-8") for p in (repository / "tests").rglob("*.py")}
    return sources | tests


def test_only_the_core_samples(sources: dict[str, str]) -> None:
    assert not broken(samples_by_itself, sources, except_under="editors/core/")


def test_only_the_backbone_chooses_device_and_dtype(sources: dict[str, str]) -> None:
    assert not broken(chooses_device_or_dtype, sources, except_under="editors/core/backbone.py")


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (samples_by_itself, "noise_pred = self.unet(latents, timestep)"),
        (samples_by_itself, "unet.forward(latents)"),
        (samples_by_itself, "backbone.scheduler.step(noise_pred, t, latents)"),
        (samples_by_itself, "for t in scheduler.timesteps: pass"),
        (samples_by_itself, "for i, timestep in enumerate(plan): pass"),
        (chooses_device_or_dtype, "model.cuda()"),
        (chooses_device_or_dtype, "model.half()"),
        (chooses_device_or_dtype, "x = x.to('cuda')"),
        (chooses_device_or_dtype, "x = x.to(device='cuda:0')"),
        (chooses_device_or_dtype, "dtype = torch.bfloat16"),
    ],
)
def test_offences_are_found(rule: Rule, line: str) -> None:
    (found,) = broken(rule, {"editors/x.py": line}, except_under="editors/core/")
    assert found.startswith("editors/x.py:1: ")


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (samples_by_itself, "optimizer.step(); lr_scheduler.step(); handle.step = 3"),
        (samples_by_itself, "shown = tuple(int(t) for t in timesteps)"),
        (samples_by_itself, "unet = backbone.unet"),
        (chooses_device_or_dtype, "available = torch.cuda.is_available()"),
        (chooses_device_or_dtype, "side = block.half; x = x.to(image.device, image.dtype)"),
        (chooses_device_or_dtype, "message = 'needs a cuda device'"),
    ],
)
def test_harmless_lines_pass(rule: Rule, line: str) -> None:
    assert not broken(rule, {"editors/x.py": line}, except_under="editors/core/")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["maskedit.plugin.config", "maskedit.editors", "maskedit.configs", "maskedit.app.cli"]
)
def test_import_is_light(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'diffusers', 'transformers', 'segment_anything'} & set(sys.modules)\n"
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_every_module_says_what_it_is_for(python_files: dict[str, str]) -> None:
    assert not [path for path, text in python_files.items() if not ast.get_docstring(ast.parse(text))]


def test_files_stay_small(python_files: dict[str, str]) -> None:
    lengths = {path: len(text.splitlines()) for path, text in python_files.items()}
    assert not {path: length for path, length in lengths.items() if length > MAX_LINES}


def test_files_are_named_for_their_subject(python_files: dict[str, str]) -> None:
    vague = {"utils", "helpers", "common", "misc", "util"}
    assert not [path for path in python_files if Path(path).stem.removeprefix("test_") in vague]


def test_annotations_with_tensors_are_evaluated(sources: dict[str, str]) -> None:
    assert not [path for path, text in sources.items() if "jaxtyping" in text and "from __future__ import ann" in text]


def test_protocols_can_be_checked_at_run_time(sources: dict[str, str]) -> None:
    """The shape checks look at every argument, and can look at a Protocol only if it is `runtime_checkable`."""
    assert not [
        f"{path}:{node.lineno}: {node.name}"
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and "Protocol"
        in {terminal_name(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases}
        and "runtime_checkable" not in {terminal_name(decorator) for decorator in node.decorator_list}
    ]


def test_every_source_folder_is_packaged(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(repository) for path in source_files(repository)}
    assert sorted(settings["packages"]) == sorted(".".join(("maskedit", *folder.parts)) for folder in folders)
    assert settings["package-dir"] == {f"maskedit.{folder}": folder for folder in FOLDERS}
    assert not [folder for folder in folders if not (repository / folder / "__init__.py").exists()]


def text_files(root: Path) -> Iterator[Path]:
    """Files that are part of the project, as git knows them; every file where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    hidden = {".git", ".venv", "outputs", "build", "dist", "__pycache__", ".pytest_cache", ".ruff_cache"}
    paths = [root / name for name in listing.stdout.split("\0") if name]
    if listing.returncode:
        paths = [p for p in root.rglob("*") if not hidden & set(p.relative_to(root).parts)]
    for path in paths:
        if path.is_file() and b"\0" not in path.read_bytes()[:4096]:
            yield path


def local_traces(text: str) -> list[str]:
    """Paths of somebody's machine, hosts that are not public and addresses of package indexes."""
    found = re.findall(r"(?<![\w./~\]])/(?:root|home|work|Users|mnt|builds?|workspace)/\w[\w./-]*", text)
    found += re.findall(r"^\s*--?(?:extra-)?(?:index-url|find-links|trusted-host)\b.*$", text, flags=re.MULTILINE)
    hosts = re.findall(r"https?://([\w.-]+)", text)
    return found + [host for host in hosts if host.rstrip(".") not in PUBLIC_HOSTS]


def test_no_file_tells_where_it_was_written(repository: Path) -> None:
    traces = {path: local_traces(path.read_text("utf-8", errors="replace")) for path in text_files(repository)}
    assert not {path.name: found for path, found in traces.items() if found}


def test_the_lock_file_holds_versions_only(repository: Path) -> None:
    lines = (repository / "requirements.lock").read_text("utf-8").splitlines()
    odd = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)?", line)]
    assert lines
    assert not odd


@pytest.mark.parametrize(
    "text",
    [
        "folder = '/" + "home/somebody/data'",
        "cd /" + "work/project && make",
        "--" + "index-url https://example.com/simple",
        "https:" + "//packages.private.invalid/simple",
    ],
)
def test_local_traces_are_found(text: str) -> None:
    assert local_traces(text)


def test_public_addresses_pass() -> None:
    assert not local_traces("see https://arxiv.org/abs/2211.09800. and ~/work/notes, shared/work/a, a/home/b")
