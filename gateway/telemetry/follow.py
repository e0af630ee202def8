"""Lines of a growing file, like `tail -F`: backwards from its end, then new lines, across rotations.

Lines have no line end. None between lines means: no further line yet.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLL_S = 0.2
BLOCK = 65_536
MAX_LINE_LENGTH = 1 << 20  # a longer line is split


class LineSplitter:
    """Splits bytes into lines, and keeps the incomplete last one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > MAX_LINE_LENGTH:
            lines += self.end()
        return lines

    def end(self) -> list[bytes]:
        """The incomplete line, at the end of the input."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def stream_lines(fd: int) -> Iterator[bytes | None]:
    """Lines of a pipe until its end."""
    splitter = LineSplitter()
    while block := os.read(fd, BLOCK):
        yield from splitter.feed(block)
        yield None
    yield from splitter.end()


class FollowedFile:
    """A log file by name. Rotation may replace or truncate it while it is read."""

    def __init__(self, path: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._fd = -1
        self._position = 0

    @property
    def is_regular(self) -> bool:
        """Whether it can be read backwards; a named pipe cannot."""
        return stat.S_ISREG(self._path.stat().st_mode)

    def open(self) -> None:
        """Raises OSError."""
        self.close()
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._position = 0

    def wait_until_exists(self) -> None:
        while not self._path.exists():
            self._sleep(POLL_S)

    def lines_backwards(self) -> Iterator[bytes]:
        """All complete lines, the last one first. `new_lines` and `rest_of_lines` continue after the last line end."""
        end = os.fstat(self._fd).st_size
        unfinished = True
        parts: list[bytes] = []  # of a line whose beginning is not read yet, the last part first
        self._position = 0
        while end > 0:
            start = max(0, end - BLOCK)
            block = os.pread(self._fd, end - start, start)
            if len(block) < end - start:  # truncated meanwhile
                return
            first, *others = block.split(b"\n")
            if not others:
                parts.append(first)
            else:
                parts.append(others.pop())
                if unfinished:
                    unfinished = False
                    self._position = start + block.rindex(b"\n") + 1
                else:
                    yield b"".join(reversed(parts))
                yield from reversed(others)
                parts = [first]
            end = start
        if not unfinished:
            yield b"".join(reversed(parts))

    def rest_of_lines(self) -> Iterator[bytes]:
        """New lines up to the current end, including a last line without line end."""
        splitter = LineSplitter()
        while block := self._read():
            yield from splitter.feed(block)
        yield from splitter.end()

    def new_lines(self) -> Iterator[bytes | None]:
        """New lines, without end."""
        splitter = LineSplitter()
        while True:
            is_replaced = self._is_replaced()  # checked before the read, so that no line of the old file is lost
            if block := self._read():
                yield from splitter.feed(block)
            elif is_replaced:
                yield from splitter.end()
                self._reopen()
            elif os.fstat(self._fd).st_size < self._position:
                yield from splitter.end()
                self._position = 0
            else:
                yield None
                self._sleep(POLL_S)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        block = os.pread(self._fd, BLOCK, self._position)
        self._position += len(block)
        return block

    def _is_replaced(self) -> bool:
        try:
            there = self._path.stat()
        except OSError:
            return False  # removed; the next file does not exist yet
        here = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _reopen(self) -> None:
        try:
            self.open()
        except OSError:  # removed again, or not readable: retry later
            self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._sleep(POLL_S)
