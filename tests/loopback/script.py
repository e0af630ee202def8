"""What a scripted upstream does, step by step: bytes to send, waits, and ways to end a connection. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator


class Send(NamedTuple):
    """Bytes for the wire. `says` is the part of the answer's body that they carry, before framing and compression."""

    data: bytes
    says: bytes = b""


class Flood(NamedTuple):
    """The same bytes again and again: `times` times, or until the peer closes."""

    data: bytes
    says: bytes = b""
    times: int | None = None


class Pause(NamedTuple):
    seconds: float


class WaitFor(NamedTuple):
    event: asyncio.Event


class Fin(NamedTuple):
    """Close the connection in good order; without an announced length a reader cannot tell this from the end."""


class Rst(NamedTuple):
    """Reset the connection (SO_LINGER 0)."""


class Stall(NamedTuple):
    """Say nothing more until the peer closes."""


Step = Send | Flood | Pause | WaitFor | Fin | Rst | Stall


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. When the steps are over and none of them ended the connection, it waits for the next request."""

    steps: list[Step] = field(default_factory=list)

    def __add__(self, other: Script) -> Script:
        return Script([*self.steps, *other.steps])

    @property
    def payload(self) -> bytes:
        """The answer's body as far as this script says it: what an untouched relay hands on."""
        return b"".join(step.says for step in self.steps if isinstance(step, Send))

    @property
    def wire(self) -> bytes:
        return b"".join(step.data for step in self.steps if isinstance(step, Send))

    def then(self, *steps: Step) -> Script:
        return Script([*self.steps, *steps])

    def first(self, count: int) -> Script:
        """The head and the first `count` pieces of the body, with the pauses between them."""
        return Script(list(self._until(count)))

    def dripped(self, size: int, pause: float = 0.0) -> Script:
        """The same bytes in writes of at most `size` bytes, heads and framing cut as well."""
        steps: list[Step] = []
        for step in self.steps:
            if isinstance(step, Send):
                steps.extend(_dripped(step, size, pause))
            else:
                steps.append(step)
        return Script(steps)

    def _until(self, count: int) -> Iterator[Step]:
        for step in self.steps:
            if isinstance(step, Send) and step.says:
                if count == 0:
                    return
                count -= 1
            yield step


def _dripped(step: Send, size: int, pause: float) -> Iterator[Step]:
    # The first piece answers for what all of them say: an upper bound, as everywhere in `said`.
    for start in range(0, len(step.data), size):
        yield Send(step.data[start : start + size], step.says if start == 0 else b"")
        yield Pause(pause)
