"""One begun record, in the hands of who answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from gateway.journal.segments import Span
    from gateway.model import Answer, Interaction


class Writing(Protocol):
    """The journal, as an entry needs it."""

    def write_part(self, entry: JournalEntry, chunks: list[bytes]) -> None: ...

    def write_end(self, entry: JournalEntry, answer: Answer) -> None: ...

    async def keep(self, entry: JournalEntry) -> None: ...


class JournalEntry:
    """One begun record. `finish` writes its other half, once."""

    __slots__ = ("_journal", "begun", "failed", "interaction", "is_finished", "key", "mark", "parts", "unwritten")

    def __init__(self, journal: Writing, interaction: Interaction, key: bytes, begun: Span | None) -> None:
        self._journal = journal
        self.interaction = interaction
        self.key = key
        self.begun = begun  # None: in memory only, for the disk is full and the settings say to serve
        self.parts: list[Span] = []
        self.unwritten: list[bytes] | None = None  # chunks of a part that the disk did not take: the next one has them
        self.is_finished = False
        self.failed = False
        self.mark = 0

    @property
    def id(self) -> UUID:
        return self.interaction.id

    def part(self, chunks: list[bytes]) -> None:
        """Keep what has been said since the last part, in case that this process dies. Never raises."""
        if self.begun is not None and not self.is_finished:
            self._journal.write_part(self, chunks)

    def finish(self, answer: Answer) -> bool:
        """Write the answer; False if there was one already.

        Raises JournalFull if the disk does not take it: the caller must not be shown an end. The record is not lost
        even then: it stays in memory, goes to the store from there, and is written as soon as there is room.
        """
        if self.is_finished:
            return False
        self.is_finished = True
        self._journal.write_end(self, answer)
        return True

    def kept(self) -> Coroutine[Any, Any, None]:
        """Wait until the finished record is as durable as `journal.sync` says. Raises JournalFull if it is not."""
        return self._journal.keep(self)
