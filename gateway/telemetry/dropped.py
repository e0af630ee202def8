"""Counts callers' headers that are not sent upstream, and logs each name once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_NAMES = 256  # callers may invent names
MAX_NAME_LENGTH = 64

log = structlog.get_logger()


class DroppedHeaders:
    """Logs new names of dropped headers, and passes their number to `count`."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count
        self._logged: set[bytes] = set()

    def note(self, names: Sequence[bytes]) -> None:
        self._count(len(names))
        if len(self._logged) >= MAX_NAMES:
            return
        for name in {each[:MAX_NAME_LENGTH].lower() for each in names} - self._logged:
            self._logged.add(name)
            log.info("header not sent upstream", header=name.decode("latin-1"))
            if len(self._logged) == MAX_NAMES:
                log.info("further headers that are not sent upstream are no longer named", named=MAX_NAMES)
                return
