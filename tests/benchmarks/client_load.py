"""Loads that need more than plain SMTP: ``Send`` over keep-alive HTTP, and submission with TLS and AUTH.

A process of its own, one thread per connection on blocking sockets; prints one JSON object. Loopback only.

    client_load.py send PORT CONNECTIONS SECONDS LOGIN PASSWORD RECIPIENT
    client_load.py submit PORT CONNECTIONS SECONDS LOGIN PASSWORD RECIPIENT
"""

from __future__ import annotations

import base64
import json
import random
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import BinaryIO

_HOST = "127.0.0.1"
_TEXT = "\n".join(["A mail crane stood beside the railway and held out the mail bag to the night train."] * 38)


class _Load:
    def __init__(self, seconds: float) -> None:
        self.end = time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.bad: list[str] = []

    def run(self, connections: int, one: Callable[[_Load], None]) -> dict[str, float | str]:
        started = time.perf_counter()
        threads = [threading.Thread(target=one, args=(self,)) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - started
        ordered = sorted(self.latencies)

        def percentile(share: float) -> float:
            return ordered[int((len(ordered) - 1) * share)] * 1000 if ordered else 0.0

        return {
            "rate": len(ordered) / wall,
            "count": len(ordered),
            "p50_ms": percentile(0.5),
            "p99_ms": percentile(0.99),
            "bad": len(self.bad),
            "last_bad": self.bad[-1] if self.bad else "",
        }


def _connect(port: int) -> socket.socket:
    source = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
    connection = socket.create_connection((_HOST, port), 60.0, source_address=(source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _sender(port: int, login: str, password: str, recipient: str) -> Callable[[_Load], None]:
    credentials = base64.b64encode(f"{login}:{password}".encode()).decode()

    def request(number: int) -> bytes:
        message = {"To": [{"Address": recipient}], "Subject": f"message {number} under load", "Text": _TEXT}
        body = urllib.parse.urlencode({"request": json.dumps(message)}).encode()
        head = (
            f"POST /webapi/v0/Send HTTP/1.1\r\nHost: {_HOST}:{port}\r\nAuthorization: Basic {credentials}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def one(load: _Load) -> None:
        with _connect(port) as connection, connection.makefile("rb") as answers:
            number = 0
            while (began := time.perf_counter()) < load.end:
                number += 1
                connection.sendall(request(number))
                status, body = _http_response(answers)
                if status == 200:
                    load.latencies.append(time.perf_counter() - began)
                else:
                    load.bad.append(f"{status} {body[:200]!r}")
                    if not status:
                        return

    return one


def _http_response(answers: BinaryIO) -> tuple[int, bytes]:
    line = answers.readline()
    length, is_chunked = 0, False
    while (header := answers.readline()) not in (b"\r\n", b""):
        name, _, value = header.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        is_chunked = is_chunked or (name == b"transfer-encoding" and b"chunked" in value)
    body = b""
    if is_chunked:
        while size := int(answers.readline() or b"0", 16):
            body += answers.read(size)
            answers.readline()
        answers.readline()
    else:
        body = answers.read(length)
    return int(line.split()[1]) if line else 0, body


def _submitter(port: int, login: str, password: str, recipient: str) -> Callable[[_Load], None]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    initial = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    text = _TEXT.replace("\n", "\r\n")

    def reply(answers: BinaryIO) -> int:
        while True:
            line = answers.readline()
            if line[3:4] != b"-":
                return int(line[:3] or b"0")

    def one(load: _Load) -> None:
        with context.wrap_socket(_connect(port)) as connection, connection.makefile("rb") as answers:
            reply(answers)
            for command in ("EHLO load.example", f"AUTH PLAIN {initial}"):
                connection.sendall(command.encode() + b"\r\n")
                code = reply(answers)
            if code != 235:
                load.bad.append(f"AUTH was answered {code}")
                return
            number = 0
            while (began := time.perf_counter()) < load.end:
                number += 1
                header = f"From: <{login}>\r\nTo: <{recipient}>\r\nSubject: message {number} under load\r\n"
                content = f"{header}\r\n{text}\r\n.\r\n"
                connection.sendall(f"MAIL FROM:<{login}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
                codes = [reply(answers), reply(answers), reply(answers)]
                if codes == [250, 250, 354]:
                    connection.sendall(content.encode())
                    codes.append(reply(answers))
                if codes[-1] == 250:
                    load.latencies.append(time.perf_counter() - began)
                else:
                    load.bad.append(f"replies {codes}")
                    return

    return one


def main() -> None:
    """Run the load that the arguments name."""
    what, port, connections, seconds, login, password, recipient = sys.argv[1:]
    make = {"send": _sender, "submit": _submitter}[what]
    print(json.dumps(_Load(float(seconds)).run(int(connections), make(int(port), login, password, recipient))))


if __name__ == "__main__":
    main()
