"""Interaction ids: UUIDv7 (RFC 9562 section 5.7), so that they sort by the time they were made."""

from __future__ import annotations

import os
import time
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_ENTROPY_BYTES = 4096  # asked for at once: a system call for each id costs more than all the rest of it


class Ids:
    """Makes ids that only grow, also within a millisecond and when the clock is set back (RFC 9562, 6.2, method 3)."""

    __slots__ = ("_entropy", "_last", "_used")

    def __init__(self) -> None:
        self._last = 0
        self._entropy = b""
        self._used = 0

    def new(self) -> UUID:
        """The next id: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction, 62 random bits."""
        moment = (time.time_ns() << 12) // 1_000_000  # 60 bits: milliseconds and 4096ths of one
        self._last = moment = max(moment, self._last + 1)
        random = self._eight_bytes() >> 2
        return UUID(int=((moment >> 12) << 80) | ((moment & 0xFFF) << 64) | random | _VERSION_AND_VARIANT)

    def _eight_bytes(self) -> int:
        if self._used == len(self._entropy):
            self._entropy = os.urandom(_ENTROPY_BYTES)
            self._used = 0
        at = self._used
        self._used = at + 8
        return int.from_bytes(self._entropy[at : at + 8], "big")
