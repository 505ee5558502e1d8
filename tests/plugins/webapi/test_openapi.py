"""The OpenAPI document: where it is, and that it follows from the types."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mailcrane_webapi import wire
from mailcrane_webapi.methods import CODES, METHODS
from mailcrane_webapi.openapi import make_document
from mailcrane_webapi.reference import render

from .conftest import API


async def test_it_is_served_beside_the_methods_without_a_login(api: API) -> None:
    answer = await api.ask("GET", "/webapi/v0/openapi.json", headers=())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = json.loads(answer.body)
    assert document == make_document("/webapi/v0")
    assert document["servers"] == [{"url": "/webapi/v0"}]
    assert '<a href="openapi.json">' in (await api.ask("GET", "/webapi/v0/", headers=())).text
    refused = await api.ask("POST", "/webapi/v0/openapi.json", headers=())
    assert (refused.status, refused.headers["allow"]) == (405, "GET")


def test_every_method_and_code_is_in_it() -> None:
    document = make_document("/webapi/v0")
    assert list(document["paths"]) == [f"/{name}" for name in METHODS]
    assert document["components"]["schemas"]["ErrorBody"]["properties"]["Code"]["enum"] == list(CODES)
    used = {code for method in METHODS.values() for code in method.codes}
    assert used <= set(CODES)
    assert set(CODES) - used == {"idempotencyKeyReused", "idempotencyKeyInUse"}


def test_the_request_is_json_in_a_field_of_either_form() -> None:
    operation = make_document("/webapi/v0")["paths"]["/Send"]["post"]
    forms = operation["requestBody"]["content"]
    assert list(forms) == ["application/x-www-form-urlencoded", "multipart/form-data"]
    for form in forms.values():
        assert form["schema"]["properties"]["request"] == {"$ref": "#/components/schemas/SendRequest"}
        assert form["encoding"] == {"request": {"contentType": "application/json"}}
    assert set(forms["multipart/form-data"]["schema"]["properties"]) - {"request"} == {
        "alternativefile",
        "inlinefile",
        "attachedfile",
    }


def test_only_methods_that_change_something_take_a_key() -> None:
    paths = make_document("/webapi/v0")["paths"]
    with_key = {path for path, item in paths.items() if "parameters" in item["post"]}
    assert with_key == {"/Send", "/SuppressionAdd", "/SuppressionRemove"}
    assert with_key == {path for path, item in paths.items() if "409" in item["post"]["responses"]}


def test_every_field_is_explained() -> None:
    schemas: dict[str, Any] = make_document("/webapi/v0")["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema["description"], name
        for field, of in schema.get("properties", {}).items():
            assert of.get("description"), (name, field)


def test_the_reference_page_has_every_field_of_every_type() -> None:
    page = render()
    for kind in (wire.SendRequest, wire.SendResponse, wire.File, wire.NameAddress, wire.SuppressedAddress):
        for field in msgspec.structs.fields(kind):
            assert f"| `{field.encode_name}` |" in page
    for name in METHODS:
        assert page.count(f"## {name}\n") == 1
