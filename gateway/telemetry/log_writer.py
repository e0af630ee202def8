"""Writes log lines to a file descriptor that may block, from a bounded queue in a thread.

A pipe without a reader blocks its writer. The event loop never blocks: `write` only appends to the queue. If the queue
is full, lines are dropped and counted, and the count is logged when the pipe accepts data again.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from threading import Event, Lock, RLock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_DELAY_S = 0.025  # lines are collected for this long before a write: at most 40 wake-ups a second
RETRY_S = 0.5  # for a full disk, for example
NOTICE_S = 1.0  # at most one notice about dropped lines per second
_BLOCK = 65_536
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.ENOTCONN, errno.ENXIO})


class LogWriter:
    """Writes whole lines to `fd`, in order. `write` costs well under a microsecond and never waits.

    `notice` makes the line about dropped lines from their number. The thread does not survive a fork: create the writer
    in the process that uses it.
    """

    def __init__(
        self, fd: int, notice: Callable[[int], bytes], *, max_lines: int = 20_000, max_bytes: int = 16 << 20
    ) -> None:
        self._fd = _duplicate(fd)
        self._block = _block_of(self._fd)
        self._notice = notice
        self._noticed_at = 0.0
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._lock = RLock()  # a finalizer may log while this thread holds it
        self._is_open = self._fd >= 0
        self._is_idle = False  # True: the thread waits for `_wake`, and the next line must release it
        self._wake = Lock()
        self._wake.acquire()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of dropped lines that are not logged yet."""
        return self._dropped

    def write(self, line: bytes) -> None:
        """Queues one line, including its line end."""
        size = len(line)
        with self._lock:
            if not self._is_open or len(self._lines) >= self._max_lines or self._bytes + size > self._max_bytes:
                self._dropped += 1
                return
            self._lines.append(line)
            self._bytes += size
            if not self._is_idle:
                return
            self._is_idle = False
        self._wake.release()

    def close(self, timeout: float = 2.0) -> bool:
        """Stops accepting lines, and writes the queue for at most `timeout` seconds. Returns whether all is written."""
        with self._lock:
            self._is_open = False
            self._closing.set()  # within the lock, or the thread could start to wait in between
            is_idle, self._is_idle = self._is_idle, False
        if is_idle:
            self._wake.release()
        self._thread.join(timeout)
        is_done = not self._thread.is_alive()
        if is_done and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return is_done and not self._lines

    # --- the thread ---

    def _run(self) -> None:
        while self._drain():
            self._closing.wait(BATCH_DELAY_S)
            if self._goes_idle():
                if self._closing.is_set():
                    return
                self._wake.acquire()

    def _goes_idle(self) -> bool:
        with self._lock:
            self._is_idle = not self._lines and not self._closing.is_set()
            return not self._lines

    def _drain(self) -> bool:
        while block := self._next_block():
            if lost := self._write_block(block):
                self._give_up(lost)
                return False
        return True

    def _next_block(self) -> bytes:
        """Complete lines of about one block; empty if the queue is empty."""
        with self._lock:
            lines = self._lines
            if self._dropped and self._fd >= 0 and self._is_notice_due():
                lines.append(self._notice(self._dropped))
                self._bytes += len(lines[-1])
                self._dropped = 0
            taken: list[bytes] = []
            size = 0
            while lines and (not taken or size + len(lines[0]) <= self._block):
                taken.append(lines.popleft())
                size += len(taken[-1])
            self._bytes -= size
        return b"".join(taken)

    def _is_notice_due(self) -> bool:
        """Whether to write a notice now. It is called per block, so that a notice means that the pipe accepts data."""
        now = time.monotonic()
        if self._closing.is_set() or now - self._noticed_at >= NOTICE_S:
            self._noticed_at = now
            return True
        return False

    def _write_block(self, block: bytes) -> int:
        """Writes the block, however long it takes. Returns the number of lines lost without a reader or at close."""
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process with the same terminal made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(RETRY_S * 1000)
            except OSError as error:
                if error.errno in _GONE or self._closing.wait(RETRY_S):
                    return bytes(rest).count(b"\n")
        return 0

    def _give_up(self, lost: int) -> None:
        with self._lock:
            self._is_open = False
            self._dropped += lost + len(self._lines)
            self._lines.clear()
            self._bytes = 0


def _duplicate(fd: int) -> int:
    """A duplicate, so that the number is never reused for another file; -1 if `fd` is closed."""
    try:
        return os.dup(fd)
    except OSError:
        return -1


def _block_of(fd: int) -> int:
    """Size of a write. Writes up to PIPE_BUF to a pipe are atomic, so that lines of several processes do not mix."""
    is_pipe = fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode)
    return select.PIPE_BUF if is_pipe else _BLOCK
