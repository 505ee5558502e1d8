"""Typed values from tables; secrets come back whole and are never shown."""

from __future__ import annotations

import pickle
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from mailcrane.config.convert import ConfigError, convert, decode_json, describe_type, encode_json, to_table
from mailcrane.observe.secret import Secret


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    password: Secret
    tokens: tuple[Secret, ...] = ()
    size: Annotated[int, Meta(ge=1, description="How big.")] = 5


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    inner: Inner | None = None
    several: dict[str, Inner] = {}
    many: tuple[Inner, ...] = ()


def test_secrets_survive_json_and_are_not_shown() -> None:
    value = Outer(inner=Inner(Secret("hidden-1"), (Secret("hidden-2"),)))
    assert decode_json(encode_json(value), Outer) == value
    assert "hidden" not in repr(value)
    assert "hidden" not in f"{value.inner.password if value.inner else ''}"


def test_secrets_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("x"))


def test_equal_secrets_are_equal_and_an_empty_one_is_false() -> None:
    assert Secret("ä") == Secret("ä")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")


@pytest.mark.parametrize(
    ("table", "key_path"),
    [
        ({"inner": {"password": 1}}, "plugin.x.inner.password"),
        ({"inner": {}}, "plugin.x.inner.password"),
        ({"inner": {"password": "a", "tokens": ["b", 3]}}, "plugin.x.inner.tokens[1]"),
        ({"several": {"a b": {"password": "a", "size": 0}}}, 'plugin.x.several."a b".size'),
        ({"many": [{"password": "a"}, {"password": "a", "pasword": "b"}]}, "plugin.x.many[1].pasword"),
        ({"many": {}}, "plugin.x.many"),
    ],
)
def test_the_exact_place_is_named(table: dict[str, object], key_path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(table, Outer, "plugin.x")
    assert caught.value.key_path == key_path


def test_an_error_in_a_secret_does_not_show_it() -> None:
    with pytest.raises(ConfigError) as caught:
        convert({"password": ["hidden"]}, Inner, "transports.out")
    assert "hidden" not in str(caught.value)


def test_tables_leave_defaults_out() -> None:
    assert to_table(Inner(Secret("a"))) == {"password": Secret("a")}
    assert to_table(Outer()) == {}
    assert to_table(Outer(many=(Inner(Secret("a"), size=6),))) == {"many": [{"password": Secret("a"), "size": 6}]}


def test_types_are_described_in_words() -> None:
    assert describe_type(tuple[str, ...]) == "list of text"
    assert describe_type(Annotated[int | None, Meta(ge=1)]) == "whole number"
    assert describe_type(Secret) == "text, secret"
