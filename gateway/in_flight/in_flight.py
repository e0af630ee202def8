"""The requests that are being answered now: to stop one, to let one live on without its caller, to wait for all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import GatewayError, ShuttingDown, Stopped
from gateway.store.rows import indexed_text

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from gateway.exchange.context import RequestContext
    from gateway.in_flight.replay import ReplayBuffer


class Handling(Protocol):
    """A request whose handler runs, as its server sees it."""

    @property
    def context(self) -> RequestContext | None: ...

    @property
    def followed(self) -> RequestContext | None:
        """Another request's running answer, if this one only reads it."""
        ...

    def close_after(self) -> None:
        """Close the connection after this request's answer."""
        ...


@dataclass(frozen=True, slots=True)
class RunningAnswer:
    """An answer that is being made in a task of its own, and what it answers."""

    context: RequestContext
    task: asyncio.Task[None]
    root: str
    asked: bytes  # digest of the request
    replay: ReplayBuffer | None = None  # of a stream

    def told(self) -> dict[str, Any]:
        """What its caller may know of it while it is made, and other workers on its behalf; names as in its row."""
        recording = self.context.recording
        asked = None if recording is None else recording.interaction
        return {
            "id": str(self.context.id),
            "root_id": indexed_text(self.root),
            "model": asked and indexed_text(asked.model or ""),
            "started_at": asked and asked.started_at,
            "stream": self.replay is not None,
            "policy": asked and asked.policy and {"outcome": asked.policy.outcome, "rules": asked.policy.rules},
            "asked": self.asked.hex(),
        }

    def headers(self) -> dict[str, str]:
        """By which an answer tells what it is."""
        return {"x-interaction-id": str(self.context.id), "x-conversation-id": header_of(self.root, self.context)}


def header_of(root: str, context: RequestContext) -> str:
    """The conversation's id, where a header can hold it."""
    return root if root.isascii() and root.isprintable() else str(context.id)


class InFlight:
    """Knows the handlers that run, and the stories that run in tasks of their own and may outlive their handlers."""

    def __init__(self) -> None:
        self._handlers: dict[asyncio.Task[object], Handling] = {}
        self._stories: dict[UUID, RunningAnswer] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False
        self.is_cut_short = False  # `shutdown_gate` refuses every request from now on

    @property
    def count(self) -> int:
        """How many requests are being handled."""
        return len(self._handlers)

    def enter(self, handling: Handling) -> asyncio.Task[object]:
        """The current task begins to handle a request; `leave` must follow."""
        if self.is_draining:  # served all the same: it came over a connection that was open
            handling.close_after()
        task = asyncio.current_task()
        assert task is not None
        self._handlers[task] = handling
        self._idle.clear()
        return task

    def leave(self, task: asyncio.Task[object]) -> None:
        del self._handlers[task]
        self._look_if_idle()

    def start(
        self,
        context: RequestContext,
        answering: Coroutine[None, None, None],
        root: str,
        asked: bytes,
        replay: ReplayBuffer | None = None,
    ) -> RunningAnswer:
        """Run it as a task that its caller may leave; it can be found and stopped by the interaction's id."""
        task = asyncio.get_running_loop().create_task(answering)
        self._stories[context.id] = story = RunningAnswer(context, task, root, asked, replay)
        task.add_done_callback(lambda _: self._forget(context.id))
        return story

    def _forget(self, interaction_id: UUID) -> None:
        del self._stories[interaction_id]
        self._look_if_idle()

    def _look_if_idle(self) -> None:
        if not self._handlers and not self._stories:
            self._idle.set()

    def story(self, interaction_id: UUID, user: str) -> RunningAnswer | None:
        """None also for an answer of somebody else."""
        story = self._stories.get(interaction_id)
        return story if story is not None and story.context.caller.user == user else None

    def stories_of(self, user: str) -> list[RunningAnswer]:
        """A user's answers that are being made, newest first."""
        found = (story for story in self._stories.values() if story.context.caller.user == user)
        return sorted(found, key=lambda story: story.context.id, reverse=True)

    def contexts(self) -> list[RequestContext]:
        """Those that are on record and not answered yet, whoever still hears them."""
        contexts = {story.context.id: story.context for story in self._stories.values()}
        for handling in self._handlers.values():
            if (context := handling.context) is not None:
                contexts[context.id] = context
        return [
            context
            for context in contexts.values()
            if context.recording is not None and context.recording.answer is None
        ]

    def stop(self, story: RunningAnswer) -> None:
        """End an answer at its caller's wish."""
        _end(story.context, story.task, Stopped("the answer was stopped at the caller's wish"))

    def begin_drain(self) -> None:
        """Readiness turns red, and every answer that has not begun is the last one on its connection."""
        self.is_draining = True
        for handling in self._handlers.values():
            handling.close_after()

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    async def idle(self, seconds: float) -> bool:
        """Wait for all that runs; False when something still does."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut_short(self) -> None:
        """End what still runs, and refuse what still comes; each caller is told why, each record says so."""
        self.is_cut_short = True
        why = ShuttingDown("the gateway is shutting down")
        for story in tuple(self._stories.values()):
            _end(story.context, story.task, why)
        told = {id(story.context) for story in self._stories.values()}
        for task, handling in tuple(self._handlers.items()):
            if id(handling.context) not in told and id(handling.followed) not in told:
                _end(handling.context, task, why)


def _end(context: RequestContext | None, task: asyncio.Task[None] | asyncio.Task[object], why: GatewayError) -> None:
    """Once: what ends already, at a wish or by itself, only waits for its record, and would be broken off in that."""
    if context is not None:
        if context.stopped is not None or (context.recording is not None and context.recording.answer is not None):
            return
        context.stopped = why
    task.cancel()
