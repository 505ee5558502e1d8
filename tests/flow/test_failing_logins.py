"""What a failing plugin means where no SMTP reply is there to say it: to applications that send over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
import trio.testing

from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.testing import PASSWORD
from mailcrane.testing.failures import FAILURES, Failure
from mailcrane.testing.web import HTTPAnswer
from mailcrane_webapi.plugin import WebAPIPlugin

from .conftest import Stage

CONFIG = """
[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:80"]
services = { webapi = "/webapi/" }
require_tls_for_auth = false
"""


async def send(stage: Stage, password: str = PASSWORD) -> HTTPAnswer:
    request = json.dumps({"To": [{"Address": "you@there.example"}], "Subject": "news", "Text": "Hello.\n"})
    login = base64.b64encode(f"ann@here.example:{password}".encode()).decode()
    return await stage.running.request(
        "POST",
        "/webapi/v0/Send",
        header={"authorization": f"Basic {login}", "content-type": "application/x-www-form-urlencoded"},
        body=urllib.parse.urlencode({"request": request}).encode(),
    )


def code_of(answer: HTTPAnswer) -> object:
    found = answer.json()
    assert isinstance(found, dict)
    return found["Code"]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_a_failing_login_plugin_is_a_fault_of_ours_and_no_wrong_password(
    failure: Failure, autojump_clock: trio.testing.MockClock
) -> None:
    stage = Stage("authenticate", Identity("ann", "ann@here.example"))
    async with stage.run(WebAPIPlugin, config=CONFIG) as running:
        with stage.failing(failure):
            answer = await send(stage)
        assert (answer.status, code_of(answer)) == (400, "server")
        assert await running.entries() == []
        with stage.silent():
            assert (await send(stage)).status == 200
            assert (await send(stage, "a ticket")).status == 401
        assert (await send(stage, "a ticket")).status == 200


async def test_a_plugin_may_say_that_it_cannot_tell_now(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage("authenticate", Reply.make(454, "4.7.0", "the directory is away"))
    async with stage.run(WebAPIPlugin, config=CONFIG):
        answer = await send(stage)
        assert (answer.status, code_of(answer)) == (400, "server")
        stage.answer = Reply.make(535, "5.7.8", "never heard of you")
        assert (await send(stage)).status == 401


async def test_a_failing_judge_defers_what_an_application_sends(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage("judge_message")
    async with stage.run(WebAPIPlugin, config=CONFIG) as running:
        for failure in FAILURES:
            with stage.failing(failure):
                answer = await send(stage)
            assert (answer.status, code_of(answer)) == (400, "server")
        assert await running.entries() == []
        assert (await send(stage)).status == 200
