"""Lines to a file descriptor that may be blocked: queued in memory, written by one thread of its own.

A pipe that nobody reads stops whoever writes into it. Here that is never the event loop: `write` only appends to a
bounded queue. When that is full, lines are dropped and counted, and the count is logged once the pipe moves again.
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

GATHER_S = 0.025  # after a write, lines gather this long before the next one: at most 40 wake-ups a second
RETRY_S = 0.5  # a full disk may get room again
NOTICE_S = 1.0  # at most one line a second tells of dropped ones
_BLOCK = 65_536
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.ENOTCONN, errno.ENXIO})


class LogWriter:
    """Writes whole lines to `fd`, in order. `write` costs well under a microsecond and never waits.

    `notice` makes the line that tells how many were dropped. The thread does not survive a fork: make the writer in the
    process that uses it.
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
        self._is_idle = False  # True: the thread sleeps on `_wake`, and the next line must release it
        self._wake = Lock()
        self._wake.acquire()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were dropped and of which no line in the log has told yet."""
        return self._dropped

    def write(self, line: bytes) -> None:
        """Queue one line, its line end included."""
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
        """Take no more lines, and write out what is queued for at most `timeout` seconds. True: all was written."""
        with self._lock:
            self._is_open = False
            self._closing.set()  # within the lock, or the thread could go to sleep in between
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
            self._closing.wait(GATHER_S)
            if self._may_rest():
                if self._closing.is_set():
                    return
                self._wake.acquire()

    def _may_rest(self) -> bool:
        with self._lock:
            self._is_idle = not self._lines and not self._closing.is_set()
            return not self._lines

    def _drain(self) -> bool:
        while block := self._next_block():
            if unwritten := self._put_out(block):
                self._give_up(unwritten)
                return False
        return True

    def _next_block(self) -> bytes:
        """Whole lines of about one block, together; empty when there are none."""
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
        """Called with each block, so that a notice means that the pipe moves."""
        now = time.monotonic()
        if self._closing.is_set() or now - self._noticed_at >= NOTICE_S:
            self._noticed_at = now
            return True
        return False

    def _put_out(self, block: bytes) -> int:
        """Write it all, however long that takes. Lines are left over if nobody will read them, or no time is left."""
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made it non-blocking, which the other end of a terminal may
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(RETRY_S * 1000)
            except OSError as error:
                if error.errno in _GONE or self._closing.wait(RETRY_S):
                    return bytes(rest).count(b"\n")
        return 0

    def _give_up(self, unwritten: int) -> None:
        with self._lock:
            self._is_open = False
            self._dropped += unwritten + len(self._lines)
            self._lines.clear()
            self._bytes = 0


def _duplicate(fd: int) -> int:
    """A descriptor of our own, so that nothing else ever gets its number; -1 when there is nothing to write to."""
    try:
        return os.dup(fd)
    except OSError:
        return -1


def _block_of(fd: int) -> int:
    """Up to this many bytes a pipe takes in one piece, so lines of several processes do not mix."""
    is_pipe = fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode)
    return select.PIPE_BUF if is_pipe else _BLOCK
