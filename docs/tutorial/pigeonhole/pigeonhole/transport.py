"""The transport: it writes each message to a file, for each recipient."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import trio

from mailcrane.api import Delivery, Mailbox, Outcome, RecipientResult, Reply


class PigeonholeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in ``[transports.NAME]`` with ``type = "pigeonhole"``."""

    folder: Annotated[str, msgspec.Meta(description="Folder that holds a pigeonhole for each recipient.")]


class PigeonholeTransport:
    """Hands messages to a folder."""

    def __init__(self, config: PigeonholeConfig) -> None:
        self._folder = Path(config.folder)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Write the message for each recipient; one result for each, in order."""
        octets = b"".join([chunk async for chunk in delivery.content.chunks()])
        return tuple([await self._put(entry.forward_path, entry.id, octets) for entry in delivery.entries])

    async def aclose(self) -> None:
        """Nothing is left open."""

    async def _put(self, recipient: Mailbox, entry_id: int, octets: bytes) -> RecipientResult:
        hole = self._folder / recipient.local_part
        if hole.parent != self._folder or recipient.local_part in {".", ".."}:  # a stranger's text is no file name
            return RecipientResult.from_reply(Reply.make(550, "5.1.3", "no pigeonhole can have this name"))
        try:
            await trio.to_thread.run_sync(_write, hole, f"{entry_id}.eml", octets)
        except OSError as error:
            return RecipientResult(Outcome.DEFERRED, error=str(error))  # the disk may have room later
        return RecipientResult.from_reply(Reply.make(250, "2.0.0", f"in pigeonhole {recipient.local_part}"))


def _write(hole: Path, name: str, octets: bytes) -> None:
    hole.mkdir(parents=True, exist_ok=True)
    written = hole / f".{name}"
    with written.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())  # "delivered" is a promise
    written.rename(hole / name)
