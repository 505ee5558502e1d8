import pytest

from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Assessment
from mailcrane.receive.assessment import header_field_problem, merge_assessments, merge_header_fields

SPF = Assessment("spf", "pass")
DKIM = Assessment("dkim", "fail")


def test_evidence_stands_in_the_order_of_the_plugins() -> None:
    assert merge_assessments([("a", SPF), ("b", [DKIM, SPF])]) == (SPF, DKIM, SPF)


def test_what_is_no_evidence_is_left_out() -> None:
    assert merge_assessments([("a", ["nonsense", SPF])]) == (SPF,)  # type: ignore[list-item]


def test_header_fields_stand_in_the_order_of_the_plugins() -> None:
    first, second = HeaderField("X-A", "1"), HeaderField("X-B", "2")
    assert merge_header_fields([("a", (first,)), ("b", second)]) == (first, second)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nBcc: everyone@example.org"),
        ("X-A", "1\nX-B: 2"),
        ("X-A", "1\r"),
        ("X A", "1"),
        ("X-A:", "1"),
        ("", "1"),
        ("Ümlaut", "1"),
        ("X-A", "\x00"),
        ("X-A", "\ud800"),
        ("X-A", "x" * 1000),
    ],
)
def test_a_field_that_would_break_the_header_is_left_out(name: str, value: str) -> None:
    field = HeaderField(name, value)
    assert header_field_problem(field)
    assert merge_header_fields([("a", field)]) == ()


def test_a_folded_field_is_kept() -> None:
    assert header_field_problem(HeaderField("X-A", "one\r\n\ttwo")) == ""
