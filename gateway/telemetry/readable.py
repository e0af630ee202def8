"""Formats log records as one line each for a terminal. Pure. Control characters in a record are escaped."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Paint = Callable[[str, str], str]

RESET = "\x1b[0m"
STYLES = {"red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m", "cyan": "\x1b[36m", "dim": "\x1b[2m"}
OUTCOME_STYLES = {
    "complete": "green",
    "client_cancelled": "yellow",
    "truncated": "yellow",
    "policy_blocked": "yellow",
    "refused": "yellow",
    "upstream_error": "red",
    "interrupted": "red",
}
LEVEL_STYLES = {"debug": "dim", "info": "green", "warning": "yellow", "error": "red", "critical": "red"}
_HEAD = frozenset({"timestamp", "level", "event", "exception"})
_MAX_VALUE_LENGTH = 500


def plain(_style: str, text: str) -> str:
    return text


def colored(style: str, text: str) -> str:
    return f"{STYLES[style]}{text}{RESET}" if style in STYLES else text


def escaped(text: str) -> str:
    """The text with unprintable characters escaped: controls, line ends, bidi marks, surrogates."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def text_of(value: object) -> str:
    """A value of a record as a short text, escaped."""
    if isinstance(value, float):
        value = f"{value:.10g}"
    text = escaped(value if isinstance(value, str) else "-" if value is None else str(value))
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def fit(text: str, columns: int) -> str:
    """The text, cut or padded to exactly `columns` columns."""
    if width(text) > columns:
        while width(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - width(text))


def local_time(record: Mapping[str, Any]) -> datetime | None:
    """The record's time in the local time zone."""
    try:
        return datetime.fromisoformat(record["timestamp"]).astimezone()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def clock(record: Mapping[str, Any]) -> str:
    at = local_time(record)
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}" if at else "--:--:--.---"


def duration(milliseconds: object) -> str:
    if not _is_number(milliseconds):
        return "-"
    value = float(milliseconds)  # type: ignore[arg-type]
    if value < 1000:
        return f"{value:.0f}ms" if value >= 9.95 or value <= 0 else f"{value:.1f}ms"
    return f"{value / 1000:.1f}s" if value < 600_000 else f"{value / 60_000:.0f}min"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def tokens(record: Mapping[str, Any]) -> str:
    """Tokens of prompt and completion; ~ marks an estimate by the gateway."""
    if record.get("prompt_tokens") is None and record.get("completion_tokens") is None:
        return "-"
    mark = "~" if record.get("usage_estimated") else ""
    return f"{mark}{text_of(record.get('prompt_tokens'))}→{text_of(record.get('completion_tokens'))}"


def _status_style(status: object) -> str:
    if not isinstance(status, int) or status < 400:
        return ""
    return "yellow" if status < 500 else "red"


def request_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    """The canonical line of a request: aligned columns, then the error, if any."""
    outcome = text_of(record.get("outcome"))
    columns = (
        paint("dim", clock(record)),
        paint(OUTCOME_STYLES.get(outcome, ""), fit(outcome, 16)),
        paint(_status_style(record.get("status")), fit(text_of(record.get("status")), 3)),
        fit(text_of(record.get("caller")), 14),
        paint("cyan", fit(text_of(record.get("model")), 22)),
        f"{duration(record.get('first_token_ms')):>7}",
        f"{duration(record.get('duration_ms')):>7}",
        f"{tokens(record):>13}",
        f"{text_of(record.get('method'))} {text_of(record.get('path'))}",
        paint("dim", text_of(record.get("request_id"))[-8:]),  # UUIDv7: the first characters are similar
    )
    error = f"  {paint('red', text_of(record['error']))}" if record.get("error") else ""
    return "  ".join(columns) + error


def event_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    """Any other event: time, level, event and values."""
    level = text_of(record.get("level", "info"))
    parts = [
        paint("dim", clock(record)),
        paint(LEVEL_STYLES.get(level, ""), fit(level, 8)),
        text_of(record.get("event", "")),
        *(paint("dim", f"{text_of(name)}=") + text_of(value) for name, value in record.items() if name not in _HEAD),
    ]
    if last := _last_exception(record.get("exception")):
        parts.append(paint("red", last))
    return "  ".join(parts)


def _last_exception(exception: object) -> str:
    """Type and message of the last exception in structlog's list of dicts, without frames."""
    match exception:
        case [*_, {"exc_type": kind, "exc_value": value}]:
            return f"{text_of(kind)}: {text_of(value)}"
        case str():
            return text_of(exception.rpartition("\n")[2])
    return ""


def record_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    return request_text(record, paint) if record.get("event") == "request" else event_text(record, paint)
