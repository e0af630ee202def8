"""The handle of an open journal record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import JournalFull

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from gateway.journal.locations import Extent
    from gateway.journal.writer import JournalWriter
    from gateway.model import Answer, Interaction


class JournalEntry:
    """A record that has begun: `part` while the answer runs, `finish` once, then `kept`."""

    __slots__ = ("_lsn", "_writer", "begun", "has_failed", "interaction", "is_finished", "key", "parts", "unwritten")

    def __init__(self, writer: JournalWriter, interaction: Interaction, key: bytes, begun: Extent | None) -> None:
        self._writer = writer
        self._lsn: int | None = None  # the position that a sync must reach; None: not on disk
        self.interaction = interaction
        self.key = key
        self.begun = begun  # None: in memory only, because the disk is full and the settings say `serve`
        self.parts: list[Extent] = []
        self.unwritten: list[bytes] | None = None  # chunks that the disk did not take: the next part holds them, too
        self.is_finished = False
        self.has_failed = False

    @property
    def id(self) -> UUID:
        return self.interaction.id

    def part(self, chunks: list[bytes]) -> None:
        """Writes the chunks of the answer since the last part, so that they survive the process. Never raises."""
        if self.begun is None or self.is_finished:
            return
        if self.unwritten:
            chunks = [*self.unwritten, *chunks]
        writer = self._writer
        if writer.admission.refusal is None:  # else the space that is left belongs to the ends
            try:
                frame = writer.frames.part(self.key, self.begun[:2], len(self.parts), chunks)
                self.parts.append(writer.append(frame))
            except OSError:  # `Segments` has logged it
                pass
            else:
                self.unwritten = None
                return
        writer.lost_parts += 1
        self.unwritten = chunks

    def finish(self, answer: Answer) -> bool:
        """Writes the answer; returns False if there was one already.

        Raises JournalFull if the disk does not take it: then the caller must not be sent the end. The record is not
        lost: it stays in memory, is shipped from there, and is written as soon as there is space.
        """
        if self.is_finished:
            return False
        self.is_finished = True
        try:
            self._lsn = self._writer.finish(self.interaction, answer, self.key, self.begun)
        except JournalFull:
            self.has_failed = True
            raise
        return True

    def kept(self) -> Coroutine[Any, Any, None]:
        """Waits until the finished record is as durable as `journal.sync` says. Raises JournalFull if it is not."""
        return self._writer.wait_durable(self._lsn, has_failed=self.has_failed)
