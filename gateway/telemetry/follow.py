"""Lines of a file that grows, as `tail -F` reads them: from its end backwards, then what is added, across rotations.

Lines come without their line end. None among them says that there is no more for now.
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
LONGEST_LINE = 1 << 20  # what has no line end by then is given as it is


class LineSplitter:
    """Bytes in, lines out; the unfinished one is kept."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines += self.end()
        return lines

    def end(self) -> list[bytes]:
        """The unfinished line, when no more will come."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def stream_lines(fd: int) -> Iterator[bytes | None]:
    """Lines of a pipe, as they come, until it ends."""
    splitter = LineSplitter()
    while block := os.read(fd, BLOCK):
        yield from splitter.feed(block)
        yield None
    yield from splitter.end()


class GrowingFile:
    """A log file by its name: another file may take that name, or this one may be emptied, while it is read."""

    def __init__(self, path: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._fd = -1
        self._position = 0

    @property
    def is_regular(self) -> bool:
        """Whether it can be read from its end; a named pipe cannot."""
        return stat.S_ISREG(self._path.stat().st_mode)

    def open(self) -> None:
        """Raises OSError."""
        self.close()
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._position = 0

    def wait_until_there(self) -> None:
        while not self._path.exists():
            self._sleep(POLL_S)

    def backwards(self) -> Iterator[bytes]:
        """All lines that are there now, the last one first. `grown` and `remainder` go on behind the last line end."""
        end = os.fstat(self._fd).st_size
        unfinished = True
        pieces: list[bytes] = []  # of a line whose beginning is not found yet, the last one first
        self._position = 0
        while end > 0:
            start = max(0, end - BLOCK)
            block = os.pread(self._fd, end - start, start)
            if len(block) < end - start:  # emptied under our eyes
                return
            first, *others = block.split(b"\n")
            if not others:
                pieces.append(first)
            else:
                pieces.append(others.pop())
                if unfinished:
                    unfinished = False
                    self._position = start + block.rindex(b"\n") + 1
                else:
                    yield b"".join(reversed(pieces))
                yield from reversed(others)
                pieces = [first]
            end = start
        if not unfinished:
            yield b"".join(reversed(pieces))

    def remainder(self) -> Iterator[bytes]:
        """What has been added by now, a last line without line end included."""
        splitter = LineSplitter()
        while block := self._read():
            yield from splitter.feed(block)
        yield from splitter.end()

    def grown(self) -> Iterator[bytes | None]:
        """What is added from now on, for ever."""
        splitter = LineSplitter()
        while True:
            is_replaced = self._is_replaced()  # asked before reading: what the old file got until then is not missed
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
            return False  # taken away; the next one has not come yet
        here = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _reopen(self) -> None:
        try:
            self.open()
        except OSError:  # taken away again, or not ours to read: keep the old one, and look again
            self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._sleep(POLL_S)
