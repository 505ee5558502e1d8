"""Lines of the log, their fields and levels."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import trio

from mailcrane.observe.log import clear_levels, get_levels, get_log, log_context, set_level, set_up_logging
from mailcrane.observe.secret import Secret


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    output = io.StringIO()
    set_up_logging("info", stream=output)
    yield output
    root.handlers[:] = handlers
    root.setLevel(level)
    clear_levels()


def last_line(stream: io.StringIO) -> str:
    return stream.getvalue().splitlines()[-1]


def test_fields_follow_the_message(stream: io.StringIO) -> None:
    get_log("mailcrane.queue.scheduler", worker=1).info(
        '50% of "it"', entry=4, text="two words", empty="", is_held=True
    )
    assert last_line(stream).endswith(
        ' level=info pkg=queue.scheduler msg="50% of \\"it\\"" worker=1 entry=4 text="two words" empty="" is_held=true'
    )


def test_json_lines_hold_the_same_fields(stream: io.StringIO) -> None:
    set_up_logging("info", "json", stream=stream)
    get_log("mailcrane.queue").info("deferred", entry=4, peer=b"x", msg="mine")
    line = json.loads(last_line(stream))
    assert line["at"].endswith("Z")
    assert (line["level"], line["pkg"], line["msg"], line["entry"], line["msg_"]) == (
        "info",
        "queue",
        "deferred",
        4,
        "mine",
    )


def test_a_line_stays_one_line_whatever_is_in_it(stream: io.StringIO) -> None:
    get_log("mailcrane.smtp").info("said", text="a\r\nat=2020 level=error \u2028\x1b[31m")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_secrets_are_not_shown(stream: io.StringIO) -> None:
    get_log("mailcrane.smtp").info("login", password=Secret("hidden"), all=[Secret("hidden")])
    assert "hidden" not in stream.getvalue()


def test_the_standard_librarys_loggers_are_shown_too(stream: io.StringIO) -> None:
    logging.getLogger("hypercorn.error").warning("port %d", 80, extra={"listener": "web"})
    assert last_line(stream).endswith('pkg=hypercorn.error msg="port 80" listener=web')


def test_a_traceback_is_a_field(stream: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        get_log("mailcrane.smtp").exception("failed", session="s1")
    assert len(stream.getvalue().splitlines()) == 1
    assert "ValueError: broken" in last_line(stream)


async def test_context_follows_tasks_and_threads(stream: io.StringIO) -> None:
    log = get_log("mailcrane.session")

    async def in_a_thread() -> None:
        await trio.to_thread.run_sync(log.info, "in a thread")

    with log_context(session="s1"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_a_thread)
        with log_context(transaction=2):
            log.info("inside")
    log.info("outside")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith('msg="in a thread" session=s1')
    assert lines[1].endswith("msg=inside session=s1 transaction=2")
    assert lines[2].endswith("msg=outside")


def test_levels_change_while_running(stream: io.StringIO) -> None:
    log, other = get_log("mailcrane.smtp.server"), get_log("mailcrane.queue")
    set_level("debug", "smtp")
    log.debug("seen")
    other.debug("not seen")
    assert get_levels() == {"mailcrane": "info", "mailcrane.smtp": "debug"}
    set_level("", "mailcrane.smtp")
    log.debug("not seen")
    assert stream.getvalue().count("seen") == 1


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match='"loud" is not a level; use one of error'):
        set_level("loud")
