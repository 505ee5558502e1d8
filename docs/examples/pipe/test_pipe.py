"""The transport and its plugin, with the conformance kit and by what is special to commands."""

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import trio
from mailcrane_pipe.config import PipeConfig
from mailcrane_pipe.plugin import PipePlugin
from mailcrane_pipe.transport import PipeTransport

from mailcrane.api import Outcome
from mailcrane.testing import made_delivery, made_entry
from mailcrane_conformance import plugin, transport
from mailcrane_conformance.transport import Condition, Received

COMMAND = """#!/bin/sh
# What the kit's peer is: a command whose state lies in a folder.
state=$1 sender=$2 recipient=$3
touch "$state/runs/$$"
if [ -f "$state/refused/$recipient" ]; then cat >/dev/null; exit "$(cat "$state/refused/$recipient")"; fi
case $(cat "$state/condition") in
    WELL) cat >"$state/$$.part" && printf '%s\\n%s' "$sender" "$recipient" >"$state/taken/$$.envelope" &&
        mv "$state/$$.part" "$state/taken/$$.eml" ;;
    TEMPORARY) cat >/dev/null; echo "come back later"; exit 75 ;;
    PERMANENT) cat >/dev/null; echo "not this one"; exit 65 ;;
    STUCK) sleep 1000 ;;
    SILENT) cat >/dev/null; sleep 1000 ;;
    LOST_WITHIN) head -c 100 >/dev/null; kill -9 $$ ;;
    LOST_AFTER) cat >/dev/null; kill -9 $$ ;;
esac
"""


class CommandPeer:
    """The command, as the kit needs to see it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.command = state / "command"
        for name in ("runs", "refused", "taken"):
            (state / name).mkdir()

    async def become(self, condition: Condition, refused: Mapping[str, Condition]) -> None:
        (self.state / "condition").write_text(condition.name)
        self.command.write_text(COMMAND)
        self.command.chmod(0o644 if condition is Condition.DOWN else 0o755)
        for path, how in refused.items():
            (self.state / "refused" / path).write_text("67" if how is Condition.PERMANENT else "75")

    async def received(self) -> Sequence[Received]:
        taken = sorted((self.state / "taken").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        messages = []
        for path in taken:
            sender, _, recipient = path.with_suffix(".envelope").read_text().partition("\n")
            messages.append(Received(sender, (recipient,), path.read_bytes()))
        return messages

    async def wait_until_busy(self, seconds: float) -> bool:
        return await self._wait(lambda: any((self.state / "runs").iterdir()), seconds)

    async def wait_until_idle(self, seconds: float) -> bool:
        return await self._wait(
            lambda: not any(_runs(int(run.name)) for run in (self.state / "runs").iterdir()), seconds
        )

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        with trio.move_on_after(seconds):
            while not condition():  # noqa: ASYNC110 - what processes do is not told
                await trio.sleep(0.01)
            return True
        return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.asynccontextmanager
async def open_pipe() -> AsyncIterator[tuple[CommandPeer, PipeTransport]]:
    """Open the kit's peer and a transport to it."""
    with tempfile.TemporaryDirectory() as folder:
        peer = CommandPeer(Path(folder))
        pipe = PipeTransport(PipeConfig((str(peer.command), folder, "{sender}", "{recipient}")))
        yield peer, pipe
        await pipe.aclose()


test_transport = transport.make_test(transport.other(open_pipe))
test_plugin = plugin.make_test(plugin.Subject(PipePlugin, entry_point="pipe"))


async def _delivered(code: str, *, recipient: str = "ann@there.example", **config: object) -> object:
    arguments = (sys.executable, "-c", f"import os, sys; {code}", "{sender}", "to={recipient}")
    pipe = PipeTransport(PipeConfig(arguments, **config))  # type: ignore[arg-type]
    [result] = await pipe.deliver(made_delivery(made_entry(recipient)))
    return result


async def _outcome(code: str, **more: object) -> tuple[Outcome, str, str]:
    result = await _delivered(code, **more)  # type: ignore[arg-type]
    reply = result.reply  # type: ignore[attr-defined]
    return result.outcome, reply.enhanced_status_code if reply else "", result.error  # type: ignore[attr-defined]


def test_exit_codes_are_those_of_sysexits() -> None:
    async def main() -> None:
        for code, wanted in {
            0: (Outcome.DELIVERED, "2.0.0"),
            os.EX_NOUSER: (Outcome.FAILED, "5.1.1"),
            os.EX_NOHOST: (Outcome.FAILED, "5.1.2"),
            os.EX_DATAERR: (Outcome.FAILED, "5.6.0"),
            os.EX_NOPERM: (Outcome.FAILED, "5.7.1"),
            os.EX_TEMPFAIL: (Outcome.DEFERRED, ""),
            os.EX_CONFIG: (Outcome.DEFERRED, ""),
            1: (Outcome.DEFERRED, ""),
        }.items():
            assert (await _outcome(f"sys.stdin.read(); sys.exit({code})"))[:2] == wanted

    trio.run(main)


def test_what_the_command_writes_is_in_the_error_up_to_a_limit() -> None:
    async def main() -> None:
        _, _, error = await _outcome("print('no\\nsuch user ' + 'x' * 100_000); sys.exit(67)")
        assert "no such user xxx" in error
        assert len(error) < 2200

    trio.run(main)


def test_a_command_that_takes_too_long_is_killed_with_what_it_started() -> None:
    async def main() -> None:
        began = trio.current_time()
        code = "os.fork(); sys.stdin.read(); import time; time.sleep(100)"
        outcome, _, error = await _outcome(code, timeout_seconds=0.5)
        assert outcome is Outcome.DEFERRED
        assert "killed after 0.5 s" in error
        assert trio.current_time() - began < 5

    trio.run(main)


def test_the_environment_is_what_was_configured_and_no_more() -> None:
    async def main() -> None:
        code = "print(sorted(set(os.environ) - {'LC_CTYPE'})); sys.exit(67)"
        _, _, error = await _outcome(code, environment={"MAILCRANE": "here"})
        assert "['MAILCRANE', 'PATH']" in error

    trio.run(main)


def test_an_address_is_one_argument_whatever_is_in_it() -> None:
    async def main() -> None:
        _, _, error = await _outcome("print(sys.argv[2:]); sys.exit(67)", recipient='"$(id) ; {sender}"@there.example')
        assert 'to="$(id) ; {sender}"@there.example' in error

    trio.run(main)


def test_an_address_that_would_be_an_option_is_refused() -> None:
    async def main() -> None:
        pipe = PipeTransport(PipeConfig(("/bin/echo", "{recipient}")))
        [result] = await pipe.deliver(made_delivery(made_entry("-rf@there.example")))
        assert result.outcome is Outcome.FAILED
        assert result.reply is not None
        assert result.reply.enhanced_status_code == "5.1.3"

    trio.run(main)


def test_no_more_commands_run_at_once_than_configured() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            script = f"cat >/dev/null; touch {folder}/$$; ls {folder} | wc -l; sleep 0.05; rm {folder}/$$; exit 67"
            pipe = PipeTransport(PipeConfig(("/bin/sh", "-c", script), concurrency=2))
            entries = [made_entry(f"r{number}@there.example", id=number) for number in range(8)]
            results = await pipe.deliver(made_delivery(*entries))
            assert {result.error.rpartition(": ")[2] for result in results} <= {"1", "2"}

    trio.run(main)
