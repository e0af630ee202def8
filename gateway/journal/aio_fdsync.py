"""fdatasync in the kernel's AIO queue: io_submit(2) with IOCB_CMD_FDSYNC, Linux 4.18 and newer.

A thread that waits for the disk takes Python's global lock from the event loop twice for each sync. That costs more CPU
than the sync itself and, on a busy loop, as much time: 391 against 235 µs until a record is known to be durable.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from caio import linux_aio  # None if it was not built for this machine

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REQUESTS = 4  # at once; the journal has at most one
_ERRORS = (ValueError, OverflowError, SystemError)  # caio raises them for EINVAL, EBADF, EAGAIN, ENOSYS and others


class AioFdsync:
    """Submits syncs and calls back on the event loop. Use it in the loop's thread only."""

    def __init__(self) -> None:
        """Raises OSError if the kernel, or the container, has no such queue."""
        if linux_aio is None:
            raise OSError("not built for this machine")
        try:
            self._context = linux_aio.Context(max_requests=_MAX_REQUESTS)
        except _ERRORS as error:
            raise OSError(str(error)) from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._context.fileno, self._on_events)

    def sync(self, fd: int, done: Callable[[OSError | None], None]) -> None:
        """Makes everything written to `fd` so far durable, then calls `done`.

        Raises OSError if the sync cannot be submitted, for example on a file system without AIO; then `done` is not
        called.
        """
        operation = linux_aio.Operation.fdsync(fd)
        operation.set_callback(lambda result: done(_error_of(result)))
        try:
            taken = self._context.submit(operation)
        except _ERRORS as error:
            raise OSError(str(error)) from error
        if taken != 1:
            raise OSError("the kernel's queue is full")

    def close(self) -> None:
        self._loop.remove_reader(self._context.fileno)

    def _on_events(self) -> None:
        with suppress(BlockingIOError):
            self._context.poll()
        while self._context.process_events():
            pass


def _error_of(result: int) -> OSError | None:
    """Returns the error of the kernel's result: 0, or a negative errno as an unsigned number of 64 bits."""
    if result == 0:
        return None
    number = (1 << 64) - result
    return OSError(number, os.strerror(number))
