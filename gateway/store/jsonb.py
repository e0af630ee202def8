"""What jsonb can hold of a body, and whether that is all of it. Pure.

jsonb refuses NUL characters and lone surrogates, has no NaN, keeps one of several equal keys and no sign of zero; its
numbers are exact but bounded. JSON text is therefore pasted into the statement as it came, never written anew from
Python values (which would round numbers); where jsonb would lose or refuse something, the exact bytes stand beside it.
The order of keys, spaces, and the way a number or a character is written do not count as a loss.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import orjson

MOST_DIGITS = 4000  # numeric takes 131,072 before and 16,383 behind the point; a number is written out in full
MOST_ZEROS = 1_000_000  # that exponents may stand for in one body: `1e308` is five characters here and 309 in Postgres

_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|.)", re.DOTALL)
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:Infinity|NaN|[0-9][0-9.eE+-]*)', re.DOTALL)
_REPLACEMENT = r"\ufffd"


class JsonbValue(NamedTuple):
    """`text` goes into a jsonb column; `raw` is the body itself, where `text` is not all of it."""

    text: bytes | None
    raw: bytes | None
    value: Any  # the same parsed, for who needs to look inside; numbers may be rounded


NOTHING = JsonbValue(None, None, None)


def to_jsonb(body: bytes) -> JsonbValue:
    if not body:
        return NOTHING
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _hold_slowly(body)
    return JsonbValue(body, None, value) if _is_plainly_exact(body, value) else _hold_slowly(body)


def _is_plainly_exact(body: bytes, value: object) -> bool:
    """Whether the text is what orjson makes of its value: then no key stands twice and no number is rounded."""
    if value is None:
        return False
    try:
        is_written_so = orjson.dumps(value) == body or (
            b"\n" in body and orjson.dumps(value, option=orjson.OPT_INDENT_2) == body.rstrip()
        )
    except orjson.JSONEncodeError:  # deeper than it writes
        return False
    # Of what orjson writes, jsonb cannot hold these two. A single byte is found ten times as fast as several.
    return is_written_so and not (b"\\" in body and b"\\u0000" in body) and not (b"-" in body and b"-0.0" in body)


class _Watch:
    """Looks on while the standard library parses: is anything lost, or in need of mending?"""

    def __init__(self) -> None:
        self.is_lossy = False
        self.needs_mending = False
        self.unfit: set[str] = set()  # numbers that Postgres cannot hold
        self._zeros = 0

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        self.is_lossy |= len(found) < len(pairs)
        return found

    def integer(self, text: str) -> int | str:
        self.is_lossy |= text == "-0"
        return int(text) if self._fits(text) else text

    def real(self, text: str) -> float | str:
        if not self._fits(text):
            return text
        number = float(text)
        self.is_lossy |= number == 0 and text[0] == "-"
        return number

    def constant(self, _text: str) -> None:
        self.needs_mending = True

    def _fits(self, text: str) -> bool:
        _, _, exponent = text.lower().partition("e")
        if exponent and len(exponent) < 8:
            self._zeros += abs(int(exponent))
        is_fit = len(text) <= MOST_DIGITS and (
            not exponent or (len(exponent) < 8 and abs(int(exponent)) <= MOST_DIGITS and self._zeros <= MOST_ZEROS)
        )
        if not is_fit:
            self.unfit.add(text)
            self.needs_mending = True
        return is_fit


def _hold_slowly(body: bytes) -> JsonbValue:
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    watch = _Watch()
    try:
        value = json.loads(
            text,
            object_pairs_hook=watch.pairs,
            parse_int=watch.integer,
            parse_float=watch.real,
            parse_constant=watch.constant,
        )
    except (ValueError, RecursionError):
        return JsonbValue(None, body, None)
    if value is None:  # a lone `null` and no value at all are the same in a column
        return JsonbValue(None, body, None)
    if watch.needs_mending or _SUSPECT_ESCAPE.search(text):
        text = _TOKEN.sub(lambda found: _mended(found[0], watch.unfit), text)
    stored = text.encode()
    return JsonbValue(stored, body if watch.is_lossy or stored != body else None, value)


def _mended(token: str, unfit: set[str]) -> str:
    """The same where jsonb takes it; else what comes nearest."""
    if token[0] == '"':
        return _ESCAPE.sub(_mended_escape, token) if "\\u" in token else token
    if token in unfit:
        return f'"{token}"'
    return "null" if token.endswith(("NaN", "Infinity")) else token


def _mended_escape(found: re.Match[str]) -> str:
    code = found[1]
    if code is None:
        return found[0]
    is_lone_surrogate = code[0] in "dD" and code[1] in "89abcdefABCDEF"
    return _REPLACEMENT if code == "0000" or is_lone_surrogate else found[0]
