"""Interaction ids: UUIDv7 (RFC 9562 section 5.7), so that they sort by the time they were made."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from uuid import UUID, SafeUUID

if TYPE_CHECKING:
    from collections.abc import Callable

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_new, _set = object.__new__, object.__setattr__
LEAST_CORRECTION_NS = 20_000_000
JUMP_NS = 1_000_000_000
_ENTROPY_BYTES = 4096  # asked for at once: a system call for each id costs more than all the rest of it


class Ids:
    """Makes ids that only grow, also within a millisecond and when the clock is set back (RFC 9562, 6.2, method 3).

    `clock` is in nanoseconds of Unix time; `correct` says by how much it is wrong.
    """

    __slots__ = ("_ahead", "_clock", "_entropy", "_last", "_used")

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._ahead = 0
        self._last = 0
        self._entropy = b""
        self._used = 0

    def new(self) -> UUID:
        """The next id: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction, 62 random bits."""
        moment = ((self._clock() - self._ahead) << 12) // 1_000_000  # 60 bits: milliseconds and 4096ths of one
        self._last = moment = max(moment, self._last + 1)
        random = self._eight_bytes() >> 2
        return _uuid(((moment >> 12) << 80) | ((moment & 0xFFF) << 64) | random | _VERSION_AND_VARIANT)

    def correct(self, ahead_s: float) -> None:
        """The clock is ahead of the others' by so many seconds. Smaller errors than those of a measurement stay.

        Ids jump back where the clock was far ahead: if they only grew, they would stay ahead for as long.
        """
        change = round(ahead_s * 1e9) - self._ahead
        if abs(change) < LEAST_CORRECTION_NS:
            return
        self._ahead += change
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
    """As `UUID(int=number)`, which looks at all the ways to make one and takes twice as long."""
    made = _new(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", SafeUUID.unknown)
    return made
