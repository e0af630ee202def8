"""The one interface between an exchange and what answers it: open a call, see its head, pump its body into a sink."""

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
    """One request to an upstream. `path` is below the provider's base URL and carries the query string."""

    method: str
    path: str
    headers: RawHeaders = ()
    body: bytes | AsyncIterator[bytes] = b""
    content_length: int | None = None  # of a streamed body, where it is known


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer, names in lower case."""

    status: int
    headers: RawHeaders
    media_type: str = field(init=False, compare=False)
    _first: dict[bytes, bytes] = field(init=False, compare=False, repr=False)  # of each name, for it is asked for often

    def __post_init__(self) -> None:
        first = dict(reversed(self.headers))
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "media_type", _media_type(first.get(b"content-type", b"")))

    def get(self, name: bytes) -> bytes | None:
        return self._first.get(name)

    def count(self, name: bytes) -> int:
        """How often a header came."""
        if len(self._first) == len(self.headers):  # each came once
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
    """How a body ended, as far as HTTP can tell. Only the dialect's own last event proves that an answer is whole."""

    WHOLE = auto()  # Content-Length met, or the last chunk seen
    UNPROVED = auto()  # delimited by the connection's end: whole or cut, nobody can know
    CUT = auto()
    STALLED = auto()
    GARBLED = auto()  # broken framing or encoding
    ENOUGH = auto()  # the sink had what it wanted


class BodySink(Protocol):
    """Takes a body as it arrives. `feed` never waits; `is_full` asks for a pause until `drained` returns."""

    @property
    def is_full(self) -> bool: ...

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; True means that no more are wanted."""
        ...

    async def drained(self) -> None: ...


class Reply(Protocol):
    """An answer whose head has come. `pump` or `close` must follow."""

    head: Head

    async def pump(self, sink: BodySink) -> Ending: ...

    def close(self) -> None:
        """Leave the rest unread; the upstream sees the connection close at once."""
        ...


class Provider(Protocol):
    """Something that answers calls. Raises UpstreamUnreachable, UpstreamStalled or UpstreamGarbled before the head."""

    name: str

    async def open(self, call: Call) -> Reply: ...

    async def aclose(self) -> None: ...
