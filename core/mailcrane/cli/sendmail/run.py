"""From standard input to an exit code of ``sysexits.h``; what could not be submitted is kept for the user."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailcrane.cli.sendmail.arguments import USAGE, UsageError, parse_arguments
from mailcrane.cli.sendmail.client import SubmissionFailed, Submitted, submit
from mailcrane.cli.sendmail.config import SendmailConfig, load_config
from mailcrane.cli.sendmail.message import BadMessage, make_message
from mailcrane.config.convert import ConfigError
from mailcrane.model.reply import Reply

OK: Final = 0
USAGE_WRONG: Final = 64
DATA_WRONG: Final = 65
NO_USER: Final = 67
UNAVAILABLE: Final = 69
TRY_AGAIN: Final = 75
NOT_PERMITTED: Final = 77
CONFIG_WRONG: Final = 78
"""EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM and EX_CONFIG."""


def main(words: Sequence[str]) -> int:
    """Carry out the command; returns the exit code.

    Args:
        words: Behind the program's name.
    """
    try:
        arguments = parse_arguments(words)
    except UsageError as error:
        return _say(USAGE_WRONG, f"{error}\n{USAGE}")
    octets = sys.stdin.buffer.read()
    try:
        config = load_config()
    except ConfigError as error:
        return _fail(CONFIG_WRONG, str(error), octets, None)
    try:
        message = make_message(octets, arguments, config)
    except BadMessage as error:
        return _fail(DATA_WRONG, str(error), octets, config)
    try:
        submitted = submit(message, config)
    except SubmissionFailed as error:
        return _fail(_code_of_failure(error), str(error), octets, config)
    if submitted.is_taken and not submitted.refused:
        return OK
    code, text = _of_refusals(submitted)
    return _fail(code, text, octets, config)


def _of_refusals(submitted: Submitted) -> tuple[int, str]:
    lines = [f"{path}: {reply}" for path, reply in submitted.refused]
    if submitted.is_taken:
        lines.append("the other recipients have it")
    elif not submitted.refused:
        lines.append(f"the message is refused: {submitted.reply}")
    replies = [reply for _, reply in submitted.refused] or [submitted.reply]
    return max(map(_code_of, replies), key=lambda code: code == TRY_AGAIN), "\n".join(lines)


def _code_of_failure(error: SubmissionFailed) -> int:
    if error.reply is not None:
        code = _code_of(error.reply)
        return NOT_PERMITTED if error.is_login and code != TRY_AGAIN else code
    return NOT_PERMITTED if error.is_login else TRY_AGAIN


def _code_of(reply: Reply) -> int:
    if not reply.is_permanent_failure:
        return TRY_AGAIN
    return NO_USER if str(reply.enhanced_status_code).startswith("5.1.") else UNAVAILABLE


def _fail(code: int, text: str, octets: bytes, config: SendmailConfig | None) -> int:
    folder = Path(config.failures_dir if config is not None else _DEFAULT_FOLDER).expanduser()
    try:
        text += f"\nthe message is kept as {_keep(folder, octets)}"
    except OSError as error:
        text += f"\nthe message cannot be kept in {folder}: {error}"
    return _say(code, text)


_DEFAULT_FOLDER = "~/mailcrane-sendmail.failures"


def _keep(folder: Path, octets: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.eml"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
    return name


def _say(code: int, text: str) -> int:
    for line in text.splitlines():
        print(f"sendmail: {line}", file=sys.stderr)
    return code
