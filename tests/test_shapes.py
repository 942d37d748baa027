"""Shape annotations are enforced while tests run: wrong shapes are refused, in one argument and between two."""

import jaxtyping
import pytest
import torch

from maskedit.editors import EditRequest, EditResult, EditTrace, Instruction

INSTRUCTIONS = (Instruction(text="make it blue"),)


def test_right_shapes_pass() -> None:
    request = EditRequest(image=torch.zeros(2, 3, 8, 16), instructions=INSTRUCTIONS)
    assert request.preserved.shape == (2, 3, 8, 16)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 8, 8, 3)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="image"):
        EditRequest(image=torch.zeros(shape), instructions=INSTRUCTIONS)


def test_wrong_dtype_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="image"):
        EditRequest(image=torch.zeros(1, 3, 8, 8, dtype=torch.uint8), instructions=INSTRUCTIONS)


def test_arguments_that_disagree_are_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="mask"):
        EditResult(
            image=torch.zeros(1, 3, 8, 8), mask=torch.zeros(1, 1, 4, 4), masks=(), trace=EditTrace(editor="none")
        )
