"""The embedded set's tokenizer: the words of its world are single tokens, and everything else still tokenises."""

import itertools
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from maskedit.bench.blocks import FIXED_REFERENCES, make_pairs, vocabulary
from maskedit.bench.embedded.tokenizer import build_tokenizer
from maskedit.editors import Instruction, compose_instructions

LENGTH = 48


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(vocabulary(), length=LENGTH)


def ids_of(text: str, tokenizer: CLIPTokenizer) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def test_every_word_of_the_world_is_one_token(tokenizer: CLIPTokenizer):
    # CLIP splits at an apostrophe before any merge.
    words = [word for word in vocabulary() if "'" not in word]
    assert len(words) >= len(vocabulary()) - 1
    assert {word: len(ids_of(word, tokenizer)) for word in words} == dict.fromkeys(words, 1)
    assert len({ids_of(word, tokenizer)[0] for word in words}) == len(words)


def test_instructions_have_as_many_tokens_as_words(tokenizer: CLIPTokenizer):
    for references in (None, FIXED_REFERENCES, {"reasoning": 1.0}):
        for spec in make_pairs("test", range(12), references=references, height=16).specs:
            assert len(ids_of(spec.instruction, tokenizer)) == len(spec.instruction.split()), spec.instruction


@pytest.mark.parametrize("text", ["a zebra, über naïve 汉字", "qubes cubed reddish", "spheroid", "r e d", "cubered"])
def test_unknown_words_come_back(text: str, tokenizer: CLIPTokenizer):
    ids = ids_of(text, tokenizer)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ,", ",") == text


def test_words_that_share_parts_do_not_spoil_each_other():
    words = ["".join(letters) for length in (1, 2, 3, 4) for letters in itertools.product("ab", repeat=length)]
    tokenizer = build_tokenizer(words, length=16)
    assert all(len(ids_of(word, tokenizer)) == 1 for word in words)


def test_the_order_of_the_words_does_not_matter(tokenizer: CLIPTokenizer):
    shuffled = build_tokenizer([*reversed(vocabulary()), *vocabulary()], length=LENGTH)
    assert shuffled.get_vocab() == tokenizer.get_vocab()


def test_special_tokens_are_the_last_two(tokenizer: CLIPTokenizer):
    start, end = len(tokenizer) - 2, len(tokenizer) - 1
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (start, end, end)
    padded = tokenizer("red", padding="max_length", max_length=5).input_ids
    assert padded == [start, *ids_of("red", tokenizer), end, end, end]
    assert tokenizer.model_max_length == LENGTH


def test_keyword_columns_hold_the_keyword(tokenizer: CLIPTokenizer):
    for spec in make_pairs("test", range(20), edits=2, height=16).specs:
        layout = compose_instructions([Instruction(text=e.text, keyword=e.keyword) for e in spec.edits], tokenizer)
        for edit, columns in zip(spec.edits, layout.keyword_columns, strict=True):
            assert tokenizer.decode(layout.ids[0, list(columns)]) == edit.keyword


def test_a_saved_tokenizer_reads_alike(tokenizer: CLIPTokenizer, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("make the large red sphere blue", "a zebra"):
        assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == LENGTH
