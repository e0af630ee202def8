"""Classifies the events of a chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects.classifier import EventAction, EventClassifier
from gateway.dialects.shapes import error_in

if TYPE_CHECKING:
    from gateway.model import Json


class ChatClassifier(EventClassifier):
    """`[DONE]` ends the stream; the answer itself is complete with each choice's `finish_reason`."""

    __slots__ = ("_drops_usage",)
    texts = frozenset((b"content", b"reasoning_content", b"reasoning", b"refusal"))

    def __init__(self, *, drops_usage: bool) -> None:
        super().__init__()
        self._drops_usage = drops_usage

    def classify_object(self, body: Json, event_type: str) -> EventAction:
        if event_type == "error" or error_in(body) is not None:
            return EventAction.ERROR
        choices = body.get("choices")
        if self._drops_usage and choices == [] and body.get("usage"):
            return EventAction.KEEP_ONLY
        if isinstance(choices, list):
            for choice in choices:  # `any` costs twice as much, for each event that matches no template
                if isinstance(choice, dict) and choice.get("finish_reason"):
                    return EventAction.KEEP_THEN_PASS
        return EventAction.PASS
