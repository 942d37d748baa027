"""Where models are: local copies first, what options name and no more, and a refusal before anything is loaded."""

import shutil
from pathlib import Path

import pytest

from maskedit.editors import (
    BackboneConfig,
    CaptionerConfig,
    DiffEditConfig,
    EditorConfig,
    FoIConfig,
    GroundingConfig,
    InpaintConfig,
    InstructEditConfig,
    IP2PConfig,
    LanguageConfig,
    ModelError,
    SmartEditConfig,
    VisiiConfig,
)
from maskedit.editors.parts.places import (
    ToolModel,
    find_in_cache,
    find_tool,
    fingerprint_tool,
    locate_pretrained,
    locate_sam,
    named_tools,
    require_models,
)

CHAT = LanguageConfig(provider="chat", model="owner/chat", revision="v1")
CAPTIONER = CaptionerConfig(enabled=True, model="owner/captioner")
DETECTOR, SAM = GroundingConfig().detector, GroundingConfig().sam


@pytest.fixture
def copy(clipseg_folder: Path, tmp_path: Path) -> Path:
    """A tiny checkpoint where a model folder would have it."""
    place = tmp_path / "owner" / "clipseg"
    place.parent.mkdir()
    place.symlink_to(clipseg_folder)
    return place


def test_local_copies_come_first(copy: Path, tmp_path: Path) -> None:
    assert locate_pretrained("owner/clipseg", role="clipseg", model_dir=tmp_path) == copy
    assert locate_pretrained("other/clipseg", role="clipseg", model_dir=tmp_path / "owner") == copy
    assert locate_pretrained(str(copy), role="clipseg", model_dir=tmp_path / "elsewhere") == copy
    assert locate_pretrained("owner/absent", role="clipseg", model_dir=tmp_path / "owner") == "owner/absent"


@pytest.mark.parametrize("name", ["absent", "./absent", "/absent/clipseg", "a/b/c"])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=rf"folder or a hub id owner/name as the detector, found nothing at '{name}'"):
        locate_pretrained(name, role="detector", model_dir=None)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json in .*: expected a detector in transformers layout"):
        locate_pretrained(str(tmp_path), role="detector", model_dir=None)


def test_a_file_of_sam_that_is_nowhere_says_where_to_get_it(sam_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights of SAM at 'absent.pth': fetch .* --grounding.sam FILE") as caught:
        locate_sam("absent.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=f"at 'absent.pth' nor in {tmp_path}"):
        locate_sam("absent.pth", model_dir=tmp_path)
    assert locate_sam(sam_file.name, model_dir=sam_file.parent) == sam_file
    assert locate_sam(f"elsewhere/{sam_file.name}", model_dir=sam_file.parent) == sam_file


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (IP2PConfig(), {}, []),
        (FoIConfig(), {}, []),
        (FoIConfig(language=CHAT), {}, [("chat model", "owner/chat")]),
        (FoIConfig(language=CHAT, split=False), {}, []),
        (DiffEditConfig(captioner=CAPTIONER), {}, [("captioner", "owner/captioner")]),
        (DiffEditConfig(captioner=CAPTIONER, language=CHAT), {"reads": False}, []),
        (InstructEditConfig(), {}, [("detector", DETECTOR), ("sam", SAM)]),
        (InstructEditConfig(), {"embedded": True}, [("segmenter", "embedded")]),
        (InstructEditConfig(grounding=GroundingConfig(segmenter="clipseg", clipseg="a/b")), {}, [("segmenter", "a/b")]),
        (InpaintConfig(), {"looks": False}, []),
        (InpaintConfig(global_edit=True), {}, []),
        (SmartEditConfig(), {}, []),
        (SmartEditConfig(), {"phrases": True}, [("detector", DETECTOR), ("sam", SAM)]),
        (VisiiConfig(), {"phrases": True, "embedded": True}, [("segmenter", "embedded")]),
        (SmartEditConfig(), {"phrases": True, "looks": False}, []),
        (IP2PConfig(), {"phrases": True}, []),
    ],
)
def test_what_options_name(config: EditorConfig, options: dict[str, bool], expected: list[tuple[str, str]]) -> None:
    tools = named_tools(config, **{"embedded": False, **options})
    assert [(tool.role, tool.model) for tool in tools] == expected


def test_a_tool_is_found_by_the_rules_of_its_kind(copy: Path, sam_file: Path, tmp_path: Path) -> None:
    def find(role: str, model: str) -> Path | None:
        return find_tool(ToolModel(role=role, model=model), model_dir=tmp_path)

    assert find("detector", "owner/clipseg") == copy
    assert find("detector", "nobody/nothing") is None
    assert find("sam", str(sam_file)) == sam_file
    embedded = find("segmenter", "embedded")
    assert embedded is not None and (embedded / "model.safetensors").is_file()
    with pytest.raises(ModelError, match="as the captioner, found nothing"):
        find("captioner", "nothing")


def test_a_tool_is_told_from_the_one_before_in_its_place(clipseg_folder: Path, sam_file: Path, tmp_path: Path) -> None:
    def tell(role: str, model: str, revision: str | None = None) -> str:
        return fingerprint_tool(ToolModel(role=role, model=model, revision=revision), model_dir=tmp_path)

    own = tmp_path / "owner" / "clipseg"
    shutil.copytree(clipseg_folder, own)
    sam = Path(shutil.copy(sam_file, tmp_path))
    for role, model, file in (("segmenter", "owner/clipseg", own / "model.safetensors"), ("sam", sam.name, sam)):
        before = tell(role, model)
        assert tell(role, model) == before
        content = file.read_bytes()
        file.write_bytes(bytes(len(content) - 1) + b"x")
        assert tell(role, model) != before
        file.write_bytes(content)
        assert tell(role, model) == before
    assert tell("chat model", "owner/name", "v1") == "owner/name@v1"
    assert tell("captioner", "owner/name") == "owner/name@default branch"
    with pytest.raises(ModelError, match="no weights of SAM"):
        tell("sam", "absent.pth")


def test_what_the_hub_gave_before_is_found_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("a" * 40)
    assert find_in_cache("owner/name", "config.json") == snapshot
    assert find_in_cache("owner/name", "config.json", "another") is None
    assert find_tool(ToolModel(role="detector", model="owner/name"), model_dir=None) == snapshot


def test_nothing_is_refused_that_is_here(sd_folder: Path, copy: Path, tmp_path: Path) -> None:
    checkpoint = BackboneConfig(model=str(sd_folder), model_dir=tmp_path, offline=True)
    grounding = GroundingConfig(segmenter="clipseg", clipseg="owner/clipseg")
    require_models(InstructEditConfig(grounding=grounding), checkpoint, "text-to-image")
    require_models(InstructEditConfig(), checkpoint, "text-to-image", looks=False)
    require_models(InstructEditConfig(), BackboneConfig(model="embedded", offline=True), "text-to-image")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nobody/nothing", DiffEditConfig(), "the checkpoint nobody/nothing is not on this machine"),
        ("{sd}", InstructEditConfig(), f"the detector {DETECTOR} is not on this machine"),
        ("{sd}", DiffEditConfig(captioner=CAPTIONER), "the captioner owner/captioner is not on this machine"),
        ("{sd}", DiffEditConfig(language=CHAT), "the chat model owner/chat is not on this machine"),
        ("embedded", InpaintConfig(grounding=GroundingConfig(segmenter="grounded-sam")), "the detector"),
    ],
)
@pytest.mark.parametrize("offline", [True, False])
def test_what_is_not_here_is_refused_before_anything_is_loaded(
    model: str,
    options: EditorConfig,
    message: str,
    offline: bool,
    sd_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without a network the hub's client would try for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checkpoint = BackboneConfig(model=model.format(sd=sd_folder), model_dir=tmp_path, offline=offline)
    with pytest.raises(ModelError, match=message) as caught:
        require_models(options, checkpoint, "text-to-image")
    said = str(caught.value)
    assert ("and --offline asks no further" in said) == offline
    assert ("and the hub does not give it (" in said) != offline
    assert "\n" not in said
