"""An OpenAI-compatible upstream: the dialect is our own, so calls and answers pass as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.upstream.provider import Call, Provider, Reply
from gateway.upstream.session import Session
from gateway.upstream.wire import WirePool

if TYPE_CHECKING:
    from gateway.upstream.origin import Origin, Patience


class OpenAICompatible(Provider):
    """Sends calls to one origin: on the quick wire where the body is at hand, else through a client session."""

    def __init__(self, origin: Origin, patience: Patience, proxy: str | None = None) -> None:
        self.name = origin.netloc
        self._is_proxied = proxy is not None
        self._wires = WirePool(origin, patience)
        self._session = Session(origin, patience, proxy)

    async def open(self, call: Call) -> Reply:
        if self._is_proxied or not isinstance(call.body, bytes):
            return await self._session.open(call)
        return await self._wires.open(call, call.body)

    async def aclose(self) -> None:
        await self._wires.aclose()
        await self._session.aclose()
