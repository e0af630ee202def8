"""Sink: the protocol of a place where records end up. PostgreSQL is one, the security monitor is another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from gateway.errors import RecordNotAccepted, RecordRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gateway.model import Record
    from gateway.settings import Settings


class Sink(Protocol):
    """Takes each record at least once; a record that it has already is not an error and changes nothing.

    A call of `keep` stores all its records or none. The shipper never cancels a call: its outcome would be unknown.
    """

    name: str  # also the name of the cursor's file, so it never changes
    is_ordered: bool  # records that dead processes left come before new ones

    async def keep(self, records: Sequence[Record]) -> None:
        """Stores the records.

        Raises RecordRefused if the data of one of them is at fault, RecordNotAccepted if one or all are refused for
        another cause, and StoreUnavailable if the outcome is unknown.
        """
        ...

    async def keep_raw(self, record: Record) -> None:
        """Stores one record that `keep` refused, in the plainest form: its bodies as bytes. Raises as `keep` does."""
        ...

    def abandon(self) -> None:
        """Makes the calls in flight fail at once: the process is about to end."""
        ...


OpenSink = Callable[["Settings"], AbstractAsyncContextManager[Sink | None]]


@asynccontextmanager
async def open_sinks(rows: Sequence[OpenSink], settings: Settings) -> AsyncIterator[list[Sink]]:
    """Opens the sinks that the settings name, in order; closes them in reverse order."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(row(settings)) for row in rows]
        yield [sink for sink in opened if sink is not None]


async def keep_record(sink: Sink, record: Record) -> None:
    """Stores one record, in its raw form if its data is refused. Raises as `keep_raw` does."""
    try:
        await sink.keep([record])
    except RecordRefused:
        await sink.keep_raw(record)


class SinkCall:
    """At most one call of a sink at a time, in a task of its own.

    If the caller is cancelled, the call goes on: the outcome of a cancelled insert would be unknown.
    """

    def __init__(self) -> None:
        self.in_flight: asyncio.Task[None] | None = None

    async def run(self, call: Coroutine[None, None, None]) -> None:
        """Returns when the call ends. Raises what it raises."""
        self.in_flight = asyncio.ensure_future(call)
        await asyncio.wait({self.in_flight})
        task, self.in_flight = self.in_flight, None
        task.result()


def error_cause(error: Exception) -> str:
    """Returns a short, stable name of the cause, for the label of a metric."""
    if isinstance(error, RecordNotAccepted):
        return error.cause
    return "away" if isinstance(error, StoreUnavailable | OSError) else type(error).__name__


def unexpected_error(error: Exception) -> BaseException | None:
    """Returns the error whose traceback belongs in the log; None if a sink is down or PostgreSQL refused the record."""
    cause = error.__cause__ if isinstance(error, RecordNotAccepted) else error
    is_expected = isinstance(cause, StoreUnavailable | OSError) or hasattr(cause, "sqlstate")
    return None if is_expected else cause
