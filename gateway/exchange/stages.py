"""Stages: each may change the events of an answer between the upstream and the caller.

A new stage is one class, and one row in the list of factories that app.py makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.dialects.dialect import Dialect
    from gateway.exchange.context import RequestContext
    from gateway.relay.stage import Stage

    StageFactory = Callable[[RequestContext, Dialect], Stage | None]  # None: this answer needs no such stage


class StageChain:
    """Several stages as one: each takes what the one before it returns."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)

    def feed(self, events: bytes) -> bytes:
        for stage in self._stages:
            if events:
                events = stage.feed(events)
        return events

    def flush(self) -> bytes:
        events = b""
        for stage in self._stages:
            events = (stage.feed(events) if events else b"") + stage.flush()
        return events


def stage_of(factories: Sequence[StageFactory], context: RequestContext, dialect: Dialect) -> Stage | None:
    """The stage for one answer; None where no factory makes one."""
    stages = [stage for factory in factories if (stage := factory(context, dialect)) is not None]
    if len(stages) > 1:
        return StageChain(stages)
    return stages[0] if stages else None
