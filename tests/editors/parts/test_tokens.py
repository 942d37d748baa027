"""One row of tokens from several instructions (FoI's invariant I10), and the lines for what does not fit."""

import pytest
import torch
from transformers import CLIPTokenizer

from maskedit.editors import InputError, Instruction, compose_instructions
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.tokens import SPECIAL, word_ids

TWO = (
    Instruction(text="make the cube red", keyword="cube"),
    Instruction(text="add a hat to the ball", keyword="hat"),
)


@pytest.fixture(scope="module")
def tokenizer(backbone: Backbone) -> CLIPTokenizer:
    return backbone.tokenizer


def test_i10_the_row_is_the_tokenised_joined_text(tokenizer: CLIPTokenizer) -> None:
    for instructions in (TWO[:1], TWO, (*TWO, Instruction(text="Delete it!", keyword="it"))):
        layout = compose_instructions(instructions, tokenizer)
        expected = tokenizer(layout.prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        assert torch.equal(layout.ids, expected)


def test_i10_keyword_columns_decode_to_the_keyword(tokenizer: CLIPTokenizer) -> None:
    layout = compose_instructions(TWO, tokenizer)
    for columns, instruction in zip(layout.keyword_columns, TWO, strict=True):
        assert tokenizer.decode(layout.ids[0, list(columns)]).strip() == instruction.keyword


def test_every_piece_of_every_word_of_a_keyword_counts(tokenizer: CLIPTokenizer) -> None:
    """The tiny tokenizer has one token a letter, so a word has many pieces."""
    (columns,) = compose_instructions(
        (Instruction(text="make the red cube blue", keyword="red cube"),), tokenizer
    ).keyword_columns
    assert len(columns) == len(word_ids("red cube", tokenizer)) > 2
    assert list(columns) == list(range(columns[0], columns[0] + len(columns)))


def test_owners_cover_words_and_commas_belong_to_the_instruction_before(tokenizer: CLIPTokenizer) -> None:
    layout = compose_instructions(TWO, tokenizer)
    first, second = (len(word_ids(i.text, tokenizer)) for i in TWO)
    comma = len(word_ids(",", tokenizer))
    owners = [SPECIAL, *[0] * (first + comma), *[1] * second]
    assert layout.segments == (*owners, *[SPECIAL] * (77 - len(owners)))
    assert layout.prompt_columns == tuple(range(1, len(owners)))


def test_start_end_and_padding_are_those_of_the_tokenizer(tokenizer: CLIPTokenizer) -> None:
    layout = compose_instructions(TWO, tokenizer)
    ids = layout.ids[0].tolist()
    assert ids[0] == tokenizer.bos_token_id
    end = len(layout.prompt_columns) + 1
    assert ids[end] == tokenizer.eos_token_id
    assert ids[end + 1 :] == [tokenizer.pad_token_id] * (76 - end)


def test_trailing_punctuation_does_not_double_the_comma(tokenizer: CLIPTokenizer) -> None:
    layout = compose_instructions((Instruction(text="make it red. "), Instruction(text="remove the hat;")), tokenizer)
    assert layout.prompt == "make it red, remove the hat"


def test_a_missing_keyword_is_chosen(tokenizer: CLIPTokenizer) -> None:
    assert compose_instructions((Instruction(text="make the red cube blue"),), tokenizer).keywords == ("red cube",)


def test_case_does_not_matter(tokenizer: CLIPTokenizer) -> None:
    (columns,) = compose_instructions(
        (Instruction(text="Make the CUBE red", keyword="cube"),), tokenizer
    ).keyword_columns
    assert len(columns) == 4


def test_the_same_keyword_in_two_instructions_has_its_own_columns(tokenizer: CLIPTokenizer) -> None:
    twice = (Instruction(text="make the cube red", keyword="cube"), Instruction(text="move the cube", keyword="cube"))
    first, second = compose_instructions(twice, tokenizer).keyword_columns
    assert max(first) < min(second)


@pytest.mark.parametrize("keyword", ["cub", " "])
def test_a_keyword_of_half_a_word_is_one_clear_line(tokenizer: CLIPTokenizer, keyword: str) -> None:
    instruction = Instruction(text="make the cube red", keyword=keyword)
    with pytest.raises(
        InputError, match=f"keyword '{keyword}' does not occur as whole words in 'make the cube red'"
    ) as caught:
        compose_instructions((instruction,), tokenizer)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_one_clear_line(tokenizer: CLIPTokenizer) -> None:
    """Truncating would drop the last instruction silently."""
    long = Instruction(text=f"make the cube {'very' * 10} big", keyword="cube")
    compose_instructions((long,), tokenizer)
    with pytest.raises(InputError, match="expected at most 75 tokens of instructions, got 109: shorten") as caught:
        compose_instructions((long, long), tokenizer)
    assert "\n" not in str(caught.value)


def test_75_tokens_fit_and_76_do_not(tokenizer: CLIPTokenizer) -> None:
    layout = compose_instructions((Instruction(text="cube " + "a" * 71, keyword="cube"),), tokenizer)
    assert layout.segments[0] == layout.segments[-1] == SPECIAL
    assert len(layout.prompt_columns) == 75
    with pytest.raises(InputError, match="got 76"):
        compose_instructions((Instruction(text="cube " + "a" * 72, keyword="cube"),), tokenizer)


def test_counting_tokens_says_nothing_by_itself(tokenizer: CLIPTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError):
        compose_instructions((Instruction(text="a" * 200, keyword="a" * 200),), tokenizer)
    assert not caplog.records


def test_nothing_but_punctuation_is_refused(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(InputError):
        compose_instructions((Instruction(text="..."),), tokenizer)
