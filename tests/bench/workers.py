"""Starts the benchmark's helper programs (emulator, client) and exchanges lines with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S = 180.0


class Worker:
    """A process of `python -m module` that answers lines with lines of JSON."""

    def __init__(self, module: str) -> None:
        self._module = module

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def read_reply(self, within: float = TIMEOUT_S) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within)
        if not line:
            raise RuntimeError(f"{self._module} has ended")
        heard: dict[str, Any] = json.loads(line)
        return heard

    async def ask(self, line: str) -> dict[str, Any]:
        self.tell(line)
        return await self.read_reply()
