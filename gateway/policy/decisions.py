"""What a policy may say of a request, and what is to change in it. Frozen values; the chain applies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.codec.text_spans import TextSpan


@dataclass(frozen=True, slots=True)
class Allow:
    """It may be said as it stands."""


@dataclass(frozen=True, slots=True)
class Mask:
    """It may be said with other texts at these spans of the request that the rule was shown."""

    texts: Mapping[TextSpan, str]
    rule: str


@dataclass(frozen=True, slots=True)
class Reject:
    """It may not be said. `message` is for the caller."""

    message: str
    rule: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """It may be said to another model."""

    model: str
    rule: str


Verdict = Allow | Mask | Reject | Redirect
ALLOW = Allow()
