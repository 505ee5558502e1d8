"""A running server does what the API's OpenAPI document says, and what the how-to for applications shows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import requests
import schemathesis
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.slow

HOST = "127.0.0.31"
URL = f"http://{HOST}:1080/webapi/v0"
ADDRESSES = ["", "", "you@example.org", "y.ou+x@example.org", "ann@example.org", "grüße@bücher.example"]
FORM = "application/x-www-form-urlencoded"
LOGIN = ("mox@localhost", "moxmoxmox")
METHODS = ["Send", "SuppressionList", "SuppressionAdd", "SuppressionRemove", "SuppressionPresent"]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
_SECONDS = 20.0


def call(case: schemathesis.Case[Any], **how: Any) -> schemathesis.Response:
    """Make a call; of itself Schemathesis does not heed the ``encoding`` of an urlencoded form."""
    if case.media_type != FORM:
        return case.call(**how)
    assert isinstance(case.body, dict)
    fields = {name: json.dumps(value) for name, value in case.body.items()}
    headers = {**dict(case.headers), **how.pop("headers", {})}
    made = requests.post(URL + case.path, data=fields, headers=headers, timeout=_SECONDS, **how)
    return schemathesis.Response.from_any(made)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The document of a development server, which runs for all tests of the module."""
    folder = tmp_path_factory.mktemp("openapi")
    command = [sys.executable, "-m", "mailcrane", "localserve", "--dir", str(folder), "--ip", HOST]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TZ": "Asia/Kathmandu"})
        try:
            end = time.monotonic() + _SECONDS
            while True:
                try:
                    socket.create_connection((HOST, 1080), 1).close()
                    break
                except OSError:
                    if time.monotonic() > end or process.poll() is not None:
                        pytest.fail((folder / "log").read_text())
                    time.sleep(0.05)
            with urllib.request.urlopen(f"{URL}/openapi.json", timeout=_SECONDS) as response:
                assert response.headers["content-type"] == "application/json"
                yield json.load(response)
        finally:
            process.terminate()
            process.wait(20)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert list(document["paths"]) == [f"/{method}" for method in METHODS]


@pytest.mark.parametrize("method", METHODS)
def test_the_server_answers_as_the_document_says(document: dict[str, Any], method: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=URL)
    statuses: set[int] = set()

    @hypothesis.settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema[f"/{method}"]["POST"].as_strategy(), address=st.sampled_from(ADDRESSES))
    def ask(case: schemathesis.Case[Any], address: str) -> None:
        form: Any = case.body
        if address and method == "Send":
            # What is made up has hardly ever a valid recipient.
            form["request"] |= {"From": None, "To": [{"Address": address}], "CC": None, "BCC": None}
            form["request"] |= {"ReplyTo": None, "Text": "x", "MessageID": None, "Headers": None}
        elif address and method != "SuppressionList":
            form["request"]["EmailAddress"] = address
        response = call(case, auth=LOGIN)
        case.validate_response(response, checks=CHECKS)
        statuses.add(response.status_code)
        if response.status_code == 400:
            # That it is one of the codes is a part of the schema.
            assert response.json()["Code"] != "server", response.text

    ask()
    assert statuses >= ({200} if method == "SuppressionList" else {200, 400})


def test_other_statuses_are_as_the_document_says(document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=URL)
    operation = schema["/Send"]["POST"]
    message: dict[str, Any] = {"To": [{"Address": "you@example.org"}], "Text": "x"}

    def ask(request: dict[str, Any] = message, key: str = "", **how: Any) -> int:
        case = operation.Case(body={"request": request}, media_type=FORM)
        response = call(case, **{"auth": LOGIN, "headers": {"Idempotency-Key": key} if key else {}, **how})
        case.validate_response(response, checks=CHECKS)
        return int(response.status_code)

    assert ask(key="one") == ask(key="one") == 200
    assert ask({"Text": "other"}, key="one") == 409
    assert ask(key="no key") == 400
    assert ask(auth=("mox@localhost", "wrong")) == 401
    assert ask(auth=None) == 401


@pytest.mark.parametrize("command", [["sh", "send.sh"], [sys.executable, "send.py"]], ids=["curl", "python"])
def test_what_the_how_to_shows_works(document: dict[str, Any], command: list[str]) -> None:
    environment = {**os.environ, "MAILCRANE_API": URL}
    folder = Path(__file__).parents[2] / "docs" / "how-to" / "send"
    outputs = []
    for _ in range(2):
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "you@example.org" in ended.stdout
        outputs.append(ended.stdout)
    # The key of the first is always the same, so that it is sent once.
    assert (outputs[0] == outputs[1]) == (command[0] == "sh")
