"""Signals: which ends a process, and which does nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.process.signals import IGNORED, STOPS, install_signal_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, its = os.openpty()
    yield its
    os.close(its)
    os.close(ours)


@pytest.mark.parametrize("number", [*STOPS, signal.SIGHUP])
async def test_e12_a_terminal_that_goes_away_stops_the_process_as_sigterm_does(
    terminal: int, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    stopping = asyncio.Event()
    with os.fdopen(os.dup(terminal), "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        install_signal_handlers(stopping)
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await stopping.wait()
    finally:
        for each in (*STOPS, *IGNORED):
            asyncio.get_running_loop().remove_signal_handler(each)
        signal.signal(signal.SIGINT, signal.default_int_handler)
