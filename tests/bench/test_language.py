"""The language bench: what counts as right, what is reported, and how the rules do on the development cases."""

import json
from pathlib import Path

import pytest

from maskedit.bench.language import LanguageCase, judge, load_cases, run_language_bench
from maskedit.editors import InputError, LanguageConfig, LanguageProcessor, make_language

RED = LanguageCase(
    instruction="make the red cube blue",
    kind="recolor",
    phrases=("Red cube",),
    texts=1,
    input_has=("RED cube",),
    input_lacks=("blue",),
    edited_has=("blue cube",),
    edited_lacks=("red",),
)


@pytest.fixture(scope="module")
def rules() -> LanguageProcessor:
    return make_language(LanguageConfig())


def changed(**fields: object) -> LanguageCase:
    return LanguageCase(**{**vars(RED), **fields})


def test_what_is_expected_is_right(rules: LanguageProcessor) -> None:
    verdict = judge(RED, rules)
    assert verdict.right and verdict.phrases and verdict.edits and verdict.captions


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        (changed(phrases=("cube",)), "phrases"),
        (changed(phrases=("red cube", "ball")), "phrases"),
        (changed(texts=2), "edits"),
        (changed(input_has=("green",)), "captions"),
        (changed(edited_lacks=("cube",)), "captions"),
        (changed(edited_has=("red cube",)), "captions"),
    ],
)
def test_every_part_is_looked_at(case: LanguageCase, wrong: str, rules: LanguageProcessor) -> None:
    verdict = judge(case, rules)
    assert not verdict.right
    assert [part for part in ("phrases", "edits", "captions") if not getattr(verdict, part)] == [wrong]


def test_lacking_means_whole_words(rules: LanguageProcessor) -> None:
    assert judge(changed(edited_lacks=("cub", "re")), rules).right


def test_refusals_are_right_where_they_are_wanted(rules: LanguageProcessor) -> None:
    nothing = LanguageCase(instruction="hello", kind="refused", error=True)
    assert judge(nothing, rules).right
    assert not judge(changed(instruction="hello"), rules).right
    assert not judge(changed(error=True), rules).right


def test_the_document_has_kinds_and_failures(tmp_path: Path, rules: LanguageProcessor) -> None:
    path = tmp_path / "few.json"
    hello = {"instruction": "hello", "description": None, "kind": "refused", "error": True}
    path.write_text(json.dumps([vars(RED), vars(changed(texts=2)), hello]))
    document = run_language_bench(path, rules)
    rows = {row["set"]: row for row in document["rows"]}
    assert rows["few"]["cases"] == 3 and rows["few"]["right"] == pytest.approx(2 / 3)
    assert rows["few/recolor"]["right"] == 0.5 and rows["few/recolor"]["phrases"] == 1
    assert rows["few/refused"]["right"] == 1 and rows["few/refused"]["phrases"] is None
    (failure,) = document["failures"]
    assert failure["wrong"] == ["edits"] and failure["got"]["edited_caption"] == "photo of a blue cube"
    assert json.loads(json.dumps(document))
    assert "failures" not in run_language_bench(path, rules, show_failures=False)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"instruction": "a", "kind": "b", "odd": 1}]'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    with pytest.raises(InputError, match="expected a list of language cases"):
        load_cases(path)
    with pytest.raises(InputError, match="expected a list of language cases"):
        load_cases(tmp_path / "missing.json")


def test_the_rules_understand_the_development_cases(repository: Path, rules: LanguageProcessor) -> None:
    document = run_language_bench(repository / "bench" / "language_cases" / "dev.json", rules)
    assert document["rows"][0]["right"] >= 0.97, document["failures"]
