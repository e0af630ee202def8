"""Gates: each may refuse a request before its record begins and before any upstream hears of it.

A new gate is one class with `enter` and one row in the list that app.py makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError, NotAllowed
from gateway.exchange.context import PERMIT, Permit, Upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.exchange.context import RequestContext


class Gate(Protocol):
    """Decides whether a request may go on. `context.asked` is the request as the policy lets it through."""

    async def enter(self, context: RequestContext) -> Permit | GatewayError:
        """Return PERMIT or a permit of its own; or the error to refuse the request with, which goes on record.

        It should suspend only if it must ask another process: each suspension delays every request.
        """
        ...


async def enter_all(gates: Sequence[Gate], context: RequestContext) -> GatewayError | None:
    """Ask the gates in order; the first refusal ends it. `context.permits` has what must be released."""
    for gate in gates:
        entered = await gate.enter(context)
        if entered is PERMIT:
            continue
        if isinstance(entered, GatewayError):
            return entered
        context.permits += (entered,)
    return None


class ModelPermission:
    """Refuses models that the caller's key may not use, and calls that do not show which model they want."""

    async def enter(self, context: RequestContext) -> Permit | GatewayError:
        caller = context.caller
        if caller.allowed_models is None:
            return PERMIT
        if isinstance(context.asked, Upload) and context.asked.refusal is not None:
            return context.asked.refusal
        for model in context.models_asked():
            if not caller.may_use(model):
                named = f"the model {model!r}" if model else "calls that do not show which model they want"
                return NotAllowed(f"this key may not use {named}", code="model_not_allowed", param="model")
        return PERMIT
