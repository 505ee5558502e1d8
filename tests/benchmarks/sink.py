"""A next hop that takes everything and keeps nothing: ``sink.py PORT``. One process, asyncio, no TLS."""

from __future__ import annotations

import asyncio
import sys


class _Dialog(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer, self.in_content = transport, b"", False
        transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = b"\r\n.\r\n" if self.in_content else b"\r\n"
            line, found, rest = self.buffer.partition(end)
            if not found:
                return
            self.buffer = rest
            if self.in_content:
                self.in_content = False
                self.transport.write(b"250 2.0.0 taken\r\n")
                continue
            self._command(line[:4].upper())

    def _command(self, verb: bytes) -> None:
        match verb:
            case b"EHLO":
                self.transport.write(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            case b"DATA":
                self.in_content = True
                self.transport.write(b"354 go on\r\n")
            case b"QUIT":
                self.transport.write(b"221 2.0.0 bye\r\n")
                self.transport.close()
            case _:
                self.transport.write(b"250 2.0.0 ok\r\n")


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Dialog, "127.0.0.1", port, backlog=500)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
