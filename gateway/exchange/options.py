"""Settings that hold for every exchange."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.transport.headers import RequestHeaders


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """Settings that hold for every exchange. Sizes in bytes."""

    answer_bytes: int = 64 * 1024 * 1024
    inline_bytes: int = 1024 * 1024
    asks_usage: bool = True
    headers: RequestHeaders = field(default_factory=RequestHeaders)
