"""What signals mean to a gateway and to the supervisor of its workers: none of them cuts an answer."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

log = structlog.get_logger()


def heed_signals(stopping: asyncio.Event) -> None:
    """Sets `stopping` on SIGTERM, SIGINT, SIGQUIT, and on the SIGHUP of a terminal that goes away. All other signals
    that would end the process are ignored with a line in the log: settings are read at the start only."""
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, stopping.set)
    for number in IGNORED:
        loop.add_signal_handler(number, _ignore, number.name)
    if sys.stderr.isatty():
        loop.add_signal_handler(signal.SIGHUP, stopping.set)


def _ignore(name: str) -> None:
    log.warning("signal ignored", signal=name, note="settings are read at the start: restart to change them")
