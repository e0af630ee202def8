"""The caller's side of an exchange, as the exchange needs it; edge/http/response.py implements it for HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.relay.stream import RelayClient

if TYPE_CHECKING:
    from gateway.transport.call import Head


class Client(RelayClient, Protocol):
    """The caller's side of an exchange."""

    @property
    def starts_at_once(self) -> bool:
        """Whether `start_now` probably succeeds."""
        ...

    def start_now(self, head: Head) -> bool:
        """Start an event stream as `start` does, without waiting. The head goes out with the first event, with the
        end, or by `send_head`. Returns False where only `start` can do it."""
        ...

    def send_head(self) -> None:
        """Send the head that `start_now` made, if it is not out yet."""
        ...

    async def start(self, head: Head, *, is_events: bool) -> None:
        """Send status and headers; the body follows by `write`."""
        ...

    async def end(self, last: bytes) -> None:
        """Send the last bytes and end the body."""
        ...

    def cut(self) -> None:
        """Abort the connection, so that nobody takes the body for a whole one."""
        ...

    async def send(self, status: int, head: Head, body: bytes) -> None:
        """Send a whole answer."""
        ...
