"""A transport's answer is believed only when it is one result per forward-path."""

from __future__ import annotations

import pytest

from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.result.check import NonsenseResults, check_results

RESULT = RecipientResult(Outcome.DELIVERED)


def test_one_result_per_forward_path_is_believed() -> None:
    assert check_results((RESULT, RESULT), 2) == (RESULT, RESULT)
    assert check_results([RESULT], 1) == (RESULT,)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, 1), (RESULT, 1), ("xx", 2), ((), 1), ((RESULT,), 2), ((RESULT, None), 2), ({}, 0)],
)
def test_anything_else_is_nonsense(answer: object, expected: int) -> None:
    with pytest.raises(NonsenseResults):
        check_results(answer, expected)


def test_an_outcome_of_another_type_is_nonsense() -> None:
    with pytest.raises(NonsenseResults):
        check_results((RecipientResult("delivered"),), 1)  # type: ignore[arg-type]
