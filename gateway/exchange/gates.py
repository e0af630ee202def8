"""Gates: each may refuse a request before its record begins and before any upstream hears of it.

A new gate is one class with `enter` and one row in the list that app.py makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError, NotAllowed
from gateway.exchange.context import PERMIT, PassthroughRequest, Permit

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.exchange.context import RequestContext

    Entered = Permit | GatewayError


class Gate(Protocol):
    """Decides whether a request may go on. `context.asked` is the request as the policy lets it pass."""

    def enter(self, context: RequestContext) -> Entered | Awaitable[Entered]:
        """Return PERMIT or a permit of its own; or the error to refuse the request with, which goes on record.

        A gate that must ask another process returns an awaitable of these; all others pay for no coroutine.
        """
        ...


async def refusal_of(context: RequestContext, entered: Entered | Awaitable[Entered]) -> GatewayError | None:
    """The refusal if a gate's answer is one. A permit goes into `context.permits`, to be released."""
    if not isinstance(entered, Permit | GatewayError):
        entered = await entered
    if isinstance(entered, GatewayError):
        return entered
    if entered is not PERMIT:
        context.permits += (entered,)
    return None


class ModelPermission:
    """Refuses models that the caller's key may not use, and calls that do not show which model they want."""

    def enter(self, context: RequestContext) -> Entered:
        caller = context.caller
        if caller.allowed_models is None:
            return PERMIT
        if isinstance(context.asked, PassthroughRequest) and context.asked.refusal is not None:
            return context.asked.refusal
        for model in context.models_asked():
            if not caller.may_use(model):
                named = f"the model {model!r}" if model else "calls that do not show which model they want"
                return NotAllowed(f"this key may not use {named}", code="model_not_allowed", param="model")
        return PERMIT
