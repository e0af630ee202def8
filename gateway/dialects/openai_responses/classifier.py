"""Classifies the events of a Responses API stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects.classifier import EventAction, EventClassifier
from gateway.dialects.shapes import error_in

if TYPE_CHECKING:
    from gateway.model import Json


class ResponsesClassifier(EventClassifier):
    """An event of a terminal type ends the stream."""

    __slots__ = ()

    def classify_object(self, body: Json, event_type: str) -> EventAction:
        kind = body.get("type")
        if not isinstance(kind, str):
            kind = "error" if error_in(body) is not None else event_type
        if kind in ("response.completed", "response.incomplete", "response.cancelled"):
            return EventAction.LAST
        if kind == "response.failed":
            return EventAction.LAST_ERROR
        return EventAction.ERROR if kind == "error" else EventAction.PASS  # OpenAI sends `response.failed` behind it
