"""The kit finds what it is there to find: a good transport passes, and each mutant fails its own behaviour only."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from mailcrane.api import Delivery, Mailbox, Outcome, RecipientResult, Reply
from mailcrane_conformance import transport as kit
from mailcrane_conformance.kit import Answer, Result


@dataclass(frozen=True)
class Faults:
    """Ways in which the plain transport below can be wrong."""

    change_octets: bool = False
    cut_large: bool = False
    sender: str = ""
    null_as: str = ""
    lie_about_delivery: bool = False
    drop_enhanced_code: bool = False
    reverse_results: bool = False
    send_to_nobody: bool = False
    take_for: tuple[tuple[str, Outcome], ...] = ()
    raise_when_lost: bool = False
    maybe_everywhere: bool = False
    fail_when_refused_connection: bool = False
    leak_on_cancel: bool = False
    ignore_smtputf8: bool = False
    never_ask_smtputf8: bool = False
    ignore_requiretls: bool = False
    silent_about_8bit: bool = False
    ignore_size: bool = False
    shared_state: bool = False
    one_shot: bool = False
    maybe_in_content: bool = False
    maybe_at_greeting: bool = False


class _Lost(Exception):
    pass


class PlainTransport:
    """The least SMTP client that the kit accepts, one command at a time, with faults to switch on."""

    def __init__(self, host: str, port: int, faults: Faults) -> None:
        self.host, self.port, self.faults = host, port, faults
        self.current: Delivery | None = None
        self.used = False
        self.leaked: list[trio.SocketStream] = []

    async def aclose(self) -> None:
        for stream in self.leaked:
            await trio.aclose_forcefully(stream)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        if self.faults.one_shot and self.used:
            return self._all(delivery, RecipientResult(Outcome.DEFERRED, error="used up"))
        if self.faults.shared_state:
            self.current = delivery
            await trio.sleep(0.01)
            delivery = self.current
        try:
            stream = await trio.open_tcp_stream(self.host, self.port)
        except OSError as error:
            wrong = self.faults.fail_when_refused_connection
            return self._all(delivery, RecipientResult(Outcome.FAILED if wrong else Outcome.DEFERRED, error=str(error)))
        try:
            results = await _Exchange(stream, self.faults).run(delivery)
        except trio.Cancelled:
            if self.faults.leak_on_cancel:
                self.leaked.append(stream)
            else:
                await trio.aclose_forcefully(stream)
            raise
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        await trio.aclose_forcefully(stream)
        self.used = any(result.is_maybe_delivered for result in results)
        if self.faults.reverse_results and any(result.outcome is Outcome.DELIVERED for result in results):
            return tuple(reversed(results))
        return results

    @staticmethod
    def _all(delivery: Delivery, result: RecipientResult) -> tuple[RecipientResult, ...]:
        return (result,) * len(delivery.entries)


class _Exchange:
    def __init__(self, stream: trio.SocketStream, faults: Faults) -> None:
        self.stream, self.faults, self.buffer = stream, faults, b""
        self.point = "greeting"
        self.notes: tuple[str, ...] = ()

    async def run(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        everyone = len(delivery.entries)
        try:
            return await self.transaction(delivery)
        except _Lost as lost:
            if self.faults.raise_when_lost and self.point == "final":
                raise
            maybe = (
                self.point == "final"
                or (self.faults.maybe_in_content and self.point == "content")
                or (self.faults.maybe_at_greeting and self.point == "greeting")
            )
            result = RecipientResult(Outcome.DEFERRED, error=str(lost), is_maybe_delivered=maybe)
            return (result,) * everyone

    async def transaction(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        everyone, faults = len(delivery.entries), self.faults
        if not (greeting := await self.reply()).is_positive:
            return (self.result("greeting", greeting),) * everyone
        extensions = " ".join((await self.command("EHLO kit.example")).lines).upper()
        if refused := self.unmet(delivery, extensions):
            return (RecipientResult.from_reply(refused),) * everyone
        mail = await self.command(self.mail_line(delivery, extensions))
        if not mail.is_positive:
            return (self.result("mail", mail),) * everyone
        results: list[RecipientResult | None] = []
        for path in delivery.forward_paths:
            reply = await self.command(f"RCPT TO:<{path}>")
            results.append(None if reply.is_positive else self.result("rcpt", reply))
        if None not in results:
            if faults.send_to_nobody and (await self.command("DATA")).code == 354:
                await self.content(delivery)
                await self.reply()
            return tuple(result for result in results if result is not None)
        last = self.result("data", data := await self.command("DATA"))
        if data.code == 354:
            await self.content(delivery)
            self.point = "final"
            last = self.result("final", await self.reply())
        return tuple(last if result is None else result for result in results)

    def unmet(self, delivery: Delivery, extensions: str) -> Reply | None:
        if delivery.needs_smtputf8 and "SMTPUTF8" not in extensions and not self.faults.ignore_smtputf8:
            return Reply.make(550, "5.6.7", "the next hop does not take internationalised mail")
        if delivery.require_tls and not self.faults.ignore_requiretls:
            return Reply.make(550, "5.7.30", "the next hop does not offer REQUIRETLS")
        limit = extensions.partition("SIZE ")[2].split(" ")[0]
        if limit.isdigit() and delivery.content.size_octets > int(limit) and not self.faults.ignore_size:
            return Reply.make(552, "5.3.4", "too large for the next hop")
        if delivery.has_8bit and "8BITMIME" not in extensions and not self.faults.silent_about_8bit:
            self.notes = ("8-bit content to a peer without 8BITMIME",)
        return None

    def mail_line(self, delivery: Delivery, extensions: str) -> str:
        path = (
            self.faults.sender if self.faults.sender and delivery.reverse_path.mailbox else str(delivery.reverse_path)
        )
        if delivery.reverse_path.is_null:
            path = self.faults.null_as
        asks = delivery.needs_smtputf8 and "SMTPUTF8" in extensions and not self.faults.never_ask_smtputf8
        return f"MAIL FROM:<{path}>" + (" SMTPUTF8" if asks else "")

    async def content(self, delivery: Delivery) -> None:
        self.point = "content"
        octets = b"".join([chunk async for chunk in delivery.content.chunks()])
        if self.faults.cut_large:
            octets = octets[:1_000_000].rpartition(b"\r\n")[0] + b"\r\n" if len(octets) > 1_000_000 else octets
        if not self.faults.change_octets:
            octets = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        await self.send(octets + b".\r\n")

    def result(self, point: str, reply: Reply) -> RecipientResult:
        if reply.code == 354:
            return RecipientResult(Outcome.DEFERRED)
        kept = Reply(reply.code, "", reply.lines) if self.faults.drop_enhanced_code else reply
        result = RecipientResult.from_reply(kept, remote_mta="peer.example", notes=self.notes)
        for where, outcome in self.faults.take_for:
            if where == f"{point}-{reply.code // 100}yz":
                result = RecipientResult(outcome, kept, str(kept))
        if self.faults.lie_about_delivery and point == "final" and reply.lines == ("taken as 4711",):
            result = RecipientResult(Outcome.DEFERRED, kept)
        return result

    async def command(self, line: str) -> Reply:
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def send(self, octets: bytes) -> None:
        try:
            await self.stream.send_all(octets)
        except trio.BrokenResourceError as error:
            raise _Lost("connection lost") from error

    async def reply(self) -> Reply:
        lines: list[str] = []
        while True:
            while b"\r\n" not in self.buffer:
                try:
                    got = await self.stream.receive_some(65536)
                except trio.BrokenResourceError as error:
                    raise _Lost("connection lost") from error
                if not got:
                    raise _Lost("connection lost")
                self.buffer += bytes(got)
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                return Reply.from_lines(int(line[:3]), tuple(lines))


def factory(faults: Faults) -> kit.TransportFactory:
    async def make(host: str, port: int) -> PlainTransport:
        return PlainTransport(host, port, faults)

    return make


_D, _F = Outcome.DEFERRED, Outcome.FAILED

MUTANTS: dict[str, Faults] = {
    "octets-unchanged": Faults(change_octets=True),
    "large-content": Faults(cut_large=True),
    "reverse-path": Faults(sender="someone@else.example"),
    "null-reverse-path": Faults(null_as="postmaster@sender.example"),
    "delivered": Faults(lie_about_delivery=True),
    "reply-kept": Faults(drop_enhanced_code=True),
    "results-in-order": Faults(reverse_results=True),
    "no-content-when-all-refused": Faults(send_to_nobody=True),
    "greeting-4yz": Faults(take_for=(("greeting-4yz", _F),)),
    "greeting-5yz": Faults(take_for=(("greeting-5yz", _D),)),
    "mail-4yz": Faults(take_for=(("mail-4yz", _F),)),
    "mail-5yz": Faults(take_for=(("mail-5yz", _D),)),
    "data-4yz": Faults(take_for=(("data-4yz", _F),)),
    "data-5yz": Faults(take_for=(("data-5yz", _D),)),
    "final-4yz": Faults(take_for=(("final-4yz", _F),)),
    "final-5yz": Faults(take_for=(("final-5yz", _D),)),
    "lost-at-greeting": Faults(maybe_at_greeting=True),
    "lost-in-content": Faults(maybe_in_content=True),
    "lost-after-final-dot": Faults(raise_when_lost=True),
    "nobody-listens": Faults(fail_when_refused_connection=True),
    "cancellation-closes": Faults(leak_on_cancel=True),
    "smtputf8-missing": Faults(ignore_smtputf8=True),
    "smtputf8-asked-for": Faults(never_ask_smtputf8=True),
    "requiretls-missing": Faults(ignore_requiretls=True),
    "8bit-as-is": Faults(silent_about_8bit=True),
    "size-exceeded": Faults(ignore_size=True),
    "concurrent": Faults(shared_state=True),
    "again": Faults(one_shot=True),
}


def _failed(results: Sequence[Result]) -> list[str]:
    return [result.id for result in results if result.answer is Answer.FAILED]


async def test_a_plain_transport_passes() -> None:
    results = await kit.run(factory(Faults()))
    assert _failed(results) == [], "\n".join(map(str, results))


def test_every_behaviour_has_a_mutant_and_an_id_of_its_own() -> None:
    ids = [behaviour.id for behaviour in kit.BEHAVIOURS]
    assert sorted(MUTANTS) == sorted(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("behaviour", sorted(MUTANTS))
async def test_a_mutant_fails_exactly_its_own_behaviour(behaviour: str) -> None:
    results = await kit.run(factory(MUTANTS[behaviour]))
    assert _failed(results) == [behaviour], "\n".join(map(str, results))


async def test_an_id_that_the_kit_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no behaviour has the id nonsense"):
        await kit.run(factory(Faults()), ["nonsense"])


def run_the_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mailcrane_conformance", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_reports_each_behaviour_and_fails_with_one(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "class Broken:\n"
        "    async def deliver(self, delivery): return ()\n"
        "    async def aclose(self): pass\n"
        "async def make(host, port): return Broken()\n"
    )
    arguments = ("transport", "broken:make", "--only", "delivered", "--only", "nobody-listens")
    run: Callable[[], subprocess.CompletedProcess[str]] = functools.partial(run_the_command, *arguments, cwd=tmp_path)
    ended = await trio.to_thread.run_sync(run)
    assert ended.returncode == 1
    assert "FAIL delivered" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "0 passed, 2 failed"


async def test_the_command_says_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    ended = await trio.to_thread.run_sync(functools.partial(run_the_command, "transport", "nonsense", cwd=tmp_path))
    assert ended.returncode == 2
    assert "is not MODULE:FUNCTION" in ended.stderr


def test_the_peer_imports_nothing_of_the_core() -> None:
    source = Path(sys.modules["mailcrane_conformance.peer"].__file__ or "").read_text()
    assert "mailcrane." not in source.replace("of Mailcrane.", "")


def test_a_mailbox_of_the_kit_is_a_mailbox_of_the_server() -> None:
    assert kit.make_delivery().forward_paths == (Mailbox.parse("b@peer.example"),)
