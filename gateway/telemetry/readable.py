"""Log records as one readable line each, for people at a terminal. Pure; nothing in a record can steer the terminal."""

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
_LONGEST_VALUE = 500


def plain(_style: str, text: str) -> str:
    return text


def colored(style: str, text: str) -> str:
    return f"{STYLES[style]}{text}{RESET}" if style in STYLES else text


def neutral(text: str) -> str:
    """The text with everything escaped that is not plainly printed: controls, line ends, bidi marks, surrogates."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shown(value: object) -> str:
    """Any value of a record as a short, harmless text."""
    if isinstance(value, float):
        value = f"{value:.10g}"
    text = neutral(value if isinstance(value, str) else "-" if value is None else str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def fit(text: str, columns: int) -> str:
    """The text cut or padded to just so many columns."""
    if width(text) > columns:
        while width(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - width(text))


def local_time(record: Mapping[str, Any]) -> datetime | None:
    """When it happened, in the time of this place."""
    try:
        return datetime.fromisoformat(record["timestamp"]).astimezone()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def clock(record: Mapping[str, Any]) -> str:
    moment = local_time(record)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}" if moment else "--:--:--.---"


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
    """Prompt and completion; ~ marks our own estimate."""
    if record.get("prompt_tokens") is None and record.get("completion_tokens") is None:
        return "-"
    mark = "~" if record.get("usage_estimated") else ""
    return f"{mark}{shown(record.get('prompt_tokens'))}→{shown(record.get('completion_tokens'))}"


def _status_style(status: object) -> str:
    if not isinstance(status, int) or status < 400:
        return ""
    return "yellow" if status < 500 else "red"


def request_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    """The canonical line of a request: aligned columns, then what went wrong, if anything did."""
    outcome = shown(record.get("outcome"))
    columns = (
        paint("dim", clock(record)),
        paint(OUTCOME_STYLES.get(outcome, ""), fit(outcome, 16)),
        paint(_status_style(record.get("status")), fit(shown(record.get("status")), 3)),
        fit(shown(record.get("caller")), 14),
        paint("cyan", fit(shown(record.get("model")), 22)),
        f"{duration(record.get('first_token_ms')):>7}",
        f"{duration(record.get('duration_ms')):>7}",
        f"{tokens(record):>13}",
        f"{shown(record.get('method'))} {shown(record.get('path'))}",
        paint("dim", shown(record.get("request_id"))[-8:]),  # the first ones are much the same for all
    )
    error = f"  {paint('red', shown(record['error']))}" if record.get("error") else ""
    return "  ".join(columns) + error


def event_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    """Any other event: time, level, what happened, and its values."""
    level = shown(record.get("level", "info"))
    parts = [
        paint("dim", clock(record)),
        paint(LEVEL_STYLES.get(level, ""), fit(level, 8)),
        shown(record.get("event", "")),
        *(paint("dim", f"{shown(name)}=") + shown(value) for name, value in record.items() if name not in _HEAD),
    ]
    if last := _last_exception(record.get("exception")):
        parts.append(paint("red", last))
    return "  ".join(parts)


def _last_exception(exception: object) -> str:
    """Type and words of the innermost entry of structlog's list of dicts; the frames are for machines."""
    match exception:
        case [*_, {"exc_type": kind, "exc_value": value}]:
            return f"{shown(kind)}: {shown(value)}"
        case str():
            return shown(exception.rpartition("\n")[2])
    return ""


def record_text(record: Mapping[str, Any], paint: Paint = plain) -> str:
    return request_text(record, paint) if record.get("event") == "request" else event_text(record, paint)
