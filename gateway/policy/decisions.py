"""Verdicts of a policy rule on a request. Frozen values; the engine applies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.codec.text_spans import TextSpan


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass unchanged."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The request may pass with other texts at these spans of it."""

    texts: Mapping[TextSpan, str]
    rule: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The request may not pass. `message` is for the caller."""

    message: str
    rule: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """The request may pass to another model."""

    model: str
    rule: str


Verdict = Allow | Mask | Reject | Redirect
ALLOW = Allow()
