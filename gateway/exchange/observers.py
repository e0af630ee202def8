"""Observers: each hears how an exchange goes on, to count it, log it, trace it or settle a limit.

A new observer is one class and one row in the list that app.py makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.exchange.recording import Callbacks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.exchange.recording import Callback, Recording


class Observer:
    """Override the methods that you need; the others cost nothing. None of them may wait; an error
    is logged, and nothing else depends on it."""

    def begun(self, recording: Recording) -> None:
        """The request is on record; no upstream has heard of it."""

    def head(self, recording: Recording) -> None:
        """The upstream's head is here: `recording.head`."""

    def first_token(self, recording: Recording) -> None:
        """The first bytes of the answer are here: `recording.first_at`."""

    def closed(self, recording: Recording) -> None:
        """The exchange is over: `recording.answer`. Fields for the request's log line are added by
        `recording.add_log_fields`."""


def callbacks_of(observers: Sequence[Observer]) -> Callbacks:
    """The callbacks for each moment, in the order of the observers, without methods that nobody overrides."""
    return Callbacks(*(_overridden(observers, moment) for moment in Callbacks._fields))


def _overridden(observers: Sequence[Observer], moment: str) -> tuple[Callback, ...]:
    default = getattr(Observer, moment)
    return tuple(getattr(each, moment) for each in observers if getattr(type(each), moment) is not default)
