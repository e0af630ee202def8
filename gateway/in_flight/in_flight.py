"""Requests in flight: stop one, let one continue without its caller, wait for all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations of RunningInfo

from gateway.errors import GatewayError, ShuttingDown, Stopped
from gateway.model import Ruling  # noqa: TC001 - as UUID
from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from gateway.exchange.context import RequestContext
    from gateway.in_flight.replay import ReplayBuffer


class Handling(Protocol):
    """A request whose handler runs; the HTTP layer implements it."""

    @property
    def context(self) -> RequestContext | None: ...

    @property
    def followed(self) -> RequestContext | None:
        """The request whose running answer this one reads, if it makes none itself."""
        ...

    def close_after(self) -> None:
        """Close the connection after the answer to this request."""
        ...


@dataclass(frozen=True, slots=True)
class RunningInfo:
    """A running answer as its caller and the peers of this process see it; names as in its row."""

    id: UUID
    root_id: str
    model: str | None
    started_at: float | None  # Unix time
    stream: bool
    policy: Ruling | None
    request_digest: str  # hex


@dataclass(frozen=True, slots=True)
class RunningAnswer:
    """An answer that a task of its own makes, and the request's digest."""

    context: RequestContext
    task: asyncio.Task[None]
    root: str
    request_digest: bytes
    replay: ReplayBuffer | None = None  # of a stream

    def info(self) -> RunningInfo:
        recording = self.context.recording
        interaction = None if recording is None else recording.interaction
        return RunningInfo(
            id=self.context.id,
            root_id=indexed_text(self.root),
            model=None if interaction is None else indexed_text(interaction.model or ""),
            started_at=None if interaction is None else interaction.started_at,
            stream=self.replay is not None,
            policy=None if interaction is None else interaction.policy,
            request_digest=self.request_digest.hex(),
        )

    def headers(self) -> dict[str, str]:
        """The headers by which a response names its interaction and conversation."""
        return {"x-interaction-id": str(self.context.id), "x-conversation-id": header_of(self.root, self.context)}


def header_of(root: str, context: RequestContext) -> str:
    """The conversation's id; the interaction's where a header cannot hold the other."""
    return root if root.isascii() and root.isprintable() else str(context.id)


class InFlight:
    """The handlers that run, and the answers that run in tasks of their own and may outlive their handlers."""

    def __init__(self) -> None:
        self._handlers: dict[asyncio.Task[object], Handling] = {}
        self._answers: dict[UUID, RunningAnswer] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False
        self.is_cut_short = False  # `shutdown_gate` refuses every request from now on

    @property
    def count(self) -> int:
        """The number of requests that are being handled."""
        return len(self._handlers)

    def enter(self, handling: Handling) -> asyncio.Task[object]:
        """Register the current task as the handler of a request; `leave` must follow."""
        if self.is_draining:  # it is served: its connection was open already
            handling.close_after()
        task = asyncio.current_task()
        assert task is not None
        self._handlers[task] = handling
        self._idle.clear()
        return task

    def leave(self, task: asyncio.Task[object]) -> None:
        del self._handlers[task]
        self._set_if_idle()

    def start(
        self,
        context: RequestContext,
        answering: Coroutine[None, None, None],
        root: str,
        request_digest: bytes,
        replay: ReplayBuffer | None = None,
    ) -> RunningAnswer:
        """Run `answering` as a task that outlives its caller; it can be found and stopped by the interaction's id."""
        task = asyncio.get_running_loop().create_task(answering)
        self._answers[context.id] = answer = RunningAnswer(context, task, root, request_digest, replay)
        task.add_done_callback(lambda _: self._forget(context.id))
        return answer

    def _forget(self, interaction_id: UUID) -> None:
        del self._answers[interaction_id]
        self._set_if_idle()

    def _set_if_idle(self) -> None:
        if not self._handlers and not self._answers:
            self._idle.set()

    def find(self, interaction_id: UUID, user: str) -> RunningAnswer | None:
        """A running answer; None also for one of another user."""
        answer = self._answers.get(interaction_id)
        return answer if answer is not None and answer.context.caller.user == user else None

    def running(self, user: str) -> list[RunningAnswer]:
        """The running answers of a user, newest first."""
        found = (answer for answer in self._answers.values() if answer.context.caller.user == user)
        return sorted(found, key=lambda answer: answer.context.id, reverse=True)

    def contexts(self) -> list[RequestContext]:
        """The requests whose record has begun and not ended, also those whose caller left."""
        contexts = {answer.context.id: answer.context for answer in self._answers.values()}
        for handling in self._handlers.values():
            if (context := handling.context) is not None:
                contexts[context.id] = context
        return [
            context
            for context in contexts.values()
            if context.recording is not None and context.recording.answer is None
        ]

    def stop(self, answer: RunningAnswer) -> None:
        """End an answer at its caller's request."""
        _end(answer.context, answer.task, Stopped("the answer was stopped at the caller's wish"))

    def begin_drain(self) -> None:
        """Make readiness fail, and make every response that has not begun the last one on its connection."""
        self.is_draining = True
        for handling in self._handlers.values():
            handling.close_after()

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    async def idle(self, seconds: float) -> bool:
        """Wait until nothing runs; False when something still runs after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut_short(self) -> None:
        """End all that runs and refuse new requests; callers and records get the reason."""
        self.is_cut_short = True
        why = ShuttingDown("the gateway is shutting down")
        for answer in tuple(self._answers.values()):
            _end(answer.context, answer.task, why)
        ended = {id(answer.context) for answer in self._answers.values()}
        for task, handling in tuple(self._handlers.items()):
            if id(handling.context) not in ended and id(handling.followed) not in ended:
                _end(handling.context, task, why)


def _end(context: RequestContext | None, task: asyncio.Task[None] | asyncio.Task[object], why: GatewayError) -> None:
    """Cancel a task, once: an answer that ends already only waits for its record, and a second cancellation would
    interrupt that."""
    if context is not None:
        if context.stopped is not None or (context.recording is not None and context.recording.answer is not None):
            return
        context.stopped = why
    task.cancel()
