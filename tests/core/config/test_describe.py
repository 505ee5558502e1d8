"""Every field has a description, and the manual shows it."""

from __future__ import annotations

import pytest
from msgspec import Struct

from mailcrane.config.describe import (
    ROW_SECTIONS,
    STATIC_SECTIONS,
    describe_rows,
    describe_static,
    describe_struct,
    render_markdown,
    render_text,
)


@pytest.mark.parametrize(("heading", "type_"), [*STATIC_SECTIONS, *ROW_SECTIONS])
def test_every_field_is_described(heading: str, type_: type[Struct]) -> None:
    section = describe_struct(heading, type_)
    assert section.description
    assert [field.name for field in section.fields if not field.description.endswith((".", ")."))] == []


def test_the_manual_names_every_field() -> None:
    page = render_markdown()
    text = render_text((*describe_static(), *describe_rows()))
    for section in (*describe_static(), *describe_rows()):
        for field in section.fields:
            assert f"| `{field.name}` |" in page
            assert f"# {field.name} = " in text
