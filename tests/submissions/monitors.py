"""A scriptable security monitor on loopback, which keeps what it has taken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.loopback import LoopbackUpstream, Rst, Script, Stall, answer, garbage, redirect
from tests.loopback.script import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Request

PATH = "/submissions?key=let-me-in"


def status(code: int, *headers: tuple[str, str]) -> Script:
    return answer([b'{"said": "ok"}' if code < 300 else b"no"], status=code, headers=headers)


TAKEN = status(200)


def slow(seconds: float) -> Script:
    return Script([Pause(seconds)]) + TAKEN


class LoopbackMonitor:
    """`async with LoopbackMonitor() as monitor`. Takes everything, unless `mood` says otherwise for a submission.

    `taken` are the submissions that it has answered with a 2xx, in the order of their arrival; one may be there twice.
    """

    def __init__(self) -> None:
        self.server = LoopbackUpstream()
        self.server.on = self._answer
        self.mood: Callable[[dict[str, Any]], Script | None] = lambda _submission: None
        self.taken: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []  # the others as well

    async def __aenter__(self) -> LoopbackMonitor:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    @property
    def url(self) -> str:
        return f"{self.server.origin}{PATH}"

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def ids(self) -> list[str]:
        """Of what was taken, each once, in the order in which it was first taken."""
        return list(dict.fromkeys(one["interaction_id"] for one in self.taken))

    async def go_away(self) -> None:
        await self.server.stop()

    async def come_back(self) -> None:
        await self.server.start()

    def _answer(self, request: Request) -> Script:
        submission = json.loads(request.body)
        self.asked.append(submission)
        script = self.mood(submission)
        if script is None or script.wire.startswith(b"HTTP/1.1 2"):
            self.taken.append(submission)
        return script or TAKEN


TROUBLES: dict[str, Callable[[], Script]] = {
    "500": lambda: status(500),
    "502": lambda: status(502),
    "401": lambda: status(401),
    "404": lambda: status(404),
    "408": lambda: status(408),
    "429": lambda: status(429, ("Retry-After", "0")),
    "503": lambda: status(503, ("Retry-After", "soon")),
    "reset": lambda: Script([Rst()]),
    "hangs": lambda: Script([Stall()]),
    "garbage": garbage,
    "redirect": lambda: redirect(307, "http://127.0.0.1:1/elsewhere"),
}
