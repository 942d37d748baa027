"""A folder of published weights is understood, and so are the words published with them."""

from pathlib import Path

import pytest

from maskedit.editors.core.errors import InputError, ModelError
from maskedit.editors.smartedit.conversation import VICUNA
from maskedit.editors.smartedit.convert_release import find_release, read_chat


def lay_out(folder: Path, steps: int, *, interaction: bool = True) -> None:
    names = [f"LLM-{steps}/adapter_model.bin", f"unet-{steps}/adapter_model.bin"]
    names += [f"embeddings_qformer/checkpoint-{steps}_embeddings_qformer.bin"]
    names += [f"modulate-{steps}/adapter_model.bin"] * interaction
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_last_steps_are_taken_unless_others_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path, 5000, interaction=False)
    lay_out(tmp_path, 15000)
    last, first = find_release(tmp_path), find_release(tmp_path, 5000)
    assert last.weights["language"] == tmp_path / "LLM-15000" / "adapter_model.bin"
    assert set(last.weights) == {"language", "reader", "unet", "interaction"}
    assert set(first.weights) == {"language", "reader", "unet"}
    assert first.adapter is None
    (tmp_path / "adapter_config.json").touch()
    assert find_release(tmp_path).adapter == tmp_path / "adapter_config.json"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"folder LLM-N in .*, found none"):
        find_release(tmp_path)
    lay_out(tmp_path, 15000)
    with pytest.raises(ModelError, match=r"folder LLM-7 in .*, found LLM-15000"):
        find_release(tmp_path, 7)
    (tmp_path / "modulate-15000" / "adapter_model.bin").unlink()
    with pytest.raises(ModelError, match=r"modulate-15000/adapter_model\.bin, found none"):
        find_release(tmp_path)


def test_words_are_read_from_the_published_form(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text(
        "####\n1.\nHuman: Please do [cap]. \nGPT: Sure, done [img].\n\n2.\nHuman: [cap]?\nGPT: Yes [img].\n"
    )
    style = read_chat(path, None)
    assert style.edits == (("Please do [edit].", "Sure, done"), ("[edit]?", "Yes"))
    assert (style.system, style.user, style.captions) == (VICUNA.system, VICUNA.user, VICUNA.captions)
    assert read_chat(None, None) == VICUNA
    assert read_chat(None, "  Two \n talk. ").system == "Two talk."


@pytest.mark.parametrize("text", ["", "Human: do it\nGPT: done", "Human: [cap]", "Human: [cap] [cap]\nGPT: done"])
def test_other_texts_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "templates.txt").write_text(text)
    with pytest.raises(InputError, match="expected pairs of lines"):
        read_chat(tmp_path / "templates.txt", None)
    with pytest.raises(InputError, match="cannot read"):
        read_chat(tmp_path / "absent.txt", None)
