"""What monitoring asks over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.lowlevel

from mailcrane.admin.web import monitoring_apps
from mailcrane.http.app import Message
from mailcrane.observe.health import Health, State


async def get(service: str, health: Health, *, method: str = "GET", below: str = "/") -> tuple[int, bytes]:
    app = next(app for app in monitoring_apps(health.report, trio.lowlevel.checkpoint) if app.service == service)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "root_path": f"/{service}",
        "path": f"/{service}{below}",
        "headers": [],
    }
    await app.make()(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_metrics_are_shown() -> None:
    status, body = await get("metrics", Health())
    assert status == 200
    assert b"mailcrane_process_cpu_seconds_total" in body


async def test_health_is_shown_without_reasons_and_fails_with_the_server() -> None:
    health = Health()
    health.set("plugin x", State.DEGRADED, "private")
    status, body = await get("health", health)
    assert (status, json.loads(body)) == (200, {"state": "degraded", "components": {"plugin x": "degraded"}})
    health.set("store", State.FAILED, "private")
    status, body = await get("health", health)
    assert status == 503
    assert b"private" not in body


@pytest.mark.parametrize(("method", "below", "status"), [("POST", "/", 405), ("GET", "/x", 404)])
async def test_nothing_else_is_there(method: str, below: str, status: int) -> None:
    assert (await get("health", Health(), method=method, below=below))[0] == status
