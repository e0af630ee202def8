"""Recognises upstreams that refuse `stream_options`, and remembers them for a while."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from gateway.dialects.parsing import object_in
from gateway.dialects.request_body import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_S = 600.0
MOST_MODELS = 256  # in memory

_PARAMS = (OPTIONS, f"{OPTIONS}.include_usage")
_REFUSES = re.compile(
    r"unknown|unrecogni[sz]ed|unsupported|unexpected|extra|additional propert|invalid|"
    r"(?:not|n't) (?:be )?(?:support|permit|allow|recogni[sz]e|accept)",
    re.IGNORECASE,
)


class UncountedModels:
    """Models that we do not ask for usage for RETRY_S seconds, by provider and name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}  # the oldest first

    def __contains__(self, model: tuple[str, str]) -> bool:
        until = self._until.get(model)
        return until is not None and self._clock() < until

    def add(self, model: tuple[str, str]) -> None:
        self._until.pop(model, None)
        if len(self._until) >= MOST_MODELS:
            del self._until[next(iter(self._until))]
        self._until[model] = self._clock() + RETRY_S


def refuses_usage(refusal: bytes, accepted: bytes) -> bool:
    """Whether a refusal is about `stream_options`; `accepted` is the body without it, which the upstream accepted.

    A refusal may quote the caller's own text. If that text names the member, the message proves nothing.
    """
    body = object_in(refusal) or {}
    error = body.get("error")
    members = error if isinstance(error, dict) else body
    if members.get("param") in _PARAMS or _names_place(body.get("detail")):
        return True
    if OPTIONS.encode() in accepted:
        return False
    text = _message(body, error) if body else refusal.decode("utf-8", "replace")
    return OPTIONS in text and _REFUSES.search(text) is not None


def _names_place(detail: Any) -> bool:
    """Whether FastAPI's form of an error names the member: `[{"loc": ["body", "stream_options"], …}]`."""
    places = [each.get("loc") for each in detail if isinstance(each, dict)] if isinstance(detail, list) else []
    return any(isinstance(place, list) and OPTIONS in place for place in places)


def _message(body: dict[str, Any], error: Any) -> str:
    found = (error.get("message") if isinstance(error, dict) else error, body.get("message"), body.get("detail"))
    return " ".join(each for each in found if isinstance(each, str))
