"""Interaction ids: UUIDv7 (RFC 9562 section 5.7), so that they sort by the time they were made."""

from __future__ import annotations

import os
import time
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)


class Ids:
    """Makes ids that only grow, also within a millisecond and when the clock is set back (RFC 9562, 6.2, method 3)."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> UUID:
        """The next id: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction, 62 random bits."""
        moment = (time.time_ns() << 12) // 1_000_000  # 60 bits: milliseconds and 4096ths of one
        self._last = moment = max(moment, self._last + 1)
        random = int.from_bytes(os.urandom(8), "big") >> 2
        return UUID(int=((moment >> 12) << 80) | ((moment & 0xFFF) << 64) | random | _VERSION_AND_VARIANT)
