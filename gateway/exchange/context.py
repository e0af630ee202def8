"""One request on its way through the gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.dialects.request_body import further_models
from gateway.errors import GatewayError, NotAllowed, ShuttingDown, Stopped
from gateway.model import ChatRequest, Outcome, Principal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

    from gateway.exchange.recording import Recording
    from gateway.transport.call import RawHeaders

READING_METHODS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))  # without a body, these use no model


class Permit:
    """Permission to go on. A gate that counts requests in flight returns a subclass with its own `release`."""

    __slots__ = ()

    def release(self) -> None:
        """The exchange calls this once, when it is over, however it ended."""


PERMIT = Permit()  # nothing has to be released


@dataclass(frozen=True, slots=True)
class PassthroughRequest:
    """The body of a call that is not a conversation: held and decoded, or streamed as it comes."""

    body: bytes | AsyncIterator[bytes]
    length: int | None = None
    model: str | None = None
    further_models: tuple[str, ...] = ()  # that the upstream may use instead; set only if the caller may use some only
    cost: float | None = None  # USD, if the call succeeds
    refusal: NotAllowed | None = None  # set where nobody can find out whether the caller may use its model
    is_kept: bool = True  # False: the record has size and digest only, as it has for a streamed body


@dataclass(slots=True)
class RequestContext:
    """One request: the caller, the question, and how far it has come. `recording` is None until a record has begun."""

    id: UUID
    caller: Principal
    request_id: str
    method: str
    path: str  # as the caller wrote it, with its query
    headers: RawHeaders
    content_type: str | None = None
    query: str = ""
    further_models: tuple[str, ...] = ()  # in path and query; set only if the caller may use some models only
    shows_ids: bool = False  # the gateway's own endpoints put the ids of interaction and conversation into the answer
    convo_show: bool = True  # False: the gateway itself asks, outside of the caller's history
    asked: ChatRequest | PassthroughRequest | None = None  # as the policy lets it pass; set before the gates
    permits: tuple[Permit, ...] = ()
    recording: Recording | None = None
    stopped: GatewayError | None = None  # why the gateway itself cancels it: the caller's wish, or a shutdown

    def models_asked(self) -> Iterator[str]:
        """Every model that the request names; the empty string stands for one that it does not show."""
        asked = self.asked
        if isinstance(asked, ChatRequest):
            yield asked.model
            yield from further_models(asked.body)
        elif asked is not None:
            if self.method in READING_METHODS and not asked.body:
                return
            yield asked.model or ""
            yield from asked.further_models
        yield from self.further_models

    def release_permits(self) -> None:
        """Give back what the gates granted, in the opposite order."""
        for permit in reversed(self.permits):
            permit.release()
        self.permits = ()

    def why_cancelled(self) -> tuple[Outcome, GatewayError]:
        """The outcome and the error of a cancelled exchange."""
        if self.stopped is None:
            return Outcome.CLIENT_CANCELLED, Stopped("the caller left")
        outcome = Outcome.INTERRUPTED if isinstance(self.stopped, ShuttingDown) else Outcome.CLIENT_CANCELLED
        return outcome, self.stopped

    def take_back_cancellation(self) -> None:
        """Uncancel the current task: a stop has done its work, and the task goes on to its orderly end."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
