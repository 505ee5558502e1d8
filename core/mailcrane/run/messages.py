"""Delivered messages over HTTP, for developers: found with a wait on the server's side, shown whole, deleted.

    GET    /messages/?to=&from=&subject=&message_id=&after=&before=&limit=&count=&timeout=
    GET    /messages/ID            one message; a page for browsers, JSON for programs
    GET    /messages/ID/raw        its octets
    GET    /messages/ID/parts/N    the decoded octets of a part
    DELETE /messages/              all messages, those too that accounts have sent; with ``everything=yes`` also what is
                                   queued, and the suppression lists, as on a new server
    DELETE /messages/ID            one

There is no login: who reaches it reads the mail of every account. localserve enables it on the loopback addresses only,
and no other server has it unless its operator names the service ``messages`` in a listener.
"""

from __future__ import annotations

import contextlib
from urllib.parse import quote, urlencode

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.http.app import Receive, Scope, Send, respond
from mailcrane.message.structure import Part
from mailcrane.run import delivered, pages
from mailcrane.run.delivered import Found, Search
from mailcrane.run.query import BadParameter, Parameters, Waiting, refuse_strangers, respond_json, wants_page
from mailcrane.run.shown import Deleted, ShownMessages
from mailcrane.store.store import Store

MAX_LIMIT = 100
"""The most messages of one answer."""

_DEFAULT_LIMIT = 20
_PAGE_LIMIT = 100
_SEARCHED = ("to", "from", "subject", "message_id")
_PARAMETERS = (*_SEARCHED, "after", "before", "limit", "count", "timeout")
_TOPIC = "messages"

# What a part or a raw message may do when somebody opens it in a browser: nothing.
_INERT = (b"content-security-policy", b"sandbox; default-src 'none'")


class _Wish(Struct, frozen=True):
    """What a request asks for.

    Attributes:
        limit: The most messages.
        count: So many are waited for.
        seconds: That long at most.
    """

    search: Search
    limit: int
    count: int
    seconds: float


class Messages:
    """The application.

    Args:
        stopping: Set when the server stops, so that nobody waits any longer.
    """

    def __init__(self, store: Store, stopping: trio.Event) -> None:
        self._store = store
        self._waiting = Waiting(stopping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or await refuse_strangers(scope, send):
            return
        place = scope["path"].removeprefix(scope.get("root_path", "")).strip("/").split("/")
        number = int(place[0]) if place[0].isascii() and place[0].isdigit() and len(place[0]) < 19 else 0
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            match (method, *place):
                case ("GET", ""):
                    await self._list(scope, receive, send)
                case ("DELETE", ""):
                    await self._delete_all(scope, send)
                case ("GET", _) if number:
                    await self._show(scope, send, number)
                case ("DELETE", _) if number:
                    await self._delete(send, number)
                case ("GET", _, "raw") if number:
                    await self._raw(send, number)
                case ("GET", _, "parts", part) if number and part.isascii() and part.isdigit() and len(part) < 9:
                    await self._part(send, number, int(part))
                case ("GET" | "DELETE", *_):
                    await respond(send, 404, "there is nothing here; messages are at /messages/ID\n")
                case _:
                    await respond(send, 405, headers=[(b"allow", b"GET, HEAD, DELETE")])
        except BadParameter as error:
            await respond(send, 400, f"{error}\n")

    # --- search -------------------------------------------------------------------------------------------------

    async def _list(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = wants_page(scope)
        parameters = Parameters(scope.get("query_string", b""), _PARAMETERS)
        search = Search(
            to=parameters.text("to"),
            from_=parameters.text("from"),
            subject=parameters.text("subject"),
            message_id=parameters.text("message_id"),
            after=parameters.whole("after", default=0),
            before=parameters.whole("before", default=0),
        )
        limit = parameters.whole("limit", default=_PAGE_LIMIT if is_page else _DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        count = parameters.whole("count", default=1, least=1, most=limit)
        seconds = parameters.seconds("timeout")
        if seconds and self._waiting.is_full:
            await respond(send, 503, "too many requests wait\n", headers=[(b"retry-after", b"1")])
            return
        wish = _Wish(search, limit, count, seconds)
        found = await self._find(receive, wish)
        root = scope.get("root_path", "")
        shown = await self._store.read(lambda transaction: delivered.show(transaction, found.ids, root))
        answer = ShownMessages(tuple(shown), found.last_id, found.more)
        if is_page:
            query = urlencode([(name, text) for name in _SEARCHED if (text := parameters.text(name))])
            page = pages.message_list(answer, to=search.to, subject=search.subject, root=root, query=query)
            await pages.respond_page(send, page)
        else:
            await respond_json(send, 200, answer)

    async def _find(self, receive: Receive, wish: _Wish) -> Found:
        """Return what matches, once there is enough of it or the time is up."""
        wakeups = self._store.wakeups
        seen = wakeups.version(_TOPIC)
        found = await self._search(wish.search, wish.limit)

        async def until_enough() -> None:
            nonlocal found, seen
            while len(found.ids) < wish.count:
                seen = await wakeups.wait(_TOPIC, seen=seen)
                # Only what came since has to be looked at.
                new = await self._search(replace(wish.search, after=found.last_id), wish.limit)
                found = _join(new, found, wish.limit)

        if len(found.ids) < wish.count and not wish.search.before:
            await self._waiting.until(receive, wish.seconds, until_enough)
        return found

    async def _search(self, search: Search, limit: int) -> Found:
        return await self._store.read(lambda transaction: delivered.find(transaction, search, limit))

    # --- one message ----------------------------------------------------------------------------------------------

    async def _show(self, scope: Scope, send: Send, number: int) -> None:
        Parameters(scope.get("query_string", b""), ())
        root = scope.get("root_path", "")
        shown = await self._store.read(lambda transaction: delivered.show(transaction, [number], root))
        if not shown:
            await _no_message(send, number)
        elif wants_page(scope):
            await pages.respond_page(send, pages.message_page(shown[0], root=root))
        else:
            await respond_json(send, 200, shown[0])

    async def _raw(self, send: Send, number: int) -> None:
        octets = await self._store.read(lambda transaction: delivered.raw(transaction, number))
        if octets is None:
            await _no_message(send, number)
            return
        name = f'inline; filename="{number}.eml"'.encode()
        headers = [(b"content-disposition", name), (b"cache-control", b"no-store"), _INERT]
        await respond(send, 200, octets, content_type=b"message/rfc822", headers=headers)

    async def _part(self, send: Send, number: int, part_number: int) -> None:
        found = await self._store.read(lambda transaction: delivered.part(transaction, number, part_number))
        if found is None:
            await respond(send, 404, f"message {number} is not there, or has no part {part_number}\n")
            return
        part, octets = found
        headers = [
            (b"content-disposition", _disposition(part, f"{number}-{part_number}")),
            (b"cache-control", b"no-store"),
            _INERT,
        ]
        # `respond` puts words where there is no body; a part may be empty.
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", _content_type(part)),
                    (b"content-length", b"%d" % len(octets)),
                    *headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": octets})

    # --- deleting ---------------------------------------------------------------------------------------------------

    async def _delete_all(self, scope: Scope, send: Send) -> None:
        everything = Parameters(scope.get("query_string", b""), ("everything",)).text("everything")
        if everything not in {"", "yes"}:
            raise BadParameter("everything", "can only be yes")
        is_more = everything == "yes"
        while is_more:
            count = await self._store.write(delivered.forget_some, key="queue")
            is_more = count > 0
        total = 0
        while some := await self._store.write(delivered.delete_some, key="queue"):
            total += some
        await respond_json(send, 200, Deleted(total))

    async def _delete(self, send: Send, number: int) -> None:
        count = await self._store.write(
            lambda transaction: delivered.delete_some(transaction, number=number), key="queue"
        )
        if count:
            await respond_json(send, 200, Deleted(count))
        else:
            await _no_message(send, number)


async def _no_message(send: Send, number: int) -> None:
    await respond(send, 404, f"there is no message {number}\n")


def _join(new: Found, old: Found, limit: int) -> Found:
    ids = (*new.ids, *old.ids)
    return Found(ids[:limit], max(new.last_id, old.last_id), new.more or old.more or len(ids) > limit)


def _content_type(part: Part) -> bytes:
    """The declared type, with the charset of a text; what cannot stand in a header field is octets."""
    text = part.content_type if part.media_type else "text/plain"
    charset = part.params.get("charset", "")
    if part.media_type in {"", "text"} and charset.isascii() and charset.replace("-", "").replace("_", "").isalnum():
        text += f"; charset={charset}"
    with contextlib.suppress(UnicodeEncodeError):
        if text.isprintable():
            return text.encode("ascii")
    return b"application/octet-stream"


def _disposition(part: Part, default_name: str) -> bytes:
    """An attachment with the sender's file name, whatever is in it (RFC 8187)."""
    name = part.file_name or default_name
    return f"attachment; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}".encode()
