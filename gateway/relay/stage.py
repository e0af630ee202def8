"""A stage changes an answer's events before the relay classifies, records and sends them: a mask, a translation."""

from __future__ import annotations

from typing import Protocol

from gateway.codec.sse import EventSplitter, EventTooLong


class Stage(Protocol):
    """Takes whole events of the dialect and returns the whole events to go on with. Pure: it never waits.

    What it returns is what the caller gets and what the record keeps. It passes on what it does not understand.
    """

    def feed(self, events: bytes) -> bytes:
        """Take one or more whole events, as in `codec.sse`; return whole events, or nothing to hold them back.

        The event that ends the answer is among them: return before it what was held back."""
        ...

    def flush(self) -> bytes:
        """Return the events that are still held back: the answer is over, or is ended early."""
        ...


class StagedSplitter(EventSplitter):
    """Splits bytes into events as its base does, and lets a stage change them. The relay of an answer without a stage
    has an EventSplitter in this place, so that the absent stage costs nothing."""

    __slots__ = ("_stage",)

    def __init__(self, limit: int, stage: Stage) -> None:
        super().__init__(limit)
        self._stage = stage

    def feed(self, data: bytes) -> bytes:
        try:
            events = super().feed(data)
        except EventTooLong as error:
            raise EventTooLong(error.message, self._stage.feed(error.whole) if error.whole else b"") from error
        return self._stage.feed(events) if events else b""
