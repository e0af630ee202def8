"""A gate that is open until the gateway has cut its answers short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import ShuttingDown
from gateway.exchange.context import PERMIT

if TYPE_CHECKING:
    from gateway.errors import GatewayError
    from gateway.exchange.context import Permit, RequestContext
    from gateway.in_flight.in_flight import InFlight


class ShutdownGate:
    """Refuses requests that come over open connections when the time for the shutdown is over."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def enter(self, context: RequestContext) -> Permit | GatewayError:
        return ShuttingDown("the gateway is shutting down") if self._in_flight.is_cut_short else PERMIT
