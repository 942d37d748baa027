"""A SmartEdit written in the published layout comes back bit for bit, and what does not belong together is refused."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from maskedit.editors.core.architectures import INSTRUCT_PIX2PIX
from maskedit.editors.core.bases import locate_part
from maskedit.editors.core.checkpoint import BackboneConfig, load_preset
from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.smartedit.architecture import SmartEditArchitecture
from maskedit.editors.smartedit.convert import convert_smartedit, network_shapes, read_llava_config
from maskedit.editors.smartedit.convert_plan import check_plan, count_rows, make_plan, read_architecture
from maskedit.editors.smartedit.convert_release import SmartEditConversion
from maskedit.editors.smartedit.files import load_smartedit

CPU = BackboneConfig(device="cpu", offline=True)


def load_beside(name: str) -> Any:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_beside("published_files").publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def converted(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_smartedit(task_of(published, tmp_path_factory.mktemp("converted") / "ours"), CPU)


def task_of(published: Any, output: Path, **changes: Any) -> SmartEditConversion:
    places = {"release": published.release, "llava": published.llava}
    return SmartEditConversion(
        **{**places, "clip": str(published.clip), "base": str(published.base), "output": output, **changes}
    )


def test_every_weight_comes_back(published: Any, converted: Path) -> None:
    loaded = load_smartedit(converted, CPU)
    assert loaded.architecture == published.model.architecture
    before, after = published.model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    differing = [name for name, each in before.items() if not torch.equal(each, after[name])]
    assert not differing
    unet = UNet2DConditionModel.from_pretrained(str(converted), subfolder="unet")
    for name, each in published.unet.state_dict().items():
        assert torch.equal(each, unet.state_dict()[name])


def test_it_says_what_the_source_says(published: Any, converted: Path) -> None:
    loaded, image = load_smartedit(converted, CPU), torch.rand(2, 3, 40, 50)
    results = []
    for model in (published.model, loaded):
        reading = model.read(image, ["make it red", "remove the smaller one"])
        results.append((*model.condition(reading, (5, 6)), reading.talk_loss))
    for source, ours in zip(*results, strict=True):
        assert torch.equal(source, ours)


def test_parts_of_the_base_are_named_and_not_copied(published: Any, converted: Path) -> None:
    preset = load_preset(converted)
    assert (converted / preset.base).resolve() == published.base.resolve()
    assert not (converted / "vae").exists()
    options = json.loads((converted / "adapter" / "adapter_config.json").read_text())
    assert (options["r"], options["lora_alpha"], sorted(options["target_modules"])) == (8, 16, ["q_proj", "v_proj"])
    assert not [path for path in converted.rglob("*") if path.suffix in {".bin", ".pt", ".partial"}]


def test_it_is_run_at_the_size_it_learned_at(published: Any, converted: Path, tmp_path: Path) -> None:
    base = copied(published.base, tmp_path / "base")
    path = base / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": 64}))
    folder = convert_smartedit(task_of(published, tmp_path / "out", base=str(base)), CPU)
    for each in (folder, converted):
        assert json.loads((each / "unet" / "config.json").read_text())["sample_size"] == 32


def test_a_base_is_found_through_links_and_homes(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er", target_is_directory=True)
    folder = convert_smartedit(task_of(published, tmp_path / "link" / "out"), CPU)
    assert locate_part(folder, "vae", CPU)[0].resolve() == published.base.resolve()
    monkeypatch.setenv("HOME", str(published.base.parent))
    folder = convert_smartedit(task_of(published, tmp_path / "out", base="~/base"), CPU)
    assert locate_part(folder, "vae", CPU)[0].resolve() == published.base.resolve()


def test_a_folder_of_the_user_is_not_in_the_way(published: Any, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").touch()
    convert_smartedit(task_of(published, tmp_path / "out"), CPU)
    assert sorted(path.name for path in tmp_path.rglob("out*")) == ["out", "out.partial"]
    assert (tmp_path / "out.partial" / "mine").is_file()


def test_rounded_copies_pass_and_the_base_is_kept_as_it_is(published: Any, tmp_path: Path) -> None:
    release = copied(published.release, tmp_path / "release")
    path = release / "LLM-15" / "adapter_model.bin"
    torch.save({name: each.to(torch.bfloat16) for name, each in torch.load(path).items()}, path)
    converted = convert_smartedit(task_of(published, tmp_path / "out", release=release), CPU)
    weights = load_file(converted / "mllm" / "model.safetensors")
    layer = "layers.1.mlp.up_proj.weight"
    source = published.model.state_dict()[f"mllm.llava.model.language_model.base_model.model.{layer}"]
    assert torch.equal(weights[f"model.language_model.{layer}"], source)
    # What was trained is written with all bits.
    assert load_file(converted / "smartedit" / "model.safetensors")["new_inputs"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("size", ["7B", "13B"])
def test_published_files_of_full_size_fill_the_full_networks(size: str, tmp_path: Path) -> None:
    names = load_beside("test_convert_names")
    width, layers, inner = names.SIZES[size]
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": 32003}
    sizes |= {"num_attention_heads": width // 128, "mm_vision_select_layer": -2, "torch_dtype": "float16"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "pad_token_id": 0, **sizes}))
    layer = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision = CLIPVisionConfig(**layer, patch_size=14)
    with torch.device("meta"):
        clip = names.shapes_of(CLIPVisionModel(vision).state_dict())
    shapes = {"clip": clip, **names.published(width, layers, inner)}
    architecture = read_architecture(shapes, SmartEditArchitecture())
    assert architecture == SmartEditArchitecture()
    old = count_rows(shapes, architecture)
    llava = read_llava_config(tmp_path, vision, old)
    assert (old, llava.text_config.vocab_size, llava.vision_feature_layer) == (32000, 32000, -2)
    plan = make_plan(shapes, old)
    check_plan(plan, network_shapes(plan, architecture, llava, INSTRUCT_PIX2PIX.unet))


def test_without_an_interaction_module(published: Any, tmp_path: Path) -> None:
    release = copied(published.release, tmp_path / "release")
    shutil.rmtree(release / "modulate-15")
    loaded = load_smartedit(convert_smartedit(task_of(published, tmp_path / "out", release=release), CPU), CPU)
    assert loaded.architecture.interaction == "none"


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "LLM-15/adapter_model.bin",
            {"model.base_model.model.layers.0.extra": torch.ones(2)},
            "1 left over (language: ",
        ),
        ("unet-15/adapter_model.bin", {"unet.conv_in.weight": torch.ones(16, 4, 3, 3)}, "1 of another shape (unet: "),
        ("modulate-15/adapter_model.bin", {"modulate_head.bias": None}, "1 missing (smartedit: interaction."),
        ("embeddings_qformer/checkpoint-15_embeddings_qformer.bin", {"sd_query_tokens": None}, "lack a part"),
        ("LLM-15/adapter_model.bin", {"model.base_model.model.embed_tokens.weight": None}, "of more than 35 rows"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_written(
    published: Any, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    release = copied(published.release, tmp_path / "release")
    tensors = {**torch.load(release / file), **change}
    torch.save({name: each for name, each in tensors.items() if each is not None}, release / file)
    with pytest.raises(ModelError) as error:
        convert_smartedit(task_of(published, tmp_path / "out", release=release), CPU)
    assert message in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_wrong_merge_is_told_in_one_line(published: Any, tmp_path: Path, name: str) -> None:
    llava = copied(published.llava, tmp_path / "llava")
    for path in llava.glob("*.bin"):
        tensors = torch.load(path)
        if name in tensors:
            tensors[name] = tensors[name] + 0.01 * tensors[name].std() * torch.randn(tensors[name].shape)
        torch.save(tensors, path)
    with pytest.raises(ModelError, match="this LLaVA is not the one that SmartEdit learned on") as error:
        convert_smartedit(task_of(published, tmp_path / "out", llava=llava), CPU)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["llava"]


def test_a_llava_of_another_size_is_told_in_one_line(published: Any, tmp_path: Path) -> None:
    llava = copied(published.llava, tmp_path / "llava")
    stored = json.loads((llava / "config.json").read_text())
    (llava / "config.json").write_text(json.dumps({**stored, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"do not fit together: .* missing \(mllm: model.language_model.layers.2"):
        convert_smartedit(task_of(published, tmp_path / "out", llava=llava), CPU)


def test_a_tokenizer_that_cannot_be_read_or_does_not_fit(published: Any, tmp_path: Path) -> None:
    llava = copied(published.llava, tmp_path / "llava")
    (llava / "tokenizer.json").rename(llava / "tokenizer.model")
    with pytest.raises(ModelError, match=r"found a tokenizer\.model, which needs .*: pass --tokenizer"):
        convert_smartedit(task_of(published, tmp_path / "out", llava=llava), CPU)
    other = copied(published.llava, tmp_path / "other")
    stored = json.loads((other / "tokenizer.json").read_text())
    stored["model"]["vocab"] = {word: number + 200 for word, number in stored["model"]["vocab"].items()}
    stored["added_tokens"] = []
    (other / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ModelError, match="does not fit a language model of 264 rows"):
        convert_smartedit(task_of(published, tmp_path / "out", tokenizer=str(other)), CPU)


def test_an_output_that_is_there_is_kept(published: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        convert_smartedit(task_of(published, tmp_path), CPU)


def test_the_words_that_were_published_can_be_taken(published: Any, tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("1.\nHuman: Do [cap] now. \nGPT: Done so [img].\n")
    task = task_of(published, tmp_path / "out", templates=templates, system="Two talk.")
    told: list[str] = []
    style = load_smartedit(convert_smartedit(task, CPU, report=told.append), CPU).mllm.tokenizer.style
    assert not any("--templates" in line for line in told)
    assert (style.system, style.edits) == ("Two talk.", (("Do [edit] now.", "Done so"),))


def test_words_of_our_own_are_told(published: Any, tmp_path: Path) -> None:
    told: list[str] = []
    convert_smartedit(task_of(published, tmp_path / "out"), CPU, report=told.append)
    assert [line.startswith("no --templates: ") for line in told] == [True, False, False]
