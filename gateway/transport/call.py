"""The interface between an exchange and a provider: open a call, read its head, pump its body into a sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Call(Struct, frozen=True):
    """One request to an upstream. `path` is below the provider's base URL and has the query string."""

    method: str
    path: str
    headers: RawHeaders = ()
    body: bytes | AsyncIterator[bytes] = b""
    content_length: int | None = None  # of a streamed body; None: it is not known, or the body is in memory


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer, names in lower case."""

    status: int
    headers: RawHeaders
    media_type: str = field(init=False, compare=False)
    _first: dict[bytes, bytes] = field(init=False, compare=False, repr=False)  # value of each name: it is read often

    def __post_init__(self) -> None:
        first = dict(reversed(self.headers))
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "media_type", _media_type(first.get(b"content-type", b"")))

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` is in lower case."""
        return self._first.get(name)

    def count(self, name: bytes) -> int:
        """The number of headers with this name."""
        if len(self._first) == len(self.headers):  # all names differ
            return 1 if name in self._first else 0
        return sum(each == name for each, _ in self.headers)

    @property
    def content_length(self) -> int | None:
        value = self.get(b"content-length") or b""
        return int(value) if value.isdigit() else None


@lru_cache(64)
def _media_type(content_type: bytes) -> str:
    return content_type.split(b";", 1)[0].strip().lower().decode("latin-1")


class Ending(Enum):
    """How a body ended on the level of HTTP. Only the dialect's own last event proves that an answer is complete."""

    WHOLE = auto()  # Content-Length met, or the last chunk seen
    UNPROVED = auto()  # delimited by the connection's end, which a cut body has too
    CUT = auto()
    STALLED = auto()
    GARBLED = auto()  # broken framing or encoding
    ENOUGH = auto()  # the sink wanted no more


class BodySink(Protocol):
    """Receives a body as it arrives. `feed` never waits; `is_full` asks for a pause until `drained` returns."""

    @property
    def is_full(self) -> bool: ...

    def feed(self, data: bytes) -> bool:
        """Take the next bytes. True: the sink wants no more."""
        ...

    async def drained(self) -> None: ...


class Reply(Protocol):
    """An answer whose head has arrived. Its owner must call `pump` or `close`."""

    head: Head

    async def pump(self, sink: BodySink) -> Ending:
        """Feed the body into the sink until it ends or the sink wants no more."""
        ...

    def close(self) -> None:
        """Leave the rest of the body unread and close the connection at once."""
        ...


class Provider(Protocol):
    """Answers calls: an upstream, or the demo model."""

    name: str

    async def open(self, call: Call) -> Reply:
        """Send a call and wait for the head of its answer.

        Raises UpstreamUnreachable, UpstreamStalled, UpstreamGarbled, and the errors of a streamed body's source.
        """
        ...

    async def aclose(self) -> None: ...
