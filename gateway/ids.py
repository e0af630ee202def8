"""Interaction ids: UUIDv7 (RFC 9562 section 5.7), which sort by their time."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from uuid import UUID, SafeUUID

if TYPE_CHECKING:
    from collections.abc import Callable

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_new, _set = object.__new__, object.__setattr__
MIN_CORRECTION_NS = 20_000_000  # smaller ones are within the error of a measurement
JUMP_NS = 1_000_000_000  # after a larger correction ids may jump back
_ENTROPY_BYTES = 4096  # read at once: a system call for each id costs more than the rest of `new`


class Ids:
    """Makes ids that only grow, also within a millisecond and when the clock is set back (RFC 9562, 6.2, method 3).

    `clock` returns Unix time in nanoseconds; `correct` sets its error.
    """

    __slots__ = ("_ahead_ns", "_clock", "_entropy", "_last", "_used")

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._ahead_ns = 0
        self._last = 0
        self._entropy = b""
        self._used = 0

    def new(self) -> UUID:
        """Returns the next id: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction, 62 random bits."""
        moment = ((self._clock() - self._ahead_ns) << 12) // 1_000_000  # 60 bits: milliseconds and 4096ths of one
        self._last = moment = max(moment, self._last + 1)
        random = self._eight_bytes() >> 2
        return _uuid(((moment >> 12) << 80) | ((moment & 0xFFF) << 64) | random | _VERSION_AND_VARIANT)

    def correct(self, ahead_s: float) -> None:
        """Sets by how many seconds the clock is ahead of the other hosts' clocks.

        If it is far ahead, ids jump back once: if they only grew, they would stay ahead for as long.
        """
        change = round(ahead_s * 1e9) - self._ahead_ns
        if abs(change) < MIN_CORRECTION_NS:
            return
        self._ahead_ns += change
        if change > JUMP_NS:
            self._last = 0

    def _eight_bytes(self) -> int:
        if self._used == len(self._entropy):
            self._entropy = os.urandom(_ENTROPY_BYTES)
            self._used = 0
        at = self._used
        self._used = at + 8
        return int.from_bytes(self._entropy[at : at + 8], "big")


def _uuid(number: int) -> UUID:
    """Returns `UUID(int=number)` in half the time: the constructor checks all its arguments."""
    made = _new(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", SafeUUID.unknown)
    return made
