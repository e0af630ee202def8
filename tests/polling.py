"""Waits for conditions that no event announces: the only polling loop of the tests that is not of a page."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PERIOD_S = 0.005


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10.0, period_s: float = PERIOD_S
) -> None:
    """Returns when the condition is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(period_s)
