"""Protocol of the dialects' assemblers: they make one complete answer from the events of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson

from gateway.dialects.request_body import with_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.model import Usage


class Assembler(Protocol):
    """Never raises, whatever an upstream sends. All properties may be read at any moment."""

    is_done: bool  # the stream's own last event was seen
    unparsed: list[bytes]  # payloads that are not JSON objects

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Add the data of events, in order."""

    def add(self, event: dict[str, Any], is_plain: bool) -> None:
        """Add the data of an event as `jsontext.parse` returns it. The assembler may change it."""

    def add_texts(self, name: str, texts: Sequence[bytes]) -> bool:
        """Add events like the one before that differ in the text `name` alone, given as JSON strings.

        False: nothing was added, and the caller must feed the events one by one.
        """

    @property
    def finished(self) -> bool:
        """Whether the answer is over by the rules of its dialect."""

    @property
    def has_text(self) -> bool:
        """Whether there is something to read: content or a refusal."""

    @property
    def has_content(self) -> bool:
        """Whether there is anything at all: text, reasoning, a tool call, audio."""

    @property
    def model(self) -> str | None: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def error(self) -> Any:
        """The error that the upstream reported, unchanged; None if it reported none."""

    def error_events(self, message: str, type: str, code: str) -> bytes:
        """The gateway's own error, in the events with which this dialect ends a failed stream."""

    def completion(self) -> dict[str, Any]:
        """The answer so far. Its inner values are shared: do not change them."""

    def completion_json(self) -> bytes:
        """The same as JSON."""


def recorded_body(assembler: Assembler) -> bytes:
    """Returns the answer so far as JSON. Its member `unparsed` has the events that are not JSON: none is lost."""
    body = assembler.completion_json()
    if not assembler.unparsed:
        return body
    texts = [payload.decode("utf-8", "backslashreplace") for payload in assembler.unparsed]
    return with_member(body, b'"unparsed":' + orjson.dumps(texts))
