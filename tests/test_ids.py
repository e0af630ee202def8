"""Ids of interactions: UUIDv7 that only grow."""

from __future__ import annotations

import time
from copy import copy
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.ids import Ids


def milliseconds_of(made: UUID) -> int:
    return made.int >> 80


def test_id_is_a_version_7_uuid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = Ids().new()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= milliseconds_of(made) <= time.time_ns() // 1_000_000


def test_id_is_what_the_standard_library_makes_of_its_number() -> None:
    made = Ids().new()
    same = UUID(int=made.int)
    assert (made, hash(made), repr(made), made.bytes, made.is_safe) == (
        same,
        hash(same),
        repr(same),
        same.bytes,
        same.is_safe,
    )
    assert copy(made) == same
    assert orjson.dumps(made) == orjson.dumps(same)


def test_ids_made_quickly_grow_and_are_unique() -> None:
    ids = Ids()
    made = [ids.new() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert len({Ids().new() for _ in range(1000)}) == 1000  # of as many processes


@given(steps=st.lists(st.integers(-(10**12), 10**10), max_size=30))
def test_ids_grow_although_the_clock_is_set_back(steps: list[int]) -> None:
    now = time.time_ns()
    ids, made = Ids(lambda: now), []
    for step in steps:
        now += step
        made.append(ids.new())
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(each.version == 7 and each.variant == "specified in RFC 4122" for each in made)


def test_fraction_of_a_millisecond_sorts_too() -> None:
    """RFC 9562 section 6.2, method 3: 12 bits say which 4096th of its millisecond it is."""
    start = 1_700_000_000_000_000_000
    first = Ids(lambda: start).new()
    second = Ids(lambda: start + 500_000).new()
    assert milliseconds_of(first) == milliseconds_of(second) == 1_700_000_000_000
    assert ((first.int >> 64) & 0xFFF, (second.int >> 64) & 0xFFF) == (0, 2048)


def test_most_bits_are_random() -> None:
    tails = [Ids(lambda: 1_700_000_000_000_000_000).new().int & ((1 << 62) - 1) for _ in range(2000)]
    for bit in range(62):
        assert 800 < sum(tail >> bit & 1 for tail in tails) < 1200
