"""The running account of one interaction: begun before the upstream hears of it, closed once, whatever happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import JournalFull
from gateway.model import Answer, Interaction, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from uuid import UUID

    from gateway.transport.call import Head


class Entry(Protocol):
    """One begun record. `finish` is synchronous, so that no cancellation can come between."""

    def part(self, chunks: list[bytes]) -> None: ...

    def finish(self, answer: Answer) -> object: ...

    def kept(self) -> Awaitable[None]: ...


class Recorder(Protocol):
    """Keeps what is said. `begin` raises JournalFull when nothing more can be kept."""

    def begin(self, interaction: Interaction) -> Entry: ...


class Recording:
    """Times, status and end of one interaction on its way into the record, and into the request's log line."""

    __slots__ = ("_entry", "_lost", "_started", "answer", "first_at", "head", "interaction")

    def __init__(self, recorder: Recorder, interaction: Interaction) -> None:
        self._entry = recorder.begin(interaction)
        self._lost: JournalFull | None = None
        self._started = time.perf_counter()
        self.interaction = interaction
        self.head: Head | None = None
        self.first_at: float | None = None
        self.answer: Answer | None = None

    @property
    def id(self) -> UUID:
        return self.interaction.id

    def part(self, chunks: list[bytes]) -> None:
        self._entry.part(chunks)

    def close(self, outcome: Outcome, **known: Any) -> None:
        """Write the answer's half of the record, once; `known` are further fields of `Answer`. Never raises: where the
        journal cannot take it now, `kept` says so."""
        if self.answer is not None:
            return
        head = self.head
        request_id = head.get(b"x-request-id") if head is not None else None
        self.answer = Answer(
            outcome=outcome,
            finished_at=time.time(),
            status=head.status if head is not None else None,
            first_token_ms=None if self.first_at is None else (self.first_at - self._started) * 1000,
            duration_ms=(time.perf_counter() - self._started) * 1000,
            upstream_request_id=request_id.decode("latin-1") if request_id is not None else None,
            **known,
        )
        try:
            self._entry.finish(self.answer)
        except JournalFull as error:
            self._lost = error

    async def kept(self) -> None:
        """Wait until the closed account is as durable as configured. Raises JournalFull if it could not be written."""
        if self._lost is not None:
            raise self._lost
        await self._entry.kept()
