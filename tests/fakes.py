"""Stand-ins with the interfaces of the real things: they take and give bytes, and remember what happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.errors import JournalFull
from gateway.transport.call import BodySink, Ending, Head, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.journal.entry import JournalEntry
    from gateway.model import Answer, Interaction


class Basin(BodySink):
    """A sink that keeps what it is given. It is full with `room` bytes until `empty`, and has enough when `enough` says
    so of all that it has."""

    def __init__(self, *, room: int | None = None, enough: Callable[[bytearray], bool] = lambda body: False) -> None:
        self.body = bytearray()
        self.feeds = 0
        self._enough = enough
        self._room = room
        self._emptied = asyncio.Event()
        self.filled = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self._room is not None and len(self.body) >= self._room

    def feed(self, data: bytes) -> bool:
        self.feeds += 1
        self.body += data
        return self._enough(self.body)

    def empty(self, room: int | None = None) -> None:
        """Take as much again, or `room` bytes in all; None: whatever comes."""
        self._room = room
        self._emptied.set()

    async def drained(self) -> None:
        self.filled.set()
        self._emptied.clear()
        await self._emptied.wait()


class FakeReply(Reply):
    """An answer whose body is at hand."""

    def __init__(self, head: Head, pieces: Iterable[bytes], ending: Ending = Ending.WHOLE) -> None:
        self.head = head
        self.is_closed = False
        self._pieces = list(pieces)
        self._ending = ending

    async def pump(self, sink: BodySink) -> Ending:
        for piece in self._pieces:
            if sink.feed(piece):
                return Ending.ENOUGH
            while sink.is_full:
                await sink.drained()
        return self._ending

    def close(self) -> None:
        self.is_closed = True


class FakeClient:
    """A caller: sees what is written, as blocks and as one body."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.is_full = False
        self.beats: list[float] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    def write(self, block: bytes) -> None:
        self.blocks.append(block)

    async def drained(self) -> None:
        self.is_full = False

    def tick(self, now: float) -> bool:
        self.beats.append(now)
        return False


class FakeCaller(FakeClient):
    """A whole client of an exchange, which also sees heads, the end and a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.head: Head | None = None
        self.has_end = False
        self.is_cut = False

    @property
    def starts_at_once(self) -> bool:
        return True

    def start_now(self, head: Head) -> bool:
        self.head = head
        return True

    def send_head(self) -> None:
        """It has the head already."""

    async def start(self, head: Head, *, is_events: bool) -> None:
        self.head = head

    async def end(self, last: bytes) -> None:
        self.write(last)
        self.has_end = True

    def cut(self) -> None:
        self.is_cut = True

    async def send(self, status: int, head: Head, body: bytes) -> None:
        self.head = head
        await self.end(body)


class FakeEntry:
    """A journal entry in memory; its journal may be full."""

    def __init__(self, interaction: Interaction | None = None) -> None:
        self.interaction = interaction
        self.parts: list[bytes] = []
        self.answers: list[Answer] = []
        self.has_first_token = False
        self.is_full = False

    def first_token(self) -> None:
        self.has_first_token = True

    def part(self, chunks: list[bytes]) -> None:
        self.parts.append(b"".join(chunks))

    def finish(self, answer: Answer) -> None:
        self.answers.append(answer)
        if self.is_full:
            raise JournalFull("the journal is full")

    async def kept(self) -> None:
        """At once."""


class FakeJournal:
    """Holds all entries in memory."""

    def __init__(self) -> None:
        self.entries: list[FakeEntry] = []

    def begin(self, interaction: Interaction) -> JournalEntry:
        self.entries.append(FakeEntry(interaction))
        return cast("JournalEntry", self.entries[-1])


def head(status: int = 200, /, **headers: str) -> Head:
    """A head with headers by their Python names: `content_type="text/html"`."""
    raw = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Head(status, raw)
