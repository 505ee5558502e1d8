"""What monitoring asks over HTTP: the services ``metrics`` and ``health``.

They have no login: enable them on a listener that only the monitoring reaches. Health says no more than a word to each
component; reasons are for `mailcrane health`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import trio

from mailcrane.http.app import ASGIApp, HTTPApp, Receive, Scope, Send, respond
from mailcrane.observe import metrics
from mailcrane.observe.health import HealthReport, State

_UNAVAILABLE = 503


def monitoring_apps(report: Callable[[], HealthReport], count: Callable[[], Awaitable[None]]) -> tuple[HTTPApp, ...]:
    """Return the applications.

    Args:
        report: Tells how the server is.
        count: Brings gauges up to date that are not kept at every change; asked before metrics are shown.
    """

    async def answer_metrics(send: Send) -> None:
        await count()
        # Rendering takes milliseconds, and the first time imports prometheus-client.
        body = await trio.to_thread.run_sync(metrics.render)
        await respond(send, 200, body, content_type=metrics.CONTENT_TYPE.encode())

    async def answer_health(send: Send) -> None:
        found = report()
        body = msgspec.json.encode(
            {"state": found.state, "components": {item.component: item.state for item in found.components}}
        )
        status = _UNAVAILABLE if found.state is State.FAILED else 200
        await respond(send, status, body, content_type=b"application/json", headers=[(b"cache-control", b"no-store")])

    return (
        HTTPApp("metrics", "/metrics/", lambda: _only_get(answer_metrics), is_internal=False),
        HTTPApp("health", "/health/", lambda: _only_get(answer_health), is_internal=False),
    )


def _only_get(answer: Callable[[Send], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await respond(send, 405, headers=[(b"allow", b"GET, HEAD")])
        elif scope["path"] != scope.get("root_path", "") + "/":
            await respond(send, 404)
        else:
            await answer(send)

    return app
