"""Converts a body to the jsonb that can hold it, and keeps the bytes if jsonb loses something. Pure.

jsonb refuses NUL characters and lone surrogates, has no NaN, keeps one of several equal keys and no sign of zero; its
numbers are exact but bounded. The statement therefore gets the JSON text as it came: text from Python values would have
rounded numbers. If jsonb would lose or refuse something, the row has the exact bytes, too. The order of keys, white
space, and the notation of numbers and characters do not count as a loss.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import orjson

MAX_DIGITS = 4000  # numeric takes 131,072 before and 16,383 behind the point; a number is written out in full
MAX_ZEROS = 1_000_000  # by exponents in one body: `1e308` has five characters here and 309 in Postgres

_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|.)", re.DOTALL)
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:Infinity|NaN|[0-9][0-9.eE+-]*)', re.DOTALL)
_REPLACEMENT = r"\ufffd"


class JsonbValue(NamedTuple):
    """A body for a jsonb column. `raw`: the body itself, if `text` does not hold all of it."""

    text: bytes | None
    raw: bytes | None
    value: Any  # the parsed body; numbers may be rounded


NOTHING = JsonbValue(None, None, None)


def to_jsonb(body: bytes) -> JsonbValue:
    """The body as jsonb can hold it."""
    if not body:
        return NOTHING
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _to_jsonb_slowly(body)
    return JsonbValue(body, None, value) if _is_plainly_exact(body, value) else _to_jsonb_slowly(body)


def _is_plainly_exact(body: bytes, value: object) -> bool:
    """Whether orjson writes the value as the same text: then no key is double and no number is rounded."""
    if value is None:
        return False
    try:
        is_written_so = orjson.dumps(value) == body or (
            b"\n" in body and orjson.dumps(value, option=orjson.OPT_INDENT_2) == body.rstrip()
        )
    except orjson.JSONEncodeError:  # too deep to write
        return False
    # orjson writes two things that jsonb cannot hold. A search for a single byte is ten times as fast as for several.
    return is_written_so and not (b"\\" in body and b"\\u0000" in body) and not (b"-" in body and b"-0.0" in body)


class _ParseHooks:
    """Hooks of the standard library's parser that detect losses, and what jsonb would refuse."""

    def __init__(self) -> None:
        self.is_lossy = False
        self.needs_repair = False
        self.unfit: set[str] = set()  # numbers that Postgres refuses
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
        self.needs_repair = True

    def _fits(self, text: str) -> bool:
        _, _, exponent = text.lower().partition("e")
        if exponent and len(exponent) < 8:
            self._zeros += abs(int(exponent))
        is_fit = len(text) <= MAX_DIGITS and (
            not exponent or (len(exponent) < 8 and abs(int(exponent)) <= MAX_DIGITS and self._zeros <= MAX_ZEROS)
        )
        if not is_fit:
            self.unfit.add(text)
            self.needs_repair = True
        return is_fit


def _to_jsonb_slowly(body: bytes) -> JsonbValue:
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    hooks = _ParseHooks()
    try:
        value = json.loads(
            text,
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.real,
            parse_constant=hooks.constant,
        )
    except (ValueError, RecursionError):
        return JsonbValue(None, body, None)
    if value is None:  # in a column, a lone `null` equals no value
        return JsonbValue(None, body, None)
    if hooks.needs_repair or _SUSPECT_ESCAPE.search(text):
        text = _TOKEN.sub(lambda found: _repaired(found[0], hooks.unfit), text)
    stored = text.encode()
    return JsonbValue(stored, body if hooks.is_lossy or stored != body else None, value)


def _repaired(token: str, unfit: set[str]) -> str:
    """The token as jsonb accepts it: the same, or the nearest form."""
    if token[0] == '"':
        return _ESCAPE.sub(_repaired_escape, token) if "\\u" in token else token
    if token in unfit:
        return f'"{token}"'
    return "null" if token.endswith(("NaN", "Infinity")) else token


def _repaired_escape(found: re.Match[str]) -> str:
    code = found[1]
    if code is None:
        return found[0]
    is_lone_surrogate = code[0] in "dD" and code[1] in "89abcdefABCDEF"
    return _REPLACEMENT if code == "0000" or is_lone_surrogate else found[0]
