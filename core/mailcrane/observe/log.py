"""Structured logging on the standard library's: a message in plain words and fields beside it.

Modules do ``log = get_log(__name__)`` and ``log.info("entry deferred", entry=4)``. Fields that hold for everything
below a call, such as the session's id, are set with `log_context` and follow trio tasks through a context variable.
What the standard library's own loggers get in ``extra`` is shown as fields as well. Secrets show as hidden, because
`mailcrane.observe.secret.Secret` prints so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import types
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["logfmt", "json"]

ROOT = "mailcrane"
_FIELDS = "mailcrane_fields"
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
_NOTHING: Mapping[str, object] = types.MappingProxyType({})
_NEEDS_QUOTES = frozenset(' "=\\')

_context: ContextVar[Mapping[str, object]] = ContextVar("mailcrane_log_context", default=_NOTHING)


class Log:
    """A logger whose methods take fields by keyword. Costs one level check where the level is off."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: Mapping[str, object] | None = None) -> None:
        self._logger = logger
        self._fields = dict(fields or {})

    @property
    def name(self) -> str:
        """The logger's name, a package or module."""
        return self._logger.name

    def bind(self, **fields: object) -> Log:
        """Return a log that adds these fields to each line."""
        return Log(self._logger, {**self._fields, **fields})

    def is_debug(self) -> bool:
        """Whether debug lines are wanted, for those that are dear to make."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def is_info(self) -> bool:
        """Whether info lines are wanted, for those that are dear to make."""
        return self._logger.isEnabledFor(logging.INFO)

    def debug(self, message: str, **fields: object) -> None:
        """Log what helps to find a fault."""
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Log what an operator wants to have seen."""
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Log what goes on but should be looked at."""
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Log what failed."""
        self._log(logging.ERROR, message, fields)

    def exception(self, message: str, error: BaseException | None = None, **fields: object) -> None:
        """Log what failed with the traceback of an exception, by default the one being handled."""
        self._log(logging.ERROR, message, fields, exc_info=error if error is not None else True)

    def _log(self, level: int, message: str, fields: Mapping[str, object], exc_info: Any = None) -> None:
        if self._logger.isEnabledFor(level):
            # The message goes as an argument, so that a percent sign in it means nothing.
            extra = {_FIELDS: {**self._fields, **fields}}
            self._logger.log(level, "%s", message, exc_info=exc_info, extra=extra, stacklevel=3)


def get_log(name: str, **fields: object) -> Log:
    """Return the log of a module."""
    return Log(logging.getLogger(name), fields)


@contextlib.contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add fields to every line that is logged inside, also by tasks that are started inside."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def set_up_logging(
    level: str = "info",
    log_format: LogFormat = "logfmt",
    levels: Mapping[str, str] | None = None,
    *,
    stream: TextIO | None = None,
) -> None:
    """Send everything to a stream, standard error by default, replacing what was set up before."""
    handler = _StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JSONFormatter() if log_format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StreamHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # Libraries are heard from when something is wrong.
    clear_levels()
    set_level(level)
    for package, package_level in (levels or {}).items():
        set_level(package_level, package)


def set_level(level: str, package: str = ROOT) -> None:
    """Set the level of a package, while running; an empty level makes it follow its parent again.

    Args:
        level: ``error``, ``warning``, ``info`` or ``debug``; empty to clear.
        package: ``mailcrane.smtp`` or, shorter, ``smtp``; another library by its full name, such as ``hypercorn``.

    Raises:
        ValueError: the level is none of these.
    """
    if level and level not in _LEVELS:
        raise ValueError(f'"{level}" is not a level; use one of {", ".join(_LEVELS)}')
    logging.getLogger(_logger_name(package)).setLevel(_LEVELS[level] if level else logging.NOTSET)


def get_levels() -> dict[str, str]:
    """Return the levels that are set, by package, the root of ours first."""
    found: dict[str, str] = {}
    for name, logger in sorted(logging.root.manager.loggerDict.items(), key=lambda item: (item[0] != ROOT, item[0])):
        if name.partition(".")[0] == ROOT and isinstance(logger, logging.Logger) and logger.level != logging.NOTSET:
            found[name] = logging.getLevelName(logger.level).lower()
    return found


def clear_levels() -> None:
    """Make every package follow the root again."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith(ROOT):
            logger.setLevel(logging.NOTSET)


class LogfmtFormatter(logging.Formatter):
    """One line ``at=… level=… pkg=… msg=… key=value`` for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows as one quoted value."""
        pairs = [f"{key}={_logfmt_value(value)}" for key, value in _record_fields(record).items()]
        return " ".join(pairs)


class JSONFormatter(logging.Formatter):
    """One JSON object a line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; what JSON does not know is written as text."""
        return json.dumps(_record_fields(record), ensure_ascii=False, default=str, separators=(",", ":"))


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Ours, so that setting up again replaces it and leaves those of test tools alone."""


def _record_fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "pkg": record.name.removeprefix(ROOT + "."),
        "msg": record.getMessage(),
    }
    given: dict[str, object] = {**_context.get()}
    given.update({key: value for key, value in vars(record).items() if key not in _STANDARD and key != _FIELDS})
    given.update(getattr(record, _FIELDS, {}))
    for key, value in given.items():
        fields[key if key not in fields else f"{key}_"] = value
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _logfmt_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    if text and text.isprintable() and not _NEEDS_QUOTES.intersection(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _logger_name(package: str) -> str:
    own = f"{ROOT}.{package}"
    known = logging.root.manager.loggerDict
    if package == ROOT or package.startswith(ROOT + ".") or (package in known and own not in known):
        return package
    return own
