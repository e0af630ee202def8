"""What the process keeps in mind of its answers: the newest first, within bounds of bytes and time."""

from __future__ import annotations

from uuid import UUID

from gateway.in_flight.recent import OVERHEAD, RecentAnswers, digest
from gateway.model import Outcome
from gateway.store.answers import StoredAnswer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answer(number: int, size: int = 0, root: str = "talk") -> StoredAnswer:
    return StoredAnswer(UUID(int=number), root, Outcome.COMPLETE, b"x" * size)


def test_the_newest_answer_to_a_request_is_found_and_only_by_its_user() -> None:
    recent = RecentAnswers()
    recent.add("ann", b"q", answer(1, root="one"))
    recent.add("ann", b"q", answer(2, root="two"))
    assert recent.answer_to("ann", b"q", None) == answer(2, root="two")
    assert recent.answer_to("ann", b"q", "one") == answer(1, root="one")
    assert recent.answer_to("ann", b"other", None) is None
    assert recent.answer_to("bob", b"q", None) is None
    assert recent.by_id("ann", UUID(int=1)) == answer(1, root="one")
    assert recent.by_id("bob", UUID(int=1)) is None
    assert recent.has_conversation("ann", "one")
    assert not recent.has_conversation("bob", "one")


def test_old_answers_are_dropped() -> None:
    clock = Clock()
    recent = RecentAnswers(keep_s=900, clock=clock)
    recent.add("ann", b"q", answer(1))
    clock.now += 899
    assert recent.answer_to("ann", b"q", None) is not None
    clock.now += 1
    assert recent.answer_to("ann", b"q", None) is None
    assert recent.by_id("ann", UUID(int=1)) is None
    assert not recent.has_conversation("ann", "talk")


def test_bytes_are_bounded_and_the_oldest_goes_first() -> None:
    recent = RecentAnswers(most_bytes=3 * (OVERHEAD + 100))
    for number in range(5):
        recent.add("ann", b"q%d" % number, answer(number, size=100))
    assert [recent.by_id("ann", UUID(int=number)) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    recent.add("ann", b"huge", answer(9, size=10_000))
    assert recent.by_id("ann", UUID(int=9)) is None
    assert recent.by_id("ann", UUID(int=4)) is not None


def test_dropping_an_old_answer_keeps_the_newer_one_to_the_same_request() -> None:
    clock = Clock()
    recent = RecentAnswers(clock=clock)
    recent.add("ann", b"q", answer(1))
    clock.now += 600
    recent.add("ann", b"q", answer(2))
    clock.now += 600
    assert recent.answer_to("ann", b"q", None) == answer(2)
    assert recent.answer_to("ann", b"q", "talk") == answer(2)
    assert recent.has_conversation("ann", "talk")


def test_nothing_is_left_of_dropped_answers() -> None:
    clock = Clock()
    recent = RecentAnswers(clock=clock)
    for number in range(100):
        recent.add(f"user {number}", b"q", answer(number))
    clock.now += 10_000
    assert recent.answer_to("ann", b"q", None) is None
    assert (recent._finished, recent._newest, recent._size) == ({}, {}, 0)


def test_equal_requests_have_equal_digests_whatever_their_order() -> None:
    assert digest({"a": 1, "b": [{"c": 2, "d": 3}]}) == digest({"b": [{"d": 3, "c": 2}], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})
    assert digest({"a": "\ud83d", "n": 2**70}) == digest({"n": 2**70, "a": "\ud83d"})
