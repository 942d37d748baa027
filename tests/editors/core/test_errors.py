"""Errors a user can meet are one family, in one line each, with what is needed to act on them."""

import pytest

from maskedit.editors import InputError, MaskeditError, MissingExtraError, ModelError, NothingFoundError, SessionError

EVERY = [
    InputError("expected a picture"),
    ModelError("no checkpoint"),
    SessionError("cannot read"),
    NothingFoundError("the hat", score=0.12345, threshold=0.55),
    MissingExtraError("groundingdino", purpose="finding objects", install="pip install x"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_every_error_is_one_line_of_one_family(error: MaskeditError) -> None:
    assert isinstance(error, MaskeditError)
    assert str(error)
    assert "\n" not in str(error)


def test_nothing_found_carries_its_values() -> None:
    error = NothingFoundError("the hat", score=0.12345, threshold=0.55)
    assert (error.phrase, error.score, error.threshold) == ("the hat", 0.12345, 0.55)
    assert str(error).startswith("nothing found for 'the hat' (best score 0.123, threshold 0.55): ")


def test_nothing_found_needs_no_score() -> None:
    assert "best score" not in str(NothingFoundError("the hat"))


def test_nothing_found_names_the_flag() -> None:
    assert "lower --x.y or give a mask" in str(NothingFoundError("the hat", lower="--x.y"))


def test_missing_extra_says_how_to_install() -> None:
    error = MissingExtraError("groundingdino", purpose="finding objects", install="pip install x")
    assert isinstance(error, ImportError)
    assert str(error) == "finding objects needs the package groundingdino: install it with `pip install x`"


def test_input_errors_are_value_errors() -> None:
    """So that a configuration class may raise them and the command line prints them."""
    assert isinstance(InputError("x"), ValueError)
