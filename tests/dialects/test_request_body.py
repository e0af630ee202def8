"""Small changes to a request: the result says what it should, and every other byte is the caller's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.request_body import (
    DECIDING,
    DECIDING_WITHIN,
    ambiguous_member,
    asking_for_usage,
    values_of,
    with_member,
    without_members,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SPACES = st.text(" \t\n\r", max_size=3)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e400", "-0", "1E5", "1.10", "18446744073709551616", "9" * 5000, "0.1000000000000000055511151"]),
)
STRINGS = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).filter(str.isprintable).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([r'"\ud83d"', r'"\u0000"', '"}"', '"{"', '","', r'"\\"', r'"\""', '"stream_options"', '":"']),
)
NAMES = st.one_of(
    STRINGS, st.sampled_from(['"root_id"', '"stream_options"', r'"\u0072oot_id"', '"convo_title"', '"model"', '"x"'])
)


@st.composite
def json_text(draw: Callable[[Any], Any], depth: int = 2) -> str:
    """Any JSON value as somebody may write it."""
    kind = draw(st.integers(0, 5 if depth else 2))
    if kind == 0:
        return str(draw(NUMBERS))
    if kind == 1:
        return str(draw(STRINGS))
    if kind == 2:
        return str(draw(st.sampled_from(["null", "true", "false"])))
    if kind == 3:
        items = draw(st.lists(json_text(depth=depth - 1), max_size=3))
        return "[" + ",".join(draw(SPACES) + item + draw(SPACES) for item in items) + "]"
    return str(draw(json_object(depth=depth - 1)))


@st.composite
def json_object(draw: Callable[[Any], Any], depth: int = 2) -> str:
    members = draw(st.lists(st.tuples(NAMES, json_text(depth=depth)), max_size=5))
    return "{" + (",".join(draw(member_text(name, value)) for name, value in members) or draw(SPACES)) + "}"


@st.composite
def member_text(draw: Callable[[Any], Any], name: str, value: str) -> str:
    space = [draw(SPACES) for _ in range(4)]
    return f"{space[0]}{name}{space[1]}:{space[2]}{value}{space[3]}"


@st.composite
def bodies(draw: Callable[[Any], Any]) -> bytes:
    return f"{draw(SPACES)}{draw(json_object())}{draw(SPACES)}".encode()


class Exactly(str):
    """A number, as it is written."""

    __slots__ = ()


def members_of(raw: bytes) -> list[tuple[str, Any]]:
    """All members, doubles too, with numbers as they are written; of objects within, as a list of pairs."""
    found: list[tuple[str, Any]] = json.loads(
        raw.decode(), object_pairs_hook=list, parse_int=Exactly, parse_float=Exactly, parse_constant=Exactly
    )
    return found


@given(raw=bodies())
def test_with_member_adds_one_at_the_end(raw: bytes) -> None:
    changed = with_member(raw, b'"new":{"a": [1]}')
    assert members_of(changed) == [*members_of(raw), ("new", [("a", [Exactly("1")])])]
    assert changed.startswith(raw.rstrip()[:-1].rstrip())


@given(raw=bodies(), names=st.sets(st.sampled_from(["root_id", "convo_title", "model", "nothing", "}", ""])))
def test_without_members_takes_out_those_and_changes_nothing_else(raw: bytes, names: set[str]) -> None:
    changed = without_members(raw, names)
    assert members_of(changed) == [member for member in members_of(raw) if member[0] not in names]
    if not names & {name for name, _ in members_of(raw)}:
        assert changed.strip() == raw.strip() or not members_of(raw)


@given(raw=bodies())
def test_every_byte_that_stays_is_the_callers(raw: bytes) -> None:
    """What is left of the text is left as it was, between the same commas."""
    changed = without_members(raw, ("root_id",)).decode()
    at = 0
    for piece in changed[1:-1].split(","):
        at = raw.decode().index(piece, at)


@given(raw=bodies())
def test_usage_is_asked_for_and_nothing_else_changes(raw: bytes) -> None:
    members = members_of(raw)
    body = json.loads(raw.decode(), parse_int=str, parse_float=str)
    changed = asking_for_usage(raw, body)
    options = body.get("stream_options")
    if "stream_options" not in body:
        assert changed is not None
        assert members_of(changed) == [*members, ("stream_options", [("include_usage", True)])]
    elif options is None:
        assert changed is not None
        rest = [member for member in members if member[0] != "stream_options"]
        assert members_of(changed) == [*rest, ("stream_options", [("include_usage", True)])]
    elif not isinstance(options, dict) or "include_usage" in options:
        assert changed is None
    else:
        assert changed is not None
        last = max(i for i, (name, _) in enumerate(members) if name == "stream_options")
        members[last] = ("stream_options", [*members[last][1], ("include_usage", True)])
        assert members_of(changed) == members


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b'{"a":1}\n', b'{"a":1,"stream_options":{"include_usage":true}}'),
        (b'{"stream_options": {} , "z": 1.10}', b'{"stream_options": {"include_usage":true}, "z": 1.10}'),
        (
            b'{"stream_options":{"include_obfuscation":false}}',
            b'{"stream_options":{"include_obfuscation":false,"include_usage":true}}',
        ),
        (b'{"stream_options":{"include_usage":false}}', None),
        (b'{"stream_options":[]}', None),
    ],
)
def test_asking_for_usage_by_example(raw: bytes, asked: bytes | None) -> None:
    assert asking_for_usage(raw, json.loads(raw)) == asked


def test_taking_members_out_by_example() -> None:
    raw = b'{"model": "m" , "root_id": "r", "messages": [ {"root_id": 1} ],"convo_title":"t" }'
    assert without_members(raw, ("root_id", "convo_title")) == b'{"model": "m" , "messages": [ {"root_id": 1} ]}'
    assert without_members(b'{"root_id":1,"root_id":2}', ("root_id",)) == b"{}"


# --- what servers may read in different ways ---

SPELLINGS = [
    "model",
    "MODEL",
    "Model",
    r"mod\u0065l",
    r"\u004dodel",
    "stream",
    "\u017ftream",
    "n",
    "N",
    "user",
    "User",
    "x",
]
WATCHED = frozenset(("model", "stream", "n"))


@given(st.lists(st.tuples(st.sampled_from(SPELLINGS), json_text(depth=1)), max_size=6), SPACES)
def test_a4_a_watched_name_stands_there_once_and_as_it_is_written(members: list[tuple[str, str]], space: str) -> None:
    raw = ("{" + ",".join(f'{space}"{name}"{space}:{value}{space}' for name, value in members) + "}").encode()
    names = [name for name, _ in members_of(raw)]
    folded = [name.casefold() for name in names if name.casefold() in WATCHED]
    is_clear = len(folded) == len(set(folded)) and all(name in WATCHED for name in names if name.casefold() in WATCHED)
    found = ambiguous_member(raw, WATCHED)
    assert (found is None) == is_clear
    assert found is None or found in folded
    has_double = len({name.casefold() for name in names}) < len(names)
    assert (ambiguous_member(raw, None) is not None) == has_double


@given(raw=bodies())
def test_a4_the_values_of_an_object_are_as_they_are_written(raw: bytes) -> None:
    last = dict(members_of(raw))
    values = values_of(raw)
    assert values.keys() == last.keys()
    for name, value in values.items():
        assert members_of(b'{"x":' + value + b"}")[0][1] == last[name]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","MODEL":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"a":1,"model":"a" , "model":"b"}',
        b'{"model":{"model":1},"model":2}',
        rb'{"model":"a","mod\u0065l":"b"}',
        rb'{"x":"\ud800","model":"a","model":"b"}',
        '{"\u212aey":1,"model":"a","\u017ftream":true}'.encode(),
        b'{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}',
        b'{"stream":true,"stream_options":{"Include_Usage":true}}',
        b'{"stream_options":null,"stream_options":{}}',
        b'{"MESSAGES":[]}',
    ],
)
def test_a4_two_readings_are_found_wherever_they_stand(raw: bytes) -> None:
    assert ambiguous_member(raw, DECIDING, DECIDING_WITHIN) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b' {\n"model" : "a", "messages": [{"model": 1, "model": 2}] } ',
        rb'{"mod\u0065l":"a"}',
        rb'{"model":"\"model\":\"b\"","x":"\ud800"}',
        b'{"user":"a","user":"b","model":"m"}',
        b'{"model":"m","tools":[{"parameters":{"properties":{"model":{},"MODEL":{}}}}],"stream_options":[]}',
    ],
)
def test_a4_one_reading_is_left_alone(raw: bytes) -> None:
    assert ambiguous_member(raw, DECIDING, DECIDING_WITHIN) is None


@pytest.mark.parametrize("raw", [b"[]", b"1", b"", b"{", b'{"a":1,}', b"\xff\xfe"])
def test_what_is_no_object_has_no_members(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        values_of(raw)
