"""What is stored, or the raw bytes beside it, is exactly what was said; checked against a real Postgres."""

from __future__ import annotations

import asyncio
import json
import random
import string
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.jsonb import to_jsonb

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

AS_COLUMN = "select r.body::text from json_to_recordset($1::text::json) as r (body jsonb)"


def stored_in(postgres: PostgresServer, texts: list[bytes | None]) -> list[str | None]:
    """The texts of a jsonb column, after they have gone the way of the rows."""
    parts = [orjson.dumps({"body": orjson.Fragment(text) if text is not None else None}) for text in texts]
    rows = b"[" + b",".join(parts) + b"]"

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            return [row["body"] for row in await connection.fetch(AS_COLUMN, rows.decode())]
        finally:
            await connection.close()

    return postgres.call(ask())


class Number:
    """A number as exact as it was written; 1.0 is 1, but -0 is not 0."""

    def __init__(self, text: str) -> None:
        self.value = Decimal(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and (self.value, self.value.is_signed()) == (
            other.value,
            other.value.is_signed(),
        )

    __hash__ = None  # type: ignore[assignment]


def exact(text: str) -> Any:
    """The value of JSON text, keys that stand twice and all."""
    return json.loads(
        text,
        parse_int=Number,
        parse_float=Number,
        parse_constant=str,
        object_pairs_hook=lambda pairs: sorted(pairs, key=lambda pair: pair[0]),
    )


def is_kept(body: bytes, stored: str | None, raw: bytes | None) -> bool:
    if raw is not None:
        return raw == body
    return stored is not None and exact(stored) == exact(body.decode())


# --- generated: JSON texts with everything that JSON allows, and a little more ----------------------------------------

DIGITS = st.text(string.digits, min_size=1, max_size=30)
INTEGERS = st.builds(lambda sign, text: sign + (text.lstrip("0") or "0"), st.sampled_from(["", "-"]), DIGITS)
FLOATS = st.builds("{}.{}".format, INTEGERS, DIGITS)
POWERS = st.builds("{}{}{}".format, INTEGERS | FLOATS, st.sampled_from(["e", "E+", "e-"]), st.integers(0, 500))
ESCAPES = st.sampled_from(
    ["\\u0000", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\\uDBFF\\uDFFF", "\\\\", "\\\\u0000", '\\"', "\\n", "\\u00e9"]
)
PIECES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=6)
STRINGS = st.lists(PIECES | ESCAPES, max_size=5).map(lambda parts: '"' + "".join(parts) + '"')
ATOMS = (
    INTEGERS | FLOATS | POWERS | STRINGS | st.sampled_from(["null", "true", "false", "NaN", "-Infinity", "-0", "-0.0"])
)
SPACES = st.sampled_from(["", "", "", " ", "\n  "])


def containers(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"-0"']) | STRINGS
    members = st.builds("{}{}:{}{}".format, SPACES, keys, SPACES, children)
    lists = st.builds(
        lambda items, space: f"[{space}" + f",{space}".join(items) + "]", st.lists(children, max_size=4), SPACES
    )
    dicts = st.builds(lambda items, space: "{" + ",".join(items) + space + "}", st.lists(members, max_size=4), SPACES)
    return lists | dicts


TEXTS = st.recursive(ATOMS, containers, max_leaves=15)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(TEXTS.map(str.encode), min_size=30, max_size=60), junk=st.lists(st.binary(max_size=30), max_size=5)
)
def test_any_json_is_kept_exactly(postgres: PostgresServer, texts: list[bytes], junk: list[bytes]) -> None:
    bodies = [body for body in texts + junk if body]
    held = [to_jsonb(body) for body in bodies]
    for body, one, stored in zip(bodies, held, stored_in(postgres, [one.text for one in held]), strict=True):
        assert is_kept(body, stored, one.raw), body


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
            max_leaves=10,
        ),
        min_size=20,
        max_size=40,
    ),
    seed=st.integers(),
)
def test_whatever_clients_write_is_kept_exactly(postgres: PostgresServer, values: list[Any], seed: int) -> None:
    chance = random.Random(seed)
    styles = [{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}]
    bodies = [json.dumps(value, **chance.choice(styles)).encode("utf-8", "surrogatepass") for value in values]  # type: ignore[arg-type]
    held = [to_jsonb(body) for body in bodies]
    for body, one, stored in zip(bodies, held, stored_in(postgres, [one.text for one in held]), strict=True):
        assert is_kept(body, stored, one.raw), body


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a":1,"b":[1.5,"x"]}', b'{"a":1,"b":[1.5,"x"]}'),
        (b'{"a": 1}', b'{"a": 1}'),
        (b'{\n  "a": 1,\n  "b": []\n}\n', b'{\n  "a": 1,\n  "b": []\n}\n'),
        (b"18446744073709551616", b"18446744073709551616"),
        (b"0.1234567890123456789012345678901234567890", b"0.1234567890123456789012345678901234567890"),
        (b"1e300", b"1e300"),
        (b'"\\\\u0000 is how NUL is written"', b'"\\\\u0000 is how NUL is written"'),
        (b'["\\ud83d\\ude00"]', b'["\\ud83d\\ude00"]'),
        (b'"2026-01-02"', b'"2026-01-02"'),
    ],
)
def test_what_jsonb_holds_needs_no_raw_bytes(body: bytes, text: bytes) -> None:
    held = to_jsonb(body)
    assert (held.text, held.raw) == (text, None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
        (b'{"a": "x\\u0000y"}', b'{"a": "x\\ufffdy"}'),
        (b'"\\ud800"', b'"\\ufffd"'),
        (b'"\\udc00\\ud800"', b'"\\ufffd\\ufffd"'),
        (b"[NaN,Infinity,-Infinity]", b"[null,null,null]"),
        (b"-0", b"-0"),
        (b'{"a":-0.0}', b'{"a":-0.0}'),
        (b"1e999999", b'"1e999999"'),
        (b"[1e-99999999999]", b'["1e-99999999999"]'),
        (b'"caf\xe9"', '"caf\ufffd"'.encode()),
        (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
        (b"{not json", None),
        (b"null", None),
        (b"\xff\xfe", None),
        (b"[" * 5000 + b"]" * 5000, None),
        ('{"a":1}'.encode("utf-16"), None),
    ],
)
def test_what_jsonb_cannot_hold_is_kept_as_bytes_and_as_near_as_it_gets(body: bytes, text: bytes | None) -> None:
    held = to_jsonb(body)
    assert (held.text, held.raw) == (text, body)


def test_an_empty_body_is_nothing() -> None:
    assert to_jsonb(b"") == to_jsonb(b"")
    assert (to_jsonb(b"").text, to_jsonb(b"").raw) == (None, None)


def test_depth_that_the_standard_library_bears_is_kept(postgres: PostgresServer) -> None:
    body = b"[" * 500 + b"]" * 500
    held = to_jsonb(body)
    assert (held.text, held.raw) == (body, None)
    assert stored_in(postgres, [held.text]) == [body.decode()]


def test_numbers_cannot_be_blown_up_without_end() -> None:
    body = b"[" + b",".join([b"1e4000"] * 10_000) + b"]"
    held = to_jsonb(body)
    assert held.raw == body
    assert held.text is not None
    assert held.text.count(b'"1e4000"') == 10_000


@pytest.mark.stopwatch
async def test_large_bodies_are_held_in_good_time() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "é -0 \\ " * 200_000}]}).encode()
    started = asyncio.get_running_loop().time()
    assert to_jsonb(body).raw is None
    assert asyncio.get_running_loop().time() - started < 2
