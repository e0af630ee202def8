"""Callbacks at exact times: event loops round to milliseconds, which would bunch the chunks of many streams."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ABSOLUTE = 1  # TFD_TIMER_ABSTIME
NANOSECONDS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Ticker:
    """A heap of due times behind one timerfd (Linux). Times are `time.monotonic_ns()`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._spec = _Itimerspec()
        asyncio.get_running_loop().add_reader(self._fd, self._fire)

    def at(self, due: int, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (due, self._count, callback))
        if self._due[0][1] == self._count:
            self._arm()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _fire(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        if self._due:
            self._arm()

    def _arm(self) -> None:
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(self._due[0][0], 1), NANOSECONDS)
        self._libc.timerfd_settime(self._fd, ABSOLUTE, ctypes.byref(self._spec), None)
