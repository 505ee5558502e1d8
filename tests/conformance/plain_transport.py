"""The least SMTP and LMTP client that the transport suite accepts, with faults to switch on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import trio

from mailcrane.api import Delivery, NotNow, Outcome, RecipientResult, Reply


@dataclass(frozen=True)
class Faults:
    """Ways in which the transport can be wrong."""

    no_stuffing: bool = False
    drop_nul: bool = False
    fold_lines: bool = False
    cut_large: bool = False
    read_ahead: bool = False
    drop_subaddress: bool = False
    null_as: str = ""
    lie_about_delivery: bool = False
    results_of_six: bool = False
    reverse_results: bool = False
    no_error: bool = False
    drop_enhanced_code: bool = False
    first_line_only: bool = False
    send_to_nobody: bool = False
    take_for: tuple[tuple[str, Outcome], ...] = ()
    believe_data_2yz: bool = False
    raise_when_lost: bool = False
    maybe_in_content: bool = False
    maybe_at_greeting: bool = False
    stay_after_421: bool = False
    stay_after_nonsense: bool = False
    impatient: bool = False
    fail_when_refused_connection: bool = False
    leak_on_cancel: bool = False
    end_content_on_cancel: bool = False
    no_helo: bool = False
    always_pipeline: bool = False
    ignore_limits: bool = False
    defer_too_many: bool = False
    fail_552: bool = False
    reuse: bool = False
    reuse_blindly: bool = False
    reuse_without_reset: bool = False
    keep_sender: bool = False
    not_now_after_sending: bool = False
    leave_open: bool = False
    ignore_smtputf8: bool = False
    never_ask_smtputf8: bool = False
    always_ask_smtputf8: bool = False
    ignore_requiretls: bool = False
    silent_about_8bit: bool = False
    never_ask_8bit: bool = False
    ignore_size: bool = False
    shared_state: bool = False
    one_shot: bool = False
    one_final_for_all: bool = False
    forget_finals_when_lost: bool = False


class Lost(Exception):
    """The connection is gone."""


class Nonsense(Exception):
    """The peer's reply is none."""


class PlainTransport:
    """Delivers one command at a time, over a connection for each delivery."""

    def __init__(self, host: str, port: int, faults: Faults, *, is_lmtp: bool = False) -> None:
        self.host, self.port, self.faults, self.is_lmtp = host, port, faults, is_lmtp
        self.current: Delivery | None = None
        self.used = False
        self.sent = 0
        self.leaked: list[trio.SocketStream] = []
        self.kept: Exchange | None = None
        self.sender = ""

    async def aclose(self) -> None:
        if self.faults.leave_open:
            return
        for stream in self.leaked:
            await trio.aclose_forcefully(stream)
        if self.kept is not None:
            await trio.aclose_forcefully(self.kept.stream)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        everyone = len(delivery.entries)
        if self.faults.one_shot and self.used:
            return (RecipientResult(Outcome.DEFERRED, error="used up"),) * everyone
        if self.faults.shared_state:
            self.current = delivery
            await trio.sleep(0.01)
            delivery = self.current
        exchange, self.kept = self.kept, None
        if exchange is not None and not await exchange.is_alive():
            await trio.aclose_forcefully(exchange.stream)
            exchange = None
        if exchange is None:
            try:
                stream = await trio.open_tcp_stream(self.host, self.port)
            except OSError as error:
                wrong = self.faults.fail_when_refused_connection
                outcome = Outcome.FAILED if wrong else Outcome.DEFERRED
                return (RecipientResult(outcome, error=str(error)),) * everyone
            exchange = Exchange(stream, self)
        results = await self._over(exchange, delivery)
        self.used = any(result.is_maybe_delivered for result in results)
        self.sent += 1
        if self.faults.not_now_after_sending and self.sent == 20:
            raise NotNow("peer.example", "enough for now", seconds=1)
        if self.faults.results_of_six:
            return results[:6]
        if self.faults.reverse_results and any(result.outcome is Outcome.DELIVERED for result in results):
            return tuple(reversed(results))
        return results

    async def _over(self, exchange: Exchange, delivery: Delivery) -> tuple[RecipientResult, ...]:
        stream = exchange.stream
        try:
            results = await exchange.run(delivery)
        except trio.Cancelled:
            if self.faults.end_content_on_cancel and exchange.point == "content":
                with trio.CancelScope(shield=True):
                    await stream.send_all(b".\r\n")
                    await trio.sleep(0.05)
            if self.faults.leak_on_cancel:
                self.leaked.append(stream)
            else:
                await trio.aclose_forcefully(stream)
            raise
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        stays = (exchange.is_over and not exchange.is_nonsense and self.faults.stay_after_421) or (
            exchange.is_nonsense and self.faults.stay_after_nonsense
        )
        if stays:
            self.leaked.append(stream)
        elif self.faults.reuse and not exchange.is_over:
            replaced, self.kept = self.kept, exchange
            if replaced is not None:
                await trio.aclose_forcefully(replaced.stream)
        elif self.faults.leave_open and not exchange.is_over:
            self.leaked.append(stream)
        else:
            await trio.aclose_forcefully(stream)
        return results


class Exchange:
    """One connection and what is said over it."""

    def __init__(self, stream: trio.SocketStream, transport: PlainTransport) -> None:
        self.stream, self.transport, self.faults = stream, transport, transport.faults
        self.buffer, self.extensions = b"", ""
        self.point = "greeting"
        self.is_greeted = self.is_over = self.is_nonsense = self.in_transaction = False
        self.notes: tuple[str, ...] = ()
        self.results: dict[int, RecipientResult] = {}
        self.taken_for: list[int] = []

    async def is_alive(self) -> bool:
        if self.in_transaction and not self.faults.reuse_without_reset:
            line = "RSET"
        elif self.faults.reuse_blindly:
            return True
        else:
            line = "NOOP"
        try:
            self.in_transaction = False
            return (await self.command(line)).is_positive
        except Lost:
            return False

    async def run(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        self.results, self.taken_for = {}, []
        try:
            await self.transactions(delivery)
        except Nonsense as nonsense:
            self.is_over = self.is_nonsense = True
            return self.rest(delivery, str(nonsense))
        except Lost as lost:
            self.is_over = True
            if self.faults.raise_when_lost and self.point == "final":
                raise
            if self.faults.forget_finals_when_lost:
                self.results = {}
            return self.rest(delivery, str(lost))
        return self.rest(delivery, "")

    def rest(self, delivery: Delivery, error: str) -> tuple[RecipientResult, ...]:
        maybe = (
            self.point == "final"
            or (self.faults.maybe_in_content and self.point == "content")
            or (self.faults.maybe_at_greeting and self.point == "greeting")
        )
        missing = RecipientResult(Outcome.DEFERRED, error=error, is_maybe_delivered=maybe)
        return tuple(self.results.get(at, missing) for at in range(len(delivery.entries)))

    async def transactions(self, delivery: Delivery) -> None:
        if not self.is_greeted:
            if not (greeting := await self.reply()).is_positive:
                return self.all(delivery, "greeting", greeting)
            hello = await self.command(f"{'LHLO' if self.transport.is_lmtp else 'EHLO'} kit.example")
            if hello.code == 502 and not self.faults.no_helo:
                hello = await self.command("HELO kit.example")
            elif not hello.is_positive:
                return self.all(delivery, "hello", hello)
            self.extensions = " ".join(hello.lines[1:]).upper()
            self.is_greeted = True
        if refused := self.unmet(delivery):
            return self.all(delivery, "unmet", refused)
        waiting = list(range(len(delivery.entries)))
        limit = self.extensions.partition("RCPTMAX=")[2].split(" ")[0]
        size = int(limit) if limit.isdigit() and not self.faults.ignore_limits else 100
        while waiting and not self.is_over:
            batch, waiting = waiting[:size], waiting[size:]
            waiting += await self.transaction(delivery, batch)
        return None

    async def transaction(self, delivery: Delivery, batch: list[int]) -> list[int]:
        """Send one; returns whom to try again."""
        self.point = "envelope"
        mail = await self.command(self.mail_line(delivery))
        if not mail.is_positive:
            return self.some(batch, "mail", mail)
        self.in_transaction = True
        accepted, again = [], []
        replies = await self.recipients([str(delivery.forward_paths[at]) for at in batch])
        for at, reply in zip(batch, replies, strict=True):
            if reply.is_positive:
                accepted.append(at)
            elif reply.code in self.too_many() and accepted:
                again.append(at)
            elif reply.code == 421:
                return self.some(batch, "closing", reply)
            else:
                self.results[at] = self.result("rcpt", reply)
        if not accepted:
            if self.faults.send_to_nobody and (await self.command("DATA")).code == 354:
                await self.content(delivery)
                await self.reply()
            return []
        data = await self.command("DATA")
        if data.code != 354:
            if data.is_positive and not self.faults.believe_data_2yz:
                data = Reply.make(451, "4.5.0", "out of place")
            return self.some(accepted, "data", data)
        self.point = "content"
        await self.content(delivery)
        self.point, self.in_transaction = "final", False
        if self.transport.is_lmtp:
            first: Reply | None = None
            for at in accepted:
                own = await self.reply()
                first = first or own
                self.results[at] = self.result("final", first if self.faults.one_final_for_all else own)
        else:
            self.some(accepted, "final", await self.reply())
        return again

    def too_many(self) -> tuple[int, ...]:
        if self.faults.defer_too_many:
            return (552,)
        return (452,) if self.faults.fail_552 else (452, 552)

    async def recipients(self, paths: list[str]) -> list[Reply]:
        lines = [f"RCPT TO:<{path}>" for path in paths]
        if self.faults.always_pipeline:
            await self.send("".join(f"{line}\r\n" for line in lines).encode())
            replies = [await self.reply() for _ in lines]
        else:
            replies = []
            for line in lines:
                replies.append(await self.command(line))
                if self.is_over:
                    replies += [replies[-1]] * (len(lines) - len(replies))
                    break
        return replies

    def all(self, delivery: Delivery, point: str, reply: Reply) -> None:
        self.some(list(range(len(delivery.entries))), point, reply)

    def some(self, positions: list[int], point: str, reply: Reply) -> list[int]:
        for at in positions:
            self.results[at] = self.result(point, reply)
        return []

    def unmet(self, delivery: Delivery) -> Reply | None:
        if delivery.needs_smtputf8 and "SMTPUTF8" not in self.extensions and not self.faults.ignore_smtputf8:
            return Reply.make(550, "5.6.7", "the next hop does not take internationalised mail")
        if delivery.require_tls and not self.faults.ignore_requiretls:
            return Reply.make(550, "5.7.30", "the next hop does not offer REQUIRETLS")
        limit = self.extensions.partition("SIZE ")[2].split(" ")[0]
        if limit.isdigit() and delivery.content.size_octets > int(limit) and not self.faults.ignore_size:
            return Reply.make(552, "5.3.4", "too large for the next hop")
        self.notes = ()
        if delivery.has_8bit and "8BITMIME" not in self.extensions and not self.faults.silent_about_8bit:
            self.notes = ("8-bit content to a peer without 8BITMIME",)
        return None

    def mail_line(self, delivery: Delivery) -> str:
        path = str(delivery.reverse_path) if not delivery.reverse_path.is_null else self.faults.null_as
        if self.faults.drop_subaddress and "+" in path:
            path = path.partition("+")[0] + "@" + path.partition("@")[2]
        if self.faults.keep_sender:
            path = self.transport.sender = self.transport.sender or path
        parameters = ""
        asks = delivery.needs_smtputf8 and not self.faults.never_ask_smtputf8
        if "SMTPUTF8" in self.extensions and (asks or self.faults.always_ask_smtputf8):
            parameters += " SMTPUTF8"
        if delivery.has_8bit and "8BITMIME" in self.extensions and not self.faults.never_ask_8bit:
            parameters += " BODY=8BITMIME"
        return f"MAIL FROM:<{path}>{parameters}"

    async def content(self, delivery: Delivery) -> None:
        chunks = delivery.content.chunks()
        if self.faults.read_ahead:
            whole = b"".join([chunk async for chunk in chunks])
            await self.send(self.changed(whole) + b".\r\n")
            return
        at_line_start, sent = True, 0
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                sent += len(chunk)
                if self.faults.cut_large and sent > 1_000_000:
                    at_line_start = False
                    continue
                changed = self.changed(chunk, at_line_start=at_line_start)
                at_line_start = chunk.endswith(b"\n")
                await self.send(changed)
        await self.send(b".\r\n" if at_line_start else b"\r\n.\r\n")

    def changed(self, octets: bytes, *, at_line_start: bool = True) -> bytes:
        if self.faults.drop_nul:
            octets = octets.replace(b"\0", b"")
        if self.faults.fold_lines:
            octets = b"\r\n".join(
                b"\r\n".join(line[at : at + 998] for at in range(0, len(line), 998)) if line else line
                for line in octets.split(b"\r\n")
            )
        if self.faults.no_stuffing:
            return octets
        stuffed = octets.replace(b"\n.", b"\n..")
        return b"." + stuffed if at_line_start and octets.startswith(b".") else stuffed

    def result(self, point: str, reply: Reply) -> RecipientResult:
        kept = reply
        if self.faults.drop_enhanced_code and point == "rcpt":
            kept = Reply(reply.code, "", reply.lines)
        if self.faults.first_line_only:
            kept = Reply(reply.code, reply.enhanced_status_code, reply.lines[:1])
        result = RecipientResult.from_reply(kept, remote_mta="peer.example", notes=self.notes)
        if point == "rcpt" and reply.code == 552:
            result = RecipientResult(Outcome.FAILED if self.faults.fail_552 else Outcome.DEFERRED, kept, str(kept))
        for where, outcome in self.faults.take_for:
            if where == f"{point}-{reply.code // 100}yz":
                result = RecipientResult(outcome, kept, str(kept))
        if self.faults.lie_about_delivery and point == "final" and reply.code == 252:
            result = RecipientResult(Outcome.DEFERRED, kept)
        if self.faults.no_error:
            result = RecipientResult(result.outcome, result.reply, "", result.remote_mta, notes=result.notes)
        return result

    async def command(self, line: str) -> Reply:
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def send(self, octets: bytes) -> None:
        try:
            await self.stream.send_all(octets)
        except trio.BrokenResourceError as error:
            raise Lost("connection lost") from error

    async def reply(self) -> Reply:
        lines: list[str] = []
        while True:
            line = await self.line()
            if not line[:3].isdigit():
                raise Nonsense(f"the peer said {line!r}")
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                reply = Reply.from_lines(int(line[:3]), tuple(lines))
                self.is_over = self.is_over or reply.code == 421
                return reply

    async def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            try:
                got = await self.stream.receive_some(65536)
            except trio.BrokenResourceError as error:
                raise Lost("connection lost") from error
            if not got:
                raise Lost("connection lost")
            self.buffer += bytes(got)
            if self.faults.impatient and b"\r\n" not in self.buffer:
                raise Lost("the reply came in pieces")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line
