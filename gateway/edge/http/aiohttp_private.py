"""All private names of aiohttp's server that the gateway uses.

`tests/edge/test_aiohttp_private.py` has a test for each, and pyproject.toml an upper bound on aiohttp.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

if TYPE_CHECKING:
    from collections.abc import Callable


class ConnectionRunner(web.AppRunner, ABC):
    """Runs an application on connections of a class of our own."""

    @abstractmethod
    def new_connection(self, server: web.Server, **options: Any) -> ServerConnection:
        """The connection for a client that was accepted; `options` are aiohttp's."""

    async def _make_server(self) -> web.Server:
        return _ConnectionServer(await super()._make_server(), self.new_connection)


class _ConnectionServer(web.Server):
    """A copy of aiohttp's server that makes its connections with `new_connection`."""

    def __init__(self, original: web.Server, new_connection: Callable[..., ServerConnection]) -> None:
        super().__init__(
            original.request_handler,
            request_factory=original.request_factory,
            handler_cancellation=original.handler_cancellation,
            loop=original._loop,
            **original._kwargs,
        )
        self._new_connection = new_connection

    def __call__(self) -> RequestHandler:
        return self._new_connection(self, loop=self._loop, **self._kwargs)


class ServerConnection(RequestHandler, ABC):
    """One client's connection. It reports a body with broken framing to the handler that reads the body.

    aiohttp takes the rest of such a body for the next request, and the handler waits for more of it forever.
    """

    __slots__ = ()

    @abstractmethod
    def framing_error(self, exc: BaseException, message: str | None) -> Exception:
        """The error that the reader of the body gets, from the parser's error and message."""

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def data_received(self, data: bytes) -> None:
        request = self._current_request
        super().data_received(data)
        if request is not None and self._messages:
            self._check_framing(request)

    def _check_framing(self, request: web.BaseRequest) -> None:
        error = self._messages[-1][0]
        is_complete = getattr(request.content, "_eof", True)  # `is_eof` would also ask whether the body has been read
        if is_complete or not isinstance(error, _ErrInfo):
            return
        self._messages.pop()
        self._lingering_time = 0.0  # nothing more can be read
        request.content.set_exception(self.framing_error(error.exc, error.message))


def close_after_response(request: web.Request) -> None:
    """Close the connection after this request's response; its head says so unless it was sent already."""
    request._message = request._message._replace(should_close=True)


def mark_as_sent(response: web.StreamResponse) -> None:
    """Make aiohttp take a response for written to its end, on a connection that stays open."""
    response._keep_alive = response._eof_sent = True
