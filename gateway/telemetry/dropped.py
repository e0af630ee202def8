"""Headers of callers that do not go to the upstream: counted, and each name logged once in the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_NAMES = 256  # callers may invent any number of them
LONGEST_NAME = 64

log = structlog.get_logger()


class DroppedHeaders:
    """Takes the names of dropped headers; `count` is called with how many there are."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count
        self._logged: set[bytes] = set()

    def note(self, names: Sequence[bytes]) -> None:
        self._count(len(names))
        if len(self._logged) >= MOST_NAMES:
            return
        for name in {each[:LONGEST_NAME].lower() for each in names} - self._logged:
            self._logged.add(name)
            log.info("header not sent upstream", header=name.decode("latin-1"))
            if len(self._logged) == MOST_NAMES:
                log.info("further headers that are not sent upstream are no longer named", named=MOST_NAMES)
                return
