"""Configuration of structlog: JSON lines on standard output, text on a terminal. Never a prompt, an answer or a key.

Records of stdlib logging (aiohttp, asyncio, asyncpg) get the same form. `LogWriter` writes the lines, so that a blocked
pipe never blocks the event loop.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from gateway.errors import safe_value
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.readable import RESET, clock, colored, escaped, plain, request_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from types import TracebackType

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

REQUEST = "request"  # event of the canonical line: one per finished request
REQUEST_FIELDS = (
    "request_id",  # x-request-id, the caller's or our own
    "interaction_id",  # the row's id
    "conversation_id",  # set by the caller
    "caller",  # user name
    "key_id",
    "method",
    "path",
    "model",  # as requested
    "upstream",  # the provider's name
    "status",  # sent to the caller
    "upstream_status",
    "outcome",  # gateway.model.Outcome
    "stream",  # bool
    "prompt_tokens",
    "completion_tokens",
    "usage_estimated",  # bool
    "first_token_ms",
    "duration_ms",
    "bytes_in",  # of the answer, received from the upstream
    "bytes_out",  # of the answer, sent to the caller
    "error",  # the gateway's message
)
"""The canonical line's fields, in order after timestamp, level and event. Fields that are None are left out; further
fields follow."""

HIDDEN_FIELDS = frozenset(
    {"authorization", "api_key", "apikey", "password", "secret", "token", "cookie", "headers", "dsn"}
    | {"messages", "prompt", "completion", "content", "input", "delta", "body", "request_body", "response_body"}
)
"""Names of fields that may contain a key or a text of a user: their values are never logged."""

HIDDEN = "(hidden)"
_SECRETS = re.compile(
    rb"""\bsk-[\w-]{12,}|(?<=\bbearer )[\w.~+/=-]{8,}|(?<=\bbasic )[\w+/=-]{8,}|(?<=://)[^\s/:"'@]{0,100}:[^\s/"'@]{0,200}(?=@)""",
    re.IGNORECASE,
)
_JSON_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_APPEND_NEWLINE
_MILLISECONDS = tuple(f".{millisecond:03d}Z" for millisecond in range(1000))
_MAX_LINE_LENGTH = 16_384
_LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical"}


class Limits(NamedTuple):
    """Limits for logged values."""

    length: int  # of a text
    items: int  # of a list or a dict
    depth: int


_LIMITS = (
    Limits(4000, 100, 6),
    Limits(1000, 50, 3),
    Limits(100, 50, 1),
)  # tried in order


def configure(format: str = "auto", level: str = "info", fd: int = 1) -> LogWriter:
    """Sends structlog and stdlib logging to `fd`. `format`: json, text, or auto (text on a terminal).

    Call it once per process, after a fork. Close the returned writer last.
    """
    is_terminal = _is_terminal(fd)
    renderer: Renderer = (
        TextLines(is_terminal) if format == "text" or (format == "auto" and is_terminal) else JsonLines()
    )
    writer = LogWriter(fd, lambda count: renderer({"event": "log_lines_dropped", "count": count}, "warning"))
    structlog.configure(
        processors=[_Render(renderer)],
        wrapper_class=type("Logger", (_FastLogger, structlog.make_filtering_bound_logger(level)), {}),
        logger_factory=lambda *_: _Output(writer.write),
        cache_logger_on_first_use=True,
    )
    _route_stdlib(StdlibHandler(renderer, writer.write), level)
    return writer


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


class _FastLogger(structlog.BoundLoggerBase):
    """structlog's logger without two copies of the fields: 2.6 µs instead of 3.3 for the canonical line."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> None:
        record: Any = {**self._context, **event_kw} if self._context else event_kw
        record["event"] = event
        try:
            for processor in self._processors:
                record = processor(self._logger, method_name, record)
        except structlog.DropEvent:
            return
        getattr(self._logger, method_name)(record)


class _Output:
    """structlog's sink: writes a finished line, with one method per level."""

    __slots__ = ("critical", "debug", "error", "exception", "fatal", "info", "msg", "warn", "warning")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.msg = self.warning = self.warn = write
        self.error = self.exception = self.critical = self.fatal = write


class _Render:
    """structlog's last processor."""

    __slots__ = ("_renderer",)

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def __call__(self, _logger: object, method: str, record: MutableMapping[str, Any]) -> bytes:
        return self._renderer(record, _LEVELS.get(method, method))


class _UtcClock:
    """UTC in ISO 8601 with milliseconds; the text of the second is cached."""

    __slots__ = ("_second",)

    def __init__(self) -> None:
        self._second = (0, "")

    def __call__(self) -> str:
        now, millisecond = divmod(time.time_ns() // 1_000_000, 1000)
        second, text = self._second
        if now != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            self._second = (now, text)
        return text + _MILLISECONDS[millisecond]


class JsonLines:
    """Renders a record as one line of JSON. Never raises: values without a JSON form are replaced."""

    __slots__ = ("_now", "_tracebacks")

    def __init__(self) -> None:
        self._now = _UtcClock()
        # No local variables: they contain prompts and keys. No rich: dicts do not need it.
        self._tracebacks = ExceptionDictTransformer(show_locals=False, max_frames=20, use_rich=False)

    def __call__(self, record: Mapping[str, Any], level: str) -> bytes:
        ours = {"timestamp": self._now(), "level": level}
        if record.get("event") == REQUEST:
            record = _request_fields(record)
        line: dict[str, Any] = {
            **ours,
            "event": "",
            **record,
            **ours,
        }  # keeps this order; time and level win
        if "exc_info" in line:
            exc_info = _exc_info(line.pop("exc_info"))
            line["exception"] = [_without_empty(each) for each in self._tracebacks(exc_info)] if exc_info else None
        if not HIDDEN_FIELDS.isdisjoint(line):
            line.update(dict.fromkeys(HIDDEN_FIELDS & line.keys(), HIDDEN))
        return _redact_keys(_encode(line))


def _request_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None. They may come as one dict `fields`, which saves a copy in each call."""
    fields = record.get("fields")
    if not isinstance(fields, dict):
        fields = record
    known = {name: value for name, value in fields.items() if value is not None}
    known["event"] = REQUEST
    return known


def _exc_info(value: object) -> ExcInfo | None:
    """structlog's exc_info (True, an exception, a triple) as a triple with a redacted exception."""
    found = value if isinstance(value, tuple) else sys.exc_info() if value else ()
    error = value if isinstance(value, BaseException) else found[1] if len(found) == 3 else None
    if not isinstance(error, BaseException):
        return None
    copy = _redacted_copy(error, {})
    return (type(copy), copy, copy.__traceback__)


def _redacted_copy(error: BaseException, copies: dict[int, BaseException]) -> BaseException:
    """A copy of the exception and its chain, with messages that never quote a user's text."""
    if (known := copies.get(id(error))) is not None:
        return known
    copy: BaseException
    if isinstance(error, BaseExceptionGroup):
        copy = BaseExceptionGroup(error.message, [_redacted_copy(each, copies) for each in error.exceptions])
    else:
        kind = type(error)
        copy = type(kind.__name__, (Exception,), {"__module__": kind.__module__})(safe_value(error))
    copies[id(error)] = copy
    copy.__traceback__ = error.__traceback__
    copy.__cause__ = error.__cause__ and _redacted_copy(error.__cause__, copies)
    copy.__context__ = error.__context__ and _redacted_copy(error.__context__, copies)
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _without_empty(exception: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in exception.items() if value or name == "exc_value"}


def _encode(line: dict[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(line, _as_json, _JSON_OPTIONS)
        # A second brace may be a nested dict with hidden names. One field may be too long.
        if encoded.find(b"{", 1) < 0 and b"[" not in encoded and len(encoded) <= _MAX_LINE_LENGTH:
            return encoded
    except (TypeError, ValueError, RecursionError):  # surrogates, integers beyond 64 bit, deep nesting
        pass
    for limits in _LIMITS:
        encoded = orjson.dumps(_bounded(line, limits), _as_json, _JSON_OPTIONS)
        if len(encoded) <= _MAX_LINE_LENGTH:
            break
    return encoded


def _as_json(value: object) -> str:
    """A value that orjson cannot encode. Our own types may contain a conversation: only the type's name is logged."""
    if hasattr(value, "__dataclass_fields__") or hasattr(value, "__struct_fields__"):
        return f"<{type(value).__name__}>"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    try:
        return _bounded_text(str(value), 1000)
    except Exception:  # noqa: BLE001 - any __str__ may fail, and the line must be written
        return f"<{type(value).__name__}>"


def _bounded(value: object, limits: Limits, depth: int = 0) -> Any:
    """The value in a form that orjson always encodes: no lone surrogates, no huge integers, hidden fields replaced."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, str):
        return _bounded_text(value, limits.length)
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return _as_json(value)
    if depth >= limits.depth:
        return f"<{type(value).__name__} of {len(value)}>"
    items = islice(value, limits.items)
    if isinstance(value, dict):
        return {_bounded_name(name, limits): _bounded_member(name, value[name], limits, depth + 1) for name in items}
    return [_bounded(each, limits, depth + 1) for each in items]


def _bounded_member(name: object, value: object, limits: Limits, depth: int) -> Any:
    return HIDDEN if name in HIDDEN_FIELDS else _bounded(value, limits, depth)


def _bounded_name(name: object, limits: Limits) -> str:
    return _bounded_text(name if isinstance(name, str) else str(_bounded(name, limits, limits.depth)), limits.length)


def _bounded_text(text: str, length: int) -> str:
    if len(text) > length:
        text = f"{text[:length]}… ({len(text)} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _redact_keys(line: bytes) -> bytes:
    """The line without keys and passwords in error messages. The regex costs ten times these tests."""
    if b"sk-" in line or b" " in line or b"@" in line:
        return _SECRETS.sub(HIDDEN.encode(), line)
    return line


class TextLines:
    """Renders a record as one line of text, with its traceback below; with colours on a terminal."""

    __slots__ = ("_console", "_now", "_paint")

    def __init__(self, is_colored: bool) -> None:
        self._now = _UtcClock()
        self._console = structlog.dev.ConsoleRenderer(colors=is_colored, sort_keys=False)
        self._paint = colored if is_colored else plain

    def __call__(self, record: Mapping[str, Any], level: str) -> bytes:
        exc_info = _exc_info(record.get("exc_info"))
        if record.get("event") == REQUEST:
            record = _request_fields(record)
        fields = {name: value for name, value in record.items() if name != "exc_info"}
        line = _bounded(fields | {"timestamp": self._now(), "level": level}, _LIMITS[1])
        text = request_text(line, self._paint) if line.get("event") == REQUEST else self._console_text(line)
        if len(text) > _MAX_LINE_LENGTH:
            text = f"{text[:_MAX_LINE_LENGTH]}…{RESET if self._paint is colored else ''}"
        if exc_info is not None:
            text += "".join(
                f"\n{escaped(each)}" for each in "".join(traceback.format_exception(*exc_info)).splitlines()
            )
        return _redact_keys(text.encode("utf-8", "backslashreplace") + b"\n")

    def _console_text(self, line: dict[str, Any]) -> str:
        line["timestamp"] = clock(line)
        clean = {
            _free_name(escaped(name)): escaped(value if isinstance(value, str) else str(value))
            for name, value in line.items()
        }
        return str(self._console(None, "", clean))


def _free_name(name: str) -> str:
    """A name that structlog's console does not print on a separate line."""
    return f"{name}_" if name in ("exc_info", "exception", "stack") else name


Renderer = JsonLines | TextLines


class StdlibHandler(logging.Handler):
    """Renders records of stdlib logging in the same form."""

    def __init__(self, renderer: Renderer, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._renderer = renderer
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, Any] = {"event": _message(record), "logger": record.name}
        if record.exc_info:
            line["exc_info"] = record.exc_info
        self._write(self._renderer(line, record.levelname.lower()))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit the message, or a foreign __str__
        return f"{record.msg} (its arguments do not fit)"


def _route_stdlib(handler: StdlibHandler, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, StdlibHandler)]
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(
        logging.WARNING
    )  # the canonical line has more, for a tenth of the cost
    logging.captureWarnings(True)
