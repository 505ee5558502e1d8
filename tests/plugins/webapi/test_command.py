"""``mailcrane webapi``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner

from mailcrane.cli.commands import cli
from mailcrane_webapi.command import webapi
from mailcrane_webapi.methods import METHODS


class Server(HTTPServer):
    """Answers one way, and keeps what it was asked."""

    status, body, content_type = 200, b'{"Present":true}\n', "application/json; charset=utf-8"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []

    @property
    def url(self) -> str:
        return f"http://me%40example.org:p%3Aw@127.0.0.1:{self.server_port}/webapi/v0/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, parse_qs(body)))
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.content_type)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_it_is_one_of_the_commands() -> None:
    result = CliRunner().invoke(cli, ["webapi"])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()] == list(METHODS)


def test_a_method_is_shown_with_json_to_start_from() -> None:
    output = CliRunner().invoke(webapi, ["SuppressionAdd"]).output
    _, _, request = output.partition("Request:\n")
    request, _, response = request.partition("Response:\n")
    assert json.loads(request) == {"EmailAddress": "", "Manual": False, "Reason": ""}
    assert json.loads(response) == {}


def test_a_call_sends_standard_input_with_the_login_of_the_url(server: Server) -> None:
    result = CliRunner().invoke(webapi, ["SuppressionPresent", server.url, "--key", "k"], input='{"EmailAddress": "x"}')
    assert (result.exit_code, result.output) == (0, '{"Present":true}\n')
    ((path, headers, form),) = server.asked
    assert path == "/webapi/v0/SuppressionPresent"
    assert headers["authorization"] == "Basic bWVAZXhhbXBsZS5vcmc6cDp3"
    assert headers["idempotency-key"] == "k"
    assert form == {"request": ['{"EmailAddress": "x"}']}


def test_the_base_path_of_the_api_does_as_well(server: Server) -> None:
    for url in (server.url, server.url.removesuffix("/"), server.url.removesuffix("v0/")):
        assert CliRunner().invoke(webapi, ["SuppressionPresent", url], input="{}").exit_code == 0
    assert {path for path, _, _ in server.asked} == {"/webapi/v0/SuppressionPresent"}


@pytest.mark.parametrize(
    ("status", "content_type", "body", "expected"),
    [
        (400, "application/json; charset=utf-8", b'{"Code":"badAddress","Message":"no"}', "Error: 400 badAddress: no"),
        (401, "text/plain", b"401 unauthorized\n", "Error: 401 unauthorized"),
    ],
)
def test_a_refusal_is_exit_code_1(server: Server, status: int, content_type: str, body: bytes, expected: str) -> None:
    server.status, server.content_type, server.body = status, content_type, body
    result = CliRunner().invoke(webapi, ["Send", server.url], input="{}")
    assert result.exit_code == 1
    assert expected in result.output


def test_a_server_that_is_not_there_is_exit_code_1() -> None:
    result = CliRunner().invoke(webapi, ["Send", "http://a:b@127.0.0.1:9/"], input="{}")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9/v0/Send" in result.output
    assert "b@" not in result.output


@pytest.mark.parametrize(
    "arguments", [["Nothing"], ["Send", "nonsense"], ["Send", "http://host/"], ["Send", "ftp://a:b@host/"]]
)
def test_a_command_line_that_is_wrong_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(webapi, arguments, input="{}").exit_code == 2
