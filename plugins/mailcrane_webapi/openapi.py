"""The API as an OpenAPI 3.1 document, made from the table of methods and their types."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
from msgspec import Struct

from mailcrane_webapi.form import FILE_FIELDS, REQUEST_FIELD
from mailcrane_webapi.keys import HEADER, KEY_PATTERN, MAX_KEY_LENGTH
from mailcrane_webapi.methods import CODES, METHODS, Method
from mailcrane_webapi.wire import ErrorBody

_REF = "#/components/schemas/{name}"

_DESCRIPTION = """\
A call is a POST with basic authentication, by an email address of the account and its password. The body is a form with
the field `request`, which holds the request as JSON; files may come beside it as parts of a multipart form. Names in
the JSON match in any case, null stands for what is left out, and unknown names are refused. Every error that a method
finds has the status 400 and a body with `Code` and `Message`.
"""


def make_document(base: str) -> dict[str, Any]:
    """Return the document.

    Args:
        base: Path that the methods are below, without a slash at its end.
    """
    schemas = _schemas()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mailcrane web API", "version": "0", "description": _DESCRIPTION},
        "servers": [{"url": base}],
        "security": [{"password": []}],
        "paths": {f"/{method.name}": {"post": _operation(method)} for method in METHODS.values()},
        "components": {
            "securitySchemes": {"password": {"type": "http", "scheme": "basic"}},
            "schemas": schemas,
            "parameters": {"IdempotencyKey": _KEY},
            "responses": _RESPONSES,
        },
    }


def request_schema(method: Method) -> str:
    """Return the name of a request's schema among the components."""
    return method.request.__name__


_KEY: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same call with the same key is carried out once, and answered alike for 24 hours.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_LENGTH,
        "pattern": KEY_PATTERN,
    },
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}


def _text(description: str, **headers: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    if headers:
        response["headers"] = {
            name.replace("_", "-"): {"description": words, "schema": {"type": "string"}}
            for name, words in headers.items()
        }
    return response


_ERROR = {"application/json": {"schema": {"$ref": _REF.format(name="ErrorBody")}}}

_RESPONSES: dict[str, Any] = {
    "Unauthorized": _text(
        "No basic authentication, or it is wrong, or the login is disabled.", WWW_Authenticate="How to log in."
    ),
    "Forbidden": _text("Logins without TLS are not accepted here."),
    "NotFound": _text("There is no such method."),
    "MethodNotAllowed": _text("A method is called with POST; GET shows a page.", Allow="What is allowed."),
    "TooManyRequests": _text("Too many failed logins, or too many requests, from this network."),
    "ServerError": _text("A fault of the server's that came up before the method."),
    "Conflict": {
        "description": "The key was used for another request, or its call is under way; the code says which.",
        "headers": {
            "Retry-After": {
                "description": "Seconds after which to try again, where the call is under way.",
                "schema": {"type": "integer", "minimum": 1},
            }
        },
        "content": _ERROR,
    },
}

_STATUSES = {
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "409": "Conflict",
    "429": "TooManyRequests",
    "500": "ServerError",
}


def _operation(method: Method) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": inspect.cleandoc(method.response.__doc__ or ""),
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=method.response.__name__)}}},
        },
        "400": {
            "description": "\n".join(f"- `{code}`: {CODES[code]}" for code in method.codes),
            "content": _ERROR,
        },
        **{status: {"$ref": f"#/components/responses/{name}"} for status, name in _STATUSES.items()},
    }
    operation: dict[str, Any] = {
        "operationId": method.name,
        "summary": method.summary,
        "requestBody": {"required": True, "content": _forms(method)},
        "responses": responses,
    }
    if method.is_reading:
        del responses["409"]
    else:
        operation["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]
    return operation


def _forms(method: Method) -> dict[str, Any]:
    """Return the two forms that a call may have; that the field holds JSON is said by its encoding."""
    fields: dict[str, Any] = {REQUEST_FIELD: {"$ref": _REF.format(name=request_schema(method))}}
    encoding = {REQUEST_FIELD: {"contentType": "application/json"}}
    urlencoded = {
        "schema": {"type": "object", "properties": fields, "required": [REQUEST_FIELD]},
        "encoding": encoding,
    }
    files: dict[str, Any] = {}
    if method.takes_files:
        files = {
            field: {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
            for field in sorted(FILE_FIELDS)
        }
    multipart = {
        "schema": {"type": "object", "properties": {**fields, **files}, "required": [REQUEST_FIELD]},
        "encoding": encoding,
    }
    return {"application/x-www-form-urlencoded": urlencoded, "multipart/form-data": multipart}


def _schemas() -> dict[str, Any]:
    types: list[type[Struct]] = [ErrorBody]
    for method in METHODS.values():
        types += [method.request, method.response]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    schemas["ErrorBody"]["properties"]["Code"]["enum"] = list(CODES)
    for schema in schemas.values():
        schema["description"] = inspect.cleandoc(schema.get("description", ""))
        for field in schema.get("properties", {}).values():
            # Null is what every field may be; a default says no more.
            if field.get("default", "") is None:
                del field["default"]
    return schemas
