"""How much an upstream could write before it was held up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.loopback import LoopbackUpstream


async def written_at_rest(upstream: LoopbackUpstream, within: float = 10.0) -> int:
    """Bytes that the kernel has taken from the upstream when it takes no more; TimeoutError if it goes on."""
    async with asyncio.timeout(within):
        while True:
            written = upstream.bytes_written
            await asyncio.sleep(0.3)
            if upstream.bytes_written == written:
                return written
