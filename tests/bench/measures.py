"""The measures: their loads and their budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_S = 0.4
TAIL_S = 0.2
OPEN_STREAMS = 2000
Per = Literal["chunk", "request", "first"]


@dataclass(frozen=True, slots=True)
class Measure:
    """`load` gives the fields of a `client.Load` for so many seconds. Values are µs of CPU, or milliseconds."""

    name: str
    title: str
    per: Per
    load: Callable[[float], dict[str, Any]]
    nominal_rate: float | None = None  # chunks a second that must come about


def steady(streams: int, rate: int) -> Callable[[float], dict[str, Any]]:
    """Streams with `rate` chunks a second each, all open at once; counted while all of them speak."""

    def load(seconds: float) -> dict[str, Any]:
        stagger = streams / 1000
        begin = stagger + WARM_S
        return {
            "streams": streams,
            "chunks": int(rate * (begin + seconds + TAIL_S)) + 2,
            "manner": "paced",
            "pace_us": 1_000_000 // rate,
            "stagger_s": stagger,
            "window_s": (begin, begin + seconds),
        }

    return load


def saturated(seconds: float) -> dict[str, Any]:
    """Each chunk leaves when the one before has arrived: the relay is never idle, and no two chunks are read as one."""
    end = WARM_S + seconds
    rate = 600  # above what the quickest relay can do with 100 streams, so that they do not end within the window
    chunks = int(rate * end)
    return {"streams": 100, "chunks": chunks, "manner": "steps", "again_until_s": end, "window_s": (WARM_S, end)}


def closed_loop(streams: int, **order: Any) -> Callable[[float], dict[str, Any]]:
    """Clients that each ask again as soon as they have their answer."""
    return lambda seconds: {"streams": streams, "again_until_s": seconds, **order}


def held(streams: int) -> dict[str, Any]:
    """All open and silent until they are let go, 1,000 more each second."""
    return {"streams": streams, "chunks": 20, "manner": "held", "pace_us": 50_000, "stagger_s": streams / 1000}


WHOLE = closed_loop(16, chunks=100, manner="turns")
PLAIN = closed_loop(16, body_bytes=1000)
PROSE = closed_loop(16, body_bytes=2000)
MEASURES = (
    Measure("mid", "CPU per relayed chunk, 100 streams x 100 chunks/s", "chunk", steady(100, 100), 10_000),
    Measure("many", "CPU per relayed chunk, 500 streams x 20 chunks/s", "chunk", steady(500, 20), 10_000),
    Measure("saturated", "CPU per relayed chunk, 100 streams as fast as they go", "chunk", saturated),
    Measure("whole", "CPU per stream of 100 chunks without pauses, 16 at a time", "request", WHOLE),
    Measure("short", "CPU per stream of 3 chunks, 16 at a time", "request", closed_loop(16, chunks=3)),
    Measure("plain", "CPU per request that is not streamed, 1 kB each way, 16 at a time", "request", PLAIN),
    Measure("plain 2 kB", "The same with a request of 2 kB, 16 at a time", "request", PROSE),
    Measure("first", "Time to the first token, one stream at a time", "first", closed_loop(1, chunks=3)),
)

# The gateway's, with assembling and the durable log on, on the machine it is developed on.
BUDGETS: dict[str, float] = {
    "mid": 80.0,
    "many": 70.0,
    "saturated": 55.0,
    "whole": 1000.0,
    "short": 450.0,
    "plain": 300.0,
    "log short": 100.0,  # of it for the log
    "log plain": 100.0,
    "memory": 30.0,  # kB a stream
}
