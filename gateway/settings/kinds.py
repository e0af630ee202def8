"""Kinds of values: flags, numbers, sizes, choices, URLs and lists. Pure.

A reader returns the value, or raises ValueError with a text for people, empty if there is nothing to add.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

Environ = Mapping[str, str]


class Reader(NamedTuple):
    """How to read a setting and how to show it. `takes` describes valid values in error messages."""

    takes: str
    read: Callable[[object, Environ], Any]
    show: Callable[[Any], str] = str
    is_secret: bool = False


def redacted_url(text: str) -> str:
    """The URL without user, password, and the values of query parameters that are secrets by their names."""
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.\-]*://)?.*@", r"\1***@", text, flags=re.DOTALL)
    words = "key|token|secret|sig|pass|auth|code|cred"
    return re.sub(rf"([?&#][^=&#]*(?:{words})[^=&#]*=)[^&#]*", r"\1***", text, flags=re.IGNORECASE)


def as_text(value: object, _: Environ | None = None) -> str:
    """The text, stripped. Other characters than printable ones would break a header, a log line or a query later."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - one type of error for all faults
    text = value.strip()
    if not text.isprintable():
        raise ValueError("it contains control characters, line ends or bytes that are not UTF-8")
    return text


def as_flag(value: object, _: Environ) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, int | str) else ""
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError


def whole_number(low: int, high: int) -> Reader:
    def read(value: object, _: Environ) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Reader(f"a whole number from {low} to {high}", read)


def number(takes: str, highest: float, *, may_be_zero: bool = False) -> Reader:
    def read(value: object, _: Environ) -> float:
        if isinstance(value, str) and re.fullmatch(
            r"[0-9]{0,18}\.?[0-9]{1,18}(e[+-]?[0-9]{1,2})?", value.strip().lower()
        ):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError
        if not 0 <= value <= highest or (value == 0 and not may_be_zero):
            raise ValueError
        return float(value)

    return Reader(takes, read, lambda value: f"{value:g}")


_UNITS = {"": 1, "b": 1}
_UNITS |= {
    f"{letter}{tail}": base**power
    for power, letter in enumerate("kmgt", 1)
    for tail, base in (("b", 1000), ("ib", 1024))
}


def _size_of(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,18})(\.[0-9]{1,9})?\s*([kmgt]?i?b?)", value.strip().lower())
        if match and match[3] in _UNITS:
            return int(match[1]) * _UNITS[match[3]] + int(float(match[2] or 0) * _UNITS[match[3]])
    raise ValueError


def size_text(value: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return str(value)


def size(low: int, high: int) -> Reader:
    def read(value: object, _: Environ) -> int:
        found = _size_of(value)
        if not low <= found <= high:
            raise ValueError(f"it is not between {size_text(low)} and {size_text(high)}")
        return found

    return Reader('a size such as "64MiB", "10MB" or a number of bytes', read, size_text)


def choice(*words: str) -> Reader:
    def read(value: object, _: Environ) -> str:
        word = as_text(value).lower()
        if word not in words:
            raise ValueError
        return word

    return Reader(f"one of {', '.join(words)}", read)


def is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", text) is not None
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    if re.search(r"[\s\\]", text):
        raise ValueError("it contains a space or a backslash")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("its host or port cannot be read") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname or not is_host(parts.hostname) or port == 0:
        raise ValueError("it has no valid host")
    return parts


def url(takes: str, *, query: bool = False, credentials: bool = False) -> Reader:
    def read(value: object, _: Environ) -> str:
        parts = split_url(as_text(value), ("http", "https"))
        if not credentials and "@" in parts.netloc:
            raise ValueError("it contains credentials, which have a setting of their own")
        if parts.netloc.endswith(":"):  # for example http://user:/password@host
            raise ValueError("its port is missing")
        if parts.fragment or (parts.query and not query):
            raise ValueError("it has a fragment" if query else "it has a query or a fragment")
        return parts.geturl().rstrip("/")

    return Reader(takes, read, redacted_url)


def items(value: object) -> list[str]:
    """The texts of a TOML list, or of one text that separates them by commas."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError  # noqa: TRY004 - as above
    texts = [as_text(item) for item in value]
    return [text for text in texts if text]


def list_of(takes: str, read_one: Callable[[str], Any] = str, *, least: int = 0) -> Reader:
    def read(value: object, _: Environ) -> tuple[Any, ...]:
        found = tuple(dict.fromkeys(read_one(item) for item in items(value)))
        if len(found) < least:
            raise ValueError
        return found

    return Reader(takes, read, lambda values: ", ".join(map(str, values)))


def one_of(*words: str) -> Callable[[str], str]:
    known = {word.lower(): word for word in words}

    def read(item: str) -> str:
        word = known.get(item.lower())
        if word is None:
            raise ValueError(f"{item[:40]!r} is not one of them")
        return word

    return read


def home(environ: Environ) -> str:
    try:
        return environ.get("HOME") or str(Path.home())
    except RuntimeError:
        raise ValueError("the home directory is unknown: set HOME") from None
