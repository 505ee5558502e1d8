"""A small SMTP client for tests: sends lines, returns replies. It knows nothing that a test does not tell it."""

from __future__ import annotations

from base64 import b64encode

import trio

from mailcrane.model.reply import Reply


class SMTPClient:
    """One session on a stream, over which the greeting is yet to come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def reply(self) -> Reply:
        """Receive one reply.

        Raises:
            EOFError: the server closed the connection.
        """
        lines: list[str] = []
        while True:
            line = (await self._line()).decode()
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply.from_lines(int(line[:3]), tuple(lines))

    async def command(self, line: str | bytes) -> Reply:
        """Send one line and receive the reply."""
        await self.stream.send_all((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def hello(self, name: str = "client.example") -> Reply:
        """Receive the greeting and send EHLO."""
        greeting = await self.reply()
        return await self.command(f"EHLO {name}") if greeting.code == 220 else greeting

    async def log_in(self, login: str, password: str) -> Reply:
        """Send AUTH PLAIN."""
        return await self.command(b"AUTH PLAIN " + b64encode(f"\0{login}\0{password}".encode()))

    async def send(self, reverse_path: str, forward_paths: str | list[str], content: bytes) -> Reply:
        """Send one message; returns the reply that refused it, or the one to the final dot.

        Args:
            reverse_path: Without angle brackets; parameters may follow after ``>``.
            forward_paths: One or several.
            content: With CRLF line ends, before dot-stuffing.
        """
        for line in [
            f"MAIL FROM:<{reverse_path}>",
            *(f"RCPT TO:<{path}>" for path in ([forward_paths] if isinstance(forward_paths, str) else forward_paths)),
        ]:
            reply = await self.command(line)
            if not reply.is_positive:
                return reply
        reply = await self.command("DATA")
        if reply.code != 354:
            return reply
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        return await self.command((b"." if stuffed.startswith(b".") else b"") + stuffed + b".")

    async def quit(self) -> Reply:
        """Send QUIT and close."""
        reply = await self.command("QUIT")
        await self.stream.aclose()
        return reply

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            received = await self.stream.receive_some(65536)
            if not received:
                raise EOFError("the server closed the connection")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line
