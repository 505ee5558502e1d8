"""The transport: it runs a command for each recipient, and reads its exit code as sysexits.h has it."""

import os
import signal
import subprocess
from dataclasses import dataclass

import trio

from mailcrane.api import Delivery, Entry, Mailbox, Outcome, RecipientResult, Reply
from mailcrane_pipe.config import PipeConfig, UnsafeArgument, command_line

_OUTPUT_OCTETS = 2000
# What else holds the command's output open when it has ended is not waited for.
_OUTPUT_SECONDS = 1.0

# Those of sysexits.h that say something of the message or the recipient. All others say that something is wrong here,
# with the command or its configuration: nobody's mail is to bounce for that.
_FINAL = {
    os.EX_DATAERR: ("5.6.0", "the command does not take this message"),
    os.EX_NOUSER: ("5.1.1", "the command does not know the recipient"),
    os.EX_NOHOST: ("5.1.2", "the command does not know the domain"),
    os.EX_NOPERM: ("5.7.1", "the command does not allow it"),
}


@dataclass
class _Run:
    """One run of the command.

    Attributes:
        output: The beginning of what it wrote.
        has_all: It was given all of the message.
    """

    output: bytes = b""
    has_all: bool = False

    @property
    def words(self) -> str:
        """The output in one line."""
        text = " ".join(self.output.decode("utf-8", "replace").split())
        return f": {text}" if text else ""


class PipeTransport:
    """Hands messages to a command."""

    def __init__(self, config: PipeConfig) -> None:
        self._config = config
        self._places = trio.CapacityLimiter(config.concurrency)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Run the command for each recipient. Cancellation kills it."""
        results: dict[int, RecipientResult] = {}

        async def one(position: int, entry: Entry) -> None:
            async with self._places:
                results[position] = await self._hand_over(delivery, entry.forward_path)

        async with trio.open_nursery() as nursery:
            for position, entry in enumerate(delivery.entries):
                nursery.start_soon(one, position, entry)
        return tuple(results[position] for position in range(len(delivery.entries)))

    async def aclose(self) -> None:
        """Nothing is left running."""

    async def _hand_over(self, delivery: Delivery, recipient: Mailbox) -> RecipientResult:
        try:
            arguments = command_line(self._config, delivery.reverse_path, recipient)
        except UnsafeArgument as error:
            return RecipientResult.from_reply(Reply.make(553, "5.1.3", str(error)))
        run = _Run()
        with trio.move_on_after(self._config.timeout_seconds) as limit:
            try:
                code = await self._run(arguments, delivery, run)
            except OSError as error:
                return _deferred(f"the command cannot be run: {error}")
        if limit.cancelled_caught:
            why = f"the command was killed after {self._config.timeout_seconds:g} s"
            return _deferred(why + run.words, is_maybe_delivered=run.has_all)
        return _result(code, run)

    async def _run(self, arguments: list[str], delivery: Delivery, run: _Run) -> int:
        """Run the command to its end.

        Raises:
            OSError: there is no such command, or it cannot be run.
        """
        process = await trio.lowlevel.open_process(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._config.folder,
            env={"PATH": os.defpath, **self._config.environment},
            start_new_session=True,  # so that what it starts can be killed with it
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_gather, process, run)
                await _feed(process, delivery, run)
                code = await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + _OUTPUT_SECONDS
            return code
        finally:
            await _end(process)


async def _feed(process: trio.Process, delivery: Delivery, run: _Run) -> None:
    assert process.stdin is not None
    try:
        async for chunk in delivery.content.chunks():
            await process.stdin.send_all(chunk)
        run.has_all = True
    except trio.BrokenResourceError:
        pass  # It does not want to read all of it; its exit code says what became of the message.
    await process.stdin.aclose()


async def _gather(process: trio.Process, run: _Run) -> None:
    assert process.stdout is not None
    async for octets in process.stdout:
        run.output += octets[: _OUTPUT_OCTETS - len(run.output)]


async def _end(process: trio.Process) -> None:
    """Kill what is left of a run, before its input is closed: a command that reads an end takes half for the whole."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()  # at once, after SIGKILL
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()


def _result(code: int, run: _Run) -> RecipientResult:
    if code == os.EX_OK:
        return RecipientResult.from_reply(Reply.make(250, "2.0.0", "the command took it"))
    if code in _FINAL:
        status, why = _FINAL[code]
        return RecipientResult.from_reply(Reply.make(554, status, why + run.words))
    if code < 0:
        return _deferred(f"the command was killed by signal {-code}{run.words}", is_maybe_delivered=run.has_all)
    return _deferred(f"the command ended with {code}{run.words}")


def _deferred(why: str, *, is_maybe_delivered: bool = False) -> RecipientResult:
    return RecipientResult(Outcome.DEFERRED, error=why, is_maybe_delivered=is_maybe_delivered)
