"""What a policy may say of a request. Frozen values; the exchange acts on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.model import ChatRequest


@dataclass(frozen=True, slots=True)
class Allow:
    """It may be said as it stands."""


@dataclass(frozen=True, slots=True)
class Mask:
    """It may be said in this form."""

    request: ChatRequest
    rule: str


@dataclass(frozen=True, slots=True)
class Reject:
    """It may not be said. `message` is for the caller."""

    message: str
    rule: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """It may be said to another model: the one that this form of the request names."""

    request: ChatRequest
    rule: str


Verdict = Allow | Mask | Reject | Redirect
ALLOW = Allow()
