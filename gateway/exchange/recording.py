"""The record of one interaction while it is made: it begins before the upstream is called and closes exactly once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from gateway.errors import JournalFull
from gateway.model import Answer, Interaction, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from gateway.journal.entry import JournalEntry
    from gateway.transport.call import Head

    Callback = Callable[["Recording"], None]
    BeginEntry = Callable[[Interaction], JournalEntry]  # `Journal.begin`; raises JournalFull

log = structlog.get_logger()


class Callbacks(NamedTuple):
    """Functions to call at the moments of an exchange; `observers` makes them."""

    begun: tuple[Callback, ...] = ()
    head: tuple[Callback, ...] = ()
    first_token: tuple[Callback, ...] = ()
    closed: tuple[Callback, ...] = ()


NO_CALLBACKS = Callbacks()
NO_FIELDS: Mapping[str, Any] = {}


class Recording:
    """Times, status and end of one interaction, for its journal entry and for the observers."""

    __slots__ = (
        "_callbacks",
        "_entry",
        "_lost",
        "_started",
        "answer",
        "first_at",
        "head",
        "interaction",
        "log_fields",
        "part",
    )

    def __init__(self, entry: JournalEntry, callbacks: Callbacks = NO_CALLBACKS) -> None:
        self._entry = entry
        self._callbacks = callbacks
        self._lost: JournalFull | None = None
        self._started = time.perf_counter()
        self.interaction = entry.interaction
        self.part = entry.part  # keeps a part of an unfinished answer; bound here, to save a call
        self.head: Head | None = None
        self.first_at: float | None = None  # time.perf_counter()
        self.answer: Answer | None = None
        self.log_fields: Mapping[str, Any] = NO_FIELDS  # that observers add to the request's log line
        if callbacks.begun:
            _notify(callbacks.begun, self)

    @property
    def id(self) -> UUID:
        return self.interaction.id

    def take_head(self, head: Head) -> None:
        """Note the upstream's head."""
        self.head = head
        if self._callbacks.head:
            _notify(self._callbacks.head, self)

    def first_token(self) -> None:
        """Note the time of the first bytes of the answer; further calls do nothing."""
        if self.first_at is None:
            self.first_at = time.perf_counter()
            if self._callbacks.first_token:
                _notify(self._callbacks.first_token, self)

    def add_log_fields(self, fields: dict[str, Any]) -> None:
        """Add fields to the request's log line."""
        self.log_fields = {**self.log_fields, **fields} if self.log_fields else fields

    def close(self, outcome: Outcome, **known: Any) -> None:
        """Write the answer's half of the record, once; `known` are further fields of `Answer`. Never raises: if the
        journal cannot take the answer now, `kept` raises."""
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
        if self._callbacks.closed:
            _notify(self._callbacks.closed, self)

    async def kept(self) -> None:
        """Wait until the closed record is as durable as configured. Raises JournalFull if it could not be written."""
        if self._lost is not None:
            raise self._lost
        await self._entry.kept()


def _notify(callbacks: tuple[Callback, ...], recording: Recording) -> None:
    """Call the observers. One that raises is logged: a bug in it must cost neither the answer nor its record."""
    for callback in callbacks:
        try:
            callback(recording)
        except Exception:
            log.exception("observer_failed", observer=getattr(callback, "__qualname__", type(callback).__name__))
